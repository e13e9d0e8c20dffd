"""The functions of templates: Go's own, and docker's and podman's (json, join, ...). Pure."""

from __future__ import annotations

from ..errors import UserError
from .goexpr import Missing, show

TYPE_CHECKING = False  # without importing typing
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

MAX_TEXT = 1 << 24
"""Characters that a function may make; printf and pad could make any number."""


def call(name: str, arguments: list[Any]) -> Any:
    """Error: UserError for a wrong number or kind of arguments."""
    try:
        result = _TABLE[name](*arguments)
    except (TypeError, ValueError, AttributeError, IndexError, KeyError, OverflowError) as error:
        shown = " ".join(show(value)[:40] for value in arguments)
        raise UserError(
            f"template: {name} cannot take these arguments: {shown[:100]!r}",
            hint=str(error).replace("<lambda>", name)[:100],
        ) from None
    if isinstance(result, str) and len(result) > MAX_TEXT:
        raise UserError(f"template: {name} makes too much text")
    return result


def _plain(value: Any) -> Any:
    return None if isinstance(value, Missing) else value


def _document(value: Any) -> Any:
    """By the names that fields have in JSON (`gotemplate.Named`)."""
    if isinstance(value, list):
        return [_document(item) for item in value]
    if isinstance(value, dict):
        plain = value.plain() if hasattr(value, "plain") else value
        return {name: _document(item) for name, item in plain.items()}
    return value


def _json(value: Any) -> str:
    import json

    text = json.dumps(_document(_plain(value)), ensure_ascii=False, separators=(",", ":"))
    # Go escapes these, so that the text may stand in HTML.
    for letter in "<>&\u2028\u2029":
        text = text.replace(letter, f"\\u{ord(letter):04x}")
    return text


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{show(value)[:40]!r} is not text")
    return value


