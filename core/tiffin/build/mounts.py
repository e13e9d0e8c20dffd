"""`RUN --mount=...`: parsed and checked. Pure."""

from __future__ import annotations

from collections.abc import Callable

from msgspec import Struct

from ..dockerfile.instructions import Instruction
from ..errors import TiffinError
from ..units import parse_size

TYPES = ("bind", "cache", "tmpfs", "secret")
SHARING = ("shared", "private", "locked")
KEYS = {
    "bind": ("source", "from", "rw"),
    "cache": ("id", "source", "from", "ro", "sharing", "mode", "uid", "gid"),
    "tmpfs": ("size",),
    "secret": ("id", "required", "mode", "uid", "gid", "env"),
}
ALIASES = {"src": "source", "dst": "target", "destination": "target", "readonly": "ro",
           "readwrite": "rw"}  # fmt: skip


class RunMount(Struct, frozen=True):
    type: str
    target: str = ""
    """Absolute, unless the working directory comes before it."""
    source: str = ""
    origin: str = ""
    """`from=`: a stage or an image."""
    id: str = ""
    writable: bool = False
    sharing: str = "shared"
    required: bool = False
    size: int = 0
    mode: int = 0
    uid: int = 0
    gid: int = 0
    env: str = ""
    """Of a secret: the variable that it is given in, instead of a file."""


def parse(instruction: Instruction, expand: Callable[[str], str]) -> list[RunMount]:
    """All of a RUN. Error: UserError that names file and line."""
    return [
        _one(instruction, expand(value)) for name, value in instruction.flags if name == "mount"
    ]


def _one(instruction: Instruction, text: str) -> RunMount:
    shown = f"--mount={text}"
    given: dict[str, str] = {}
    for option in text.split(","):
        name, equals, value = option.strip().partition("=")
        name = ALIASES.get(name, name)
        given[name] = value if equals else "true"
    kind = given.pop("type", "bind")
    if kind not in TYPES:
        hint = "ssh agents are not forwarded" if kind == "ssh" else ", ".join(TYPES)
        raise instruction.error(f"{shown}: type {kind!r} is not supported", hint)
    for name in given:
        if name not in (*KEYS[kind], "target", "ro", "rw"):
            raise instruction.error(f"{shown}: {kind} has no option {name!r}")
    target = given.get("target", "")
    if kind == "secret":
        identifier = given.get("id") or target.rpartition("/")[2]
        if not identifier:
            raise instruction.error(f"{shown}: id= is missing")
        if not target and "env" not in given:
            target = f"/run/secrets/{identifier}"
        given["id"] = identifier
    elif not target:
        raise instruction.error(f"{shown}: target= is missing")
    sharing = given.get("sharing", "shared")
    if sharing not in SHARING:
        raise instruction.error(f"{shown}: sharing={sharing}", ", ".join(SHARING))
    read_only = _bool(instruction, shown, given.get("ro", "false"))
    writable = _bool(instruction, shown, given.get("rw", "false"))
    default_mode = {"cache": "755", "secret": "400"}.get(kind, "0")
    return RunMount(
        type=kind,
        target=target,
        source=given.get("source", ""),
        origin=given.get("from", ""),
        id=given.get("id", ""),
        writable=writable if kind == "bind" else not read_only,
        sharing=sharing,
        required=_bool(instruction, shown, given.get("required", "false")),
        size=_size(instruction, shown, given.get("size", "")),
        mode=_number(instruction, shown, given.get("mode", default_mode), 8),
        uid=_number(instruction, shown, given.get("uid", "0"), 10),
        gid=_number(instruction, shown, given.get("gid", "0"), 10),
        env=given.get("env", ""),
    )


def _bool(instruction: Instruction, shown: str, text: str) -> bool:
    if text.lower() not in ("true", "false", "1", "0"):
        raise instruction.error(f"{shown}: {text!r} is neither true nor false")
    return text.lower() in ("true", "1")


def _number(instruction: Instruction, shown: str, text: str, base: int) -> int:
    try:
        number = int(text.removeprefix("0o"), base)
    except ValueError:
        number = -1
    if not 0 <= number < 2**32 - 1:
        raise instruction.error(f"{shown}: {text!r} is not a number")
    return number


def _size(instruction: Instruction, shown: str, text: str) -> int:
    try:
        return parse_size(text) if text else 0
    except TiffinError as error:
        raise instruction.error(f"{shown}: {error}") from None
