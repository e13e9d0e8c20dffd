"""What may stand in place of the last word of a command line: `tiffin __complete`, which the
shells' scripts (`completion`) call at each press of tab. It reads the store, and nothing else.

The answer is a line for each word, with a tab and what it means, and a last one that says what the
shell adds of its own: `:files`, `:dirs` or `:none`.
"""

from __future__ import annotations

import os

from ..errors import TiffinError
from ..layout import Layout
from . import commands, main
from .flags import Command, Flag, sentence

TYPE_CHECKING = False  # without importing typing
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    Answer = tuple[list[tuple[str, str]], str]
    """Words with what they mean, and what the shell adds."""

NONE, FILES, DIRECTORIES = ":none", ":files", ":dirs"

ALIVE = "'running', 'paused'"
STATES = {
    "attach": "state = 'running'",
    "exec": "state = 'running'",
    "init": "state IN ('created', 'exited')",
    "kill": f"state IN ({ALIVE})",
    "pause": "state = 'running'",
    "start": "state NOT IN ('running', 'paused')",
    "stop": f"state IN ({ALIVE})",
    "top": f"state IN ({ALIVE})",
    "unpause": "state = 'paused'",
}
"""Of the containers that a command is of use for; the others take all."""

SIGNALS = "ABRT ALRM CHLD CONT HUP INT KILL PIPE QUIT STOP TERM TSTP USR1 USR2 WINCH".split()
WORDS = {
    "attach": ("stdin", "stdout", "stderr"),
    "cgroupns": ("private", "host"),
    "condition": ("running", "exited", "stopped", "paused", "created", "healthy", "unhealthy"),
    "cgroups": ("enabled", "disabled", "no-conmon", "split"),
    "sdnotify": ("container", "conmon", "ignore"),
    "cgroup_manager": ("systemd", "cgroupfs"),
    "ipc": ("private", "shareable", "none", "host"),
    "log-driver": ("k8s-file", "json-file", "journald", "none", "passthrough"),
    "log-level": main.LEVELS,
    "log-opt": ("max-size=", "path=", "tag="),
    "pid": ("private", "host"),
    "pull": ("always", "missing", "never", "newer"),
    "restart": ("no", "always", "on-failure", "unless-stopped"),
    "signal": SIGNALS,
    "stop-signal": SIGNALS,
    "type": ("all", "container", "image", "network", "pod", "volume"),
    "uts": ("private", "host"),
}
"""Values of flags, by the flag's name."""
LISTED = ("only what matches: ", "Order: ", "Only ")
"""A flag's help lists its values after one of these."""


def answer(words: list[str], layout: Callable[[str | None, str | None], Layout]) -> Answer:
    """What may stand for the last of `words`, which follow `tiffin`."""
    *before, last = words or [""]
    chosen: dict[str, str] = {}
    position, waiting = _skip(main.GLOBALS, before, chosen)
    before = before[position:]
    found = commands.find(before)
    if found is None:
        if waiting:
            return _value(waiting, last, "", Names(chosen, layout))
        if last.startswith("-"):
            flags = main.GLOBALS if before else (*main.GLOBALS, main.VERSION)
            return _begin(_flags(flags), last)
        return _begin(_commands(before), last)
    name, count = found
    kept, more = _command(main.load(name), before[count:], last, Names(chosen, layout))
    if not last.startswith("-"):  # `events` is a command, and has others below it
        kept = _begin(_commands(before), last)[0] + kept
    return kept, more


def _skip(
    flags: Iterable[Flag], words: list[str], chosen: dict[str, str]
) -> tuple[int, Flag | None]:
    """How many of the words are flags at the beginning, and the one that still wants its value."""
    position = 0
    while position < len(words) and words[position].startswith("-"):
        flag, given = _flag(flags, words[position])
        position += 1
        if flag is None or flag.kind == "bool":
            continue
        if given is None:
            if position == len(words):
                return position, flag
            given = words[position]
            position += 1
        chosen[flag.name] = given
    return position, None


def _flag(flags: Iterable[Flag], word: str) -> tuple[Flag | None, str | None]:
    """The flag of a word, and the value in it. Of a cluster of letters it is the last."""
    name, equals, value = word.partition("=")
    found = [
        flag
        for flag in flags
        if name == f"--{flag.name}"
        or (flag.short and name[:2] != "--" and name[1:2] and name[-1] == flag.short)
    ]
    return (found[0] if found else None), (value if equals else None)


