"""Images on their way into the content store: what all sources give, and `pull` from a registry."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

import trio
from msgspec import Struct

from . import decompress
from .content import ContentStore
from .errors import ImageError, NotFound, RegistryError, TiffinError
from .images import manifest as manifests
from .images.digest import of as digest_of
from .images.manifest import Descriptor, ImageConfig, Manifest
from .images.platform import Platform
from .images.reference import Reference

if TYPE_CHECKING:
    from .registry.auth import Credentials
    from .registry.client import Registry

AT_ONCE = 4
"""Blobs fetched at the same time."""
MAX_DEPTH = 4
"""Indexes in indexes."""


class Layer(Struct, frozen=True):
    """A layer of an image, as `image.added` records it."""

    digest: str
    media_type: str
    compression: str
    """Found in the blob's first bytes, since media types lie: `none`, `gzip` or `zstd`. Only what
    the media type says as long as the blob is not here."""
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
    """Lowest first."""
    index: str = ""
    """Digest of the index that the manifest was chosen from."""
    names: tuple[str, ...] = ()
    """Full tagged names that it is to have."""


class Progress(Protocol):
    """Told how a transfer goes, always on trio's thread."""

    def started(self, digest: str, size: int) -> None:
        """A blob of `size` bytes is wanted."""

    def advanced(self, digest: str, count: int) -> None:
        """`count` bytes more are here; negative when a download begins again."""

    def finished(self, digest: str, what: str) -> None:
        """`done`, or `exists` for what was here before."""


class Silent:
    """A `Progress` that says nothing."""

    def started(self, digest: str, size: int) -> None: ...

    def advanced(self, digest: str, count: int) -> None: ...

    def finished(self, digest: str, what: str) -> None: ...


OnLayer = Callable[[Layer, tuple[Layer, ...]], Awaitable[None]]
"""Told of a layer as soon as its blob is complete, with all layers below it."""


def describe(manifest: Manifest, config: ImageConfig) -> tuple[Layer, ...]:
    """The layers of an image. Error: ImageError when manifest and config disagree."""
    if len(manifest.layers) != len(config.diff_ids):
        raise ImageError(
            f"image has {len(manifest.layers)} layers, but its config lists {len(config.diff_ids)}"
        )
    chain = manifests.chain_ids(config.diff_ids)
    return tuple(
        Layer(
            digest=blob.digest,
            media_type=blob.media_type,
            compression=manifests.compression(blob.media_type),
            size=blob.size,
            diff_id=diff_id,
            chain_id=chain_id,
        )
        for blob, diff_id, chain_id in zip(manifest.layers, config.diff_ids, chain, strict=True)
    )


def look(layer: Layer, content: ContentStore) -> Layer:
    """The layer with its true compression. Error: NotFound when the blob is not here."""
    with content.open(layer.digest) as file:
        found = decompress.kind(file.read(6))
    if found == layer.compression or found in decompress.FOREIGN:
        return layer
    return Layer(layer.digest, layer.media_type, found, layer.size, layer.diff_id, layer.chain_id)


def from_store(
    content: ContentStore,
    manifest_digest: str,
    *,
    media_type: str = "",
    index: str = "",
    names: Sequence[str] = (),
) -> Fetched:
    """An image whose blobs are all in the store. Errors: ImageError, NotFound, Corrupt."""
    document = manifests.parse(content.read(manifest_digest, manifests.MAX_MANIFEST), media_type)
    if not isinstance(document, Manifest):
        raise ImageError("there is an index where an image's manifest should be")
    data = content.read(document.config.digest, manifests.MAX_CONFIG)
    config = manifests.parse_config(data, len(document.layers))
    return Fetched(
        manifest=manifest_digest,
        media_type=document.media_type,
        config_digest=document.config.digest,
        config=config,
        layers=tuple(look(layer, content) for layer in describe(document, config)),
        index=index,
        names=tuple(names),
    )


