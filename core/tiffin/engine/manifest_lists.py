"""Manifest lists: an index over images that are here, one for each platform, to be pushed."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import trio
from msgspec import Struct

from ..content import ContentStore
from ..errors import Conflict, NotFound, UserError
from ..events.manifest import ManifestListChanged, ManifestListPushed, ManifestListRemoved
from ..images import digest as digests
from ..images import manifest, reference
from ..store import queries
from . import images
from .base import Engine, command

if TYPE_CHECKING:
    from ..registry.auth import Credentials

FORMATS = {"oci": manifest.OCI_INDEX, "v2s2": manifest.DOCKER_LIST}
BY_NAME = "SELECT * FROM manifests WHERE name=?"


class Platform(Struct, frozen=True):
    """What `add` and `annotate` say of an entry; empty: what the image itself says."""

    architecture: str = ""
    os: str = ""
    variant: str = ""
    os_version: str = ""
    features: tuple[str, ...] = ()
    annotations: Mapping[str, str] = {}


def lock(engine: Engine) -> str:
    return f"{engine.layout.run}/locks/manifests"


async def find(engine: Engine, given: str) -> queries.Row:
    """By name. Errors: NotFound, UserError."""
    for name in images.candidates(given):
        found = await engine.store.rows(BY_NAME, (name,))
        if found:
            return found[0]
    raise NotFound(f"no such manifest list: {given}", hint="tiffin manifest create makes one")


def document(entries: Iterable[Mapping[str, Any]], media_type: str = manifest.OCI_INDEX) -> bytes:
    """The list as it is pushed: the same bytes for the same entries."""
    listed = [dict(entry) for entry in entries]
    whole = {"schemaVersion": 2, "mediaType": media_type, "manifests": listed}
    return json.dumps(whole, indent=3, ensure_ascii=True).encode()


def identifier(entries: Iterable[Mapping[str, Any]]) -> str:
    return digests.of(document(entries)).removeprefix("sha256:")


async def _write(engine: Engine, name: str, entries: list[dict[str, Any]]) -> str:
    event = ManifestListChanged(manifests=tuple(entries))
    await engine.journal().write(f"manifest/{name}", event)
    return identifier(entries)


@command
async def create(
    engine: Engine, given: str, pull: images.Pull, names: Iterable[str], *, amend: bool = False
) -> str:
    """A list of these images; returns its id. Errors: Conflict for a name in use, and of `add`."""
    name = reference.local_name(given)
    entries = [await _entry(engine, image, pull, Platform()) for image in names]
    async with engine.locks.named(lock(engine)):
        there = await engine.store.rows(BY_NAME, (name,))
        if there and not amend:
            raise Conflict(f"there is a manifest list {name}", hint="--amend adds to it")
        if await engine.store.rows(queries.IMAGE_BY_TAG, (name,)):
            raise Conflict(f"{name} is the name of an image", hint="choose another")
        kept: list[dict[str, Any]] = there[0]["manifests"] if there else []
        for entry in entries:
            kept = [*(one for one in kept if one["digest"] != entry["digest"]), entry]
        return await _write(engine, name, kept)


@command
async def add(engine: Engine, given: str, image: str, pull: images.Pull, told: Platform) -> str:
    """An image more in a list; one that is in it is replaced. Returns the list's id. Errors:
    NotFound, and those of a pull."""
    entry = await _entry(engine, image, pull, told)
    async with engine.locks.named(lock(engine)):
        row = await find(engine, given)
        kept = [one for one in row["manifests"] if one["digest"] != entry["digest"]]
        return await _write(engine, row["name"], [*kept, entry])


async def _entry(engine: Engine, image: str, pull: images.Pull, told: Platform) -> dict[str, Any]:
    """The descriptor of an image, which is fetched when it is not here."""
    given = image.removeprefix("docker://").removeprefix("containers-storage:")
    row = await images.find(engine, given)
    if row is None:
        from . import drivers

        driver = await drivers.storage_name(engine)
        identity = await images.fetch(engine, given, driver=driver, pull=pull)
        row = (await engine.store.rows("SELECT * FROM images WHERE id=?", (identity,)))[0]
    content = ContentStore(engine.layout.blobs)
    size = len(content.read(row["manifest"], manifest.MAX_MANIFEST))
    config = images.read_config(engine, row["id"])
    platform = {"architecture": config.architecture, "os": config.os}
    if config.variant:
        platform["variant"] = config.variant
    entry: dict[str, Any] = {
        "mediaType": row["media_type"],
        "size": size,
        "digest": row["manifest"],
        "platform": platform,
    }
    return _told(entry, told)


def _told(entry: dict[str, Any], told: Platform) -> dict[str, Any]:
    """The entry with what was said of it."""
    platform = dict(entry["platform"])
    for key, value in (
        ("architecture", told.architecture),
        ("os", told.os),
        ("variant", told.variant),
        ("os.version", told.os_version),
        ("features", list(told.features)),
    ):
        if value:
            platform[key] = value
    changed = {**entry, "platform": platform}
    annotations = {**entry.get("annotations", {}), **told.annotations}
    return {**changed, "annotations": annotations} if annotations else changed


async def _index(engine: Engine, row: queries.Row, image: str) -> int:
    """Which entry is meant: by digest, or an image that is here. Errors: NotFound, UserError."""
    wanted = image if image.startswith("sha256:") else ""
    if not wanted:
        found = await images.find(engine, image)
        wanted = found["manifest"] if found else image.partition("@")[2]
    for number, entry in enumerate(row["manifests"]):
        if entry["digest"] == wanted:
            return number
    raise NotFound(f"manifest list {row['name']} has no {image}")


async def annotate(engine: Engine, given: str, image: str, told: Platform) -> str:
    """Say more of an entry. Returns the list's id. Error: NotFound."""
    async with engine.locks.named(lock(engine)):
        row = await find(engine, given)
        number = await _index(engine, row, image)
        entries = list(row["manifests"])
        entries[number] = _told(entries[number], told)
        return await _write(engine, row["name"], entries)


