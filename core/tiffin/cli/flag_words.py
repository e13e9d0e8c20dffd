"""Checks of a flag's value that many flags share. Error of each: UserError with flag and value."""

from __future__ import annotations

import os

from .. import units
from ..errors import UserError

TYPE_CHECKING = False  # without importing typing
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from typing import Any


def flag(key: str) -> str:
    return "--" + key.replace("_", "-")


def by_comma(values: Iterable[str]) -> tuple[str, ...]:
    return tuple(part for value in values for part in value.split(",") if part)


def clean(flag: str, text: str) -> str:
    if "\0" in text:
        raise UserError(f"{flag} {text!r} contains a zero byte")
    return text


def absolute(flag: str, path: str) -> str:
    if path and not path.startswith("/"):
        raise UserError(f"{flag} {path!r} is not an absolute path")
    return clean(flag, path)


def platform(options: Mapping[str, Any]) -> str:
    """`--platform`, or its parts. Error: UserError for both."""
    parts = [options[key] for key in ("os", "arch", "variant")]
    if not any(parts):
        return str(options["platform"])
    if options["platform"]:
        raise UserError("--platform says what --os, --arch and --variant say: leave one out")
    from ..images import platform as own

    system, machine, variant = parts
    host = own.host()
    return "/".join(filter(None, (system or host.os, machine or host.architecture, variant)))


def preserved(value: int | None) -> int:
    """`--preserve-fds`. Only what our caller has left open to us counts, nothing that is open in
    here meanwhile. Error: UserError."""
    count = at_least("--preserve-fds", value or 0, 0)
    for fd in range(3, 3 + count):
        try:
            theirs = os.get_inheritable(fd)  # Python opens none like that
        except OSError:
            theirs = False
        if not theirs:
            raise UserError(f"--preserve-fds {count}: descriptor {fd} is not open")
    return count


def at_least(flag: str, value: int, least: int) -> int:
    if value < least:
        raise UserError(f"{flag} {value} is too small", hint=f"at least {least}")
    return value


def pairs(flag: str, items: Iterable[str]) -> tuple[tuple[str, str], ...]:
    found: dict[str, str] = {}
    for item in items:
        key, equals, value = clean(flag, item).partition("=")
        if not key or not equals:
            raise UserError(f"{flag} {item!r} is not of the form NAME=VALUE")
        found[key] = value
    return tuple(found.items())


def word(flag: str, text: str) -> str:
    """What becomes a word of /etc/resolv.conf."""
    if not (text.isascii() and text.isprintable()) or not text or " " in text:
        raise UserError(f"{flag} {text!r} is not a word")
    return text


def size(flag: str, text: str) -> int:
    return units.parse_size(text, flag) if text else 0
