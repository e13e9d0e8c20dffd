"""Exports: the log carried to consumers of events, from durable cursors, at least once.

An export is a follower like any other: it reads what commands have committed, in a process of its
own, so no command waits for a consumer. The cursor moves when the consumer has taken the events.
"""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from contextlib import aclosing
from typing import Any

import trio

from ..errors import DriverError, TiffinError, UserError
from ..hooks import EventConsumer
from ..layout import Layout
from ..plugins import Plugins, implementation
from ..store import cursors, follow, records, sync
from .programs import ProgramConsumer

AT_ONCE = 256
"""Events of one delivery at most."""
SETTLE = 1.0
"""Seconds between two calls of `settle` while a consumer needs more time."""
FIRST_PAUSE, LONGEST_PAUSE = 0.5, 60.0
"""Seconds before a failed delivery is tried again."""

Event = dict[str, Any]
Passes = Callable[[Event], bool]
Report = Callable[[str], None]


class OnEvent:
    """A plugin that has only `on_event`, as a consumer."""

    def __init__(self, name: str, hook: Callable[..., Any]) -> None:
        self.name = name
        self._hook = hook
        self._done = 0

    async def deliver(self, events: Sequence[Mapping[str, Any]]) -> int | None:
        for event in events:
            if event["seq"] > self._done:
                self._hook(event=event)
                self._done = event["seq"]
        return None

    async def settle(self, *, last: bool) -> int | None:
        return None

    async def close(self) -> None:
        """Nothing to close."""


def settings(plugins: Plugins, name: str) -> Mapping[str, Any]:
    """The table `[consumer.NAME]` of tiffin.toml. Error: UserError when it is no table."""
    found = plugins.settings.get("consumer", {})
    table = found.get(name, {}) if isinstance(found, dict) else found
    if not isinstance(table, dict):
        raise UserError(f"consumer.{name} in tiffin.toml is no table")
    return table


def consumer(plugins: Plugins, name: str) -> EventConsumer:
    """The consumer that is configured, or installed, under a name.
    Errors: UserError for a name that is neither, DriverError for a broken plugin."""
    table = settings(plugins, name)
    if "program" in table:
        return ProgramConsumer(name, table)
    plugin = str(table.get("plugin", name))
    plugins.load("consumer", [plugin])
    module = dict(plugins.loaded("consumer")).get(f"consumer.{plugin}")
    made = None
    if make := implementation(module, "event_consumer"):
        made = make(name=name, context=plugins.context("consumer", name))
    elif hook := implementation(module, "on_event"):
        made = OnEvent(name, hook)
    elif module is not None:
        raise DriverError(
            f"plugin consumer.{plugin} implements neither event_consumer nor on_event",
            hint="repair or uninstall the package it comes from",
        )
    if made is None:
        raise plugins.nobody("consumer", plugin)
    consumer: EventConsumer = made
    return consumer


async def batches(
    layout: Layout, after: int, *, forever: bool, restless: Callable[[], bool] = lambda: False
) -> AsyncGenerator[list[tuple[Any, ...]], None]:
    """Rows of the log after a seq, in batches, then (`forever`) whatever is added. An empty batch
    says that there is nothing more for now; while `restless`, it says so once a second."""
    with follow.Watch(layout) as watch:
        connection: sqlite3.Connection | None = None
        while True:
            connection = connection or watch.opened()
            rows = follow.batch(connection, after, AT_ONCE) if connection else []
            yield rows
            if rows:
                after = rows[-1][0]
                continue
            if not forever:
                return
            pause = min(watch.pause, SETTLE) if restless() else watch.pause
            happened = False
            with trio.move_on_after(pause):
                await trio.lowlevel.wait_readable(watch.fd)
                happened = True
            watch.woken(happened)


async def events(layout: Layout, after: int = 0) -> AsyncGenerator[Event, None]:
    """The events after a seq, and then all that are added, for programs that have an engine."""
    async with aclosing(batches(layout, after, forever=True)) as reading:
        async for rows in reading:
            for row in rows:
                yield records.record(row)