async def take_out(engine: Engine, given: str, image: str) -> str:
    """An image less in a list. Returns the list's id. Error: NotFound."""
    async with engine.locks.named(lock(engine)):
        row = await find(engine, given)
        number = await _index(engine, row, image)
        entries = [one for place, one in enumerate(row["manifests"]) if place != number]
        return await _write(engine, row["name"], entries)


async def remove(engine: Engine, given: str) -> str:
    """The list goes, its images stay. Returns its name. Error: NotFound."""
    async with engine.locks.named(lock(engine)):
        row = await find(engine, given)
        await engine.journal().write(f"manifest/{row['name']}", ManifestListRemoved())
        return str(row["name"])


@command
async def push(
    engine: Engine,
    given: str,
    destination: str = "",
    *,
    tls_verify: bool = True,
    format: str = "oci",
    everything: bool = True,
    credentials: Credentials | None = None,
) -> str:
    """The images of a list, and the list, to a registry; returns the list's digest there.

    Errors: NotFound (an image is here no longer), UserError, RegistryError.
    """
    from ..registry import registries
    from ..registry.pusher import Pusher

    if format not in FORMATS:
        raise UserError(f"--format {format!r} is not known", hint=", ".join(FORMATS))
    row = await find(engine, given)
    target = reference.parse(destination.removeprefix("docker://") or row["name"])
    if target.digest:
        raise UserError(f"{target}: a tag is pushed, not a digest")
    content = ContentStore(engine.layout.blobs)
    place = registries.endpoints(target, registries.load(), push=True)[0]
    async with (
        images.in_use(engine),
        Pusher(
            place.registry,
            place.repository,
            tls_verify=tls_verify and not place.insecure,
            credentials=credentials,
        ) as registry,
    ):
        for entry in row["manifests"] if everything else ():
            data = await trio.to_thread.run_sync(
                content.read, entry["digest"], manifest.MAX_MANIFEST
            )
            inner = manifest.parse(data, entry["mediaType"])
            assert isinstance(inner, manifest.Manifest)
            for blob in (*inner.layers, inner.config):
                await registry.push_blob(blob.digest, content)
            await registry.push_manifest(entry["digest"], data, entry["mediaType"])
        listed = document(row["manifests"], FORMATS[format])
        await registry.push_manifest(target.version, listed, FORMATS[format])
    digest = digests.of(listed)
    event = ManifestListPushed(destination=str(target), digest=digest)
    await engine.journal().write(f"manifest/{row['name']}", event)
    return digest
