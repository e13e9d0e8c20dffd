"""Paths inside a container, as text: cleaned lexically, never opened."""

from __future__ import annotations


def clean(path: str) -> str:
    """Absolute, without `.`, `..`, empty parts and a final slash: `a/../../b/` -> `/b`."""
    parts: list[str] = []
    for part in path.split("/"):
        if part == "..":
            if parts:
                parts.pop()
        elif part and part != ".":
            parts.append(part)
    return "/" + "/".join(parts)
