"""The entry point: global flags, choice of the command, and what errors look like.

Nothing here may import what a single command needs. The garbage collector is off: no command lives
long enough to gain from it, and a pass over the imported modules costs milliseconds.
"""

from __future__ import annotations

import gc

gc.disable()

import os  # noqa: E402
import sys  # noqa: E402

from .. import lean  # noqa: E402
from ..errors import TiffinError, UserError  # noqa: E402
from . import commands, printable  # noqa: E402
from .flags import Call, Command, Flag, help_text, parse, suggestion  # noqa: E402

TYPE_CHECKING = False  # without importing typing
if TYPE_CHECKING:
    from typing import NoReturn

LEVELS = ("trace", "debug", "info", "warn", "warning", "error", "fatal", "panic")
FAILED = 125
BROKEN_PIPE = 141
"""What a shell says of a process that SIGPIPE ended."""

GLOBALS = (
    Flag("root", "", "str", "DIR", "Where everything is stored (TIFFIN_ROOT)"),
    Flag("runroot", "", "str", "DIR", "Where run state is, gone at reboot (TIFFIN_RUNROOT)"),
    Flag("storage-driver", "", "str", "NAME", "Storage driver: a plugin's name (see plugin ls)"),
    Flag("runtime", "", "str", "NAME", "OCI runtime: a plugin's name (see plugin ls), or a path"),
    Flag("cgroup-manager", "", "str", "NAME", "Who makes cgroups: systemd or cgroupfs"),
    Flag(
        "log-level",
        "",
        "str",
        "LEVEL",
        f"{', '.join(LEVELS)} (default: warn)",
    ),
    Flag("debug", "", "bool", "", "Log every event, and show a traceback for errors"),
    Flag("help", "h", "bool", "", "Show help"),
)
VERSION = Flag("version", "v", "bool", "", "Print the version")


def _root_help(call: Call) -> int:
    sys.stdout.write(overview())
    return 0


ROOT = Command(
    "",
    "COMMAND",
    "A container engine that explains itself",
    (VERSION,),
    (0, None),
    (),
    _root_help,
    interspersed=False,
)


def overview() -> str:
    """`tiffin --help`: all commands by group."""
    from .flags import flag_lines

    lines = [ROOT.summary, "", "Usage: tiffin [flags] COMMAND [flags] [ARG...]"]
    for group in commands.GROUPS:
        lines += ["", f"{group}:"]
        for name, (_, of_group, summary) in commands.COMMANDS.items():
            if of_group == group and name.partition(" ")[0] not in commands.NOUNS:
                lines.append(f"  {name:<14}{summary}")
    lines += ["", "More, by noun (tiffin NOUN --help):"]
    lines += [f"  {noun:<14}{summary}" for noun, summary in commands.NOUNS.items()]
    lines += ["", "Flags:", *flag_lines((*GLOBALS, VERSION))]
    return "\n".join(lines) + "\n"


def noun_help(noun: str) -> str:
    lines = [commands.NOUNS[noun], "", f"Usage: tiffin {noun} COMMAND [flags] [ARG...]", ""]
    for name, (_, _, summary) in sorted(commands.COMMANDS.items()):
        first, _, second = name.partition(" ")
        if first == noun and second:
            lines.append(f"  {second:<14}{summary}")
    return "\n".join(lines) + "\n"


def load(name: str) -> Command:
    """Import the command of this name from the table."""
    module, _, attribute = commands.COMMANDS[name][0].partition(":")
    loaded = __import__(f"{__package__}.{module}", fromlist=(attribute,))
    command: Command = getattr(loaded, attribute)
    return command


def _unknown(words: list[str]) -> UserError:
    if words[0] in commands.NOUNS:
        noun = words[0]
        names = [name for name in commands.COMMANDS if name.startswith(f"{noun} ")]
        given = " ".join(words[:2])
        return UserError(f"unknown command {given!r}{suggestion(given, names)}")
    names = [name for name in (*commands.COMMANDS, *commands.ALIASES) if " " not in name]
    close = suggestion(words[0], [*names, *commands.NOUNS])
    return UserError(
        f"unknown command {words[0]!r}{close}", hint="tiffin --help lists the commands"
    )


