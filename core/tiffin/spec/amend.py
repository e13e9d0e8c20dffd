"""Changes that plugins make to config.json (`amend_spec`), recorded as theirs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..errors import DriverError
from ..hooks import Amendment, Origin
from .draft import split


def apply(
    document: dict[str, Any],
    origins: dict[str, Origin],
    plugin: str,
    amendments: Sequence[Amendment],
) -> None:
    """Apply them in order. Error: DriverError that names the plugin, for a pointer to nowhere."""
    for amendment in amendments:
        try:
            pointer = _apply_one(document, amendment)
        except (KeyError, IndexError, ValueError, TypeError) as error:
            raise DriverError(
                f"plugin {plugin} wants to change config.json at {amendment.pointer!r}, "
                f"which is not there ({error!r})"
            ) from None
        origins[pointer] = Origin(f"plugin {plugin}", amendment.why)


def _apply_one(document: dict[str, Any], amendment: Amendment) -> str:
    *parents, last = split(amendment.pointer)
    node: Any = document
    for name in parents:
        node = node[int(name)] if isinstance(node, list) else node.setdefault(name, {})
    pointer = amendment.pointer
    if isinstance(node, list):
        if last == "-":
            node.append(amendment.value)
            return f"{pointer[:-1]}{len(node) - 1}"
        if amendment.value is None:
            del node[int(last)]
        else:
            node[int(last)] = amendment.value
    elif isinstance(node, dict):
        if amendment.value is None:
            del node[last]
        else:
            node[last] = amendment.value
    else:
        raise TypeError("neither object nor array")
    return pointer
