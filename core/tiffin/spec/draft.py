"""A document under construction that remembers where each of its fields came from."""

from __future__ import annotations

from typing import Any

from ..hooks import Origin
from .origins import split


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
