"""`system check`: whether the store is whole. Reads only."""

from __future__ import annotations

import sys

from ..store import compaction
from . import printable, reads
from .flags import Call, Command

TYPE_CHECKING = False  # without importing typing
if TYPE_CHECKING:
    import sqlite3


def problems(connection: sqlite3.Connection) -> list[str]:
    """One line each: what SQLite finds damaged, else where the chain of events is broken."""
    from sqlite3 import DatabaseError

    try:
        found = [str(row[0]) for row in connection.execute("PRAGMA integrity_check")]
    except DatabaseError as error:
        found = [str(error)]
    if found != ["ok"]:
        return [f"tiffin.db: {' '.join(text.split())}" for text in found]
    return compaction.verify(connection)


def run(call: Call) -> int:
    connection = reads.store(call.layout)
    if connection is None:
        sys.stdout.write(f"OK: nothing is stored in {printable.line(call.layout.root)}\n")
        return 0
    found = problems(connection)
    sys.stdout.write("".join(f"{printable.line(problem)}\n" for problem in found))
    if found:
        return 1
    count = connection.execute("SELECT count(*) FROM events").fetchone()[0]
    sys.stdout.write(f"OK: the database is whole, and so is the chain of {count} events\n")
    return 0


CHECK = Command(
    "system check",
    "",
    "Look for damage in the database and its log of events; exit code 1 when there is any",
    (),
    (0, 0),
    ("tiffin system check",),
    run,
)
