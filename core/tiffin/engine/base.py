"""The engine itself: store, plugins, actor; and the journal of one command."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager, suppress
from contextvars import ContextVar
from functools import wraps
from typing import Any, Protocol, TypeVar, cast

import trio

from .. import __version__, actor, settings
from ..errors import Conflict, DriverError, NotFound, TiffinError
from ..events.base import Event, encode
from ..events.system import StoreCreated
from ..layout import Layout
from ..plugins import Plugins, missing
from ..store import log, queries
from .locks import Locks


class EventStore(Protocol):
    """The log as the engine sees it: `store.aio` for long-lived engines, `store.threads` for one
    command."""

    fresh: bool
    """True when opening it made it."""

    async def append(
        self,
        records: Sequence[log.Record],
        *,
        command: str,
        actor: str,
        expect: dict[str, int] | None = None,
    ) -> list[int]: ...

    async def rows(self, sql: str, parameters: Sequence[Any] = ()) -> list[queries.Row]: ...

    def expect_many(self) -> None: ...


class Engine:
    """What every command works with. Made by `open_engine`; holds no state of containers."""

    def __init__(
        self,
        layout: Layout,
        store: EventStore,
        chosen: settings.Settings,
        front_end: str,
        plugins: Plugins | None = None,
    ) -> None:
        self.layout = layout
        self.store = store
        self.settings = chosen
        self.plugins = plugins or Plugins(layout, chosen.tables)
        self.locks = Locks(layout)
        self.front_end = front_end
        self._actor = actor.current(front_end)
        self._whole: dict[int, Any] = {}
        """Drivers that were looked at, by id: kept, so that no other gets the same."""
        self.notify_socket = ""
        """Where a service manager waits to hear of the container that is started (sd_notify(3))."""
        self.command = ""
        """Shared by all events of an engine that is there for one command."""
        self.watch: Callable[[int, log.Record], None] | None = None
        """Called with (seq, record) of every event once it is written: for a front end's log."""

    def journal(self) -> Journal:
        """For events of the command that is being carried out."""
        command = _command.get()
        answer, _ = _answer.get()
        return Journal(self, answer or self.command or command or new_command())

    @property
    def actor(self) -> str:
        """Who does what this task does, as JSON text."""
        return _answer.get()[1] or self._actor

    @contextmanager
    def one_command(self) -> Iterator[None]:
        """What is within is one command, with one id in the log, and with the plugins that there
        are when it begins, whatever is registered, unregistered, enabled or disabled meanwhile."""
        with self.plugins.one_generation():
            if _command.get():  # a command within a command
                yield
                return
            token = _command.set(new_command())
            try:
                yield
            finally:
                with suppress(ValueError):  # closed by the garbage collector, in no task of ours
                    _command.reset(token)

    async def because_of_its_end(self, given: str) -> None:
        """What this task does is the answer to the end of a container, which nobody asked for."""
        cid = (await self.container(given))["id"]
        for event in await self.store.rows(END, (f"container/{cid}",)):
            # An exit command recorded it: what is done about it is the same command.
            command = event["command"] if event["front_end"] == self.front_end else ""
            _answer.set((command, actor.current(self.front_end, event["seq"])))

    def driver(self, kind: str, name: str) -> Any:
        """A driver that has all of its protocol. Errors: UserError, DriverError."""
        made = self.plugins.driver(kind, name)
        if id(made) not in self._whole:
            if lacks := missing(kind, made):
                raise DriverError(
                    f"plugin {kind}.{name} has no {', '.join(lacks)}",
                    hint="repair or uninstall the package it comes from",
                )
            self._whole[id(made)] = made
        return made

    def storage(self, name: str) -> Any:
        return self.driver("storage", name)

    def runtime(self, name: str) -> Any:
        return self.driver("runtime", name)

    def network(self, name: str) -> Any:
        return self.driver("network", name)

    async def container(self, given: str) -> queries.Row:
        """A container by name, id or unique prefix. Errors: NotFound, UserError (ambiguous)."""
        found = await self.store.rows(queries.CONTAINER_BY_NAME, (given,))
        if not found and queries.is_hex(given):
            bounds = queries.prefix_range(given)
            found = await self.store.rows(queries.CONTAINER_BY_PREFIX, bounds)
        return queries.one(found, given, "container")

    async def container_now(self, cid: str) -> queries.Row:
        """A container by its full id, as it is now. Error: NotFound when it is gone."""
        found = await self.store.rows("SELECT * FROM containers WHERE id=?", (cid,))
        if not found:
            raise NotFound(f"no such container: {cid[:12]}", hint="it was removed meanwhile")
        return found[0]