class Export:
    """One consumer, its cursor, and how patient we are with it."""

    def __init__(
        self,
        layout: Layout,
        target: EventConsumer,
        cursor: cursors.Cursor,
        *,
        passes: Passes = lambda event: True,
        report: Report = lambda line: None,
        tries: int = 0,
    ) -> None:
        self.layout = layout
        self.target = target
        self.cursor = cursor
        self.passes = passes
        self.report = report
        self.tries = tries
        """0: no end of them."""
        self.needed: int | None = None
        """seq of the first event that the consumer still needs."""
        self._read = cursor.seq, cursor.hash

    async def run(self, *, forever: bool) -> None:
        """Deliver all there is; then what comes, for ever. Error: what the consumer raised that
        only a person can mend, or that happened too often."""
        reading = batches(
            self.layout, self.cursor.seq, forever=forever, restless=lambda: self.needed is not None
        )
        try:
            async with aclosing(reading):
                async for rows in reading:
                    await self._take(rows)
            await self._patiently(lambda: self.target.settle(last=True))
            self._acknowledge()
        finally:
            with trio.CancelScope(shield=True, deadline=trio.current_time() + 5):
                await self.target.close()

    async def _take(self, rows: list[tuple[Any, ...]]) -> None:
        if rows:
            found = [event for row in rows if self.passes(event := records.record(row))]
            if found:
                await self._patiently(lambda: self.target.deliver(found))
            self._read = rows[-1][0], rows[-1][9]
        elif self.needed is not None:
            await self._patiently(lambda: self.target.settle(last=False))
        self._acknowledge()

    async def _patiently(self, work: Callable[[], Awaitable[int | None]]) -> None:
        """Call the consumer until it succeeds. A pause between two tries doubles each time."""
        pause, said, failed = FIRST_PAUSE, "", 0
        while True:
            try:
                self.needed = await work()
            except UserError:
                raise
            except Exception as error:
                failed += 1
                what = str(error) or type(error).__name__
                if not isinstance(error, (TiffinError, OSError)):  # a mistake: what kind of one?
                    what = f"{type(error).__name__}: {error}"
                if self.tries and failed >= self.tries:
                    if isinstance(error, TiffinError):
                        raise
                    raise TiffinError(f"consumer {self.target.name}: {what}") from error
                if what != said:
                    self.report(f"consumer {self.target.name}: {what}; trying again")
                    said = what
                await trio.sleep(pause)
                pause = min(pause * 2, LONGEST_PAUSE)
            else:
                if said:
                    self.report(f"consumer {self.target.name}: delivered after {failed} failures")
                return

    def _acknowledge(self) -> None:
        """Move the cursor up to the first event that is still needed."""
        seq, hash_ = self._read
        if self.needed is not None and self.needed <= seq:
            seq, hash_ = self._before(self.needed)
        if seq > self.cursor.seq:
            self.cursor.move(seq, hash_)

    def _before(self, seq: int) -> tuple[int, str]:
        connection = sync.open_read_only(self.layout.database)
        assert connection is not None, "there are events"
        try:
            row = connection.execute(
                "SELECT seq, hash FROM events WHERE seq<? ORDER BY seq DESC LIMIT 1", (seq,)
            ).fetchone()
        finally:
            connection.close()
        return (row[0], row[1]) if row else cursors.NOTHING


async def export(
    layout: Layout,
    plugins: Plugins,
    name: str,
    *,
    forever: bool,
    passes: Passes = lambda event: True,
    report: Report = lambda line: None,
    tries: int = 0,
) -> None:
    """Carry the log to the consumer of this name, from its durable cursor.

    Errors: UserError, DriverError (no such consumer, or it refuses), Conflict when another process
    reads for it, Corrupt when the log is not the one it read.
    """
    target = consumer(plugins, name)
    with cursors.Cursor(layout, name) as cursor:
        connection = sync.open_read_only(layout.database)
        cursor.check(connection)
        if connection is not None:
            connection.close()
        work = Export(layout, target, cursor, passes=passes, report=report, tries=tries)
        await work.run(forever=forever)
