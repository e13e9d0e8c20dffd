"""Blobs of images, beside their digests. A damaged one is fetched again from where it came."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import trio

from ...content import PIECE, ContentStore, canceller
from ...errors import Conflict, NotFound, RegistryError, TiffinError
from ...images import reference
from ...images.reference import Reference
from ...store import queries
from .. import garbage, images
from ..base import Engine
from .damage import Busy, Damage

SOURCE = (
    "SELECT data FROM events WHERE stream=? AND type='image.added' AND data IS NOT NULL "
    "ORDER BY seq DESC LIMIT 1"
)


def parts(image: queries.Row) -> dict[str, tuple[str, int]]:
    """{digest: (what it is, bytes or -1)} of all blobs of an image; what names others first."""
    found = {layer["digest"]: ("layer", layer["size"]) for layer in image["layers"]}
    above = {image["manifest"]: ("manifest", -1), image["id"]: ("config", -1)}
    if image["index_digest"]:
        above = {image["index_digest"]: ("index", -1), **above}
    return above | found


async def look(engine: Engine, quick: bool) -> list[Damage]:
    content = ContentStore(engine.layout.blobs)
    on_disk = content.digests()
    known: set[str] = set()
    found: dict[str, Damage] = {}
    for image in await engine.store.rows("SELECT * FROM images ORDER BY added"):
        for digest, (what, size) in parts(image).items():
            known.add(digest)
            if digest in found:
                continue
            problem = await trio.to_thread.run_sync(problem_of, content, digest, size, quick)
            if problem and await _is_there(engine, image["id"]):
                subject = f"{what} {digest}"
                found[digest] = Damage("blob", subject, problem, image["id"], digest)
    for row in await engine.store.rows("SELECT image_id FROM containers"):
        known.add(row["image_id"])
    with Busy(garbage.lock(engine)) as busy:
        if not busy:  # else they may be of an image that is on its way
            for digest in sorted(set(on_disk) - known):
                if content.has(digest):
                    found[digest] = Damage("stray-blob", f"blob {digest}", "no image has it")
    return list(found.values())


async def _is_there(engine: Engine, image_id: str) -> bool:
    return bool(await engine.store.rows("SELECT id FROM images WHERE id=?", (image_id,)))


def problem_of(content: ContentStore, digest: str, size: int, quick: bool) -> str:
    """What is wrong with a blob, or ""."""
    try:
        with content.open(digest) as file:
            length = os.fstat(file.fileno()).st_size
            if size >= 0 and length != size:
                return f"it has {length} bytes, not {size}"
            if quick:
                return ""
            import hashlib

            check_cancelled, hasher = canceller(), hashlib.sha256()
            while piece := file.read(PIECE):
                check_cancelled()
                hasher.update(piece)
    except NotFound:
        return "it is missing"
    except OSError as error:
        return f"it cannot be read: {error.strerror}"
    return "" if f"sha256:{hasher.hexdigest()}" == digest else "its content is another"


async def mend(engine: Engine, damage: Damage, force: bool) -> str:
    """Errors: whatever kept the blob from being fetched; Conflict when its image cannot be had
    again and is in use."""
    content = ContentStore(engine.layout.blobs)
    if damage.kind == "stray-blob":
        await garbage.sweep(engine)
        return "deleted"
    image = await images.need(engine, damage.key)
    digest = damage.detail
    places = await _places(engine, image)
    failures = []
    async with images.in_use(engine):
        for place in places:
            with _aside(content, digest) as put_back:
                try:
                    await _fetch(content, image, digest, place)
                except TiffinError as error:
                    failures.append(f"{place}: {error}")
                    put_back.append(True)
                    continue
            if not await trio.to_thread.run_sync(problem_of, content, digest, -1, False):
                return f"fetched again from {place}"
    if failures and not force and any(isinstance(place, Reference) for place in places):
        raise RegistryError(failures[0], hint="try again later, or with --force remove the image")
    name = image["id"][7:19]
    tags = await engine.store.rows("SELECT name FROM tags WHERE image=?", (image["id"],))
    name = tags[0]["name"] if tags else name
    try:
        await images.remove(engine, image["id"], force=force, every_name=True)
    except Conflict as error:
        hint = "save what you need of it, then use --force: it goes with its containers"
        raise Conflict(f"image {name} cannot be had again: {error.what}", hint=hint) from None
    return f"image {name} cannot be had again, and was removed"


@contextmanager
def _aside(content: ContentStore, digest: str) -> Iterator[list[bool]]:
    """The damaged blob out of the way, where its true one is to come. It comes back when something
    is put into the list, or an error passes: part of a blob is better than none."""
    path = content.path(digest)
    kept = f"{content.root}/partial/damaged-{digest[7:]}"
    put_back: list[bool] = []
    there = os.path.exists(path)
    if there:
        os.makedirs(os.path.dirname(kept), mode=0o700, exist_ok=True)
        os.replace(path, kept)
    try:
        yield put_back
    except BaseException:  # a cancellation as well: what was moved aside comes back; raised again
        put_back.append(True)
        raise
    finally:
        if there:
            if put_back and not os.path.exists(path):
                os.replace(kept, path)
            else:
                os.unlink(kept)


async def _places(engine: Engine, image: queries.Row) -> list[Reference | str]:
    """Where the image may be had again: where it came from, then what its names say."""
    import json

    given: list[str] = []
    for row in await engine.store.rows(SOURCE, (f"image/{image['id']}",)):
        data = row["data"]
        source = (json.loads(data) if isinstance(data, str) else data).get("source", "")
        if source.startswith(("pull ", images.EMBEDDED)):
            given.append(source.removeprefix("pull "))
    tags = await engine.store.rows("SELECT name FROM tags WHERE image=?", (image["id"],))
    given += [tag["name"] for tag in tags if not tag["name"].startswith("localhost/")]
    places: dict[Reference | str, None] = {}
    for text in given:
        if text.startswith(images.EMBEDDED):
            places[text] = None
            continue
        named = reference.parse(text)
        places[Reference(named.registry, named.repository, digest=image["manifest"])] = None
    return list(places)


async def _fetch(
    content: ContentStore, image: queries.Row, digest: str, place: Reference | str
) -> None:
    """One blob of an image. Errors: NotFound, RegistryError, ImageError, StorageFull."""
    if isinstance(place, str):
        from ... import embedded

        await trio.to_thread.run_sync(embedded.make, place, content)
        return
    from ...registry.client import Registry

    what, size = parts(image)[digest]
    async with Registry(place.registry, place.repository) as registry:
        if what == "layer":
            await registry.blob(digest, size, content)
            return
        if what == "config":
            from ...images import manifest

            document = manifest.parse(content.read(image["manifest"]), image["media_type"])
            assert isinstance(document, manifest.Manifest)
            data = await registry.small(digest, document.config.size)
        else:
            data, _ = await registry.manifest(digest)
        await trio.to_thread.run_sync(content.put, data)
