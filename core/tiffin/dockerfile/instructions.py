"""Logical lines to instructions: flags, exec form or words, checked for what each may have."""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Callable

from msgspec import Struct

from . import expansion
from .lines import Heredoc, Line, wrong


class Instruction(Struct, frozen=True):
    """One instruction. What of it may hold variables is as it was written."""

    name: str
    file: str
    line: int
    rest: str
    """All after the name, as written."""
    flags: tuple[tuple[str, str], ...] = ()
    """`--name=value`, in order; the value of a bare flag is empty."""
    value: str = ""
    """What follows the flags."""
    words: tuple[str, ...] | None = None
    """The exec form: a JSON array of strings. None when it is not one."""
    heredocs: tuple[Heredoc, ...] = ()
    escape: str = "\\"

    def error(self, what: str, hint: str = "") -> Exception:
        return wrong(self.file, self.line, f"{self.name}: {what}", hint)

    def flag(self, name: str) -> str:
        """The last value of a flag; empty when it is not there."""
        return dict(self.flags).get(name, "")

    @property
    def text(self) -> str:
        """As it is shown."""
        shown = f"{self.name} {self.rest}".rstrip()
        if self.heredocs:
            first = self.heredocs[0].content.strip().splitlines()
            shown += f" ({first[0] if first else ''}...)"
        return shown

    @property
    def parts(self) -> list[str]:
        """The exec form's words, or those that blanks outside quotes make, as written."""
        return list(self.words) if self.words is not None else self.split(self.value)

    def split(self, text: str) -> list[str]:
        return expansion.split(text, self.escape)


FLAGS: dict[str, tuple[str, ...]] = {
    "FROM": ("platform",),
    "RUN": ("mount", "network", "security"),
    "COPY": ("from", "chown", "chmod", "link", "exclude"),
    "ADD": ("chown", "chmod", "link", "checksum", "exclude", "keep-git-dir"),
    "HEALTHCHECK": ("interval", "timeout", "start-period", "start-interval", "retries"),
}
BARE = ("link", "keep-git-dir")
JSON_FORMS = ("RUN", "CMD", "ENTRYPOINT", "SHELL", "COPY", "ADD", "VOLUME")
TRIGGERS_REFUSED = ("FROM", "MAINTAINER", "ONBUILD")


def make(line: Line, file: str, escape: str) -> Instruction:
    """Error: UserError that names file and line."""
    if line.name not in CHECKS:
        close = difflib.get_close_matches(line.name, CHECKS, 1)
        meant = f"; did you mean {close[0]}?" if close else ""
        raise wrong(file, line.number, f"unknown instruction {line.name!r}{meant}")
    flags, value = _flags(line, file, escape)
    found = Instruction(
        name=line.name,
        file=file,
        line=line.number,
        rest=line.rest,
        flags=flags,
        value=value,
        words=exec_form(value) if line.name in JSON_FORMS else None,
        heredocs=line.heredocs,
        escape=escape,
    )
    CHECKS[line.name](found)
    return found


def _flags(line: Line, file: str, escape: str) -> tuple[tuple[tuple[str, str], ...], str]:
    """Leading `--name=value` of the instructions that have such, and what follows them."""
    known = FLAGS.get(line.name)
    rest = line.rest
    if known is None:
        return (), rest
    flags = []
    while rest.startswith("--"):
        word = expansion.split(rest, escape)[0]
        rest = rest[len(word) :].lstrip()
        if word == "--":
            break
        name, equals, value = word[2:].partition("=")
        if name not in known:
            raise wrong(
                file, line.number, f"{line.name}: unknown flag --{name}",
                f"it has {', '.join(f'--{one}' for one in known)}",
            )  # fmt: skip
        if not equals and name not in BARE:
            raise wrong(file, line.number, f"{line.name}: --{name} needs a value")
        flags.append((name, value))
    return tuple(flags), rest


def exec_form(value: str) -> tuple[str, ...] | None:
    if not value.startswith("["):
        return None
    try:
        words = json.loads(value)
    except (ValueError, RecursionError):
        return None
    return tuple(words) if all(isinstance(word, str) for word in words) else None


# --- what each must have --------------------------------------------------------------------------


def _need(instruction: Instruction) -> None:
    if not instruction.value and not instruction.words:
        raise instruction.error("an argument is missing")


