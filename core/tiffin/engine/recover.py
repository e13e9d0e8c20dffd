"""What a dead process left open in a container is finished or undone, by the next that holds it.

An open intent in a stream whose lock we hold belongs to a process that is dead. A container that
the log calls running may have ended with nobody recording it (conmon killed, a reboot).
"""

from __future__ import annotations

import os
from typing import Any

import msgspec

from .. import processes
from ..errors import TiffinError
from ..events.base import Event
from ..events.container import (
    CleanedUp,
    CleanupPlanned,
    ConnectFailed,
    Disconnected,
    Exited,
    Failed,
    Migrated,
    Mounted,
    Paused,
    Recovered,
    Removed,
    Started,
    Unmounted,
    Unpaused,
    Updated,
)
from ..hooks import Attachment
from ..store import log, queries
from . import teardown
from .base import Engine, Journal

LIVE = ("initialized", "running", "paused", "stopping")
"""States in which a process exists."""

INTENTS = "SELECT * FROM intents WHERE stream=? ORDER BY seq DESC"


async def resolve(engine: Engine, journal: Journal, row: queries.Row) -> bool:
    """Bring the log and the machine together again. True when something was changed.

    The caller holds the container's lock. Newest intent first: an `init` is undone before the
    `mount` beneath it.
    """
    stream = f"container/{row['id']}"
    changed = False
    for intent in await engine.store.rows(INTENTS, (stream,)):
        row = await engine.container_now(row["id"])
        outcome, how, state = await RESOLVERS[intent["operation"]](engine, row)
        recovered = Recovered(
            operation=intent["operation"], intent=intent["seq"], how=how, state=state
        )
        if outcome is not None:
            journal.note(stream, outcome)
        if not isinstance(outcome, (Removed, Failed)):
            journal.note(stream, recovered)
        await journal.flush()
        changed = True
        if isinstance(outcome, Removed) or intent["operation"] == "create":
            return True
    row = await engine.container_now(row["id"])
    if row["state"] in LIVE:
        changed = await _notice_end(engine, journal, row) or changed
        row = await engine.container_now(row["id"])
    if row["state"] == "exited" and os.path.isdir(engine.layout.container_run(row["id"])):
        # conmon's exit command recorded the end, and its clean-up waits for the lock that we have.
        await journal.write(stream, CleanupPlanned())
        await teardown.run_state(engine, row)
        await journal.write(stream, CleanedUp())
        changed = True
    if row["mounted"] and row["state"] in ("created", "exited"):
        # `tiffin mount` had mounted it: a reboot, or somebody's umount, has not told the log.
        from . import rootfs  # rarely needed, and it needs this module

        if not await rootfs.is_mounted(engine, row):
            await rootfs.unmount(engine, row)  # what a killed `cp` has mounted elsewhere
            await journal.write(stream, Unmounted())
            changed = True
    return changed


async def _notice_end(engine: Engine, journal: Journal, row: queries.Row) -> bool:
    """Record the end of a container that ended unrecorded, and clean up after it."""
    cid = row["id"]
    stream = f"container/{cid}"
    versions = await engine.store.rows(
        "SELECT max(version) AS version FROM events WHERE stream=?", (stream,)
    )
    row = await engine.container_now(cid)
    if row["state"] not in LIVE:
        return True
    end = processes.observe(engine.layout, cid, row["pid"], row["conmon_pid"])
    if end is None:
        return False
    code, oom, reason = end
    journal.note(stream, Exited(exit_code=code, oom=oom, reason=reason))
    try:
        await journal.write(stream, CleanupPlanned(), expect={stream: versions[0]["version"]})
    except log.Stale:
        return True  # conmon's exit command was quicker
    await teardown.run_state(engine, row)
    await journal.write(stream, CleanedUp())
    return True


Outcome = tuple[Event | None, str, str]


async def _create(engine: Engine, row: queries.Row) -> Outcome:
    """Never acknowledged: it is as if it had not been asked for."""
    await teardown.everything(engine, row)
    error = "the command that made it was killed"
    return Failed(operation="create", error=error, state="removed"), "undone", "removed"


async def _mount(engine: Engine, row: queries.Row) -> Outcome:
    """One that was there before stays; else it is nobody's."""
    from . import rootfs  # rarely needed, and it needs this module

    if row["state"] in LIVE or (row["mounted"] and await rootfs.is_mounted(engine, row)):
        return Mounted(path=rootfs.path(engine, row)), "finished", row["state"]
    await rootfs.unmount(engine, row)
    return None, "undone", row["state"]


async def _unmount(engine: Engine, row: queries.Row) -> Outcome:
    from . import rootfs

    await rootfs.unmount(engine, row)
    return Unmounted(), "finished", row["state"]


