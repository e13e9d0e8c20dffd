"""The store for one command line: plain sqlite3 in a worker thread of trio's.

The same interface as `aio.EventStore`, without asyncio, whose import would be a tenth of a short
command's time (docs/adr/003-trio-and-aiosqlite.md).
"""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import trio

from . import log, queries, sync


class EventStore:
    """Append and query. Made by `open_store`."""

    def __init__(self, path: str, connection: sqlite3.Connection, fresh: bool) -> None:
        self.path = path
        self.fresh = fresh
        self._connection = connection
        self._one_at_a_time = trio.Lock()

    async def append(
        self,
        records: Sequence[log.Record],
        *,
        command: str,
        actor: str,
        expect: dict[str, int] | None = None,
    ) -> list[int]:
        """Append events and project them, durably; returns their seqs. Errors as `aio`'s."""
        steps = log.append(records, command=command, actor=actor, expect=expect)
        async with self._one_at_a_time:
            with trio.CancelScope(shield=True):
                try:
                    seqs = await trio.to_thread.run_sync(sync.run, self._connection, steps)
                except sqlite3.Error as error:
                    raise sync.translate(error, self.path) from error
        return seqs

    async def rows(self, sql: str, parameters: Sequence[Any] = ()) -> list[queries.Row]:
        """Run a query; rows as `queries.decode` gives them. A read takes microseconds and waits
        for nobody (WAL), so it needs no thread."""
        async with self._one_at_a_time:
            try:
                return queries.rows(self._connection, sql, parameters)
            except sqlite3.Error as error:
                raise sync.translate(error, self.path) from error


@asynccontextmanager
async def open_store(path: str) -> AsyncIterator[EventStore]:
    """Open the store, making it first if it is not there."""
    try:
        connection, fresh = sync.open_or_create(path)
    except sqlite3.Error as error:
        raise sync.translate(error, path) from error
    try:
        yield EventStore(path, connection, fresh)
    finally:
        connection.close()
