"""The store as it was: the log folded up to a moment, into a database in memory.

The same rules as for the live tables (`projections`), so every query works on both.
"""

from __future__ import annotations

from ..errors import Corrupt, NotFound
from . import projections, schema

try:  # as in `sync`
    import _sqlite3 as sqlite3
except ImportError:
    import sqlite3  # type: ignore[no-redef]

TYPE_CHECKING = False  # without importing typing
if TYPE_CHECKING:
    from collections.abc import Iterable
    from sqlite3 import Connection
    from typing import Any

SEQ_DIGITS = 9
"""A whole number of at most so many digits is the seq of an event; a longer one seconds since
1970 (which have had ten since 2001)."""


def moment(connection: Connection | None, text: str, now: int) -> tuple[int, int]:
    """(seq, time in ns) of `TIME|SEQ`: the last event not later than that time, or that event.
    Errors: UserError for what is neither, NotFound for an event that is not there yet."""
    body = text.strip()
    if body.isascii() and body.isdecimal() and len(body) <= SEQ_DIGITS:
        seq = int(body)
        found = None
        if connection is not None:
            found = connection.execute("SELECT time FROM events WHERE seq=?", (seq,)).fetchone()
        if found is None and seq:
            if connection is not None:
                _check(connection, seq)
            raise NotFound(f"no such event: {seq}", hint="a time is written 10m or as RFC 3339")
        return seq, found[0] if found else 0
    from ..units import parse_time

    time = parse_time(body, now, "--at")
    if connection is None:
        return 0, time
    found = connection.execute("SELECT max(seq) FROM events WHERE time<=?", (time,)).fetchone()
    return found[0] or 0, time


def empty() -> Connection:
    """A store in memory with nothing in it."""
    connection: Connection = sqlite3.connect(":memory:", isolation_level=None)
    for statement in schema.PROJECTIONS.split(";\n"):
        connection.execute(statement)
    return connection


def apply(memory: Connection, rows: Iterable[tuple[Any, ...]]) -> None:
    """Fold rows of the log into it. Error: Corrupt that names the event that cannot be read."""
    for row in rows:
        try:
            for statement in projections.project(*row[:8]):
                memory.execute(*statement)
        except (ValueError, KeyError, TypeError, sqlite3.Error) as error:
            raise Corrupt(
                f"event {row[0]} cannot be folded: {error}", hint="see tiffin events verify"
            ) from None


def between(connection: Connection, after: int, upto: int) -> Iterable[tuple[Any, ...]]:
    return connection.execute(
        "SELECT * FROM events WHERE seq>? AND seq<=? ORDER BY seq", (after, upto)
    )


def _check(connection: Connection, upto: int) -> None:
    """Error: NotFound when what was then has been folded since."""
    if connection.execute("PRAGMA user_version").fetchone()[0] < 2 or not upto:
        return
    last = connection.execute("SELECT max(last) FROM compacted").fetchone()[0] or 0
    if upto < last:
        raise NotFound(
            f"what was at event {upto} is no longer known: the log is compacted up to event {last}",
            hint="a later time is known",
        )


def at(connection: Connection | None, upto: int) -> Connection:
    """The read tables as they were right after the event `upto`."""
    memory = empty()
    if connection is not None:
        _check(connection, upto)
        memory.execute("BEGIN")
        apply(memory, between(connection, 0, upto))
        memory.execute("COMMIT")
    return memory


def differences(connection: Connection) -> list[tuple[str, str]]:
    """(table, which row) of all that is in the read tables and not in the log, or the other way
    round. The caller's transaction makes it one moment."""
    memory = empty()
    memory.execute("BEGIN")
    last = connection.execute("SELECT max(seq) FROM events").fetchone()[0] or 0
    apply(memory, between(connection, 0, last))
    found = []
    for table in schema.TABLES:
        query = f"SELECT * FROM {table}"  # noqa: S608
        there, folded = (set(source.execute(query)) for source in (connection, memory))
        keys = sorted({str(row[0]) for row in there ^ folded})
        found += [(table, key) for key in keys]
    return found
