"""Holding a container: its lock, its row as it is now, and everything stale resolved first."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from ..errors import Conflict
from ..events.container import CleanedUp, CleanupPlanned, Exited
from ..store import queries
from . import recover, teardown
from .base import Engine, Journal


class Held:
    """A container whose lock we have. `row` is refreshed by `again`."""

    __slots__ = ("engine", "id", "journal", "preserve_fds", "row", "stream")

    def __init__(self, engine: Engine, journal: Journal, row: queries.Row) -> None:
        self.engine = engine
        self.journal = journal
        self.row = row
        self.id: str = row["id"]
        self.stream = f"container/{self.id}"
        self.preserve_fds = 0
        """So many of our caller's descriptors, from 3 on, its process gets as well."""

    @property
    def state(self) -> str:
        return str(self.row["state"])

    async def again(self) -> None:
        self.row = await self.engine.container_now(self.id)

    def need(self, verb: str, *states: str) -> None:
        """Error: Conflict when the container is in none of the states."""
        if self.state not in states:
            allowed = " or ".join(states)
            raise Conflict(
                f"cannot {verb} container {self.row['name']}: it is {self.state}",
                hint=f"it must be {allowed}",
            )

    async def clean_up(self, *, ended: Exited | None = None) -> None:
        """Record that the container ended (unless that is recorded) and take its run away."""
        if ended is not None:
            self.journal.note(self.stream, ended)
        await self.journal.write(self.stream, CleanupPlanned())
        await teardown.run_state(self.engine, self.row)
        self.journal.note(self.stream, CleanedUp())


@asynccontextmanager
async def hold(
    engine: Engine, given: str, journal: Journal | None = None, *, resolve: bool = True
) -> AsyncIterator[Held]:
    """Lock a container; what dead processes left open in it is finished or undone first (not with
    `resolve` false: for a command that knows what is open).

    Errors: NotFound, UserError (ambiguous prefix).
    """
    with engine.one_command():
        async with _held(engine, given, journal, resolve) as held:
            yield held


@asynccontextmanager
async def _held(
    engine: Engine, given: str, journal: Journal | None, resolve: bool
) -> AsyncIterator[Held]:
    cid = (await engine.container(given))["id"]
    async with engine.locks.container(cid):
        held = Held(engine, journal or engine.journal(), await engine.container_now(cid))
        if resolve and await recover.resolve(engine, held.journal, held.row):
            await held.again()
        yield held
