"""Fetching an image: manifest, config and layers into the content store, layers side by side."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Protocol

import trio
from msgspec import Struct

from .content import ContentStore
from .errors import ImageError
from .images import manifest as manifests
from .images.manifest import Descriptor, ImageConfig, Manifest, Platform
from .images.reference import Reference
from .registry.client import Client

AT_ONCE = 4
"""Blobs fetched at the same time."""


class Layer(Struct, frozen=True):
    """A layer of an image, as `image.added` records it."""

    digest: str
    media_type: str
    compression: str
    size: int
    """Bytes of the blob."""
    diff_id: str
    chain_id: str


class Fetched(Struct, frozen=True):
    """An image whose blobs are all in the content store."""

    manifest: str
    """Digest."""
    media_type: str
    config_digest: str
    """The image's id."""
    config: ImageConfig
    layers: tuple[Layer, ...]
    index: str = ""
    names: tuple[str, ...] = ()
    """Full tagged names that it is to have."""


class Progress(Protocol):
    """Told how a transfer goes; called from threads too."""

    def started(self, digest: str, size: int) -> None: ...

    def advanced(self, digest: str, count: int) -> None: ...

    def finished(self, digest: str, what: str) -> None: ...


class Silent:
    """A `Progress` that says nothing."""

    def started(self, digest: str, size: int) -> None: ...

    def advanced(self, digest: str, count: int) -> None: ...

    def finished(self, digest: str, what: str) -> None: ...


OnLayer = Callable[[Layer, tuple[Layer, ...]], Awaitable[None]]
"""Told of a layer as soon as its blob is complete, with all layers below it."""


def describe(manifest: Manifest, config: ImageConfig) -> tuple[Layer, ...]:
    """The layers of an image, lowest first. Error: ImageError when manifest and config disagree."""
    if len(manifest.layers) != len(config.diff_ids):
        raise ImageError(
            f"the image is broken: {len(manifest.layers)} layers in its manifest, "
            f"{len(config.diff_ids)} in its config"
        )
    chain = manifests.chain_ids(config.diff_ids)
    return tuple(
        Layer(
            digest=blob.digest,
            media_type=blob.media_type,
            compression=manifests.compression_of(blob),
            size=blob.size,
            diff_id=diff_id,
            chain_id=chain_id,
        )
        for blob, diff_id, chain_id in zip(manifest.layers, config.diff_ids, chain, strict=True)
    )


async def pull(
    reference: Reference,
    content: ContentStore,
    *,
    platform: str = "",
    tls_verify: bool = True,
    progress: Progress | None = None,
    on_layer: OnLayer | None = None,
) -> Fetched:
    """Fetch an image. Errors: RegistryError, ImageError, StorageFull."""
    told = progress or Silent()
    client = Client(reference, tls_verify=tls_verify)
    try:
        wanted = manifests.parse_platform(platform)
        data, kind = await client.manifest(reference.digest or reference.tag)
        document = manifests.parse(data, kind)
        index = ""
        if not isinstance(document, Manifest):
            index = content.put(data)
            chosen = manifests.choose(document, wanted)
            data, kind = await client.manifest(chosen.digest)
            document = manifests.parse(data, chosen.media_type or kind)
            if not isinstance(document, Manifest):
                raise ImageError("the index holds an index where an image should be")
        config_data = await _config(client, document.config, content, told)
        config = manifests.parse_config(config_data)
        manifests.check_platform(config, wanted)
        layers = describe(document, config)
        await _layers(client, layers, content, told, on_layer)
        digest = content.put(data)
    finally:
        client.close()
    return Fetched(
        manifest=digest,
        media_type=document.media_type,
        config_digest=document.config.digest,
        config=config,
        layers=layers,
        index=index,
        names=(reference.tagged,) if reference.tagged else (),
    )


async def _config(
    client: Client, descriptor: Descriptor, content: ContentStore, told: Progress
) -> bytes:
    if descriptor.size > manifests.MAX_CONFIG:
        raise ImageError("the image's config is larger than 8 MiB")
    await client.blob(descriptor, content, lambda count: None)
    told.finished(descriptor.digest, "config")
    return content.read(descriptor.digest, manifests.MAX_CONFIG)


async def _layers(
    client: Client,
    layers: tuple[Layer, ...],
    content: ContentStore,
    told: Progress,
    on_layer: OnLayer | None,
) -> None:
    limit = trio.CapacityLimiter(AT_ONCE)

    async def one(position: int, layer: Layer) -> None:
        async with limit:
            told.started(layer.digest, layer.size)
            descriptor = Descriptor(layer.digest, layer.size, layer.media_type)
            fresh = await client.blob(
                descriptor, content, lambda count: told.advanced(layer.digest, count)
            )
        told.finished(layer.digest, "done" if fresh else "already here")
        if on_layer is not None:
            await on_layer(layer, layers[:position])

    async with trio.open_nursery() as nursery:
        for position, layer in enumerate(layers):
            nursery.start_soon(one, position, layer)


def check_local(content: ContentStore, manifest_data: bytes, wanted: Platform | None) -> Fetched:
    """An image whose blobs an archive has put into the store. Error: ImageError."""
    document = manifests.parse(manifest_data)
    if not isinstance(document, Manifest):
        raise ImageError("an index where an image's manifest should be")
    config = manifests.parse_config(content.read(document.config.digest, manifests.MAX_CONFIG))
    if wanted is not None:
        manifests.check_platform(config, wanted)
    layers = describe(document, config)
    for layer in layers:
        if not content.has(layer.digest):
            raise ImageError(f"the archive lacks layer {layer.digest}")
    return Fetched(
        manifest=content.put(manifest_data),
        media_type=document.media_type,
        config_digest=document.config.digest,
        config=config,
        layers=layers,
    )
