"""What is done to all containers of a pod: started, stopped, killed, frozen, removed. Each of them
is held by itself; what fails of one does not keep the others from it."""

from __future__ import annotations

import signal as signals
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import trio

from ..errors import Conflict, NotFound, TiffinError, UserError
from ..events.pod import PodKilled, PodPaused, PodUnpaused
from ..options import ContainerOptions
from ..store import queries
from . import pause as freezing
from . import pods, remove, start, stop
from .base import Engine, command
from .recover import LIVE


async def _each(
    engine: Engine,
    row: queries.Row,
    what: str,
    states: Iterable[str],
    work: Callable[[str], Awaitable[object]],
) -> int:
    """Do something to the containers that are in one of the states; how many there were. Error:
    the first, with the container's name, after all have had their turn."""
    failed: TiffinError | None = None
    count = 0
    for member in await pods.members(engine, row["id"]):
        if member["state"] not in states:
            continue
        count += 1
        try:
            await work(member["id"])
        except* TiffinError as group:
            error: BaseException = group
            while isinstance(error, BaseExceptionGroup):
                error = error.exceptions[0]
            gone = isinstance(error, NotFound)  # removed meanwhile, perhaps by itself
            if failed is None and isinstance(error, TiffinError) and not gone:
                why = f"cannot {what} container {member['name']} of pod {row['name']}: {error.what}"
                failed = type(error)(why, hint=error.hint)
    if failed is not None:
        raise failed
    return count


@command
async def start_pod(engine: Engine, given: str) -> str:
    """Make its namespaces and start all its containers. Returns its id."""
    row = await pods.find(engine, given)
    await pods.up(engine, row["id"])
    states = ("created", "initialized", "exited")
    await _each(engine, row, "start", states, lambda cid: start.start(engine, cid))
    return str(row["id"])


@command
async def stop_pod(engine: Engine, given: str, *, timeout: int | None = None) -> str:
    """Stop its containers and take its namespaces away. Returns its id."""
    row = await pods.find(engine, given)

    async def one(cid: str) -> None:
        await stop.stop(engine, cid, timeout=timeout)

    await _each(engine, row, "stop", LIVE, one)
    await pods.down(engine, row["id"], "stopped")
    return str(row["id"])


@command
async def restart_pod(engine: Engine, given: str, *, timeout: int | None = None) -> str:
    """Returns its id."""
    await stop_pod(engine, given, timeout=timeout)
    return await start_pod(engine, given)


@command
async def kill_pod(engine: Engine, given: str, signal: int) -> str:
    """A signal for its running containers; without any left, its namespaces go. Returns its id."""
    row = await pods.find(engine, given)
    await engine.journal().write(f"pod/{row['id']}", PodKilled(signal=signal))

    async def one(cid: str) -> None:
        await stop.kill(engine, cid, signal, reason="pod kill")

    await _each(engine, row, "kill", ("running", "paused"), one)
    if signal == signals.SIGKILL:
        await pods.down(engine, row["id"], "killed")
    return str(row["id"])


@command
async def pause_pod(engine: Engine, given: str) -> str:
    """Freeze its running containers. Returns its id."""
    row = await pods.find(engine, given)
    await _each(engine, row, "pause", ("running",), lambda cid: freezing.pause(engine, cid))
    await engine.journal().write(f"pod/{row['id']}", PodPaused())
    return str(row["id"])


@command
async def unpause_pod(engine: Engine, given: str) -> str:
    """Let its frozen containers go on. Returns its id."""
    row = await pods.find(engine, given)
    await _each(engine, row, "unpause", ("paused",), lambda cid: freezing.unpause(engine, cid))
    await engine.journal().write(f"pod/{row['id']}", PodUnpaused())
    return str(row["id"])


@command
async def remove_pod(
    engine: Engine, given: str, *, force: bool = False, timeout: int | None = None
) -> str:
    """Remove it and its containers; those that run only with `force`. Returns its id. Errors:
    NotFound, Conflict."""
    row = await pods.find(engine, given)
    running = [m["name"] for m in await pods.members(engine, row["id"]) if m["state"] in LIVE]
    if running and not force:
        raise Conflict(
            f"pod {row['name']} has running containers: {', '.join(running[:5])}",
            hint="stop it first, or use --force",
        )

    async def one(cid: str) -> None:
        await remove.remove(engine, cid, force=force, timeout=timeout, volumes=True)

    states = ("creating", "created", "exited", "removing", *LIVE)
    await _each(engine, row, "remove", states, one)
    await pods.remove(engine, row["id"])
    return str(row["id"])


NEW = "new:"
POD_S = ("network", "joins", "ports", "publish_all", "hostname", "dns", "dns_search")
POD_S_TOO = ("dns_options", "add_hosts", "no_hosts", "shm_size")


@asynccontextmanager
async def opened(engine: Engine, options: ContainerOptions) -> AsyncIterator[ContainerOptions]:
    """`--pod new:NAME`: a pod is made with what the options say of networks and names, for as long
    as a container comes of it; the options without that. Errors: those of `pods.create`."""
    if not options.pod.startswith(NEW):
        yield options
        return
    defaults = ContainerOptions(image="")
    names = (*POD_S, *POD_S_TOO)
    told: dict[str, Any] = {name: getattr(options, name) for name in names}
    if told.pop("publish_all"):
        raise UserError("--publish-all does not go with --pod new:", hint="publish each port")
    wanted = ContainerOptions(image="", **told)
    name = options.pod.removeprefix(NEW)
    pod, _ = await pods.create(engine, name, wanted, pods.DEFAULT_SHARE)
    cleared = {name: getattr(defaults, name) for name in names}
    try:
        yield msgspec.structs.replace(options, pod=pod, **cleared)
    except BaseException:  # a cancellation as well; raised again
        with trio.CancelScope(shield=True):
            if not await pods.members(engine, pod):
                await pods.remove(engine, pod)
        raise


async def prune(engine: Engine, given: Iterable[str]) -> list[str]:
    """Remove those of these pods in which nothing runs. Returns their ids."""
    gone = []
    for pod in given:
        try:
            gone.append(await remove_pod(engine, pod))
        except (NotFound, Conflict):
            continue  # gone, or in use by now
    return gone
