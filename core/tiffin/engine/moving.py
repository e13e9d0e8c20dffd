"""A container moved to other drivers: its runtime, and the storage of its own layer."""

from __future__ import annotations

import os
import tempfile

import trio

from ..content import ContentStore
from ..errors import Conflict, DriverError
from ..events.container import Failed, Migrated, MigrationPlanned, RuntimeChanged, StorageSwitched
from ..hooks import LayerBlob, layer_tools
from ..smallhash import sha256
from . import drivers, images, labels
from .base import Engine
from .hold import Held, hold


async def change_runtime(engine: Engine, given: str, name: str) -> str:
    """Give a container another runtime, for its next start; returns its id.

    Errors: NotFound, UserError (no such runtime), DriverError (its program is missing), Conflict
    while the container runs.
    """
    engine.runtime(name).program()
    async with hold(engine, given) as held:
        held.need("change the runtime of", "created", "exited")
        if held.row["runtime"] == name:
            return held.id
        await _let_go(held)  # with the runtime that knows it
        event = RuntimeChanged(runtime=name, previous=held.row["runtime"])
        await held.journal.write(held.stream, event)
        return held.id


async def migrate(engine: Engine, given: str, name: str) -> str | None:
    """Carry a container's own layer over to another storage driver, bit for bit; returns its id,
    or None when it is there already. Until all of it is there nothing changes; then the old copy
    goes.

    Errors: NotFound, UserError (no such driver), DriverError, StorageFull; Conflict while the
    container runs or is mounted.
    """
    target = engine.storage(name)
    why = await target.probe()
    if why is not None:
        raise DriverError(f"the storage driver {name} does not work here: {why}")
    async with hold(engine, given) as held:
        row = held.row
        if row["storage_driver"] == name:
            return None
        held.need("migrate", "created", "exited")
        if row["id_maps"]:
            await drivers.mapping_storage(engine, name, asked=name)
        if row["pinned"]:
            raise Conflict(
                f"cannot migrate container {row['name']}: it is mounted", hint="unmount it first"
            )
        await _let_go(held)
        async with images.in_use(engine):
            await images.unpacked_by(engine, row["image_id"], name)
        planned = MigrationPlanned(source=row["storage_driver"], target=name)
        await held.journal.write(held.stream, planned)
        try:
            await _copy(held, name)
        except BaseException as error:
            with trio.CancelScope(shield=True):
                await undo(engine, held.row, name)
                why = str(error) or type(error).__name__
                failed = Failed(operation="migrate", error=why, state=held.state)
                await held.journal.write(held.stream, failed)
            raise
        await held.journal.write(held.stream, StorageSwitched(driver=name))
        await engine.storage(row["storage_driver"]).remove(held.id)
        await held.journal.write(held.stream, Migrated(source=row["storage_driver"], target=name))
        return held.id


async def _let_go(held: Held) -> None:
    """What a run has left is taken away by the drivers that made it."""
    if held.state == "exited" and held.row["cgroup"]:
        await held.clean_up()
        await held.journal.flush()
        await held.again()


async def _copy(held: Held, name: str) -> None:
    """The container's own layer, as a tar, onto the new driver's; and compared, all of it."""
    engine, row, tools = held.engine, held.row, layer_tools()
    source, target = engine.storage(row["storage_driver"]), engine.storage(name)
    content = ContentStore(engine.layout.blobs)
    label = labels.in_force(held).mount_label
    await target.prepare(held.id, row["layers"])
    if label:
        await labels.share_layers(held, name)
    new = await target.mount(held.id, row["layers"], label)
    with tempfile.TemporaryDirectory(dir=content.root, prefix="migrate-") as temporary:
        layer = f"{temporary}/layer.tar"
        await source.diff(held.id, row["layers"], layer)
        own = await trio.to_thread.run_sync(_digest, layer)
        blob = LayerBlob(path=layer, compression="none", diff_id=own)
        await tools.unpack(new, blob, "apply", tools.limits({}))
    if label and not getattr(target, "labels_mounts", False):
        await labels.relabel(held, new)
    await source.prepare(held.id, row["layers"])
    old = await source.mount(held.id, row["layers"], label)
    different = await trio.to_thread.run_sync(tools.tree_changes, old, new)
    await source.unmount(held.id)
    await target.unmount(held.id)
    if different:
        raise DriverError(
            f"{different[0].path} did not arrive as it was ({len(different)} differ)",
            hint=f"container {row['name']} stays on {row['storage_driver']}",
        )
    os.sync()


def _digest(path: str) -> str:
    hasher = sha256()
    with open(path, "rb") as file:
        while data := file.read(1 << 20):
            hasher.update(data)
    return f"sha256:{hasher.hexdigest()}"


async def undo(engine: Engine, row: dict[str, object], target: str) -> None:
    """Nothing of a migration is left on the new driver; the old one has it all."""
    cid = str(row["id"])
    await engine.storage(str(row["storage_driver"])).unmount(cid)
    await engine.storage(target).remove(cid)
