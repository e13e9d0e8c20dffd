"""Appends of several tasks that come while a transaction is under way go together into the next
one. The sync at its end is most of what a transaction costs, and is paid once for all of them."""

from __future__ import annotations

import sqlite3
from collections.abc import Awaitable, Callable, Sequence

import trio

from . import log

Commit = Callable[[Sequence[log.Request]], Awaitable[list[list[int]]]]
"""Writes all of the requests in one transaction (`log.together`), or none of them and raises."""


class _Waiting:
    """A request, and what came of it."""

    __slots__ = ("added", "error", "request")

    def __init__(self, request: log.Request) -> None:
        self.request = request
        self.added: list[int] | None = None
        self.error: Exception | None = None


class Gathering:
    """The appends of one connection."""

    def __init__(self, connection: trio.Lock, commit: Commit) -> None:
        """`connection` is held while it is at work."""
        self._connection = connection
        self._commit = commit
        self._waiting: list[_Waiting] = []

    async def append(self, request: log.Request) -> list[int]:
        """The seqs, once they are written. A transaction lasts milliseconds: it is shielded from
        cancellation. Errors: `log.Stale`, `sqlite3.Error`."""
        await trio.lowlevel.checkpoint_if_cancelled()
        mine = _Waiting(request)
        self._waiting.append(mine)
        with trio.CancelScope(shield=True):
            async with self._connection:
                if mine.added is None and mine.error is None:
                    batch, self._waiting = self._waiting, []
                    await self._write(batch)
        if mine.added is None:
            assert mine.error is not None
            raise mine.error
        return mine.added

    async def _write(self, batch: Sequence[_Waiting]) -> None:
        """All at once. When one of them cannot be written, each by itself: the others can."""
        try:
            added = await self._commit([one.request for one in batch])
        except (log.Stale, sqlite3.Error) as error:
            if len(batch) == 1:
                batch[0].error = error
                return
            for one in batch:
                await self._write([one])
        else:
            for one, seqs in zip(batch, added, strict=True):
                one.added = seqs