async def pull(
    reference: Reference,
    content: ContentStore,
    *,
    platform: str = "",
    tls_verify: bool = True,
    progress: Progress | None = None,
    on_layer: OnLayer | None = None,
    credentials: Credentials | None = None,
) -> Fetched:
    """Fetch an image into the content store.

    `on_layer` runs beside the other downloads; when it fails, everything stops. Blobs that are
    complete by then stay. Without `credentials`, those of auth.json are used.
    Errors: UserError (platform), NotFound, RegistryError, ImageError, StorageFull.
    """
    from .registry import policy, registries
    from .registry.client import Registry  # 30 ms: http.client

    wanted = manifests.parse_platform(platform)
    told = progress or Silent()
    policy.check(reference)
    places = registries.endpoints(reference, registries.load())

    async def from_(place: registries.Endpoint) -> tuple[Any, ...]:
        async with Registry(
            place.registry,
            place.repository,
            tls_verify=tls_verify and not place.insecure,
            credentials=credentials,
        ) as registry:
            manifest, data, index = await _choose(registry, reference, wanted)
            config_data, fresh = await _config(registry, manifest, content)
            try:
                config = manifests.parse_config(config_data, len(manifest.layers))
                manifests.check_platform(config, wanted)
            except TiffinError:
                if fresh:
                    content.delete(manifest.config.digest)
                raise
            layers = await _layers(registry, manifest, config, content, told, on_layer)
            return manifest, data, index, config_data, config, layers

    try:
        for number, place in enumerate(places, 1):
            try:
                found = await from_(place)
                break
            except (RegistryError, NotFound):
                if number == len(places):  # not a mirror
                    raise
        manifest, data, index, config_data, config, layers = found
        # Last, so that an image which is not for this machine leaves nothing behind.
        for document in (config_data, index, data):
            if document:
                await trio.to_thread.run_sync(content.put, document)
    except ImageError as error:
        raise ImageError(f"{reference}: {error.what}", hint=error.hint) from None
    return Fetched(
        manifest=digest_of(data),
        media_type=manifest.media_type,
        config_digest=manifest.config.digest,
        config=config,
        layers=layers,
        index=digest_of(index) if index else "",
        names=(reference.tagged,) if reference.tagged else (),
    )


async def _choose(
    registry: Registry, reference: Reference, wanted: Platform
) -> tuple[Manifest, bytes, bytes]:
    """(manifest, its bytes, those of the index or none): indexes are followed to an image."""
    data, media_type = await registry.manifest(reference.version)
    document = manifests.parse(data, media_type)
    index = b""
    for _ in range(MAX_DEPTH):
        if isinstance(document, Manifest):
            return document, data, index
        index = index or data
        entry = manifests.choose(document, wanted)
        data, media_type = await registry.manifest(entry.digest, entry.size)
        if media_type in manifests.ACCEPT and media_type != entry.media_type:
            raise ImageError(f"index says {entry.media_type}, but {media_type} came")
        document = manifests.parse(data, entry.media_type)
    raise ImageError(f"indexes in indexes, more than {MAX_DEPTH} deep")


async def _config(
    registry: Registry, manifest: Manifest, content: ContentStore
) -> tuple[bytes, bool]:
    """The config, and whether it was fetched now: into the store, where one of several pulls
    fetches it and the others wait."""
    blob = manifest.config
    fresh = await registry.blob(blob.digest, blob.size, content)
    try:
        return content.read(blob.digest, manifests.MAX_CONFIG), fresh
    except NotFound:  # one that is not for another's machine, who has deleted it
        return await registry.small(blob.digest, blob.size), False


async def _layers(
    registry: Registry,
    manifest: Manifest,
    config: ImageConfig,
    content: ContentStore,
    told: Progress,
    on_layer: OnLayer | None,
) -> tuple[Layer, ...]:
    layers = list(describe(manifest, config))
    blobs: Mapping[str, Descriptor] = {blob.digest: blob for blob in manifest.layers}
    arrived = {digest: trio.Event() for digest in blobs}
    limit = trio.CapacityLimiter(AT_ONCE)
    for digest, blob in blobs.items():
        told.started(digest, blob.size)

    async def fetch(digest: str, size: int) -> None:
        async with limit:
            fresh = await registry.blob(digest, size, content, told.advanced)
        told.finished(digest, "done" if fresh else "exists")
        arrived[digest].set()

    async def report(position: int) -> None:
        await arrived[layers[position].digest].wait()
        layers[position] = look(layers[position], content)
        if on_layer is not None:
            await on_layer(layers[position], tuple(layers[:position]))

    try:
        async with trio.open_nursery() as nursery:
            for digest, blob in blobs.items():
                nursery.start_soon(fetch, digest, blob.size)
            for position in range(len(layers)):
                nursery.start_soon(report, position)
    except BaseExceptionGroup as group:
        raise first_failure(group) from None
    return tuple(layers)


def first_failure(error: BaseException) -> BaseException:
    """The one error of a group that a person should see: the first that is no cancellation."""
    leaves = [error]
    while any(isinstance(leaf, BaseExceptionGroup) for leaf in leaves):
        leaves = [
            inner
            for leaf in leaves
            for inner in (leaf.exceptions if isinstance(leaf, BaseExceptionGroup) else (leaf,))
        ]
    real = [leaf for leaf in leaves if not isinstance(leaf, trio.Cancelled)]
    return (real or leaves)[0]
