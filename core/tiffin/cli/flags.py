"""Commands, their flags, and the parser: pflag's rules (podman's and docker's), standard library
only and nearly nothing of it, since every command pays for it.

Rules: `--flag value`, `--flag=value`, `-f value`, `-fvalue`, `-f=value`, clusters (`-it`), `--rm`
and `--rm=false`. Flags may follow arguments unless the command says that the first argument ends
them (`run`, `exec`, `create`: the rest belongs to the container). `--` ends flags everywhere.
"""

from __future__ import annotations

from ..errors import UserError

TYPE_CHECKING = False  # without importing typing
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

    from ..layout import Layout

TRUE = ("1", "t", "T", "true", "TRUE", "True")
FALSE = ("0", "f", "F", "false", "FALSE", "False")
EMPTY: dict[str, Any] = {"bool": False, "str": "", "int": None, "list": ()}


class Flag:
    """One flag. `kind` is `bool`, `str`, `int` or `list` (may be repeated; the values in order).

    Without a default, one that is not given is False, "", None or []."""

    __slots__ = ("bare", "default", "help", "kind", "metavar", "name", "short")

    def __init__(
        self,
        name: str,
        short: str = "",
        kind: str = "bool",
        metavar: str = "",
        help: str = "",
        default: Any = None,
        bare: str = "",
    ) -> None:
        self.name = name
        self.short = short
        self.kind = kind
        self.metavar = metavar or {"int": "NUMBER", "bool": ""}.get(kind, "VALUE")
        self.help = help
        self.default = EMPTY[kind] if default is None else default
        self.bare = bare
        """The value when it is given without one: then `--flag VALUE` is not its value."""

    @property
    def key(self) -> str:
        """The name in the dict of options."""
        return self.name.replace("-", "_")

    def __str__(self) -> str:
        return f"-{self.short}/--{self.name}" if self.short else f"--{self.name}"


AT = Flag("at", "", "str", "TIME|SEQ", "As it was then: RFC 3339, 10m (ago), or after event SEQ")


class Call:
    """What a command is called with."""

    __slots__ = (
        "arguments",
        "cgroup_manager",
        "debug",
        "layout",
        "log_level",
        "options",
        "runtime",
        "storage_driver",
    )

    def __init__(
        self,
        options: dict[str, Any],
        arguments: list[str],
        layout: Layout,
        *,
        storage_driver: str = "",
        runtime: str = "",
        cgroup_manager: str = "",
        log_level: str = "warn",
        debug: bool = False,
    ) -> None:
        self.options = options
        """Values by flag, `-` replaced by `_`."""
        self.arguments = arguments
        self.layout = layout
        self.storage_driver = storage_driver
        """Empty: not asked for."""
        self.runtime = runtime
        self.cgroup_manager = cgroup_manager
        self.log_level = log_level
        self.debug = debug


class Command:
    """A command: how it is called, what it says about itself, and the function that does it."""

    __slots__ = (
        "arguments",
        "examples",
        "flags",
        "hidden",
        "interspersed",
        "name",
        "run",
        "summary",
        "usage",
    )

    def __init__(
        self,
        name: str,
        usage: str,
        summary: str,
        flags: Sequence[Flag],
        arguments: tuple[int, int | None],
        examples: Sequence[str],
        run: Callable[[Call], int],
        interspersed: bool = True,
        hidden: bool = False,
    ) -> None:
        self.name = name
        """As it is typed: `run`, `image ls`."""
        self.usage = usage
        """What follows the name and the flags: `IMAGE [COMMAND [ARG...]]`."""
        self.summary = summary
        self.flags = tuple(flags)
        self.arguments = arguments
        """Fewest and most; None: no limit."""
        self.examples = tuple(examples)
        """Whole command lines, perhaps with `  # comment`."""
        self.run = run
        self.interspersed = interspersed
        self.hidden = hidden

    @property
    def synopsis(self) -> str:
        return " ".join(filter(None, ("tiffin", self.name, "[flags]", self.usage)))


