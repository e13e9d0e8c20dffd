"""Events of `image/ID` (ID: the digest of the config) and of `layer/DRIVER/CHAIN-ID`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from .base import Event


class PullPlanned(Event, frozen=True, kw_only=True):
    """Blobs of an image are about to be fetched (`pull`), read (`load`, `import`) or made
    (`embedded`, `commit`). Stream: `transfer/ID`."""

    TYPE: ClassVar[str] = "transfer.planned"
    OPENS: ClassVar[str] = "transfer"

    source: str
    reference: str
    storage_driver: str


class PullFinished(Event, frozen=True, kw_only=True):
    """The image is complete in the content store, its layers are unpacked."""

    TYPE: ClassVar[str] = "transfer.finished"
    CLOSES: ClassVar[str] = "transfer"

    image_ids: tuple[str, ...]


class PullFailed(Event, frozen=True, kw_only=True):
    """The transfer failed. What nothing else uses of it is deleted; a part of a large blob is kept,
    and taken up by the next try."""

    TYPE: ClassVar[str] = "transfer.failed"
    CLOSES: ClassVar[str] = "transfer"

    error: str


class ImageAdded(Event, frozen=True, kw_only=True):
    """Manifest, config and layer blobs of an image are in the content store."""

    TYPE: ClassVar[str] = "image.added"

    manifest: str
    """Digest of the manifest; the blob is kept as it came."""
    media_type: str = ""
    index: str = ""
    source: str = ""
    architecture: str = ""
    os: str = ""
    created: int = 0
    """UTC ns; 0 when the image does not say."""
    size: int
    """Bytes of all unpacked layers."""
    labels: Mapping[str, str] = {}
    layers: tuple[Mapping[str, Any], ...]
    """digest, media_type, compression, size, diff_id, chain_id; lowest first."""


class ImageTagged(Event, frozen=True, kw_only=True):
    """A name now stands for this image; it no longer stands for another."""

    TYPE: ClassVar[str] = "image.tagged"

    name: str


class ImageUntagged(Event, frozen=True, kw_only=True):
    """A name no longer stands for this image."""

    TYPE: ClassVar[str] = "image.untagged"

    name: str


class ImageStep(Event, frozen=True, kw_only=True):
    """A step of a build gave this image. Whoever builds the same again (the same `key`) takes it;
    as long as it has no name it is hidden behind the images that were made of it."""

    TYPE: ClassVar[str] = "image.step"

    key: str
    """Digest of all that the step depends on."""
    parent: str = ""
    """The image that the step began with."""


class ImagePushed(Event, frozen=True, kw_only=True):
    """The image is in a registry, under this name."""

    TYPE: ClassVar[str] = "image.pushed"

    destination: str
    digest: str
    """Of the manifest."""


class ImageRemovalPlanned(Event, frozen=True, kw_only=True):
    """The image's blobs and layers that nothing else uses are about to be deleted."""

    TYPE: ClassVar[str] = "image.removal_planned"
    OPENS: ClassVar[str] = "remove"

    blobs: tuple[str, ...]
    layers: tuple[tuple[str, str], ...]
    """(driver, chain id)"""


class ImageRemoved(Event, frozen=True, kw_only=True):
    """The image is gone."""

    TYPE: ClassVar[str] = "image.removed"
    CLOSES: ClassVar[str] = "remove"


class LayerUnpackPlanned(Event, frozen=True, kw_only=True):
    """A layer is about to be unpacked by a storage driver."""

    TYPE: ClassVar[str] = "layer.unpack_planned"
    OPENS: ClassVar[str] = "unpack"

    driver: str
    chain_id: str
    blob: str


class LayerUnpacked(Event, frozen=True, kw_only=True):
    """A layer is unpacked and durable."""

    TYPE: ClassVar[str] = "layer.unpacked"
    CLOSES: ClassVar[str] = "unpack"

    driver: str
    chain_id: str
    size: int
    entries: int


class LayerUnpackFailed(Event, frozen=True, kw_only=True):
    """Unpacking failed; nothing of the layer is left."""

    TYPE: ClassVar[str] = "layer.unpack_failed"
    CLOSES: ClassVar[str] = "unpack"

    error: str


class LayerRemoved(Event, frozen=True, kw_only=True):
    """The unpacked layer is gone."""

    TYPE: ClassVar[str] = "layer.removed"

    driver: str
    chain_id: str
