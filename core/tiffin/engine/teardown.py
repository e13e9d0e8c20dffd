"""Taking away what a container has made: its run (runtime state, network, mount), or all of it.

Every step may be repeated: the next command does it again when this one is killed.
"""

from __future__ import annotations

import errno
import os
import signal

import msgspec
import trio

from .. import cgroups, netns
from ..errors import RuntimeFailed, TiffinError
from ..hooks import Attachment
from ..layer.remove import remove_tree
from ..processes import alive
from ..store import queries
from .base import Engine

TRIES = 5
"""How often a directory is emptied that others still write to."""


def warm_up(engine: Engine, row: queries.Row) -> None:
    """The end of a container comes: let what `detach` needs start loading beside it."""
    for plain in row["attachments"]:
        engine.network(plain["network"]["driver"]).warm_up()


async def run_state(engine: Engine, row: queries.Row, *, layer_too: bool = False) -> None:
    """What a run has left: runtime state, attachments, namespace, mount, run directory; and the
    container's own layer, if asked for."""
    cid = row["id"]
    storage = engine.storage(row["storage_driver"])
    runtime_done = trio.Event()

    async def runtime() -> None:
        if row["bundle"]:
            await delete_from_runtime(engine, row)
            await cgroups.remove(row["cgroup"], cid)
        runtime_done.set()

    async def mount() -> None:
        # What ended by itself has no process left that the runtime would have to kill first.
        if row["state"] != "exited":
            await runtime_done.wait()
        if layer_too or not row["pinned"]:
            if row["id_maps"]:
                from . import rootfs  # which needs `hold`, which needs this module

                rootfs.leave(engine, cid)
            await storage.unmount(cid)
        if layer_too:
            await storage.remove(cid)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(runtime)
        nursery.start_soon(mount)
        nursery.start_soon(detach, engine, row)
        if row["options"].get("health"):
            from . import health_timer

            nursery.start_soon(health_timer.end, engine, row)
    kinds = {mount["type"] for mount in row["options"].get("mounts", ())}
    if "volume" in kinds:
        from . import volume_mounts  # rarely needed, and every command that writes imports this

        await volume_mounts.let_go(engine, row)
    if "image" in kinds or any(
        "O" in mount.get("options", ()) for mount in row["options"].get("mounts", ())
    ):
        from . import special_mounts

        await special_mounts.let_go(engine, row)
    if row["options"].get("secrets"):
        from . import secrets

        secrets.forget(engine, cid)
    remove_directory(engine.layout.container_run(cid))


async def everything(engine: Engine, row: queries.Row) -> None:
    """Its run, its own layer, its directory and its lock."""
    await run_state(engine, row, layer_too=True)
    remove_directory(row["directory"])
    engine.locks.forget(row["id"])


def remove_directory(path: str) -> None:
    """One of the container's own directories. Error: TiffinError; the intent stays open then, and
    the next command goes on with it."""
    for attempt in range(TRIES):
        try:
            remove_tree(path)
            return
        except OSError as error:
            # conmon, on its way out, still writes and deletes files of its own there.
            if error.errno not in (errno.ENOENT, errno.ENOTEMPTY) or attempt + 1 == TRIES:
                raise TiffinError(f"cannot remove {path}: {error.strerror}") from error


async def detach(engine: Engine, row: queries.Row) -> None:
    """The container's interfaces, rules and network namespace."""
    for plain in row["attachments"]:
        attachment = msgspec.convert(plain, Attachment)
        if attachment.host_netns:
            from . import home  # an ordinary user's networks

            await home.detach(engine, attachment)
            continue
        await engine.network(attachment.network.driver).detach(attachment)
    if row["netns"]:
        netns.remove(row["netns"])


async def delete_from_runtime(engine: Engine, row: queries.Row) -> None:
    """Kill what is left of the container and make the runtime forget it; conmon ends with it."""
    cid = row["id"]
    try:
        runtime = engine.runtime(row["runtime"])
        await runtime.delete(cid, force=True)
    except (RuntimeFailed, TiffinError):
        # The program may be gone, or its state damaged: the processes must go all the same.
        kill_conmon(row["pid"], signal.SIGKILL)
        if await _knows(engine, row):
            raise
    pid_file = f"{engine.layout.container_run(cid)}/conmon.pid"
    conmon = row["conmon_pid"]
    if not conmon:
        try:
            with open(pid_file, encoding="ascii") as file:
                conmon = int(file.read())
        except (OSError, ValueError):
            conmon = 0
    if conmon and is_conmon(conmon, cid) and row["state"] not in ("exited", "removing"):
        kill_conmon(conmon, signal.SIGTERM)


async def _knows(engine: Engine, row: queries.Row) -> bool:
    try:
        return await engine.runtime(row["runtime"]).state(row["id"]) is not None
    except TiffinError:
        return False


def is_conmon(pid: int, cid: str) -> bool:
    """True when that process is the monitor of this container (pids are used again)."""
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            return cid.encode() in file.read().split(b"\0")
    except OSError:
        return False


def kill_conmon(pid: int, number: int) -> None:
    """Signal a process that may be gone already."""
    if pid > 1 and alive(pid):
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            return
