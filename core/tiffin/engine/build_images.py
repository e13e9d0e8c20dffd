"""The images of a build's steps: found in the cache, composed, registered, squashed."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
import trio
from msgspec import Struct

from .. import image_builder
from ..build import keys
from ..content import ContentStore
from ..events.image import ImageStep, ImageTagged
from ..images import compose, digest, manifest
from ..images.manifest import DOCKER_CONFIG, DOCKER_MANIFEST, OCI_CONFIG, OCI_MANIFEST
from ..images.platform import Platform
from ..store import queries
from ..transfer import Fetched, Layer
from . import image_mounts, images
from . import layers as unpacked
from .base import Engine

CACHED = (
    "SELECT images.* FROM image_steps JOIN images ON images.id=image WHERE key=? "
    "ORDER BY seq DESC LIMIT 1"
)


class Tip(Struct, frozen=True):
    """The image that a stage has come to."""

    id: str
    document: Mapping[str, Any]
    """Its config blob."""
    layers: tuple[Layer, ...]

    @property
    def settings(self) -> Mapping[str, Any]:
        return self.document.get("config") or {}

    @property
    def chain(self) -> tuple[str, ...]:
        return tuple(layer.chain_id for layer in self.layers)


class Draft(Struct, frozen=True):
    """A step's image that is not registered yet."""

    tip: Tip
    data: bytes
    """The config blob."""
    key: str
    parent: str


def tip_of(engine: Engine, row: queries.Row) -> Tip:
    """Errors: NotFound, Corrupt."""
    document = ContentStore(engine.layout.blobs).read_json(row["id"])
    layers = tuple(msgspec.convert(layer, Layer) for layer in row["layers"])
    return Tip(row["id"], document, layers)


async def cached(engine: Engine, driver: str, key: str) -> Tip | None:
    """What an earlier build made of the same step; unpacked where this driver lacks it."""
    rows = await engine.store.rows(CACHED, (key,))
    if not rows:
        return None
    tip = tip_of(engine, rows[0])
    await unpacked.ensure(engine, engine.journal(), driver, tip.layers)
    return tip


def scratch(platform: Platform, created: int) -> Draft:
    """An image without layers, for FROM scratch: always the same, but for --timestamp."""
    document: dict[str, Any] = {
        "architecture": platform.architecture,
        "os": platform.os,
        "created": compose.timestamp(created),
        "config": {},
        "rootfs": {"type": "layers", "diff_ids": []},
    }
    if platform.variant:
        document["variant"] = platform.variant
    data = msgspec.json.encode(document, order="sorted")
    key = keys.key("", "FROM scratch", image=digest.of(data))
    return Draft(Tip(digest.of(data), document, ()), data, key, "")


def draft(
    parent: Tip,
    key: str,
    *,
    settings: Mapping[str, Any],
    created: int,
    created_by: str,
    author: str = "",
    layer: Layer | None = None,
) -> Draft:
    """The image after a step on `parent`: with other settings, or one layer more."""
    data = compose.config(
        parent.document,
        settings=settings,
        diff_id="" if layer is None else layer.diff_id,
        created=created,
        created_by=created_by,
        author=author,
    )
    layers = parent.layers if layer is None else (*parent.layers, layer)
    return Draft(Tip(digest.of(data), json.loads(data), layers), data, key, parent.id)


async def add_layer(engine: Engine, parent: Tip, tar: str) -> Layer:
    """An uncompressed tar as the layer over `parent`, in the content store."""
    content = ContentStore(engine.layout.blobs)
    new = await trio.to_thread.run_sync(image_builder.add_layer, content, tar)
    chain = manifest.chain_ids((*(one.diff_id for one in parent.layers), new.diff_id))[-1]
    described = new.descriptor
    return Layer(described.digest, described.media_type, "gzip", described.size, new.diff_id, chain)


async def register(
    engine: Engine,
    source: str,
    driver: str,
    drafts: Sequence[Draft],
    *,
    docker: bool = False,
    annotations: Mapping[str, str] | None = None,
) -> bool:
    """The images of drafts; their layers are unpacked, those who build the same find them. True
    when one was there with another manifest, which nothing refers to any more.
    Errors: StorageFull, DriverError."""
    content = ContentStore(engine.layout.blobs)

    def store() -> list[Fetched]:
        return [_store(content, one, docker, annotations) for one in drafts]

    async with images.in_use(engine):
        fetched = await trio.to_thread.run_sync(store)
        manifests = {one.config_digest: one.manifest for one in fetched}
        known = await engine.store.rows("SELECT id, manifest FROM images")
        replaced = any(
            manifests.get(row["id"], row["manifest"]) != row["manifest"] for row in known
        )
        await images.add_all(engine, source, driver, fetched)
        journal = engine.journal()
        for one in drafts:
            if one.key:
                event = ImageStep(key=one.key, parent=one.parent)
                journal.note(f"image/{one.tip.id}", event)
        await journal.flush()
    return replaced


def _store(
    content: ContentStore, one: Draft, docker: bool, annotations: Mapping[str, str] | None
) -> Fetched:
    config = content.put(one.data)
    described = compose.config_descriptor(
        config, len(one.data), DOCKER_CONFIG if docker else OCI_CONFIG
    )
    layers = [
        compose.layer(layer.digest, layer.size, layer.compression, docker=docker)
        for layer in one.tip.layers
    ]
    media_type = DOCKER_MANIFEST if docker else OCI_MANIFEST
    document = compose.manifest(described, layers, media_type, annotations)
    return Fetched(
        manifest=content.put(document),
        media_type=media_type,
        config_digest=config,
        config=manifest.parse_config(one.data),
        layers=one.tip.layers,
    )


async def tag(engine: Engine, image_id: str, names: Sequence[str]) -> None:
    journal = engine.journal()
    for name in names:
        journal.note(f"image/{image_id}", ImageTagged(name=name))
    await journal.flush()


async def squash(
    engine: Engine,
    base: Tip,
    tip: Tip,
    temporary: str,
    *,
    everything: bool,
    created: int,
    fixed: bool,
) -> Draft:
    """One layer for all that `tip` has over `base`, or, with `everything`, for all of it. `fixed`:
    `created` is the time of all files as well. `temporary`: an empty directory."""
    from ..layer.diff import write_tree_diff
    from ..layer.pack import pack_tree
    from ..layer.rewrite import rewrite

    kept = Tip(base.id, base.document, ()) if everything else base
    tar = f"{temporary}/layer.tar"
    async with image_mounts.tree(engine, tip.id, tip.chain) as tree:
        if kept.layers:
            async with image_mounts.tree(engine, base.id, base.chain) as below:
                await trio.to_thread.run_sync(write_tree_diff, below, tree, tar)
        else:
            await trio.to_thread.run_sync(pack_tree, tree, tar)
    if fixed:
        again = f"{temporary}/fixed.tar"
        await trio.to_thread.run_sync(lambda: rewrite(tar, again, mtime=created))
    source = again if fixed else tar
    document = dict(base.document)
    if everything:
        document["rootfs"] = {"type": "layers", "diff_ids": []}
        document["history"] = []
    under = Tip(base.id, document, kept.layers)
    async with images.in_use(engine):
        layer = await add_layer(engine, under, source)
        return draft(
            under,
            "",
            settings=tip.settings,
            created=created,
            created_by="tiffin build --squash",
            author=str(tip.document.get("author") or ""),
            layer=layer,
        )
