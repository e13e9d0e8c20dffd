"""The store as the engine uses it: aiosqlite on trio, through trio-asyncio.

The connection is opened when it is first needed. A transaction is shielded from cancellation: it
lasts milliseconds, and half of one must never be left open.
"""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import aiosqlite
import trio
import trio_asyncio

from . import log, queries, schema, sync
from .gathering import Gathering


class EventStore:
    """Append and query. Made by `open_store`."""

    def __init__(
        self,
        path: str,
        connection: aiosqlite.Connection,
        reading: aiosqlite.Connection,
        fresh: bool,
    ) -> None:
        self.path = path
        self.fresh = fresh
        self._connection = connection
        self._reading = reading
        self._gathering = Gathering(trio.Lock(), self._commit)
        self._one_read = trio.Lock()

    def expect_many(self) -> None:
        """As of `threads.EventStore`: here it is always so."""

    async def append(
        self,
        records: Sequence[log.Record],
        *,
        command: str,
        actor: str,
        expect: dict[str, int] | None = None,
    ) -> list[int]:
        """Append events and project them, durably; returns their seqs.

        Errors: `log.Stale`, `sqlite3.IntegrityError` (a name or address is taken), StorageFull.
        """
        try:
            return await self._gathering.append(log.Request(records, command, actor, expect))
        except sqlite3.Error as error:
            raise sync.translate(error, self.path) from error

    async def _commit(self, requests: Sequence[log.Request]) -> list[list[int]]:
        added: list[list[int]] = await trio_asyncio.aio_as_trio(self._drive)(log.together(requests))
        return added

    async def _drive(self, steps: log.Together) -> list[list[int]]:
        try:
            statement = next(steps)
            while True:
                rows = await self._connection.execute_fetchall(*statement)
                statement = steps.send([tuple(row) for row in rows])
        except StopIteration as end:
            return list(end.value)
        except BaseException:  # a cancellation as well; raised again
            if self._connection.in_transaction:
                await self._connection.execute("ROLLBACK")
            raise

    async def rows(self, sql: str, parameters: Sequence[Any] = ()) -> list[queries.Row]:
        """Run a query; rows as `queries.decode` gives them. Waits for no transaction (WAL)."""

        async def fetch() -> tuple[list[str], list[Any]]:
            async with self._reading.execute(sql, parameters) as cursor:
                found = await cursor.fetchall()
                return [column[0] for column in cursor.description], list(found)

        async with self._one_read:
            with trio.CancelScope(shield=True):
                try:
                    names, found = await trio_asyncio.aio_as_trio(fetch)()
                except sqlite3.Error as error:
                    raise sync.translate(error, self.path) from error
        return queries.decode(names, found)


@asynccontextmanager
async def open_store(path: str) -> AsyncIterator[EventStore]:
    """Open the store, making it first if it is not there."""
    try:
        fresh = sync.create(path)
    except sqlite3.Error as error:
        raise sync.translate(error, path) from error
    # Not inside the loop: an error would come out of it wrapped in groups.
    async with trio_asyncio.open_loop(), _connected(path, fresh) as store:
        yield store


@asynccontextmanager
async def _connected(path: str, fresh: bool) -> AsyncIterator[EventStore]:
    async with _connection(path) as writing, _connection(path) as reading:
        for pragma in schema.CONNECTION:
            await trio_asyncio.aio_as_trio(writing.execute)(pragma)
        yield EventStore(path, writing, reading, fresh)


@asynccontextmanager
async def _connection(path: str) -> AsyncIterator[aiosqlite.Connection]:

    async def connect() -> aiosqlite.Connection:
        return await aiosqlite.connect(
            path, isolation_level=None, timeout=schema.BUSY_TIMEOUT, cached_statements=64
        )

    try:
        connection = await trio_asyncio.aio_as_trio(connect)()
    except sqlite3.Error as error:
        raise sync.translate(error, path) from error
    try:
        yield connection
    finally:
        with trio.CancelScope(shield=True):
            await trio_asyncio.aio_as_trio(connection.close)()
