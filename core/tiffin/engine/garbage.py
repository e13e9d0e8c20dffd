"""Blobs and unpacked layers that nothing uses: deleted with an image, or after a failed transfer.

Whoever adds or uses images holds the lock shared; what deletes holds it alone.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import trio

from ..content import ContentStore
from . import layers as unpacked
from .base import Engine, Journal
from .locks import try_lock


def lock(engine: Engine) -> str:
    return f"{engine.layout.run}/locks/images"


@asynccontextmanager
async def none_left(engine: Engine) -> AsyncIterator[None]:
    """When what is inside fails, what it left is deleted; unless others are at work with images:
    then the next that fails, or `system recover`, does it."""
    try:
        yield
    except BaseException:  # a cancellation as well; raised again
        with trio.CancelScope(shield=True):
            await sweep(engine)
        raise


async def sweep(engine: Engine) -> None:
    """`collect`, unless others are at work with images."""
    fd = try_lock(lock(engine))
    if fd is not None:
        try:
            await collect(engine, engine.journal())
        finally:
            os.close(fd)


async def collect(engine: Engine, journal: Journal) -> None:
    """Delete every blob and every unpacked layer that no image and no container refers to. The
    caller holds the lock alone. Parts of downloads stay, to be taken up."""
    kept_blobs: set[str] = set()
    kept_layers: set[str] = set()
    for image in await engine.store.rows("SELECT * FROM images"):
        kept_blobs |= {image["id"], image["manifest"], image["index_digest"]}
        kept_blobs |= {layer["digest"] for layer in image["layers"]}
        kept_layers |= {layer["chain_id"] for layer in image["layers"]}
    for container in await engine.store.rows("SELECT image_id, layers FROM containers"):
        kept_blobs.add(container["image_id"])
        kept_layers |= set(container["layers"])
    blobs = [d for d in ContentStore(engine.layout.blobs).digests() if d not in kept_blobs]
    have = await engine.store.rows("SELECT driver, chain_id FROM layers")
    gone = [(h["driver"], h["chain_id"]) for h in have if h["chain_id"] not in kept_layers]
    await delete(engine, journal, blobs, gone)


async def delete(
    engine: Engine, journal: Journal, blobs: Sequence[str], gone: Sequence[tuple[str, str]]
) -> None:
    """Delete blobs and unpacked layers; may be repeated."""
    for driver, chain_id in gone:
        await unpacked.remove(engine, journal, driver, chain_id)
    content = ContentStore(engine.layout.blobs)
    for digest in blobs:
        content.delete(digest)
