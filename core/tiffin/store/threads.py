"""The store for one command line: plain sqlite3, in a worker thread where it would have to wait.

The same interface as `aio.EventStore`, without asyncio, whose import would be a tenth of a short
command's time (docs/adr/003-trio-and-aiosqlite.md).
"""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import trio

from . import log, queries, schema, sync
from .gathering import Gathering

BUSY = 5
"""SQLITE_BUSY, the low byte of all its kinds (sqlite.org/rescode.html)."""

_kept: list[sqlite3.Connection] = []


class EventStore:
    """Append and query. Made by `open_store`."""

    def __init__(self, path: str, connection: sqlite3.Connection, fresh: bool) -> None:
        self.path = path
        self.fresh = fresh
        self._connection = connection
        self._one_at_a_time = trio.Lock()
        self._gathering = Gathering(self._one_at_a_time, self._commit)
        self._reading: sqlite3.Connection | None = None
        self._crowded = False

    def expect_many(self) -> None:
        """Several tasks will write side by side: none is to wait for another's sync."""
        self._crowded = True

    async def append(
        self,
        records: Sequence[log.Record],
        *,
        command: str,
        actor: str,
        expect: dict[str, int] | None = None,
    ) -> list[int]:
        """Append events and project them, durably; returns their seqs. Errors as `aio`'s."""
        try:
            return await self._gathering.append(log.Request(records, command, actor, expect))
        except sqlite3.Error as error:
            raise sync.translate(error, self.path) from error

    async def _commit(self, requests: Sequence[log.Request]) -> list[list[int]]:
        if self._crowded:
            return await trio.to_thread.run_sync(self._write, requests, schema.BUSY_TIMEOUT)
        try:
            return self._write(requests, 0)  # a millisecond or two: a thread would cost as much
        except sqlite3.Error as error:
            if getattr(error, "sqlite_errorcode", 0) & 0xFF != BUSY:
                raise
            return await trio.to_thread.run_sync(self._write, requests, schema.BUSY_TIMEOUT)

    def _write(self, requests: Sequence[log.Request], patience: float) -> list[list[int]]:
        self._connection.execute(f"PRAGMA busy_timeout={patience * 1000:.0f}")
        try:
            return sync.run(self._connection, log.together(requests))
        finally:  # reads wait as well, for a recovery of the WAL
            timeout = schema.BUSY_TIMEOUT * 1000
            self._connection.execute(f"PRAGMA busy_timeout={timeout:.0f}")

    async def rows(self, sql: str, parameters: Sequence[Any] = ()) -> list[queries.Row]:
        """Run a query; rows as `queries.decode` gives them. A read takes microseconds and waits
        for nobody (WAL), so it needs no thread; while a thread writes, a connection of its own."""
        try:
            if not self._one_at_a_time.locked():
                return queries.rows(self._connection, sql, parameters)
            if self._reading is None:
                self._reading = sync.open_for_append(self.path)
                _kept.append(self._reading)
            return queries.rows(self._reading, sql, parameters)
        except sqlite3.Error as error:
            raise sync.translate(error, self.path) from error


@asynccontextmanager
async def open_store(path: str) -> AsyncIterator[EventStore]:
    """Open the store, making it first if it is not there."""
    try:
        connection, fresh = sync.open_or_create(path)
    except sqlite3.Error as error:
        raise sync.translate(error, path) from error
    # Never closed: the last connection's close would write all of the WAL back, at the end of every
    # command. The process ends soon; SQLite takes the WAL as it is, as after a crash.
    _kept.append(connection)
    yield EventStore(path, connection, fresh)
