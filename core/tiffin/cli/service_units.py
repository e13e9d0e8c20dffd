"""Units of systemd for containers and pods that are there (`generate systemd`). Pure.

A unit either starts and stops what exists, or (`--new`) makes it anew each time by the command line
that made it, which is kept with it.
"""

from __future__ import annotations

from ..errors import UserError
from ..quadlet.unitfile import command, literal
from . import commands
from .flags import Flag, parse_in_order
from .main import GLOBALS, ROOT, load

TYPE_CHECKING = False  # without importing typing
if TYPE_CHECKING:
    from collections.abc import Sequence

OURS = frozenset(
    "detach rm replace cidfile cgroups sdnotify pod conmon-pidfile restart name pod-id-file".split()
)
"""Flags of `create`, `run` and `pod create` that the unit decides."""
SPARE = 60
"""Seconds that systemd waits longer than the container's own stop timeout."""
RESTARTS = ("no", "on-success", "on-failure", "on-abnormal", "on-watchdog", "on-abort", "always")
POLICIES = {"always": "always", "unless-stopped": "always", "on-failure": "on-failure"}
"""Of containers, as those of systemd."""


class Wishes:
    """What the flags of `generate systemd` ask for."""

    new = template = False
    restart = ""
    restart_sec: int | None = None
    start_timeout: int | None = None
    stop_timeout: int | None = None
    after: Sequence[str] = ()
    requires: Sequence[str] = ()
    wants: Sequence[str] = ()
    env: Sequence[str] = ()
    header = ""
    """Lines of comment after the name."""
    program: Sequence[str] = ()
    """The program and its global flags."""


class Thing:
    """A container or a pod."""

    def __init__(
        self,
        unit: str,
        name: str,
        *,
        made_by: Sequence[str],
        timeout: int,
        restart: str = "",
        pid_file: str = "",
        pod: str = "",
        pod_unit: str = "",
        members: Sequence[str] = (),
    ) -> None:
        """`unit`: without .service. `name`: as it is named in command lines. `made_by`: the words
        after the program's name. `pid_file`: of its conmon. `pod`, `pod_unit`: that it is in.
        `members`: units in it."""
        self.unit, self.name, self.made_by = unit, name, tuple(made_by)
        self.timeout, self.restart, self.pid_file = timeout, restart, pid_file
        self.pod, self.pod_unit, self.members = pod, pod_unit, tuple(members)


def again(made_by: Sequence[str]) -> tuple[list[str], str, list[str], list[str], str]:
    """(global flags, command, its flags, arguments, --name) of a command line that made something,
    without what the unit decides. Error: UserError."""
    given, words = parse_in_order(ROOT, list(made_by), GLOBALS)
    found = commands.find(words)
    if found is None:
        raise UserError("--new: it is not known how it was made", hint="make it with tiffin create")
    name, count = found
    flags, arguments = parse_in_order(load(name), words[count:], GLOBALS)
    own = {flag.name for flag in GLOBALS}
    before = [word for flag, text in given for word in _words(flag, text)]
    before += [word for flag, text in flags if flag.name in own for word in _words(flag, text)]
    rest = [
        word
        for flag, text in flags
        if flag.name not in own and flag.name not in OURS
        for word in _words(flag, text)
    ]
    called = [text for flag, text in flags if flag.name == "name"]
    return before, name, rest, arguments, called[-1] if called else ""


def _words(flag: Flag, text: str) -> list[str]:
    name = f"--{flag.name}"
    if flag.kind == "bool":
        return [name if text in ("true", "True", "TRUE", "t", "T", "1") else f"{name}=false"]
    if flag.bare or text.startswith("-") or not text:
        return [f"{name}={text}"]
    return [name, text]


