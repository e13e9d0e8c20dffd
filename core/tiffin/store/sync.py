"""The store over plain sqlite3: for reads, for the exit command, and for tests."""

from __future__ import annotations

import contextlib
import os
import sqlite3
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

from ..errors import Corrupt, StorageFull, TiffinError
from . import log, schema


def translate(error: sqlite3.Error, path: str) -> TiffinError | sqlite3.Error:
    """The error to show for one of SQLite's; constraint failures stay for the caller to name."""
    if isinstance(error, sqlite3.IntegrityError):
        return error
    text = str(error)
    if "full" in text or "disk I/O" in text:
        return StorageFull(f"cannot write {path}: {text}", hint="free some space and try again")
    if "readonly" in text or "unable to open" in text:
        return TiffinError(f"cannot open {path}: {text}", hint="check its owner and permissions")
    return Corrupt(f"{path}: {text}", hint="tiffin system check looks for the damage")


def open_read_only(path: str) -> sqlite3.Connection | None:
    """For reads: None when there is no store yet (nothing is created)."""
    if not os.path.exists(path):
        return None
    return sqlite3.connect(
        f"file:{quote(path)}?mode=ro", uri=True, isolation_level=None, timeout=schema.BUSY_TIMEOUT
    )


def open_for_append(path: str) -> sqlite3.Connection:
    """An existing store, for writing events from a small process."""
    connection = sqlite3.connect(
        f"file:{quote(path)}?mode=rw", uri=True, isolation_level=None, timeout=schema.BUSY_TIMEOUT
    )
    connection.execute("PRAGMA synchronous=FULL")
    return connection


def create(path: str) -> None:
    """Make the tables if they are not there. Safe when several processes do it at once."""
    os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
    with contextlib.closing(
        sqlite3.connect(path, isolation_level=None, timeout=schema.BUSY_TIMEOUT)
    ) as connection:
        for pragma in schema.PRAGMAS:
            connection.execute(pragma)
        connection.execute("BEGIN IMMEDIATE")
        if connection.execute("PRAGMA user_version").fetchone()[0] == 0:
            for statement in (schema.LOG + schema.PROJECTIONS).split(";\n"):
                connection.execute(statement)
            connection.execute(f"PRAGMA user_version={schema.SCHEMA_VERSION}")
        connection.execute("COMMIT")


def run(connection: sqlite3.Connection, steps: log.Steps) -> list[int]:
    """Drive the steps of `log.append`; rolls back when anything fails."""
    try:
        statement = next(steps)
        while True:
            rows = connection.execute(*statement).fetchall()
            statement = steps.send(rows)
    except StopIteration as end:
        return list(end.value)
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def rebuild(connection: sqlite3.Connection) -> int:
    """Fold the whole log into fresh projections, in one transaction. Returns the events folded."""
    from .projections import project

    count = 0
    connection.execute("BEGIN IMMEDIATE")
    try:
        for table in schema.TABLES:
            connection.execute(f"DELETE FROM {table}")  # noqa: S608
        for row in events(connection):
            for statement in project(*row[:8]):
                connection.execute(*statement)
            count += 1
        connection.execute("COMMIT")
    except BaseException:
        connection.execute("ROLLBACK")
        raise
    return count


def events(connection: sqlite3.Connection, after: int = 0) -> Iterator[tuple[Any, ...]]:
    """All rows of the log with a higher seq, in order."""
    return connection.execute("SELECT * FROM events WHERE seq>? ORDER BY seq", (after,))
