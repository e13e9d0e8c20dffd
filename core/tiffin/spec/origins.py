"""Pointers into config.json, and the look-up of where a field came from.

Plain functions over plain data: `tiffin explain` uses them without the engine or the plugins.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, TypeVar

T = TypeVar("T")

_ESCAPES = re.compile(r"~(?![01])")


def split(pointer: str) -> list[str]:
    """Reference tokens of a JSON pointer (RFC 6901, sections 3 and 4). Error: ValueError."""
    if not pointer.startswith("/"):
        raise ValueError(f"{pointer!r} does not begin with /")
    if _ESCAPES.search(pointer):
        raise ValueError(f"{pointer!r} has a ~ that is neither ~0 nor ~1")
    return [part.replace("~1", "/").replace("~0", "~") for part in pointer[1:].split("/")]


def token(name: str) -> str:
    """A name as a reference token."""
    return name.replace("~", "~0").replace("/", "~1")


def origin_of(origins: Mapping[str, T], pointer: str) -> T | None:
    """The origin of a field: its own, or that of the nearest object or array around it."""
    while pointer:
        found = origins.get(pointer)
        if found is not None:
            return found
        pointer = pointer.rpartition("/")[0]
    return None


def leaves(value: Any, pointer: str = "") -> list[tuple[str, Any]]:
    """(pointer, value) of everything that is neither object nor array, and of empty ones."""
    if isinstance(value, dict) and value:
        return [x for k, v in value.items() for x in leaves(v, f"{pointer}/{token(str(k))}")]
    if isinstance(value, list) and value:
        return [x for i, v in enumerate(value) for x in leaves(v, f"{pointer}/{i}")]
    return [(pointer, value)]
