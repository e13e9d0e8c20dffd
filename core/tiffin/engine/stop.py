"""`kill`, `stop`, `wait`: ending the process of a container, and learning how it ended."""

from __future__ import annotations

import contextlib
import os
import signal as signals
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import trio

from .. import processes
from ..errors import Conflict, NotFound, TiffinError
from ..events.container import Exited, SignalSent
from ..store import queries
from . import teardown
from .base import Engine, Journal
from .hold import Held, hold

KILLED = 128 + signals.SIGKILL


async def kill(engine: Engine, given: str, signal: int, *, reason: str = "kill") -> str:
    """Send a signal to a running container. Returns its id. Error: Conflict when it does not run.

    A signal that ends the container is not waited for, as with podman; SIGKILL is, so that the
    container has ended when the command returns.
    """
    async with hold(engine, given) as held:
        held.need("kill", "running", "paused", "initialized")
        if held.state == "initialized":
            raise Conflict(f"cannot kill container {held.row['name']}: it has not been started")
        held.journal.note(held.stream, SignalSent(signal=signal, reason=reason))
        if signal == signals.SIGKILL:
            with engine.locks.ending(held.id):
                await send(held, signal)
                await _settle(held)
            await _remove_if_asked(held)
        else:
            await send(held, signal)
            await held.journal.flush()
        return held.id


async def stop(engine: Engine, given: str, *, timeout: int | None = None) -> str:
    """Stop signal, then SIGKILL after `timeout` seconds (the container's own when None)."""
    async with hold(engine, given) as held:
        if held.state == "running":
            wanted = held.row["stop_timeout"] if timeout is None else timeout
            await end_process(held, timeout=wanted)
            await _remove_if_asked(held)
        elif held.state == "initialized":
            ended = Exited(exit_code=0, reason="stopped before it ran")
            await held.clean_up(ended=ended)
            await held.journal.flush()
        elif held.state == "paused":
            raise Conflict(
                f"cannot stop container {held.row['name']}: it is paused", hint="unpause it first"
            )
        else:
            held.need("stop", "created", "exited")
        return held.id


async def _remove_if_asked(held: Held) -> None:
    """--rm: a container that was made to end is removed by whoever ended it."""
    if held.row["remove"]:
        from .remove import remove_held  # which ends containers as well, through this module

        await held.again()
        await remove_held(held)


async def end_process(held: Held, *, timeout: int) -> None:
    """The stop signal, then SIGKILL; records the end and cleans up. `timeout` 0: SIGKILL at once;
    -1: wait for ever. A paused one could not react to any other signal."""
    teardown.warm_up(held.engine, held.row)
    with held.engine.locks.ending(held.id):
        if timeout != 0 and held.state != "paused":
            number = held.row["stop_signal"]
            await held.journal.write(held.stream, SignalSent(signal=number, reason="stop"))
            await send(held, number)
            with trio.move_on_after(timeout if timeout > 0 else float("inf")) as scope:
                await wait_exit(held.engine, held.row)
            if not scope.cancelled_caught:
                await _settle(held)
                return
        reason = "stop timeout" if timeout else "kill"
        await held.journal.write(held.stream, SignalSent(signal=signals.SIGKILL, reason=reason))
        await send(held, signals.SIGKILL)
        await _settle(held)


async def send(held: Held, number: int) -> None:
    """To the process, which conmon is the parent of, or through the runtime; one that is gone
    already is no error. SIGKILL ends a paused one as well: with cgroup v1 the kernel delivers it
    only when the process is let go."""
    runtime = held.engine.runtime(held.row["runtime"])
    pid, conmon = held.row["pid"], held.row["conmon_pid"]
    here = getattr(runtime, "host_process", False)
    try:
        if not (here and conmon and processes.signal_child(pid, conmon, number)):
            await runtime.kill(held.id, number)
        if held.state == "paused" and number == signals.SIGKILL:
            with contextlib.suppress(TiffinError):
                await runtime.resume(held.id)
    except TiffinError:
        if processes.alive(held.row["pid"]):
            raise


async def _settle(held: Held) -> None:
    """The process is going: wait for its end, record it unless conmon's exit command was quicker,
    and clean up."""
    with trio.move_on_after(30):
        await wait_exit(held.engine, held.row)
    row = await held.engine.container_now(held.id)
    if row["state"] == "exited":
        ended = None
    else:
        found = processes.recorded_exit(held.engine.layout, held.id)
        code, oom = found or (KILLED, False)
        ended = Exited(exit_code=code, oom=oom)
    await held.clean_up(ended=ended)
    await held.journal.flush()


@asynccontextmanager
async def pidfd(pid: int) -> AsyncIterator[int | None]:
    """pidfd_open(2), or None when there is no such process."""
    try:
        fd = os.pidfd_open(pid)
    except (ProcessLookupError, OSError):
        yield None
        return
    try:
        yield fd
    finally:
        os.close(fd)


async def wait_process(pid: int) -> None:
    """Wait until a process that need not be ours has ended; costs no CPU."""
    if pid <= 0:
        return
    async with pidfd(pid) as fd:
        if fd is not None:
            await trio.lowlevel.wait_readable(fd)


async def wait(engine: Engine, given: str) -> int:
    """Wait until the container is not running; returns its exit code. Removed meanwhile: what the
    log says of its end."""
    row = await engine.container(given)
    cid = row["id"]
    while row["state"] in ("initialized", "running", "paused", "stopping"):
        await wait_exit(engine, row)
        async with hold_or_gone(engine, cid) as held:
            if held is None:
                break
            row = held.row
    return await last_exit_code(engine, cid)


@asynccontextmanager
async def hold_or_gone(
    engine: Engine, cid: str, journal: Journal | None = None, *, resolve: bool = True
) -> AsyncIterator[Held | None]:
    """`hold`, or None when the container is no longer there."""
    try:
        manager = hold(engine, cid, journal, resolve=resolve)
        held = await manager.__aenter__()
    except NotFound:
        yield None
        return
    try:
        yield held
    finally:
        await manager.__aexit__(None, None, None)


async def wait_exit(engine: Engine, row: queries.Row) -> None:
    """Wait for the container's process and then, for the milliseconds that conmon needs, for the
    file in which it leaves the exit code."""
    await wait_process(row["pid"])
    while processes.recorded_exit(engine.layout, row["id"]) is None:
        if not teardown.is_conmon(row["conmon_pid"], row["id"]):
            return
        await trio.sleep(0.002)


async def last_exit_code(engine: Engine, cid: str) -> int:
    """What the log says of the container's last end; works for removed ones. 0 when it has none."""
    ends = await engine.store.rows(
        "SELECT data FROM events WHERE stream=? AND type='container.exited' "
        "ORDER BY seq DESC LIMIT 1",
        (f"container/{cid}",),
    )
    return int(ends[0]["data"]["exit_code"]) if ends else 0