def later(module: str, name: str) -> Callable[[Call], int]:
    """A function of a module here that is loaded when it is called: what a command needs to work
    is nothing that its help needs."""

    def run(call: Call) -> int:
        loaded = __import__(f"{__package__}.{module}", fromlist=(name,))
        code: int = getattr(loaded, name)(call)
        return code

    return run


def suggestion(given: str, known: Sequence[str]) -> str:
    """`; did you mean X?` when one of the known words is close, else nothing."""
    import difflib  # only for typos

    close = difflib.get_close_matches(given, known, 1, 0.6)
    return f"; did you mean {close[0]}?" if close else ""


def _value(flag: Flag, text: str, shown: str) -> Any:
    """The value of one occurrence. Error: UserError."""
    if flag.kind == "bool":
        if text in TRUE:
            return True
        if text in FALSE:
            return False
        raise UserError(f"{shown}: {text!r} is neither true nor false")
    if flag.kind == "int":
        digits = text[1:] if text[:1] in ("-", "+") else text
        if not (digits.isascii() and digits.isdecimal() and len(digits) <= 18):
            raise UserError(f"{shown}: {text!r} is not a whole number")
        return int(text)
    return text


class _Parser:
    def __init__(self, command: Command, extra: Sequence[Flag]) -> None:
        self.command = command
        self.long: dict[str, Flag] = {}
        self.short: dict[str, Flag] = {}
        self.options: dict[str, Any] = {}
        for flag in (*command.flags, *extra):
            if flag.name in self.long:
                continue  # the command's own flag goes before a global one
            self.long[flag.name] = flag
            if flag.short:
                self.short.setdefault(flag.short, flag)
            self.options[flag.key] = list(flag.default) if flag.kind == "list" else flag.default
        self.given: set[str] = set()

    def set(self, flag: Flag, text: str, shown: str) -> None:
        value = _value(flag, text, shown)
        key = flag.key
        if flag.kind == "list":
            if key in self.given:
                self.options[key].append(value)
            else:  # the first one replaces the default
                self.options[key] = [value]
        else:
            self.options[key] = value
        self.given.add(key)

    def parse(self, argv: Sequence[str]) -> list[str]:
        arguments: list[str] = []
        position = 0
        while position < len(argv):
            word = argv[position]
            position += 1
            if word == "--":
                return arguments + list(argv[position:])
            if len(word) < 2 or word[0] != "-":
                arguments.append(word)
                if not self.command.interspersed:
                    return arguments + list(argv[position:])
                continue
            following = argv[position] if position < len(argv) else None
            take = self.long_flag if word[1] == "-" else self.cluster
            position += take(word, following)
        return arguments

    def long_flag(self, word: str, following: str | None) -> int:
        """Returns how many of the following words belong to the flag: 0 or 1."""
        name, equals, text = word[2:].partition("=")
        flag = self.long.get(name)
        if flag is None:
            names = [f"--{known}" for known in self.long]
            raise self.error(f"unknown flag --{name}{suggestion(f'--{name}', names)}")
        if equals:
            self.set(flag, text, f"--{name}")
        elif flag.kind == "bool" or flag.bare:
            self.set(flag, flag.bare or "true", f"--{name}")
        elif following is None:
            raise self.error(f"--{name} needs a value ({flag.metavar})")
        else:
            self.set(flag, following, f"--{name}")
            return 1
        return 0

    def cluster(self, word: str, following: str | None) -> int:
        letters = word[1:]
        for index, letter in enumerate(letters):
            flag = self.short.get(letter)
            if flag is None:
                inside = f" in {word}" if len(letters) > 1 else ""
                hint = ""
                if len(letters) > 1 and letters.partition("=")[0] in self.long:
                    hint = f"; did you mean -{word}?"
                raise self.error(f"unknown flag -{letter}{inside}{hint}")
            rest = letters[index + 1 :]
            if rest[:1] == "=":
                self.set(flag, rest[1:], f"-{letter}")
                return 0
            if flag.kind == "bool":
                self.set(flag, "true", f"-{letter}")
            elif rest:
                self.set(flag, rest, f"-{letter}")
                return 0
            elif following is None:
                raise self.error(f"-{letter} (--{flag.name}) needs a value ({flag.metavar})")
            else:
                self.set(flag, following, f"-{letter}")
                return 1
        return 0

    def error(self, what: str) -> UserError:
        name = f"tiffin {self.command.name}".rstrip()
        return UserError(what, hint=f"{name} --help lists the flags")


