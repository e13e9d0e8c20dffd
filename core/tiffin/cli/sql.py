"""`sql`: a query over the documented tables, which can read them and do nothing else."""

from __future__ import annotations

import sys

from ..errors import UserError
from ..store import reports
from . import reads
from .flags import Call, Command, Flag, suggestion
from .table import table

TYPE_CHECKING = False  # without importing typing
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from sqlite3 import Connection
    from typing import Any

FORMATS = ("table", "json", "csv")
REFUSED = ("not authorized", "authorization denied", "prohibited", "readonly", "cannot modify")
"""Words in SQLite's messages about what the authoriser or the views do not allow."""
BATCH = 500
"""Rows that are fetched at once."""


class Stopwatch:
    """Says whether the query is to be stopped: SIGINT came, or its time is over.

    SQLite runs in C, and Python handles a signal only when it gets a word in: that is in the
    progress handler, where an exception would be lost. So the handler leaves a note.
    """

    def __init__(self, seconds: int) -> None:
        from time import monotonic

        self.interrupted = False
        self.late = False
        self._now = monotonic
        self._end = monotonic() + seconds if seconds else float("inf")

    def interrupt(self, *_: object) -> None:
        self.interrupted = True

    def over(self) -> bool:
        self.late = self._now() > self._end
        return self.late or self.interrupted


def parameters(given: Iterable[str]) -> dict[str, str]:
    """`--param NAME=VALUE` by name; a query has them as `:NAME`."""
    found = {}
    for text in given:
        name, equals, value = text.partition("=")
        if not equals or not name.isidentifier():
            raise UserError(f"--param {text!r} is no NAME=VALUE")
        found[name] = value
    return found


def names(cursor_names: Iterable[str]) -> list[str]:
    """Names of columns, made unique: `id`, `id_2`."""
    found: list[str] = []
    for name in cursor_names:
        unique, number = name, 1
        while unique in found:
            number += 1
            unique = f"{name}_{number}"
        found.append(unique)
    return found


def _plain(value: Any) -> Any:
    return value.hex() if isinstance(value, bytes) else value


def _cell(value: Any) -> str:
    return "" if value is None else str(_plain(value))


def _json(columns: list[str], rows: Iterable[tuple[Any, ...]], _: bool) -> None:
    import json

    comma = "[\n"
    for row in rows:
        record = dict(zip(columns, map(_plain, row), strict=True))
        sys.stdout.write(comma + json.dumps(record))
        comma = ",\n"
    sys.stdout.write("[]\n" if comma == "[\n" else "\n]\n")


def _csv(columns: list[str], rows: Iterable[tuple[Any, ...]], heading: bool) -> None:
    import csv

    out = csv.writer(sys.stdout)  # RFC 4180, with its CRLF
    if heading:
        out.writerow(columns)
    for row in rows:
        out.writerow([_cell(value) for value in row])


def _table(columns: list[str], rows: Iterable[tuple[Any, ...]], heading: bool) -> None:
    cells = [[_cell(value) for value in row] for row in rows]
    sys.stdout.write(table([name.upper() for name in columns] if heading else (), cells))


WRITERS: dict[str, Callable[[list[str], Iterable[tuple[Any, ...]], bool], None]] = {
    "json": _json,
    "csv": _csv,
    "table": _table,
}


def _explained(error: Exception, watch: Stopwatch, seconds: int) -> BaseException:
    """What to raise for one of SQLite's errors."""
    text = str(error)
    if watch.interrupted:
        return KeyboardInterrupt()
    if watch.late:
        return UserError(f"the query took more than {seconds} s", hint="--timeout gives it longer")
    if any(word in text for word in REFUSED):
        return UserError(
            f"the query is refused: {text}",
            hint="it may only read; tiffin sql --tables lists what there is",
        )
    if "one statement at a time" in text:
        return UserError("more than one statement", hint="one query at a time")
    hint = ""
    if text.startswith("no such table: "):
        close = suggestion(text[15:], list(reports.VIEWS))
        text, hint = text + close, "tiffin sql --tables lists what there is"
    return UserError(f"the query is wrong: {text}", hint=hint)


def _damaged(error: Exception) -> bool:
    return "malformed" in str(error) or "not a database" in str(error)


def query(
    connection: Connection, text: str, given: dict[str, str], call: Call, watch: Stopwatch
) -> None:
    """Run a query and write its rows. Error: UserError."""
    from sqlite3 import DatabaseError, ProgrammingError, Warning

    heading = not call.options["noheading"]
    write = WRITERS[call.options["format"]]
    try:
        cursor = connection.execute(text, given)
        if cursor.description is None:
            raise UserError("that is no query", hint="begin with SELECT or WITH")

        def rows() -> Iterable[tuple[Any, ...]]:
            while found := cursor.fetchmany(BATCH):
                yield from found

        write(names(column[0] for column in cursor.description), rows(), heading)
    except (DatabaseError, ProgrammingError, Warning) as error:
        if _damaged(error):
            raise
        raise _explained(error, watch, call.options["timeout"]) from None


def _list_tables(call: Call) -> int:
    rows = [(name, ", ".join(view)) for name, view in reports.columns().items()]
    sys.stdout.write(table(() if call.options["noheading"] else ("TABLE", "COLUMNS"), rows))
    return 0


def run(call: Call) -> int:
    options = call.options
    if options["format"] not in FORMATS:
        raise UserError(f"--format {options['format']!r} is not known", hint=", ".join(FORMATS))
    if options["timeout"] < 0:
        raise UserError(f"--timeout {options['timeout']} is less than nothing", hint="0: no limit")
    if options["tables"]:
        return _list_tables(call)
    if not call.arguments:
        raise UserError(
            "no query was given", hint="tiffin sql 'SELECT name, state FROM containers'"
        )
    text = call.arguments[0]
    if text == "-":
        text = sys.stdin.read()
    if "\0" in text:
        raise UserError("the query contains a zero byte")
    import signal

    given = parameters(options["param"])
    connection = reads.store(call.layout) or reports.empty()
    reports.restrict(connection)
    watch = Stopwatch(options["timeout"])
    before = signal.signal(signal.SIGINT, watch.interrupt)
    connection.set_progress_handler(watch.over, reports.STEPS)
    try:
        query(connection, text, given, call, watch)
    finally:
        connection.set_progress_handler(None, 0)
        signal.signal(signal.SIGINT, before)
    if watch.interrupted:  # between two of SQLite's steps
        raise KeyboardInterrupt
    return 0


SQL = Command(
    "sql",
    "QUERY",
    "Ask the documented tables (docs/sql.md) with a query in SQL; reads only. QUERY `-` is read "
    "from standard input",
    (
        Flag("format", "f", "str", "FORMAT", f"One of {', '.join(FORMATS)}", "table"),
        Flag("noheading", help="Leave out the line of headings (table, csv)"),
        Flag("param", "p", "list", "NAME=VALUE", "A text for :NAME in the query"),
        Flag("tables", help="List the tables and their columns"),
        Flag("timeout", "", "int", "SECONDS", "Give up after so long; 0: never", 0),
    ),
    (0, 1),
    (
        "tiffin sql 'SELECT name, state, exit_code FROM containers'",
        "tiffin sql --format csv 'SELECT uid, count(*) AS n FROM commands GROUP BY uid'",
        "tiffin sql --param name=web 'SELECT * FROM lives WHERE name = :name'",
    ),
    run,
)
