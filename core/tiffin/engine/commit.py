"""`commit`: the copy-on-write layer of a container saved as a new image."""

from __future__ import annotations

import os
import tempfile

import trio
from msgspec import Struct

from ..content import ContentStore
from ..events.container import Committed
from ..images import reference
from . import images
from .base import Engine
from .hold import Held, hold


class CommitOptions(Struct, frozen=True):
    author: str = ""
    message: str = ""
    changes: tuple[str, ...] = ()
    """Dockerfile instructions: CMD, ENTRYPOINT, ENV, EXPOSE, LABEL, USER, VOLUME, WORKDIR, ..."""
    pause: bool = True
    squash: bool = False
    """One layer of all that there is, not one more."""
    docker: bool = False
    """Docker's media types instead of OCI's."""


async def commit(engine: Engine, given: str, name: str, options: CommitOptions) -> str:
    """Save a container as an image; returns the image's id. A running one is paused meanwhile.

    Errors: NotFound, UserError (a bad name or change), StorageFull.
    """
    from .. import image_builder

    full = reference.local_name(name) if name else ""
    async with hold(engine, given) as held:
        held.need("commit", "created", "initialized", "running", "paused", "exited")
        row = held.row
        base_config = images.read_config(engine, row["image_id"])
        content = ContentStore(engine.layout.blobs)
        runtime = engine.runtime(row["runtime"])
        freezer = row["cgroup"].strip("/")  # an ordinary user may have none
        paused = options.pause and bool(freezer) and held.state == "running"
        os.makedirs(content.root, mode=0o700, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=content.root, prefix="commit-") as temporary:
            layer = f"{temporary}/layer.tar"
            if paused:
                await runtime.pause(held.id)
            try:
                if options.squash:
                    await _whole(held, layer)
                else:
                    await engine.storage(row["storage_driver"]).diff(held.id, row["layers"], layer)
            finally:
                if paused:
                    await runtime.resume(held.id)
            base = (await engine.store.rows("SELECT * FROM images WHERE id=?", (row["image_id"],)))[
                0
            ]
            fetched = await image_builder.commit(
                content, base_config, base, layer, full,
                author=options.author, message=options.message, changes=options.changes,
                squash=options.squash, docker=options.docker,
            )  # fmt: skip
        ids = await images.add_all(
            engine, f"commit {row['name']}", row["storage_driver"], [fetched]
        )
        event = Committed(image_id=ids[0], image_name=full)
        await held.journal.write(held.stream, event)
        return ids[0]


async def _whole(held: Held, layer: str) -> None:
    """The container's file system as one layer, into a new file."""
    from ..copying.streams import export
    from ..layer.walk import open_tree
    from .files import rooted

    async with rooted(held) as (path, maps):
        root = open_tree(path)
        try:
            out = os.open(layer, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            await trio.to_thread.run_sync(export, root, out, maps)
        finally:
            os.close(root)
