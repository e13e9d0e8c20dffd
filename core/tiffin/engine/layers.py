"""Unpacked layers: keyed by chain id, shared by images, one copy for each storage driver."""

from __future__ import annotations

import trio

from ..content import ContentStore
from ..errors import ImageError
from ..events.image import LayerRemoved, LayerUnpacked, LayerUnpackFailed, LayerUnpackPlanned
from ..hooks import LayerBlob, LayerUsage
from ..transfer import Layer
from .base import Engine, Journal

AT_ONCE = 3
"""Layers unpacked at the same time; each is a process of its own."""


def stream(driver: str, chain_id: str) -> str:
    return f"layer/{driver}/{chain_id.removeprefix('sha256:')}"


class Unpacker:
    """Unpacks the layers of one image as their blobs become complete.

    Drivers that do not read a layer's parents get several layers at once, others in order.
    """

    def __init__(self, engine: Engine, journal: Journal, driver: str, limit: int = AT_ONCE) -> None:
        self.engine = engine
        self.journal = journal
        self.driver = engine.storage(driver)
        self.name = driver
        self.content = ContentStore(engine.layout.blobs)
        self._limit = trio.CapacityLimiter(1 if self.driver.needs_parents() else limit)
        self._finished: dict[str, trio.Event] = {}
        self._pairs: set[tuple[str, str]] | None = None
        self.usage: dict[str, LayerUsage] = {}

    async def unpack(self, layer: Layer, parents: tuple[str, ...]) -> None:
        """Unpack one layer unless it is there. Errors: ImageError, StorageFull, DriverError."""
        done = self._finished.setdefault(layer.chain_id, trio.Event())
        if self.driver.needs_parents() and parents:
            await self._finished.setdefault(parents[-1], trio.Event()).wait()
        async with self._limit:
            lock = f"{self.engine.layout.run}/locks/layer-{self.name}-{layer.chain_id[7:]}"
            async with self.engine.locks.named(lock):
                await self._unpack_locked(layer, parents)
        done.set()

    async def _unpack_locked(self, layer: Layer, parents: tuple[str, ...]) -> None:
        known = await self.engine.store.rows(
            "SELECT size, entries FROM layers WHERE driver=? AND chain_id=?",
            (self.name, layer.chain_id),
        )
        if known and await self.driver.has_layer(layer.chain_id):
            await self._check(layer)
            self.usage[layer.chain_id] = LayerUsage(**known[0])
            return
        where = stream(self.name, layer.chain_id)
        planned = LayerUnpackPlanned(driver=self.name, chain_id=layer.chain_id, blob=layer.digest)
        await self.journal.write(where, planned)
        blob = LayerBlob(
            path=self.content.path(layer.digest),
            compression=layer.compression,
            diff_id=layer.diff_id,
        )
        try:
            usage: LayerUsage = await self.driver.unpack(layer.chain_id, parents, blob)
        except BaseException as error:
            with trio.CancelScope(shield=True):
                await self.driver.remove_layer(layer.chain_id)
                why = str(error) or type(error).__name__
                await self.journal.write(where, LayerUnpackFailed(error=why))
            raise
        self.usage[layer.chain_id] = usage
        unpacked = LayerUnpacked(
            driver=self.name, chain_id=layer.chain_id, size=usage.size, entries=usage.entries
        )
        with trio.CancelScope(shield=True):  # it is there: that must be told
            await self.journal.write(where, unpacked)

    async def _check(self, layer: Layer) -> None:
        """A layer that is here already is another image's as well: whoever names it must bring it,
        or anybody could look into the images of others. Error: ImageError."""
        if layer.diff_id == layer.digest or (layer.digest, layer.diff_id) in await self._brought():
            return

        from ..layer.stream import Limits, open_blob  # hashlib: 4 ms

        def found() -> str:
            path = self.content.path(layer.digest)
            return open_blob(path, layer.compression, Limits()).drain()

        if await trio.to_thread.run_sync(found, abandon_on_cancel=True) != layer.diff_id:
            raise ImageError(f"layer {layer.digest[7:19]} is not what its image says")

    async def _brought(self) -> set[tuple[str, str]]:
        """(blob, diff id) of all layers of the images here: those were compared then."""
        if self._pairs is None:
            rows = await self.engine.store.rows("SELECT layers FROM images")
            self._pairs = {(one["digest"], one["diff_id"]) for row in rows for one in row["layers"]}
        return self._pairs


async def ensure(
    engine: Engine,
    journal: Journal,
    driver: str,
    layers: tuple[Layer, ...],
    *,
    fresh: bool = False,
) -> None:
    """Unpack what this driver does not have yet of an image whose blobs are all here. `fresh`: the
    image has just come, and the blobs of what is unpacked already are compared, too."""
    rows = await engine.store.rows("SELECT chain_id FROM layers WHERE driver=?", (driver,))
    have = {row["chain_id"] for row in rows}
    if all(layer.chain_id in have for layer in layers) and not fresh:
        return
    unpacker = Unpacker(engine, journal, driver)
    content = unpacker.content
    for layer in layers:
        if layer.chain_id not in have and not content.has(layer.digest):
            raise ImageError(f"layer {layer.digest} is missing", hint="pull the image again")
    async with trio.open_nursery() as nursery:
        for position, layer in enumerate(layers):
            parents = tuple(below.chain_id for below in layers[:position])
            nursery.start_soon(unpacker.unpack, layer, parents)


async def remove(engine: Engine, journal: Journal, driver: str, chain_id: str) -> None:
    """Delete an unpacked layer that nothing uses."""
    lock = f"{engine.layout.run}/locks/layer-{driver}-{chain_id[7:]}"
    async with engine.locks.named(lock):
        await engine.storage(driver).remove_layer(chain_id)
        event = LayerRemoved(driver=driver, chain_id=chain_id)
        await journal.write(stream(driver, chain_id), event)