def _command(instruction: Instruction) -> None:
    """CMD and ENTRYPOINT: an empty array clears."""
    if not instruction.value:
        raise instruction.error("a command is missing")


_STAGE = re.compile(r"[a-z][a-z0-9-_.]*\Z")


def _from(instruction: Instruction) -> None:
    parts = instruction.parts
    if len(parts) not in (1, 3) or (len(parts) == 3 and parts[1].upper() != "AS"):
        raise instruction.error("wants IMAGE, or IMAGE AS NAME")
    if len(parts) == 3 and not _STAGE.match(parts[2].lower()):
        raise instruction.error(f"{parts[2]!r} is no name for a stage", "letters, digits, - _ .")


def _pairs(instruction: Instruction) -> None:
    pairs(instruction)


def pairs(instruction: Instruction) -> list[tuple[str, str]]:
    """NAME=VALUE words of ENV and LABEL as written, or the old `NAME the rest`."""
    parts = instruction.split(instruction.value)
    if not parts:
        raise instruction.error("NAME=VALUE is missing")
    if "=" not in parts[0]:
        rest = instruction.value[len(parts[0]) :].strip()
        if not rest:
            raise instruction.error(f"{parts[0]!r} has no value", "write NAME=VALUE")
        return [(parts[0], rest)]
    found = []
    for part in parts:
        name, equals, value = part.partition("=")
        if not equals or not name:
            raise instruction.error(f"{part!r} is not NAME=VALUE", "quote values with blanks")
        found.append((name, value))
    return found


_ARG = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]*\Z")


def _arg(instruction: Instruction) -> None:
    if not instruction.parts:
        raise instruction.error("a name is missing")
    for part in instruction.parts:
        if not _ARG.match(part.partition("=")[0]):
            raise instruction.error(f"{part!r} is not NAME or NAME=VALUE")


def _copy(instruction: Instruction) -> None:
    count = len(instruction.parts)
    if count < 2:
        raise instruction.error("wants sources and a destination")
    chmod = instruction.flag("chmod")
    if chmod and "$" not in chmod and not re.match(r"[0-7]{3,5}\Z", chmod):
        raise instruction.error(f"--chmod={chmod} is not octal", "for example 755")


def _shell(instruction: Instruction) -> None:
    if not instruction.words:
        raise instruction.error("wants the exec form", 'for example ["/bin/sh", "-c"]')


def _run(instruction: Instruction) -> None:
    if not instruction.value:
        raise instruction.error("a command is missing")
    network = instruction.flag("network")
    if network not in ("", "default", "none", "host"):
        raise instruction.error(f"--network={network} is not known", "default, none or host")
    if instruction.flag("security") not in ("", "sandbox"):
        raise instruction.error("--security=insecure is not supported")


def _healthcheck(instruction: Instruction) -> None:
    word = instruction.value.split(None, 1)[:1]
    if not word or word[0].upper() not in ("NONE", "CMD"):
        raise instruction.error("wants NONE, or CMD and a command")
    if word[0].upper() == "CMD" and not instruction.value[3:].strip():
        raise instruction.error("a command is missing after CMD")


def _one(instruction: Instruction) -> None:
    _need(instruction)


def _onbuild(instruction: Instruction) -> None:
    words = instruction.value.split(None, 1)
    if not words:
        raise instruction.error("an instruction is missing")
    name = words[0].upper()
    if name in TRIGGERS_REFUSED:
        raise instruction.error(f"{name} is not allowed in ONBUILD")
    trigger(instruction)


def trigger(instruction: Instruction) -> Instruction:
    """What an ONBUILD holds."""
    name, _, rest = instruction.value.partition(" ")
    line = Line(instruction.line, name.upper(), rest.strip(), instruction.heredocs)
    return make(line, instruction.file, instruction.escape)


CHECKS: dict[str, Callable[[Instruction], None]] = {
    "ADD": _copy,
    "ARG": _arg,
    "CMD": _command,
    "COPY": _copy,
    "ENTRYPOINT": _command,
    "ENV": _pairs,
    "EXPOSE": _need,
    "FROM": _from,
    "HEALTHCHECK": _healthcheck,
    "LABEL": _pairs,
    "MAINTAINER": _need,
    "ONBUILD": _onbuild,
    "RUN": _run,
    "SHELL": _shell,
    "STOPSIGNAL": _one,
    "USER": _one,
    "VOLUME": _need,
    "WORKDIR": _one,
}