def dispatch(argv: list[str]) -> int:
    """Run the command line; returns the exit code. Errors are raised."""
    before, words = parse(ROOT, argv, GLOBALS)
    if before["version"]:
        from .. import __version__

        sys.stdout.write(f"tiffin version {__version__}\n")
        return 0
    if not words:
        sys.stdout.write(overview())
        return 0
    if words[0] == "__complete":  # what a shell asks at a press of tab
        from .complete import write

        return write(words[1:])
    if words[0] == "help":
        return dispatch(["--help", *words[1:3]])
    if words[0] in commands.NOUNS:  # flags may stand between noun and verb as well
        between, rest = parse(ROOT, words[1:], GLOBALS)
        before = {key: between[key] or value for key, value in before.items()}
        words = [words[0], *rest]
    found = commands.find(words)
    if found is None:
        if words[0] in commands.NOUNS and (before["help"] or len(words) == 1):
            sys.stdout.write(noun_help(words[0]))
            return 0
        raise _unknown(words)
    name, count = found
    command = load(name)
    if before["help"]:
        sys.stdout.write(help_text(command, GLOBALS))
        return 0
    options, arguments = parse(command, words[count:], GLOBALS)
    own = {flag.name for flag in command.flags}
    chosen = {}
    for flag in GLOBALS:
        after = flag.default if flag.name in own else options.pop(flag.key)
        chosen[flag.key] = after or before[flag.key]
    if chosen["help"]:
        sys.stdout.write(help_text(command, GLOBALS))
        return 0
    level = chosen["log_level"] or ("debug" if chosen["debug"] else "warn")
    if level not in LEVELS:
        raise UserError(f"--log-level {level!r} is not known", hint=", ".join(LEVELS))
    from ..layout import Layout

    call = Call(
        options,
        arguments,
        Layout.find(chosen["root"] or None, chosen["runroot"] or None),
        storage_driver=chosen["storage_driver"],
        runtime=chosen["runtime"],
        cgroup_manager=chosen["cgroup_manager"],
        log_level=level,
        debug=chosen["debug"],
    )
    if os.geteuid():
        from . import namespaced

        namespaced.enter(name, options, call.layout)
    return command.run(call)


def explain(error: BaseException, debug: bool = False) -> tuple[str, int]:
    """(one line for stderr or "", exit code) of whatever a command raised."""
    inner = getattr(error, "exceptions", None)
    while inner is not None and len(inner) == 1:
        error = inner[0]
        inner = getattr(error, "exceptions", None)
    if inner is not None:
        # Several tasks failed: what was meant for people goes before what follows from it.
        known = [one for one in inner if isinstance(one, (TiffinError, KeyboardInterrupt))]
        if known:
            return explain(known[0], debug)
    if isinstance(error, TiffinError):
        return printable.line(str(error)), error.exit_code
    if isinstance(error, KeyboardInterrupt):
        return "", 130
    if isinstance(error, SystemExit):
        return "", error.code if isinstance(error.code, int) else int(error.code is not None)
    if isinstance(error, BrokenPipeError):
        return "", BROKEN_PIPE
    if type(error).__module__ == "sqlite3":
        from ..store.sync import translate  # type: ignore[attr-defined, unused-ignore]

        told = translate(error, "the store")  # type: ignore[arg-type]
        if isinstance(told, TiffinError):
            return printable.line(str(told)), told.exit_code
    if isinstance(error, OSError) and error.errno is not None and error.strerror:
        where = f"{error.filename}: " if error.filename is not None else ""
        hint = " (free some space and try again)" if error.errno in (28, 122) else ""
        return printable.line(f"{where}{error.strerror}{hint}"), FAILED
    text = f"internal error: {type(error).__name__}: {error}"
    more = "" if debug else " (run with --debug to see where)"
    return printable.line(text) + more, FAILED


def _debug_asked(argv: list[str]) -> bool:
    """True for --debug before the image or container: after it, it is the container's own."""
    words = 0
    for word in argv:
        if word == "--debug":
            return True
        words += not word.startswith("-")
        if words > 2:
            break
    return False


def _finish(code: int) -> NoReturn:
    """Flush, and leave without taking the interpreter down: that alone takes milliseconds."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except BrokenPipeError:
            code = code or BROKEN_PIPE
        except (OSError, ValueError) as error:
            if stream is sys.stdout:
                os.write(2, f"Error: standard output: {error}\n".encode())
            code = code or FAILED
    os._exit(code)


def _open_streams() -> None:
    """Standard streams that were closed (`>&-`) become /dev/null: otherwise the next file that is
    opened, the database perhaps, would be taken for standard output by a child."""
    fd = os.open(os.devnull, os.O_RDWR)
    while fd < 2:
        fd = os.dup(fd)
    if fd > 2:
        os.close(fd)
    sys.stdin = sys.stdin or open(0, closefd=False)  # noqa: SIM115
    sys.stdout = sys.stdout or open(1, "w", closefd=False)  # noqa: SIM115
    sys.stderr = sys.stderr or open(2, "w", closefd=False)  # noqa: SIM115


def main(argv: list[str] | None = None) -> NoReturn:
    """The console script `tiffin`. Never returns."""
    argv = sys.argv[1:] if argv is None else argv
    if sys.stdin is None or sys.stdout is None or sys.stderr is None:
        _open_streams()
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    lean.prepare()
    try:
        code = dispatch(argv)
    except BaseException as error:
        debug = _debug_asked(argv)
        text, code = explain(error, debug)
        expected = isinstance(error, (BrokenPipeError, SystemExit))
        printable.failure(text, error, debug and not expected)
    _finish(code)


if __name__ == "__main__":
    main()
