"""`mount` and `unmount`: the copy-on-write layer of a container."""

from __future__ import annotations

import trio

from ..errors import Conflict
from ..events.container import Failed, Mounted, MountPlanned, Unmounted, UnmountPlanned
from . import labels, rootfs
from .base import Engine
from .hold import Held, hold


async def mount(engine: Engine, given: str) -> str:
    """Mount the container's file system until `unmount`; returns the path of its root."""
    async with hold(engine, given) as held:
        held.need("mount", "created", "initialized", "running", "paused", "exited")
        await plan(held)
        path = await carry_out(held, pinned=True)
        await held.journal.flush()
        return path


async def unmount(engine: Engine, given: str, *, force: bool = False) -> None:
    """Unmount it; its layer stays. Error: Conflict while the container runs."""
    async with hold(engine, given) as held:
        if not force:
            held.need("unmount", "created", "exited")
        elif held.state in ("initialized", "running", "paused"):
            raise Conflict(f"cannot unmount container {held.row['name']}: it is {held.state}")
        path = held.row["mounted"]
        await held.journal.write(held.stream, UnmountPlanned(path=path))
        await rootfs.unmount(engine, held.row)
        await held.journal.write(held.stream, Unmounted())


async def plan(held: Held, *, now: bool = True) -> None:
    """Record the intent to mount (with `now` durably, else with the next event written)."""
    driver = held.engine.storage(held.row["storage_driver"])
    layout, row = held.engine.layout, held.row
    userns = layout.userns(held.id) if row["id_maps"] else ""
    path = rootfs.path(held.engine, row)
    event = MountPlanned(driver=driver.name, path=path, userns=userns)
    held.journal.note(held.stream, event)
    if now:
        await held.journal.flush()


async def carry_out(held: Held, *, pinned: bool = False) -> str:
    """Make the layer and mount it, after `plan`; notes the outcome. Undone when it fails."""
    driver = held.engine.storage(held.row["storage_driver"])
    layers = held.row["layers"]
    try:
        await driver.prepare(held.id, layers)
        label = labels.in_force(held).mount_label
        if label:
            await labels.share_layers(held, driver.name)
        path = await rootfs.mount(held, label)
        if label and held.state == "created" and not getattr(driver, "labels_mounts", False):
            await labels.relabel(held, path)
    except BaseException as error:
        with trio.CancelScope(shield=True):
            if not held.row["mounted"]:
                await rootfs.unmount(held.engine, held.row)
            await held.journal.write(
                held.stream, Failed(operation="mount", error=str(error), state=held.state)
            )
        raise
    held.journal.note(held.stream, Mounted(path=path, pinned=pinned))
    return path
