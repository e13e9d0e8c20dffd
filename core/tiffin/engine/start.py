"""`start`, `restart`: the user's process runs; conmon, not we, is its parent."""

from __future__ import annotations

import trio

from ..errors import Conflict
from ..events.container import Failed, Started, StartPlanned
from . import init
from .base import Engine
from .hold import Held, hold
from .recover import LIVE


async def start(engine: Engine, given: str) -> str:
    """Start a created, initialized or exited container; one that runs already is left alone, as
    podman does. Returns its id."""
    async with hold(engine, given) as held:
        if held.state == "running":
            return held.id
        if held.state != "initialized":
            await init.prepare(held)
        await begin(held)
        await held.journal.flush()
        return held.id


async def begin(held: Held) -> None:
    """Start an initialized container; notes the outcome."""
    runtime = held.engine.runtime(held.row["runtime"])
    await held.journal.write(held.stream, StartPlanned())
    try:
        await runtime.start(held.id)
    except BaseException as error:
        with trio.CancelScope(shield=True):
            await held.journal.write(
                held.stream, Failed(operation="start", error=str(error), state="initialized")
            )
            await held.again()
            await init.undo(held, f"start failed: {error}")
        raise
    held.journal.note(held.stream, Started(pid=held.row["pid"]))
    if held.engine.notify_socket:
        from . import notify

        notify.started(held.engine, held.row)
    if held.row["options"].get("health"):
        from . import health_timer

        await health_timer.begin(held.engine, held.row)


async def restart(engine: Engine, given: str, *, timeout: int | None = None) -> str:
    """Stop (when it runs) and start again. Returns its id."""
    from .stop import end_process

    async with hold(engine, given) as held:
        held.need("restart", "created", "initialized", "running", "exited")
        if held.state in LIVE and held.state != "initialized":
            wanted = held.row["stop_timeout"] if timeout is None else timeout
            await end_process(held, timeout=wanted)
            await held.again()
            if held.state in LIVE:
                raise Conflict(f"container {held.row['name']} could not be stopped")
        if held.state != "initialized":
            await init.prepare(held)
        await begin(held)
        await held.journal.flush()
        return held.id