def unit(thing: Thing, wishes: Wishes, *, is_pod: bool = False) -> str:
    """The text. Error: UserError."""
    file = f"{thing.unit}@.service" if wishes.template else f"{thing.unit}.service"
    described = f"tiffin {thing.unit}.service" + (" for %I" if wishes.template else "")
    lines = [f"# {file}", *wishes.header.splitlines(), "", "[Unit]", f"Description={described}"]
    lines += ["Wants=network-online.target", "After=network-online.target"]
    lines += ["RequiresMountsFor=%t"]
    for member in thing.members:
        lines += [f"Wants={member}.service", f"Before={member}.service"]
    if thing.pod_unit:
        lines += [f"BindsTo={thing.pod_unit}.service", f"After={thing.pod_unit}.service"]
    for key, values in (
        ("Wants", wishes.wants),
        ("After", wishes.after),
        ("Requires", wishes.requires),
    ):
        lines += [f"{key}={' '.join(values)}"] if values else []
    timeout = thing.timeout if wishes.stop_timeout is None else wishes.stop_timeout
    restart = wishes.restart or POLICIES.get(thing.restart, "on-failure")
    lines += ["", "[Service]", "Environment=PODMAN_SYSTEMD_UNIT=%n"]
    for pair in wishes.env:
        lines.append(f"Environment={command([literal_word(pair)])}")
    if not is_pod:  # what is made once cannot be restarted when it fails later
        lines.append(f"Restart={restart}")
    if wishes.restart_sec is not None:
        lines.append(f"RestartSec={wishes.restart_sec}")
    if wishes.start_timeout is not None:
        lines.append(f"TimeoutStartSec={wishes.start_timeout}")
    lines.append(f"TimeoutStopSec={timeout + SPARE}")
    if is_pod:
        lines += _pod(thing, wishes, timeout)
    elif wishes.new:
        lines += _new(thing, wishes, timeout)
    else:
        lines += _old(thing, wishes, timeout)
    return "\n".join([*lines, "", "[Install]", "WantedBy=default.target", ""])


def literal_word(text: str) -> str:
    return text.replace("%", "%%")


def _line(key: str, program: Sequence[str], words: Sequence[str], more: Sequence[str] = ()) -> str:
    """`more`: words with specifiers of ours, as they are."""
    return f"{key}={command([*map(literal, [*program, *words]), *more])}"


def _old(thing: Thing, wishes: Wishes, timeout: int) -> list[str]:
    stop = ("stop", "--ignore", "-t", str(timeout), thing.name)
    return [
        _line("ExecStart", wishes.program, ("start", thing.name)),
        _line("ExecStop", wishes.program, stop),
        _line("ExecStopPost", wishes.program, stop),
        f"PIDFile={literal_word(thing.pid_file)}",
        "Type=forking",
    ]


def _new(thing: Thing, wishes: Wishes, timeout: int) -> list[str]:
    before, _, flags, arguments, name = again(thing.made_by)
    if wishes.template:
        name = name or thing.name
    more = [] if not name else ["--replace", "--name", name]
    pod = ["--pod", thing.pod] if thing.pod else []
    own = ["run", "--cgroups=no-conmon", "--rm", "--sdnotify=conmon", "-d", *pod, *more]
    start = [*map(literal, [*_program(wishes, before), *own])]
    if wishes.template:
        start[-1] += "-%i"
    start.insert(len(_program(wishes, before)) + 1, "--cidfile=%t/%n.ctr-id")
    start += map(literal, [*flags, *arguments])
    stop = ("--ignore", "-t", str(timeout))
    cidfile = ["--cidfile=%t/%n.ctr-id"]
    return [
        "ExecStartPre=/bin/rm -f %t/%n.ctr-id",
        f"ExecStart={command(start)}",
        _line("ExecStop", wishes.program, ("stop", *stop), cidfile),
        _line("ExecStopPost", wishes.program, ("rm", "-f", *stop), cidfile),
        "Type=notify",
        "NotifyAccess=all",
    ]


def _pod(thing: Thing, wishes: Wishes, timeout: int) -> list[str]:
    """A pod has no process of its own that systemd could look after."""
    stop = ("pod", "stop", "--ignore", "-t", str(timeout), thing.name)
    lines = []
    if wishes.new:
        before, _, flags, _, _ = again(thing.made_by)
        program = _program(wishes, before)
        own = ("pod", "create", "--replace", "--name", thing.name, *flags)
        lines.append(_line("ExecStart", program, own))
    else:
        lines.append(_line("ExecStart", wishes.program, ("pod", "exists", thing.name)))
    lines.append(_line("ExecStop", wishes.program, stop))
    if wishes.new:
        lines.append(_line("ExecStopPost", wishes.program, ("pod", "rm", "-f", "-i", thing.name)))
    return [*lines, "Type=oneshot", "RemainAfterExit=yes"]


def _program(wishes: Wishes, before: Sequence[str]) -> list[str]:
    """The program with the global flags that were given when it was made; those of its store are
    among them already."""
    places = ("--root", "--runroot")
    kept = []
    words = list(before)
    while words:
        word = words.pop(0)
        if word in places and words:
            words.pop(0)
        elif word.partition("=")[0] not in places:
            kept.append(word)
    return [*wishes.program, *kept]