def _number(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{show(value)[:40]!r} is not a whole number")
    return value


def _join(items: Any, separator: Any) -> str:
    if _plain(items) is None:
        return ""
    if not isinstance(items, list):
        raise TypeError("the first must be a list")
    return _text(separator).join(show(item) for item in items)


def _length(value: Any) -> int:
    if not isinstance(value, (str, list, dict)):
        raise TypeError(f"{show(value)[:40]!r} has no length")
    return len(value.encode("utf-8", "surrogatepass")) if isinstance(value, str) else len(value)


def _index(value: Any, *keys: Any) -> Any:
    for key in keys:
        if isinstance(value, dict):
            value = value.get(key, Missing()) if isinstance(key, str) else value[key]
        elif isinstance(value, (list, str)):
            number = _number(key)
            if not 0 <= number < len(value):
                raise IndexError(f"index {number} is out of range")
            value = ord(value[number]) if isinstance(value, str) else value[number]
        else:
            raise TypeError(f"{show(value)[:40]!r} cannot be indexed")
    return value


def _slice(value: Any, *bounds: Any) -> Any:
    if not isinstance(value, (str, list)) or len(bounds) > 2:
        raise TypeError("takes text or a list, and at most two numbers")
    low = _number(bounds[0]) if bounds else 0
    high = _number(bounds[1]) if len(bounds) > 1 else len(value)
    if not 0 <= low <= high <= len(value):
        raise IndexError("out of range")
    return value[low:high]


def _print(*values: Any) -> str:
    """Go's Sprint: a space between two values that are both no text."""
    parts: list[str] = []
    for position, value in enumerate(values):
        if position and not isinstance(value, str) and not isinstance(values[position - 1], str):
            parts.append(" ")
        parts.append(show(value))
    return "".join(parts)


def _printf(form: Any, *values: Any) -> str:
    text = _text(form)
    parts: list[str] = []
    rest = list(values)
    position = 0
    while position < len(text):
        at = text.find("%", position)
        if at < 0:
            parts.append(text[position:])
            break
        parts.append(text[position:at])
        end = at + 1
        while end < len(text) and text[end] in "+-# 0123456789.":
            end += 1
        verb = text[end : end + 1]
        position = end + 1
        if verb == "%":
            parts.append("%")
        elif not rest:
            parts.append(f"%!{verb}(MISSING)" if verb else "%!(NOVERB)")
        else:
            parts.append(_verb(text[at + 1 : end], verb, rest.pop(0)))
    if rest:
        parts.append(f"%!(EXTRA {', '.join(show(value) for value in rest)})")
    return "".join(parts)


def _verb(flags: str, verb: str, value: Any) -> str:
    numbers = [part for part in flags.lstrip("+-# 0").split(".") if part]
    if any(len(part) > 4 for part in numbers):
        raise ValueError("a width is too large")
    whole = isinstance(value, int) and not isinstance(value, bool)
    if verb in ("s", "v"):
        text = show(value)
        if "." in flags:
            text = text[: int(flags.partition(".")[2] or 0)]
        width = int(flags.partition(".")[0].lstrip("+-# 0") or 0)
        return text.ljust(width) if "-" in flags else text.rjust(width)
    if verb == "q" and isinstance(value, str):
        import json

        return json.dumps(value, ensure_ascii=False)
    if verb == "t" and isinstance(value, bool):
        return "true" if value else "false"
    if verb in ("d", "x", "X", "o", "c") and whole:
        return str(f"%{flags}{verb}" % value)
    if verb == "b" and whole:
        return f"{value:b}"
    if verb in ("f", "e", "g") and isinstance(value, (int, float)) and not isinstance(value, bool):
        return str(f"%{flags}{verb}" % value)
    if verb in ("x", "X") and isinstance(value, str):
        digits = value.encode("utf-8", "surrogatepass").hex()
        return digits.upper() if verb == "X" else digits
    return f"%!{verb}({show(value)})"


def _equal(first: Any, *others: Any) -> bool:
    if not others:
        raise TypeError("needs two arguments")
    first = _plain(first)
    return any(
        isinstance(first, bool) == isinstance(other, bool) and first == other
        for other in map(_plain, others)
    )


def _ordered(compare: Callable[[Any, Any], bool]) -> Callable[[Any, Any], bool]:
    def run(first: Any, second: Any) -> bool:
        for value in (first, second):
            if isinstance(value, bool) or not isinstance(value, (str, int, float)):
                raise TypeError(f"{show(value)[:40]!r} has no order")
        return compare(first, second)

    return run


def _title(value: Any) -> str:
    text = _text(value)
    return "".join(
        c.upper() if not position or text[position - 1].isspace() else c
        for position, c in enumerate(text)
    )


def _truncate(value: Any, length: Any) -> str:
    return _text(value)[: max(0, _number(length))]


def _pad(value: Any, before: Any, after: Any) -> str:
    if max(_number(before), _number(after)) > 10_000:
        raise ValueError("too wide")
    return f"{' ' * before}{_text(value)}{' ' * after}" if value else ""


_TABLE: dict[str, Callable[..., Any]] = {
    "json": _json,
    "join": _join,
    "lower": lambda value: _text(value).lower(),
    "upper": lambda value: _text(value).upper(),
    "title": _title,
    "split": lambda value, separator: (
        _text(value).split(_text(separator)) if separator else list(_text(value))
    ),
    "trim": lambda value: _text(value).strip(),
    "truncate": _truncate,
    "pad": _pad,
    "replace": lambda value, old, new: _text(value).replace(_text(old), _text(new)),
    "len": _length,
    "index": _index,
    "slice": _slice,
    "print": _print,
    "println": lambda *values: " ".join(map(show, values)) + "\n",
    "printf": _printf,
    "eq": _equal,
    "ne": lambda first, second: not _equal(first, second),
    "lt": _ordered(lambda first, second: first < second),
    "le": _ordered(lambda first, second: first <= second),
    "gt": _ordered(lambda first, second: first > second),
    "ge": _ordered(lambda first, second: first >= second),
    "not": lambda value: not _plain(value),
}
