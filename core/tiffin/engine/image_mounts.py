"""`image mount`, `image unmount`: the tree of an image, read-only where the driver mounts it."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import trio

from .. import ids, syscalls
from ..errors import Conflict
from ..events.mount import ImageMounted, ImageMountPlanned, ImageUnmounted
from ..store import queries
from . import drivers, images
from .base import Engine, Journal

MOUNTS = "SELECT * FROM image_mounts WHERE complete ORDER BY id"


async def mount(engine: Engine, given: str) -> str:
    """Mount an image's tree until `unmount`; returns its path. One that is mounted stays so."""
    async with images.in_use(engine):
        row = await images.need(engine, given)
        for there in await mounts(engine, row["id"]):
            await _make(engine, there["id"], there["driver"], there["layers"])  # after a reboot
            return str(there["path"])
        layers = tuple(layer["chain_id"] for layer in row["layers"])
        journal = engine.journal()
        identifier, path = await begin(engine, journal, row["id"], layers)
        await journal.write(f"mount/{identifier}", ImageMounted())
        return path


async def mounts(engine: Engine, image_id: str) -> list[queries.Row]:
    sql = "SELECT * FROM image_mounts WHERE complete AND image=? AND container=''"
    return await engine.store.rows(sql, (image_id,))


async def unmount(engine: Engine, given: str, *, force: bool = False) -> str:
    """Returns the image's id. Errors: NotFound, Conflict when it is not mounted."""
    row = await images.need(engine, given)
    found = await mounts(engine, row["id"])
    if not found and not force:
        raise Conflict(f"image {given} is not mounted")
    for there in found:
        await take_away(engine, engine.journal(), there["id"], there["driver"])
    return str(row["id"])


async def take_away(engine: Engine, journal: Journal, identifier: str, driver: str) -> None:
    with contextlib.suppress(FileNotFoundError):
        await engine.storage(driver).remove(identifier)
    await journal.write(f"mount/{identifier}", ImageUnmounted())


@asynccontextmanager
async def tree(engine: Engine, image_id: str, layers: tuple[str, ...]) -> AsyncIterator[str]:
    """Layers of an image, mounted for as long as this lasts; the path."""
    journal = engine.journal()
    async with images.in_use(engine):
        identifier, path = await begin(engine, journal, image_id, layers)
        try:
            yield path
        finally:
            with trio.CancelScope(shield=True):
                driver = await _driver(engine, layers)
                await take_away(engine, journal, identifier, driver)


async def begin(
    engine: Engine,
    journal: Journal,
    image_id: str,
    layers: tuple[str, ...],
    *,
    identifier: str = "",
    container: str = "",
    userns: str = "",
    writable: bool = False,
) -> tuple[str, str]:
    """Plan a mount and make it: (its id, the path). The caller says when it is made. With `userns`
    a driver that can shows the owners of the files as that maps them."""
    driver = await _driver(engine, layers)
    identifier = identifier or ids.new_id()
    path = engine.storage(driver).mount_path(identifier)
    planned = ImageMountPlanned(
        image_id=image_id, driver=driver, layers=layers, path=path, container=container
    )
    await journal.write(f"mount/{identifier}", planned)
    try:
        await _make(engine, identifier, driver, layers, userns=userns, writable=writable)
    except BaseException:  # a cancellation as well; raised again
        with trio.CancelScope(shield=True):
            await take_away(engine, journal, identifier, driver)
        raise
    return identifier, path


async def _make(
    engine: Engine,
    identifier: str,
    driver: str,
    layers: Sequence[str],
    *,
    userns: str = "",
    writable: bool = False,
) -> None:
    storage = engine.storage(driver)
    await storage.prepare(identifier, layers)
    if userns and getattr(storage, "maps_ids", False):
        path = await storage.mount(identifier, layers, userns=userns)
    else:
        path = await storage.mount(identifier, layers)
    if writable:
        return
    flags = syscalls.MS_REMOUNT | syscalls.MS_BIND | syscalls.MS_RDONLY
    with contextlib.suppress(OSError):  # no mount of its own: a copy, which nobody else sees
        syscalls.mount(None, path, None, flags)


async def _driver(engine: Engine, layers: tuple[str, ...]) -> str:
    """A storage driver that has all these layers."""
    have: dict[str, set[str]] = {}
    for row in await engine.store.rows("SELECT driver, chain_id FROM layers"):
        have.setdefault(row["driver"], set()).add(row["chain_id"])
    names = [name for name, chains in have.items() if chains.issuperset(layers)]
    return sorted(names)[0] if names else await drivers.storage_name(engine)
