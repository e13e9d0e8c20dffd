"""`push`: an image to a registry, every blob as it is here."""

from __future__ import annotations

from typing import TYPE_CHECKING

import trio
from msgspec import Struct

from ..content import ContentStore
from ..errors import UserError
from ..events.image import ImagePushed
from ..images import manifest, reference
from ..transfer import AT_ONCE, Progress, Silent, first_failure
from . import images
from .base import Engine

if TYPE_CHECKING:
    from ..registry.auth import Credentials


class Pushed(Struct, frozen=True):
    destination: str
    digest: str
    """Of the manifest."""


async def push(
    engine: Engine,
    given: str,
    destination: str = "",
    *,
    tls_verify: bool = True,
    progress: Progress | None = None,
    credentials: Credentials | None = None,
) -> Pushed:
    """Without a destination, to where the image's own name says.

    Errors: NotFound, UserError, RegistryError.
    """
    from ..registry import registries
    from ..registry.pusher import EXISTS, SENT, Pusher  # 30 ms: http.client

    told = progress or Silent()
    async with images.in_use(engine):
        row = await images.need(engine, given)
        target = reference.parse(destination or await _name(engine, row["id"], given))
        if target.digest:
            raise UserError(f"{target}: a tag is pushed, not a digest")
        content = ContentStore(engine.layout.blobs)
        data = content.read(row["manifest"], manifest.MAX_MANIFEST)
        document = manifest.parse(data, row["media_type"])
        assert isinstance(document, manifest.Manifest)
        sizes = {blob.digest: blob.size for blob in (*document.layers, document.config)}
        known = await _repositories(engine, target)
        limit = trio.CapacityLimiter(AT_ONCE)
        place = registries.endpoints(target, registries.load(), push=True)[0]
        async with Pusher(
            place.registry,
            place.repository,
            tls_verify=tls_verify and not place.insecure,
            credentials=credentials,
        ) as registry:

            async def send(digest: str) -> None:
                async with limit:
                    how = await registry.push_blob(digest, content, known.get(digest, ()))
                told.advanced(digest, sizes[digest] if how == SENT else 0)
                told.finished(digest, "exists" if how == EXISTS else how)

            for digest, size in sizes.items():
                told.started(digest, size)
            try:
                async with trio.open_nursery() as nursery:
                    for digest in sizes:
                        nursery.start_soon(send, digest)
            except BaseExceptionGroup as group:
                raise first_failure(group) from None
            await registry.push_manifest(target.version, data, row["media_type"])
    event = ImagePushed(destination=str(target), digest=row["manifest"])
    await engine.journal().write(f"image/{row['id']}", event)
    return Pushed(str(target), row["manifest"])


async def _name(engine: Engine, image_id: str, given: str) -> str:
    tags = await engine.store.rows("SELECT name FROM tags WHERE image=? ORDER BY name", (image_id,))
    names = [tag["name"] for tag in tags]
    for name in images.candidates(given):
        if name in names:
            return name
    if len(names) != 1:
        raise UserError(f"push {given}: where to?", hint="name the destination")
    return str(names[0])


async def _repositories(engine: Engine, target: reference.Reference) -> dict[str, list[str]]:
    """For each blob here, other repositories of that registry which should have it as well: those
    that images with this blob are named after."""
    known: dict[str, list[str]] = {}
    rows = await engine.store.rows(
        "SELECT tags.name, images.layers FROM tags JOIN images ON images.id=tags.image"
    )
    for row in rows:
        other = reference.parse(row["name"])
        if other.registry == target.registry and other.repository != target.repository:
            for layer in row["layers"]:
                known.setdefault(layer["digest"], []).append(other.repository)
    return known