def _commands(before: list[str]) -> list[tuple[str, str]]:
    """The first words of all commands, or the second ones of a noun."""
    if before:
        start = f"{before[0]} "
        return [
            (name[len(start) :], summary)
            for name, (_, _, summary) in commands.COMMANDS.items()
            if len(before) == 1 and name.startswith(start)
        ]
    first = {name: s for name, (_, _, s) in commands.COMMANDS.items() if " " not in name}
    return sorted((first | commands.NOUNS).items())


def _begin(words: Iterable[tuple[str, str]], last: str, more: str = NONE) -> Answer:
    return [word for word in words if word[0].startswith(last)], more


def _flags(flags: Iterable[Flag]) -> list[tuple[str, str]]:
    return sorted((f"--{flag.name}", sentence(flag.help)) for flag in flags)


def _command(command: Command, before: list[str], last: str, names: Names) -> Answer:
    own = {flag.name for flag in command.flags}
    letters = {flag.short for flag in command.flags}
    flags = [*command.flags]
    for flag in main.GLOBALS:
        if flag.name not in own:
            short = "" if flag.short in letters else flag.short
            flags.append(Flag(flag.name, short, flag.kind, flag.metavar, flag.help))
    arguments: list[str] = []
    rest = list(before)
    ended = False
    while rest:
        word = rest.pop(0)
        if ended or len(word) < 2 or word[0] != "-":
            arguments.append(word)
            ended = ended or not command.interspersed
        elif word == "--":
            ended = True
        else:
            known, value = _flag(flags, word)
            if known is not None and known.kind != "bool" and value is None:
                if not rest:
                    return _value(known, last, "", names)
                names.chosen[known.name] = rest.pop(0)
    if last.startswith("-") and not ended:
        known, value = _flag(flags, last)
        if known is not None and value is not None:
            return _value(known, value, f"--{known.name}=", names)
        return _begin(_flags(flags), last)
    return _argument(command, arguments, last, names)


def _argument(command: Command, before: list[str], last: str, names: Names) -> Answer:
    """By the words of the usage: `CONTAINER NAME`, `[IMAGE...]`, `CONTAINER|IMAGE`."""
    if command.name == "cp":
        return _begin(names.of("container", last, ":"), last, FILES)
    usage = command.usage.replace("[", " ").replace("]", " ").split()
    if not usage:
        return _begin((), last)
    if len(before) < len(usage):
        place = usage[len(before)]
    elif usage[-1].endswith("..."):
        place = usage[-1]
    else:
        return _begin((), last)
    if place.islower():  # as they are: bash|zsh|fish
        return _begin([(word, "") for word in place.split("|")], last)
    if place.removesuffix("...") == "NAME":
        # New names cannot be guessed, but `inspect` takes any that is there, `images` an image.
        every = ["container", "image", "volume", "network", "pod"]
        kinds = {"inspect": every, "images": ["image"], "untag": ["image"]}
        wanted = kinds.get(command.name, [])
    else:
        wanted = place.removesuffix("...").lower().split("|")
    more = NONE
    if set(wanted) & {"archive", "file", "rootfs.tar", "-", "arg"}:
        more = FILES
    found: list[tuple[str, str]] = []
    for kind in wanted:
        found += names.of(kind, last, "", STATES.get(command.name, ""))
    found = [word for word in found if word[0] not in before]
    return _begin(found, last, more)


