"""The root of a container as it is mounted: where its storage driver has it or, with a user
namespace, at a place that the container's own root user can enter.

There the files have the container's owners: by the driver (`maps_ids`), or by a mount of ours over
what the driver mounted. What is stored has the owners that the container sees, so that images,
diffs and exports need not care.
"""

from __future__ import annotations

import contextlib
import os
import stat
from typing import Any

from ..errors import DriverError
from ..hooks import IdMaps
from ..store import queries
from .base import Engine
from .hold import Held


def path(engine: Engine, row: queries.Row) -> str:
    """Where `mount` puts it; known beforehand, for the intent."""
    if row["id_maps"]:
        return f"{engine.layout.mapped(row['id'])}/root"
    return str(engine.storage(row["storage_driver"]).mount_path(row["id"]))


async def mount(held: Held, label: str) -> str:
    """Mount what the driver has prepared; returns `path`. Errors: DriverError, UserError."""
    engine, row = held.engine, held.row
    driver = engine.storage(row["storage_driver"])
    if not row["id_maps"]:
        return str(await driver.mount(held.id, row["layers"], label))
    from .. import idmap
    from . import idmaps

    target = path(engine, row)
    namespace = await idmaps.pin(held)
    enterable(held)
    if not os.path.ismount(target):
        await driver.unmount(held.id)  # what a killed `cp` left shows the owners of the store
    if getattr(driver, "maps_ids", False):
        tree = await driver.mount(held.id, row["layers"], label, userns=namespace)
        namespace = ""
    else:
        tree = await driver.mount(held.id, row["layers"], label)
    if not os.path.ismount(target):
        os.makedirs(target, mode=0o755, exist_ok=True)
        idmap.bind(tree, target, namespace)
    return target


def enterable(held: Held) -> None:
    """Make the directory of a container's mounts; only its own root user (and ours) may enter it.
    Error: DriverError when that one cannot get there."""
    from . import idmaps

    engine = held.engine
    directory = engine.layout.mapped(held.id)
    above = os.path.dirname(directory)
    if engine.layout.uid:
        from ..rootless import places

        places.open_to_all(above)
    else:
        os.makedirs(above, mode=0o711, exist_ok=True)
        for ours in (engine.layout.run, above):
            _let_pass(ours)
    os.makedirs(directory, mode=0o700, exist_ok=True)
    os.chown(directory, *owner(idmaps.of(held.row)))
    while above != "/":
        if not os.stat(above).st_mode & stat.S_IXOTH:
            raise DriverError(
                f"the container's own root user may not pass through {above}",
                hint=f"chmod o+x {above}, or another --runroot",
            )
        above = os.path.dirname(above)


def _let_pass(directory: str) -> None:
    mode = stat.S_IMODE(os.stat(directory).st_mode)
    if not mode & stat.S_IXOTH:
        os.chmod(directory, mode | 0o011)


def owner(maps: IdMaps, uid: int = 0, gid: int = 0) -> tuple[int, int]:
    """A user of the container as the host calls it; one that it does not have: its root."""
    from ..spec import idmaps

    found = idmaps.to_host(maps.uids, uid), idmaps.to_host(maps.gids, gid)
    roots = idmaps.to_host(maps.uids, 0), idmaps.to_host(maps.gids, 0)
    pairs = zip(found, roots, strict=True)
    first, second = (root if one is None else one for one, root in pairs)
    return first or 0, second or 0


async def is_mounted(engine: Engine, row: queries.Row) -> bool:
    if row["id_maps"] and not os.path.ismount(path(engine, row)):
        return False
    return bool(await engine.storage(row["storage_driver"]).is_mounted(row["id"]))


async def unmount(engine: Engine, row: queries.Row) -> None:
    """Take the mounts away, and the user namespace that they needed. Idempotent."""
    if row["id_maps"]:
        leave(engine, row["id"])
    driver: Any = engine.storage(row["storage_driver"])
    await driver.unmount(row["id"])


def leave(engine: Engine, cid: str) -> None:
    """Unmount all that is in the container's directory of mapped mounts, and remove it; and unpin
    the user namespace that they needed."""
    from .. import idmap, userns
    from ..layer.remove import remove_tree

    directory = engine.layout.mapped(cid)
    if os.path.isdir(directory):
        for name in os.listdir(directory):
            idmap.unmount(f"{directory}/{name}")
            if os.path.ismount(f"{directory}/{name}"):
                raise DriverError(f"cannot unmount {directory}/{name}")
        remove_tree(directory)
        if engine.layout.uid:
            with contextlib.suppress(OSError):  # others are there
                os.rmdir(os.path.dirname(directory))
    userns.remove(engine.layout.userns(cid))
