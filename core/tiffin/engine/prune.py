"""`prune`: removing what nobody uses. What comes into use meanwhile stays."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import Struct

from ..errors import Conflict, NotFound
from . import dependencies, remove, usage
from . import images as registered
from .base import Engine
from .hold import hold

STOPPED = ("created", "exited")


class Pruned(Struct, frozen=True):
    removed: tuple[str, ...]
    """Ids or names."""
    reclaimed: int = 0
    """Bytes."""


async def containers(engine: Engine, ids: Sequence[str]) -> Pruned:
    """Remove those of these containers that do not run."""
    gone, reclaimed = [], 0
    for cid in reversed(ids):  # who needs another was made after it
        try:
            async with hold(engine, cid) as held:
                if held.state not in STOPPED:
                    continue
                await dependencies.need_none(engine, held.row)
                size = await usage.container_size(engine, held.row)
                await remove.remove_held(held)
        except (NotFound, Conflict):
            continue  # gone, or others need it
        gone.append(cid)
        reclaimed += size
    return Pruned(tuple(gone), reclaimed)


async def images(engine: Engine, ids: Sequence[str]) -> Pruned:
    """Remove those of these images that no container uses."""
    gone = []
    before = await _layers(engine)
    for image_id in ids:
        try:
            await registered.remove(engine, image_id, every_name=True)
        except (NotFound, Conflict):
            continue
        gone.append(image_id.removeprefix("sha256:"))
    return Pruned(tuple(gone), before - await _layers(engine))


async def _layers(engine: Engine) -> int:
    found = await engine.store.rows("SELECT coalesce(sum(size), 0) AS size FROM layers")
    return int(found[0]["size"])