def parse(
    command: Command, argv: Sequence[str], extra: Sequence[Flag] = ()
) -> tuple[dict[str, Any], list[str]]:
    """(options, arguments) of what follows the command's name.

    `extra` are flags that hold unless the command has its own of that name or letter; `--help`
    (when it is among them) lets any number of arguments pass. Error: UserError, one line.
    """
    parser = _Parser(command, extra)
    arguments = parser.parse(argv)
    if not parser.options.get("help"):
        check_count(command, arguments)
    return parser.options, arguments


def parse_in_order(
    command: Command, argv: Sequence[str], extra: Sequence[Flag] = ()
) -> tuple[list[tuple[Flag, str]], list[str]]:
    """([(flag, its value as text)] as they were given, arguments). Error: UserError."""
    seen: list[tuple[Flag, str]] = []

    class Recorder(_Parser):
        def set(self, flag: Flag, text: str, shown: str) -> None:
            super().set(flag, text, shown)
            seen.append((flag, text))

    arguments = Recorder(command, extra).parse(argv)
    return seen, arguments


def check_count(command: Command, arguments: Sequence[str]) -> None:
    fewest, most = command.arguments
    count = len(arguments)
    if count < fewest:
        wanted = f"at least {fewest}" if most != fewest else str(fewest)
        noun = "argument" if fewest == 1 else "arguments"
        raise UserError(
            f"{command.name}: needs {wanted} {noun}, got {count}", hint=f"usage: {command.synopsis}"
        )
    if most is not None and count > most:
        what = f"unexpected argument {arguments[most]!r}"
        raise UserError(f"{command.name}: {what}", hint=f"usage: {command.synopsis}")


def _default(flag: Flag) -> str:
    """` (default: ...)`, empty where not giving the flag simply means nothing."""
    if flag.kind == "bool":
        return " (default: true)" if flag.default else ""
    if flag.default in (None, "", ()):
        return ""
    value = ", ".join(flag.default) if flag.kind == "list" else flag.default
    return f" (default: {value})"


def sentence(text: str) -> str:
    """With a capital, unless it begins with a list of the values that may be given."""
    first = text.partition(" ")[0]
    return text[:1].upper() + text[1:] if first.isalpha() else text


def flag_lines(flags: Sequence[Flag]) -> list[str]:
    """Aligned lines of help, one a flag, in alphabetical order."""
    from textwrap import wrap  # help only

    heads = []
    for flag in sorted(flags, key=lambda flag: flag.name):
        short = f"-{flag.short}, " if flag.short else "    "
        heads.append((f"  {short}--{flag.name} {flag.metavar}".rstrip(), flag))
    width = min(34, max((len(head) for head, _ in heads), default=0))
    lines = []
    for head, flag in heads:
        more = " (repeatable)" if flag.kind == "list" else ""
        text = wrap(f"{sentence(flag.help)}{more}{_default(flag)}", 98 - width) or [""]
        if len(head) > width:
            lines.append(head)
            head = ""
        lines.append(f"{head:<{width}}  {text[0]}".rstrip())
        lines += [f"{'':<{width}}  {line}" for line in text[1:]]
    return lines


def help_text(command: Command, extra: Sequence[Flag] = ()) -> str:
    """What `--help` prints."""
    from textwrap import wrap  # help only

    lines = [*wrap(command.summary, 100), "", f"Usage: {command.synopsis}"]
    if command.flags:
        lines += ["", "Flags:", *flag_lines(command.flags)]
    if command.examples:
        lines += ["", "Examples:", *(f"  {example}" for example in command.examples)]
    own = {flag.name for flag in command.flags} | {flag.short for flag in command.flags}
    others = []
    for flag in extra:
        if flag.name in own:
            continue
        short = "" if flag.short in own else flag.short
        others.append(Flag(flag.name, short, flag.kind, flag.metavar, flag.help, flag.default))
    if others:
        lines += ["", "Global flags:", *flag_lines(others)]
    return "\n".join(lines) + "\n"
