"""`load` and `import`: images out of archives and root file systems."""

from __future__ import annotations

import os
from collections.abc import Sequence

from ..content import ContentStore
from ..images import reference
from . import drivers, garbage, images
from .base import Engine, command


@command
async def load(engine: Engine, source: str, *, platform: str = "") -> list[str]:
    """All images of a docker-archive, an oci-archive or an OCI directory; `-` is standard input.

    Returns their names, or ids where they have none. Errors: NotFound, ImageError, StorageFull.
    """
    from .. import archives

    _permitted(source)
    driver = await drivers.storage_name(engine)
    content = ContentStore(engine.layout.blobs)
    async with garbage.none_left(engine), images.in_use(engine):
        fetched = await archives.load(source, content, wanted=platform)
        await images.add_all(engine, f"load {source}", driver, fetched)
    # An archive of docker's has no manifest: one was made, and that of an image which was here
    # already may be used no more.
    await garbage.sweep(engine)
    names: list[str] = []
    for image in fetched:
        names += image.names or (image.config_digest,)
    return names


def _permitted(source: str) -> None:
    """Ask policy.json. What an archive is shows only once it is read, so both kinds must pass.
    Error: UserError."""
    from ..registry import policy

    path = source if source == "-" else os.path.realpath(source)
    for transport in ("oci",) if os.path.isdir(path) else ("docker-archive", "oci-archive"):
        policy.check_file(transport, path)


@command
async def import_rootfs(
    engine: Engine,
    source: str,
    name: str,
    *,
    message: str = "",
    changes: Sequence[str] = (),
) -> str:
    """An image of one layer from the tar of a file system (a file, or `-`); returns its id.

    Errors: UserError (name, change), ImageError (no tar), StorageFull.
    """
    from .. import image_builder

    full = reference.local_name(name) if name else ""
    driver = await drivers.storage_name(engine)
    content = ContentStore(engine.layout.blobs)
    async with garbage.none_left(engine), images.in_use(engine):
        fetched = await image_builder.import_rootfs(
            source, content, name=full, message=message, changes=changes
        )
        ids = await images.add_all(engine, f"import {source}", driver, [fetched])
    return ids[0]
