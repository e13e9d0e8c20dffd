"""Lists on a terminal, laid out as podman lays them out, and the flags that all lists share.

Cells are made printable here: names and commands may come from an image or a registry.
"""

from __future__ import annotations

from ..errors import UserError
from .flags import suggestion
from .printable import for_terminal, line

TYPE_CHECKING = False  # without importing typing
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from typing import Any

WIDTH = 12
"""The least width of a column, its gap included, as of podman's tabwriter."""
GAP = 2


def table(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Lines of aligned cells; no headings (an empty sequence), no first line. "" when empty."""
    lines = [list(headings)] if headings else []
    lines += [
        list(row) if "".join(row).isprintable() else [line(cell) for cell in row] for row in rows
    ]
    shapes: dict[int, str] = {}
    widths = [0] * max(map(len, lines), default=0)
    for count in {len(cells) for cells in lines}:
        alike = [cells[:-1] for cells in lines if len(cells) == count]
        for index, column in enumerate(zip(*alike, strict=True)):
            widths[index] = max(widths[index], WIDTH, max(map(len, column)) + GAP)
    for count in {len(cells) for cells in lines}:
        padded = "".join(f"%-{width}s" for width in widths[: max(count - 1, 0)])
        shapes[count] = padded + ("%s\n" if count else "\n")
    return "".join([shapes[len(cells)] % tuple(cells) for cells in lines])


def json_text(value: Any, indent: int = 4) -> str:
    """JSON for people: podman indents lists by 4, `inspect` by 5. Escapes what is not ASCII, so
    that nothing in it can reach the terminal as a control sequence."""
    import json

    return json.dumps(value, indent=indent) + "\n"


def formatted(
    template: str,
    records: Sequence[Mapping[str, Any]],
    headings: Mapping[str, str],
    *,
    heading: bool = True,
) -> str:
    """`--format`: `json`, `table TEMPLATE` or a template, once for each record.

    Error: UserError for a template that is wrong.
    """
    if template == "json":
        return json_text(list(records))
    from . import gotemplate

    gotemplate.parse(template)  # also when there is nothing to show
    # Structs, so that a field that is misspelt is an error.
    records = [
        one if isinstance(one, gotemplate.Record) else gotemplate.Record(**one) for one in records
    ]
    if not template.startswith(("table ", "table\t", "table{", "table\\t")) and template != "table":
        return "".join(
            for_terminal(gotemplate.render(template, record)) + "\n" for record in records
        )
    body = template[5:].lstrip(" ")
    body = body[2:] if body.startswith("\\t") else body.lstrip("\t")
    first = gotemplate.headings(body, headings)
    rows = [gotemplate.render(body, record).split("\t") for record in records]
    return table(first.split("\t") if heading else (), rows)


def filters(values: Iterable[str], allowed: Sequence[str]) -> dict[str, list[str]]:
    """`--filter KEY=VALUE` by key. Error: UserError for a key that is not known."""
    found: dict[str, list[str]] = {}
    for value in values:
        key, equals, text = value.partition("=")
        if key not in allowed:
            close = suggestion(key, allowed)
            raise UserError(
                f"--filter {value!r}: unknown filter {key!r}{close}", hint=", ".join(allowed)
            )
        if not equals:
            raise UserError(f"--filter {value!r} needs a value", hint=f"write {key}=VALUE")
        found.setdefault(key, []).append(text)
    return found


def matches(given: Mapping[str, Sequence[str]], key: str) -> Callable[[str], bool]:
    """Whether a word has one of the patterns of `--filter KEY=PATTERN`; any has, where there are
    none. Error: UserError for what is no pattern."""
    if key not in given:
        return lambda word: True
    import re  # filters only

    patterns = []
    for text in given[key]:
        try:
            patterns.append(re.compile(text))
        except re.error as error:
            raise UserError(f"--filter {key}={text}: not a pattern: {error}") from None
    return lambda word: any(pattern.search(word) for pattern in patterns)


def has_labels(labels: Mapping[str, str], wanted: Iterable[str]) -> bool:
    """True when all of `KEY` or `KEY=VALUE` are among the labels."""
    for text in wanted:
        key, equals, value = text.partition("=")
        if key not in labels or (equals and labels[key] != value):
            return False
    return True