async def _init(engine: Engine, row: queries.Row) -> Outcome:
    await teardown.run_state(engine, row)
    return None, "undone", row["state"]


async def _start(engine: Engine, row: queries.Row) -> Outcome:
    """The runtime knows whether the user's process ran."""
    state: Any = None
    try:
        state = await engine.runtime(row["runtime"]).state(row["id"])
    except TiffinError:
        state = None
    if state is not None and state.status in ("running", "paused"):
        if row["options"].get("health"):
            from . import health_timer

            await health_timer.begin(engine, row)
        return Started(pid=state.pid), "finished", "running"
    if state is not None and state.status == "created":
        return None, "undone", "initialized"
    # It ran and ended, or the machine was restarted: `_notice_end` records which.
    return None, "undone", row["state"]


async def _freezing(engine: Engine, row: queries.Row) -> Outcome:
    """`pause` or `unpause`: the runtime knows which of the two it is now."""
    try:
        state = await engine.runtime(row["runtime"]).state(row["id"])
    except TiffinError:
        state = None
    if state is not None and state.status in ("running", "paused"):
        outcome = Paused() if state.status == "paused" else Unpaused()
        return outcome, "finished", state.status
    return None, "undone", row["state"]


async def _update(engine: Engine, row: queries.Row) -> Outcome:
    """The runtime takes the same limits twice."""
    from . import limits  # rarely needed, and every command that writes imports this module

    try:
        return Updated(resources=await limits.finish(engine, row)), "finished", row["state"]
    except TiffinError:
        return None, "undone", row["state"]


async def _cleanup(engine: Engine, row: queries.Row) -> Outcome:
    await teardown.run_state(engine, row)
    return CleanedUp(), "finished", "exited"


async def _remove(engine: Engine, row: queries.Row) -> Outcome:
    from .remove import take_away  # which comes after this module

    planned = (await _intent(engine, row, "remove"))["data"]
    await take_away(engine, engine.journal(), row, volumes=planned.get("volumes", False))
    return Removed(), "finished", "removed"


async def _connect(engine: Engine, row: queries.Row) -> Outcome:
    from . import connections

    data = (await _intent(engine, row, "connect"))["data"]
    added = msgspec.convert(data["attachment"], Attachment)
    before = [msgspec.convert(plain, Attachment) for plain in data.get("before", ())]
    await connections.take_back(engine, added, before)
    outcome = ConnectFailed(
        network=added.network.name,
        network_id=added.network.id,
        before=tuple(data.get("before", ())),
        error="the command was killed",
    )
    return outcome, "undone", row["state"]


async def _disconnect(engine: Engine, row: queries.Row) -> Outcome:
    from . import connections

    data = (await _intent(engine, row, "disconnect"))["data"]
    gone = msgspec.convert(data["attachment"], Attachment)
    left = [msgspec.convert(plain, Attachment) for plain in data.get("attachments", ())]
    await connections.carry_off(engine, row, gone, left)
    outcome = Disconnected(
        network=data["network"],
        network_id=gone.network.id,
        networks=data["networks"],
        joins=tuple(data.get("joins", ())),
        attachments=tuple(data.get("attachments", ())),
    )
    return outcome, "finished", row["state"]


async def _intent(engine: Engine, row: queries.Row, operation: str) -> queries.Row:
    found = await engine.store.rows(INTENTS, (f"container/{row['id']}",))
    return next(intent for intent in found if intent["operation"] == operation)


async def _reload(engine: Engine, row: queries.Row) -> Outcome:
    """What was made again stays, whatever it was; the next reload makes the rest."""
    return None, "undone", row["state"]


async def _migrate(engine: Engine, row: queries.Row) -> Outcome:
    """Whichever driver the log calls the container's has all of it; the other's copy goes."""
    intents = await engine.store.rows(
        "SELECT data FROM intents WHERE stream=? AND operation='migrate'",
        (f"container/{row['id']}",),
    )
    source, target = intents[0]["data"]["source"], intents[0]["data"]["target"]
    if row["storage_driver"] == target:
        await engine.storage(source).remove(row["id"])
        return Migrated(source=source, target=target), "finished", row["state"]
    await engine.storage(source).unmount(row["id"])
    await engine.storage(target).remove(row["id"])
    return None, "undone", row["state"]


RESOLVERS = {
    "migrate": _migrate,
    "create": _create,
    "mount": _mount,
    "unmount": _unmount,
    "init": _init,
    "start": _start,
    "reload": _reload,
    "connect": _connect,
    "disconnect": _disconnect,
    "pause": _freezing,
    "unpause": _freezing,
    "update": _update,
    "cleanup": _cleanup,
    "remove": _remove,
}