END = (
    "SELECT seq, command, json_extract(actor, '$.front_end') AS front_end FROM events "
    "WHERE stream=? AND type='container.exited' ORDER BY version DESC LIMIT 1"
)

_answer: ContextVar[tuple[str, str]] = ContextVar("answer", default=("", ""))
"""Command and actor of a task that answers an event; empty where they are the engine's."""

_command: ContextVar[str] = ContextVar("command", default="")
"""The id of the command of this task, and of its children."""


def new_command() -> str:
    return os.urandom(8).hex()


F = TypeVar("F", bound=Callable[..., Awaitable[Any]])


def command(function: F) -> F:
    """For an engine command that lasts or does several things: see `Engine.one_command`."""

    @wraps(function)
    async def one(engine: Engine, *arguments: Any, **options: Any) -> Any:
        with engine.one_command():
            return await function(engine, *arguments, **options)

    return cast(F, one)


class Journal:
    """Writes the events of one command: intents before effects, outcomes with the next intent.

    An outcome that is noted but not yet written is safe: until it is written the intent is open,
    and a command that finds it open looks at what is really there.
    """

    def __init__(self, engine: Engine, command: str) -> None:
        self.engine = engine
        self.command = command
        self._noted: list[log.Record] = []

    def note(self, stream: str, event: Event) -> None:
        """Remember an outcome; it is written by the next `write` or `flush`."""
        self._noted.append(log.Record(stream, *encode(event)))

    async def write(
        self, stream: str, event: Event, *, expect: dict[str, int] | None = None
    ) -> None:
        """Write an event now, durably, after those noted before.

        Errors: Conflict when a name or address is taken meanwhile (those noted before are still
        noted then, for the next try), StorageFull.
        """
        before = list(self._noted)
        self.note(stream, event)
        try:
            await self.flush(expect=expect)
        except Conflict:
            self._noted = before
            raise

    async def flush(self, *, expect: dict[str, int] | None = None) -> None:
        """Write what was noted. On failure nothing of it is written, and it is forgotten."""
        records, self._noted = self._noted, []
        if not records:
            return
        try:
            seqs = await self.engine.store.append(
                records, command=self.command, actor=self.engine.actor, expect=expect
            )
        except sqlite3.IntegrityError as error:
            raise _taken(str(error)) from error
        if self.engine.watch is not None:
            for seq, record in zip(seqs, records, strict=True):
                self.engine.watch(seq, record)


class LabelTaken(Conflict):
    """Another command claimed the same label between our look and our event."""


def _taken(constraint: str) -> TiffinError:
    if "containers.name" in constraint:
        return Conflict("the name is in use", hint="choose another, or use --replace")
    if "pods.name" in constraint:
        return Conflict("the pod name is in use", hint="choose another")
    if "label_claims" in constraint:
        return LabelTaken("a label was taken by another container meanwhile")
    if "addresses" in constraint:
        return Conflict("an address was taken by another container meanwhile")
    return Conflict(f"another command was quicker: {constraint}")


@asynccontextmanager
async def open_engine(
    layout: Layout,
    *,
    front_end: str = "api",
    storage_driver: str = "",
    runtime: str = "",
    cgroup_manager: str = "",
    short_lived: bool = False,
    plugins: Plugins | None = None,
) -> AsyncIterator[Engine]:
    """Open the store (made when it is not there) and give the engine; close all drivers after.

    `short_lived`: for one command, which is quicker without asyncio. `plugins`: those that the
    caller has made already. Errors raised inside come out as they are, not wrapped in an exception
    group.
    """
    chosen = settings.load(
        layout,
        storage_driver=storage_driver,
        runtime=runtime,
        cgroup_manager=cgroup_manager,
    )
    outcome: BaseException | None = None
    async with AsyncExitStack() as stack:
        if short_lived:
            from ..store import threads

            store: EventStore = await stack.enter_async_context(threads.open_store(layout.database))
        else:
            from ..store import aio

            store = await stack.enter_async_context(aio.open_store(layout.database))
        engine = Engine(layout, store, chosen, front_end, plugins)
        engine.plugins.long_lived = not short_lived
        if short_lived:
            engine.command = new_command()
        try:
            if store.fresh:
                first = StoreCreated(tiffin=__version__, root=layout.root)
                await engine.journal().write("system", first)
            yield engine
        except Exception as error:
            outcome = error
        finally:
            with trio.CancelScope(shield=True):
                for driver in engine.plugins.made("network"):
                    await driver.close()
    if outcome is not None:
        raise outcome