def _value(flag: Flag, last: str, start: str, names: Names) -> Answer:
    """A flag's value, behind `start`."""
    more = NONE
    found: list[tuple[str, str]] = []
    if flag.name in WORDS:
        found = [(word, "") for word in WORDS[flag.name]]
    elif flag.name in ("network", "net"):
        found = [(word, "") for word in ("none", "host")] + names.of("network", last)
    elif flag.name in ("volumes-from", "pod", "requires"):
        found = names.of("pod" if flag.name == "pod" else "container", last)
    elif flag.name == "secret" and flag.metavar.startswith("NAME"):
        found = names.of("secret", last)
    elif flag.name == "volume":
        found, more = names.of("volume", last, ":"), FILES
    elif flag.name in ("env", "e"):
        found = [(f"{key}=", "") for key in sorted(os.environ)] if last else []
    elif flag.name in ("cap-add", "cap-drop"):
        from ..spec.capabilities import KNOWN

        found = [("ALL", ""), *((name.removeprefix("CAP_"), "") for name in KNOWN)]
    elif flag.name in ("storage-driver", "runtime", "to"):
        found = names.plugins("runtime" if flag.name == "runtime" else "storage")
    elif flag.name in ("filter", "sort"):
        equals = "=" if flag.name == "filter" else ""
        text = flag.help
        for mark in LISTED:
            text = text.partition(mark)[2] or text
        listed = text.partition(" (")[0].split(", ")
        found = [(f"{word}{equals}", "") for word in listed if " " not in word]
    elif flag.name == "format" and flag.metavar == "TEMPLATE":
        found = [("json", "")]
    elif flag.metavar == "FILE":
        more = FILES
    elif flag.metavar == "DIR" and flag.name != "workdir":
        more = DIRECTORIES
    found = [(f"{start}{word}", meaning) for word, meaning in found]
    return _begin(found, f"{start}{last}", more)


class Names:
    """The names in the store."""

    def __init__(
        self, chosen: dict[str, str], layout: Callable[[str | None, str | None], Layout]
    ) -> None:
        self.chosen = chosen
        """Global flags that say where the store is."""
        self.find = layout

    def layout(self) -> Layout:
        return self.find(self.chosen.get("root"), self.chosen.get("runroot"))

    def of(self, kind: str, last: str, end: str = "", where: str = "") -> list[tuple[str, str]]:
        """Names that begin with `last`; also ids, once something is typed."""
        queries = {
            "container": "SELECT name, id, image_name AS says FROM containers",
            "image": "SELECT name, image AS id, '' AS says FROM tags",
            "network": "SELECT name, id, driver AS says FROM networks",
            "volume": "SELECT name, '' AS id, driver AS says FROM volumes",
            "list": "SELECT name, '' AS id, '' AS says FROM manifests",
            "pod": "SELECT name, id, '' AS says FROM pods",
            "secret": "SELECT name, id, '' AS says FROM secrets WHERE complete",
        }
        try:
            if kind == "consumer":
                from ..store import cursors

                return [(name, "") for name in cursors.known(self.layout())]
            if kind == "plugin":
                return self.plugins("")
            if kind not in queries:
                return []
            from ..store import sync

            connection = sync.open_read_only(self.layout().database)
            if connection is None:
                return []
            limit = f" WHERE {where}" if where and kind == "container" else ""
            rows = connection.execute(f"{queries[kind]}{limit} ORDER BY name").fetchall()
        except (TiffinError, OSError):
            return []
        except Exception as error:
            if type(error).__module__ == "sqlite3":  # a store of another version, or damaged
                return []
            raise
        found = []
        for name, id, says in rows:
            found += [(f"{shown}{end}", says) for shown in _shown(kind, name)]
            bare = id.removeprefix("sha256:")
            if last and bare.startswith(last):
                found.append((f"{bare[:12] if len(last) <= 12 else bare}{end}", name))
        return found

    def plugins(self, kind: str) -> list[tuple[str, str]]:
        from ..plugin_index import load

        try:
            names = sorted(load(self.layout()).plugins)
        except (TiffinError, OSError):
            return []
        if not kind:
            return [(name, "") for name in names]
        return [(n.partition(".")[2], "") for n in names if n.startswith(f"{kind}.")]


def _shown(kind: str, name: str) -> list[str]:
    """An image's name in full, and as people type it."""
    if kind not in ("image", "list"):
        return [name]
    short = name.removeprefix("localhost/").removeprefix("docker.io/library/")
    found = [name, short, short.removesuffix(":latest")]
    return list(dict.fromkeys(found))


def write(words: list[str]) -> int:
    """`tiffin __complete WORD...`"""
    import sys

    found, more = answer(words, Layout.find)
    lines = [f"{word}\t{meaning}" if meaning else word for word, meaning in found]
    # A name is checked when it is made; a terminal is nothing to take chances with, though.
    clean = [line for line in lines if line.replace("\t", " ").isprintable()]
    sys.stdout.write("\n".join([*clean, more]) + "\n")
    return 0
