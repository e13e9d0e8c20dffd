"""`run`: create, mount, init and start in one go, and, in the foreground, the end as well."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import trio

from .. import processes
from ..errors import TiffinError
from ..events.container import Exited
from ..options import ContainerOptions
from ..store import queries
from . import create as creation
from . import images, init, networks, remove, stop
from .base import Engine, command
from .hold import Held, hold
from .start import begin


class Attach(Protocol):
    """What a front end brings to carry a container's streams. It is called with the row of an
    initialized container; it connects, calls `task_status.started()`, and carries the streams
    until they end. Returns True when the user detached: the container then goes on without us."""

    async def __call__(
        self, row: queries.Row, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
    ) -> bool: ...


@command
async def run(
    engine: Engine,
    options: ContainerOptions,
    *,
    pull: images.Pull,
    replace: bool = False,
    attach: Attach | None = None,
    created: Callable[[str], None] | None = None,
    preserve_fds: int = 0,
) -> tuple[str, int]:
    """(id, exit code). Without `attach` it returns as soon as the process runs, with code 0.

    `preserve_fds`: see `Held`. `created` is told the id before anything runs (`--cidfile`). A
    container that could not be made to run for a reason of ours is removed; one whose command
    cannot be run stays, as in podman, unless `remove` is set.
    """
    await networks.warm_up(engine, options.network)
    async with trio.open_nursery() as nursery:
        foreground: Foreground | None = None
        async with creation.creating(engine, options, pull=pull, replace=replace) as held:
            try:
                held.preserve_fds = preserve_fds
                if created is not None:
                    created(held.id)
                await init.prepare(held)
                if attach is None:
                    await begin(held)
                    await held.journal.flush()
                    return held.id, 0
                foreground = Foreground(held)
                foreground.stack_attended()
                await nursery.start(foreground.carry, attach)
                await begin(held)
                await held.journal.flush()
            except BaseException as error:
                with trio.CancelScope(shield=True):
                    if foreground is not None:
                        foreground.close()
                    await _give_up(held, error)
                raise
        return held.id, await foreground.finish()


@command
async def start_attached(engine: Engine, given: str, attach: Attach) -> int:
    """`start --attach`: as `run`, for a container that exists. Returns the exit code."""
    async with trio.open_nursery() as nursery:
        async with hold(engine, given) as held:
            held.need("start", "created", "initialized", "exited")
            if held.state != "initialized":
                await init.prepare(held)
            foreground = Foreground(held)
            foreground.stack_attended()
            try:
                await nursery.start(foreground.carry, attach)
                await begin(held)
                await held.journal.flush()
            except BaseException:  # a cancellation as well; raised again
                foreground.close()
                raise
        return await foreground.finish()


class Foreground:
    """A container whose streams this process carries, and whose end it sees to."""

    def __init__(self, held: Held) -> None:
        self.engine = held.engine
        self.row = held.row
        self.journal = held.journal
        self.done = trio.Event()
        self.detached = False
        self.code = 0
        self._attended: int | None = None

    def stack_attended(self) -> None:
        """From now on conmon's exit command leaves the end to us; a killed process lets go."""
        self._attended = self.engine.locks.attend(self.row["id"])

    def close(self) -> None:
        if self._attended is not None:
            self.engine.locks.let_go(self._attended)
            self._attended = None

    async def carry(
        self, attach: Attach, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
    ) -> None:
        """The task that runs the front end's `attach`."""
        try:
            self.detached = await attach(self.row, task_status=task_status)
        finally:
            self.done.set()

    async def finish(self) -> int:
        """Wait for the end, record it, clean up, and with --rm remove. Returns the exit code, or 0
        after a detach."""
        try:
            await self.done.wait()
            if self.detached:
                self.close()
                await self._noticed_late()
                return 0
            await stop.wait_exit(self.engine, self.row)
            with trio.CancelScope(shield=True):
                self.code = await self._end()
            self.close()
            if self.row["options"].get("restart"):
                from .restarts import leave_to_another

                leave_to_another(self.engine, self.row["id"])
            return self.code
        finally:
            self.close()

    async def _noticed_late(self) -> None:
        """The container may have ended between the detach and our letting go."""
        if processes.recorded_exit(self.engine.layout, self.row["id"]) is not None:
            async with hold(self.engine, self.row["id"]):
                return

    async def _end(self) -> int:
        cid = self.row["id"]
        async with stop.hold_or_gone(self.engine, cid, self.journal, resolve=False) as held:
            if held is None or held.state == "exited":  # ended or removed by another command
                code = await stop.last_exit_code(self.engine, cid)
                if held is not None and held.row["remove"]:
                    await remove.remove_held(held)
                return code
            code, oom = processes.recorded_exit(self.engine.layout, cid) or (255, False)
            held.journal.note(held.stream, Exited(exit_code=code, oom=oom))
            held.row["state"] = "exited"
            if held.row["remove"]:
                await remove.remove_held(held)
            else:
                await held.clean_up()
                await held.journal.flush()
            return code


async def _give_up(held: Held, error: BaseException) -> None:
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    code = error.exit_code if isinstance(error, TiffinError) else 125
    if code == 125 or held.row["remove"]:
        await held.again()
        await remove.remove_held(held, force=True)
