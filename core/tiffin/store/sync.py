"""The store over plain sqlite3: for reads, for the exit command, and for tests."""

from __future__ import annotations

import contextlib
import os

from ..errors import Corrupt, StorageFull, TiffinError
from . import schema

try:  # without the adapters of dates, which nothing here uses: datetime is 1 ms of every `ps`
    import _sqlite3 as sqlite3
except ImportError:
    import sqlite3  # type: ignore[no-redef]

Error = sqlite3.Error

TYPE_CHECKING = False  # without importing typing
if TYPE_CHECKING:
    from collections.abc import Generator, Iterator
    from sqlite3 import Connection
    from typing import Any, TypeVar

    from . import log

    T = TypeVar("T")


def _address(path: str, mode: str) -> str:
    """A `file:` URI (sqlite.org/uri.html)."""
    for char in "%?#":
        path = path.replace(char, f"%{ord(char):02x}")
    return f"file:{path}?mode={mode}"


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


def open_read_only(path: str) -> Connection | None:
    """For reads: None when there is no store yet (nothing is created)."""
    if not os.path.exists(path):
        return None
    return sqlite3.connect(
        _address(path, "ro"), uri=True, isolation_level=None, timeout=schema.BUSY_TIMEOUT
    )


def open_for_append(path: str) -> Connection:
    """An existing store, for writing events from a small process."""
    connection = sqlite3.connect(
        _address(path, "rw"), uri=True, isolation_level=None, timeout=schema.BUSY_TIMEOUT
    )
    for pragma in schema.CONNECTION:
        connection.execute(pragma)
    return connection


def open_or_create(path: str) -> tuple[Connection, bool]:
    """A connection for writing, which may be used by one thread at a time, and whether this made
    the store. Safe when several processes do it at once. Errors: sqlite3.Error, StorageFull."""
    try:
        os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
        if not os.path.exists(path):  # SQLite would let everybody read it, and has secrets in it
            with contextlib.suppress(FileExistsError):
                os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
    except OSError as error:
        kind = StorageFull if error.errno in (28, 122) else TiffinError
        raise kind(f"cannot make {os.path.dirname(path)}: {error.strerror}") from None
    connection = sqlite3.connect(
        path, isolation_level=None, timeout=schema.BUSY_TIMEOUT, check_same_thread=False
    )
    try:
        for pragma in schema.CONNECTION:
            connection.execute(pragma)
        if _version(connection) == schema.SCHEMA_VERSION:
            return connection, False
        return connection, _make(connection)
    except BaseException:  # a cancellation as well; raised again
        connection.close()
        raise


def _version(connection: Connection) -> int:
    return int(connection.execute("PRAGMA user_version").fetchone()[0])


def _make(connection: Connection) -> bool:
    """Make the tables, or those of an older tiffin anew from the log. False when the store was
    there already."""
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("BEGIN IMMEDIATE")
    version = _version(connection)
    if version > schema.SCHEMA_VERSION:
        connection.execute("ROLLBACK")
        raise TiffinError(
            "the store was written by a newer tiffin", hint="use that one, or another --root"
        )
    if version < schema.SCHEMA_VERSION:
        if version:
            for table in schema.TABLES:
                connection.execute(f"DROP TABLE IF EXISTS {table}")
        for statement in (schema.LOG + schema.PROJECTIONS).split(";\n"):
            connection.execute(statement)
        if version:
            _fold(connection)
        connection.execute(f"PRAGMA user_version={schema.SCHEMA_VERSION}")
    connection.execute("COMMIT")
    return version == 0


def create(path: str) -> bool:
    """Make the tables if they are not there; True when this made them."""
    connection, fresh = open_or_create(path)
    connection.close()
    return fresh


def run(connection: Connection, steps: Generator[log.Statement, log.Rows, T]) -> T:
    """Drive the steps of `log.append` or `log.together`; rolls back when anything fails."""
    try:
        statement = next(steps)
        while True:
            rows = connection.execute(*statement).fetchall()
            statement = steps.send(rows)
    except StopIteration as end:
        value: T = end.value
        return value
    except BaseException:  # a cancellation as well; raised again
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def rebuild(connection: Connection) -> int:
    """Fold the whole log into fresh projections, in one transaction. Returns the events folded."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        for table in schema.TABLES:
            connection.execute(f"DELETE FROM {table}")  # noqa: S608
        count = _fold(connection)
        connection.execute("COMMIT")
    except BaseException:  # a cancellation as well; raised again
        connection.execute("ROLLBACK")
        raise
    return count


def _fold(connection: Connection) -> int:
    """The whole log into empty projections; within a transaction. Returns the events folded."""
    from .projections import project

    count = 0
    for row in events(connection):
        for statement in project(*row[:8]):
            connection.execute(*statement)
        count += 1
    return count


def events(connection: Connection, after: int = 0) -> Iterator[tuple[Any, ...]]:
    """All rows of the log with a higher seq, in order."""
    return connection.execute("SELECT * FROM events WHERE seq>? ORDER BY seq", (after,))
