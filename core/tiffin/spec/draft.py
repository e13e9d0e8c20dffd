"""A document under construction that remembers where each of its fields came from."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..hooks import Origin

ENGINE = Origin("engine")


class Draft:
    """Nested dicts and lists, addressed by RFC 6901 pointers. An origin that is recorded for a
    pointer holds for everything below it that has none of its own."""

    def __init__(self) -> None:
        self.document: dict[str, Any] = {}
        self.origins: dict[str, Origin] = {}

    def put(self, pointer: str, value: Any, source: str = "engine", detail: str = "") -> None:
        """Set a field; the objects above it are made."""
        *parents, last = split(pointer)
        node = self.document
        for name in parents:
            node = node.setdefault(name, {})
        node[last] = value
        self.origins[pointer] = Origin(source, detail)

    def add(self, pointer: str, value: Any, source: str = "engine", detail: str = "") -> None:
        """Append to an array, which is made when it is not there."""
        *parents, last = split(pointer)
        node = self.document
        for name in parents:
            node = node.setdefault(name, {})
        items = node.setdefault(last, [])
        items.append(value)
        self.origins[f"{pointer}/{len(items) - 1}"] = Origin(source, detail)


def split(pointer: str) -> list[str]:
    """Reference tokens of a JSON pointer (RFC 6901, section 4)."""
    if not pointer.startswith("/"):
        raise ValueError(f"{pointer!r} does not begin with /")
    return [token.replace("~1", "/").replace("~0", "~") for token in pointer[1:].split("/")]


def token(name: str) -> str:
    """A name as a reference token."""
    return name.replace("~", "~0").replace("/", "~1")


def origin_of(origins: Mapping[str, Origin], pointer: str) -> Origin | None:
    """The origin of a field: its own, or that of the nearest object around it."""
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
