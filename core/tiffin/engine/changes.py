"""`diff`: what a container has changed over its image, or an image over the layers below."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager

import trio

from ..errors import NotFound
from ..hooks import Change, IdMaps, layer_tools
from . import image_mounts, images, rootfs
from .base import Engine
from .hold import hold

OURS = frozenset(
    (
        "/dev", "/etc/hostname", "/etc/hosts", "/etc/resolv.conf", "/etc/mtab", "/proc", "/run",
        "/run/.containerenv", "/run/secrets", "/sys",
    )
)  # fmt: skip
"""What a start makes to mount something on: no change of the user's. podman leaves it out too."""


async def of(engine: Engine, given: str, kind: str = "any") -> list[Change]:
    """Changes of a container (`kind` "container") or an image ("image"), sorted by path.
    Errors: NotFound, DriverError."""
    if kind != "image":
        try:
            return await _container(engine, given)
        except NotFound:
            if kind == "container":
                raise
    row = await images.find(engine, given)
    if row is None:
        noun = "image" if kind == "image" else "container or image"
        raise NotFound(f"no such {noun}: {given}")
    layers = tuple(layer["chain_id"] for layer in row["layers"])
    async with (
        image_mounts.tree(engine, row["id"], layers[:-1]) as below,
        image_mounts.tree(engine, row["id"], layers) as tree,
    ):
        return theirs(await _compare(below, tree))


def theirs(found: Sequence[Change]) -> list[Change]:
    """Without what is ours, unless something of theirs lies in it."""
    mine = [change.path for change in found if change.path not in OURS]
    return [
        change
        for change in found
        if change.path not in OURS or any(path.startswith(f"{change.path}/") for path in mine)
    ]


async def _container(engine: Engine, given: str) -> list[Change]:
    async with hold(engine, given) as held:
        row = held.row
        found: Sequence[Change] = await engine.storage(row["storage_driver"]).changes(
            held.id, row["layers"]
        )
    return theirs(found)


async def between(engine: Engine, below: str, given: str) -> list[Change]:
    """What is different in `given` from `below`. Error: NotFound."""
    async with _any(engine, below) as (old, first), _any(engine, given) as (new, second):
        owners = _seen_inside(first), _seen_inside(second)
        compare = layer_tools().tree_changes
        return theirs(await trio.to_thread.run_sync(compare, old, new, None, owners))


async def _compare(old: str, new: str) -> list[Change]:
    found: list[Change] = await trio.to_thread.run_sync(layer_tools().tree_changes, old, new)
    return found


def _seen_inside(maps: IdMaps) -> Callable[[int, int], tuple[int, int]]:
    from ..copying.tree import inside

    return lambda uid, gid: inside(maps, uid, gid)


@asynccontextmanager
async def _any(engine: Engine, given: str) -> AsyncIterator[tuple[str, IdMaps]]:
    """The tree of a container or an image, and the ids of the container when its files are seen
    from outside."""
    from .files import seen

    try:
        cid = (await engine.container(given))["id"]
    except NotFound:
        row = await images.find(engine, given)
        if row is None:
            raise NotFound(f"no such container or image: {given}") from None
        layers = tuple(layer["chain_id"] for layer in row["layers"])
        async with image_mounts.tree(engine, row["id"], layers) as path:
            yield path, IdMaps()
        return
    async with seen(engine, cid) as view:
        row = view.held.row
        yield rootfs.path(engine, row) if row["pid"] else view.path, view.maps
