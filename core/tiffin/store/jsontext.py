"""JSON text to plain values by the C scanner of the standard library alone: importing the `json`
package compiles regular expressions, 5 ms that every `ps` would pay."""

from __future__ import annotations

TYPE_CHECKING = False  # without importing typing
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any


class _Rules:
    """What the scanner asks of a `json.JSONDecoder`."""

    strict = True
    object_hook = None
    object_pairs_hook = None
    parse_float = float
    parse_int = int
    parse_constant = float


def _scanner() -> Callable[[str], Any]:
    try:
        from _json import make_scanner
    except ImportError:  # another Python than CPython
        import json

        return json.loads
    scan = make_scanner(_Rules())  # type: ignore[arg-type]

    def loads(text: str) -> Any:
        try:
            value, end = scan(text, 0)
        except StopIteration:
            raise ValueError("not JSON") from None
        if text[end:].strip():
            raise ValueError("more than one JSON value")
        return value

    return loads


loads: Callable[[str], Any] = _scanner()
"""Like `json.loads`, for text that we wrote ourselves: it begins with its value. Error:
ValueError."""
