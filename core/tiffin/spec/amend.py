"""Changes that plugins make to config.json (`amend_spec`), recorded as theirs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from ..errors import DriverError
from ..hooks import Amendment, Origin
from .origins import origin_of, split

TOP = frozenset(
    "ociVersion process root hostname domainname mounts hooks annotations linux vm".split()
)
"""Members of config.json on Linux (runtime-spec, config.md): a pointer that begins with another
name is a mistake, not a wish for a new object."""


def apply(
    document: dict[str, Any],
    origins: dict[str, Origin],
    plugin: str,
    amendments: Sequence[Amendment],
) -> None:
    """Apply them in order, in place. Objects below a member of config.json are made when missing,
    an array only to append to. Error: DriverError that names the plugin and the pointer."""
    for amendment in amendments:
        try:
            _apply_one(document, origins, f"plugin {plugin}", amendment)
        except (ValueError, AttributeError) as error:
            raise DriverError(
                f"plugin {plugin} wants to change config.json at "
                f"{getattr(amendment, 'pointer', amendment)!r}: {error}"
            ) from None


def _apply_one(
    document: dict[str, Any], origins: dict[str, Origin], source: str, amendment: Amendment
) -> None:
    pointer, value = amendment.pointer, _plain(amendment.value)
    *parents, last = split(pointer)
    if (*parents, last)[0] not in TOP:
        raise ValueError(f"config.json has no member {(*parents, last)[0]!r}")
    node: Any = document
    for name, following in zip(parents, [*parents, last][1:], strict=True):
        if isinstance(node, list):
            node = node[_index(name, len(node))]
        elif isinstance(node, dict):
            node = node.setdefault(name, [] if following == "-" else {})
        else:
            raise ValueError(f"{name!r} would be inside a plain value")
    why = amendment.why
    if isinstance(node, list):
        if value is None:
            index = _index(last, len(node))
            _remove_item(node, origins, pointer.rpartition("/")[0], index, Origin(source, why))
            return
        if last == "-":
            node.append(value)
            pointer = f"{pointer[:-1]}{len(node) - 1}"
        else:
            node[_index(last, len(node))] = value
    elif isinstance(node, dict):
        if value is not None:
            node[last] = value
        elif node.pop(last, None) is None:
            raise ValueError("there is nothing to remove")
        elif not node and parents:
            # What is left is an empty object, and that is the plugin's doing.
            origins[pointer.rpartition("/")[0]] = Origin(source, why)
    else:
        raise ValueError(f"{last!r} would be inside a plain value")
    _forget(origins, pointer)
    origins[pointer] = Origin(source, why)


def _index(text: str, length: int) -> int:
    """RFC 6901, section 4: no sign, no leading zero, inside the array."""
    well_formed = text.isascii() and text.isdecimal() and (text == "0" or text[0] != "0")
    if not well_formed or len(text) > 9 or int(text) >= length:
        raise ValueError(f"{text!r} is not an index of an array of {length}")
    return int(text)


def _plain(value: Any) -> Any:
    """A copy, of nothing but what JSON can say. Error: ValueError."""
    if isinstance(value, str):
        value.encode("utf-8")  # a lone surrogate raises UnicodeEncodeError, which is a ValueError
        return value
    if (
        value is None
        or isinstance(value, int)
        or (isinstance(value, float) and math.isfinite(value))
    ):
        return value
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, dict) and all(isinstance(name, str) for name in value):
        return {_plain(name): _plain(item) for name, item in value.items()}
    raise ValueError(f"a value of type {type(value).__name__} is not JSON")


def _forget(origins: dict[str, Origin], pointer: str) -> None:
    """What is replaced takes the origins of its parts with it."""
    for known in [known for known in origins if known.startswith(f"{pointer}/")]:
        del origins[known]


def _remove_item(
    node: list[Any], origins: dict[str, Origin], array: str, gone: int, origin: Origin
) -> None:
    """Items behind the removed one move up, and their origins with them; the array itself gets
    the plugin's origin, so what its items inherited is written down for each of them before."""
    for index in range(len(node)):
        inherited = origin_of(origins, f"{array}/{index}")
        if inherited is not None:
            origins[f"{array}/{index}"] = inherited
    del node[gone]
    _forget(origins, f"{array}/{gone}")
    del origins[f"{array}/{gone}"]
    for index in range(gone, len(node)):
        old, new = f"{array}/{index + 1}", f"{array}/{index}"
        for known in [k for k in origins if k == old or k.startswith(f"{old}/")]:
            origins[new + known.removeprefix(old)] = origins.pop(known)
    origins[array] = origin
