"""`save`: images into an archive or a directory."""

from __future__ import annotations

from collections.abc import Sequence

import trio

from .. import image_archive
from ..content import ContentStore
from ..image_archive import Saved
from . import images
from .base import Engine


async def choose(engine: Engine, given: Sequence[str]) -> list[Saved]:
    """The images, each once, with the names they were asked by. Errors: NotFound, UserError."""
    found: dict[str, Saved] = {}
    for text in given:
        row = await images.need(engine, text)
        tags = await engine.store.rows("SELECT name FROM tags WHERE image=?", (row["id"],))
        named = [name for name in images.candidates(text) if name in {t["name"] for t in tags}]
        before = found[row["id"]].names if row["id"] in found else ()
        names = tuple(dict.fromkeys((*before, *named[:1])))
        found[row["id"]] = Saved(row["manifest"], row["media_type"], names)
    return list(found.values())


async def save(
    engine: Engine, chosen: Sequence[Saved], kind: str, *, out: int = -1, directory: str = ""
) -> None:
    """Write them: archives to the descriptor `out`, which is closed. Errors: NotFound, OSError."""
    content = ContentStore(engine.layout.blobs)
    async with images.in_use(engine):
        if kind == "docker-dir":
            await trio.to_thread.run_sync(
                image_archive.docker_directory,
                content,
                chosen[0],
                directory,
                abandon_on_cancel=True,
            )
            return
        if kind == "oci-dir":
            await trio.to_thread.run_sync(
                image_archive.oci_directory, content, chosen, directory, abandon_on_cancel=True
            )
            return
        write = image_archive.oci_archive if kind == "oci-archive" else image_archive.docker_archive
        await trio.to_thread.run_sync(write, content, chosen, out, abandon_on_cancel=True)
