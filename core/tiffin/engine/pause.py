"""`pause`, `unpause`: the cgroup freezer holds every process of a container where it is."""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable

import trio

from ..errors import Conflict, TiffinError, UserError
from ..events.base import Event
from ..events.container import Failed, Paused, PausePlanned, Unpaused, UnpausePlanned
from .base import Engine
from .hold import Held, hold


async def pause(engine: Engine, given: str) -> str:
    """Freeze a running container. Returns its id. Error: Conflict when it does not run."""
    async with hold(engine, given) as held:
        if held.state == "paused":
            raise Conflict(f"container {held.row['name']} is paused already")
        held.need("pause", "running")
        if not held.row["cgroup"].strip("/"):
            raise UserError(
                f"pause: container {held.row['name']} has no cgroup, whose freezer would hold it",
                hint="a user has cgroups with cgroup v2 and a login that systemd knows of",
            )
        runtime = engine.runtime(held.row["runtime"])

        async def freeze() -> None:
            try:
                await runtime.pause(held.id)
            except BaseException:  # a cancellation as well; raised again
                # Half of it may be frozen: what we record is that it runs.
                with trio.CancelScope(shield=True), contextlib.suppress(TiffinError):
                    await runtime.resume(held.id)
                raise

        await _carry_out(held, PausePlanned(), freeze, Paused())
        return held.id


async def unpause(engine: Engine, given: str) -> str:
    """Let a paused container go on. Returns its id. Error: Conflict when it is not paused."""
    async with hold(engine, given) as held:
        held.need("unpause", "paused")
        runtime = engine.runtime(held.row["runtime"])

        async def thaw() -> None:
            await runtime.resume(held.id)

        await _carry_out(held, UnpausePlanned(), thaw, Unpaused())
        return held.id


async def _carry_out(
    held: Held, intent: Event, work: Callable[[], Awaitable[None]], outcome: Event
) -> None:
    await held.journal.write(held.stream, intent)
    try:
        await work()
    except BaseException as error:
        with trio.CancelScope(shield=True):
            why = str(error) or type(error).__name__
            failed = Failed(operation=intent.OPENS, error=why, state=held.state)
            await held.journal.write(held.stream, failed)
        raise
    await held.journal.write(held.stream, outcome)
