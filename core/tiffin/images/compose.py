"""The JSON of a new image: config and manifest (image-spec 1.1). Pure, and deterministic: the same
input gives the same bytes, hence the same image id.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from .manifest import DOCKER_LAYER, OCI_CONFIG, OCI_LAYER, OCI_MANIFEST, Descriptor
from .platform import Platform

SUFFIX = {"none": "", "gzip": "+gzip", "zstd": "+zstd"}


def timestamp(created: int) -> str:
    """UTC ns as RFC 3339."""
    seconds, fraction = divmod(created, 1_000_000_000)
    whole = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds))
    return f"{whole}.{fraction:09d}Z" if fraction else f"{whole}Z"


def config(
    base: Mapping[str, Any],
    *,
    settings: Mapping[str, Any],
    diff_id: str = "",
    created: int,
    created_by: str,
    platform: Platform | None = None,
    author: str = "",
    comment: str = "",
) -> bytes:
    """Config blob of an image with one layer more than `base` has, or, without a `diff_id`, with
    the same layers and other settings.

    `base`: the JSON object of the image below, or empty; what we do not know of it is kept.
    `created` is UTC ns. `platform` is for an image that has no base.
    """
    rootfs = base.get("rootfs") or {}
    entry: dict[str, Any] = {"created": timestamp(created), "created_by": created_by}
    if author:
        entry["author"] = author
    if comment:
        entry["comment"] = comment
    if not diff_id:
        entry["empty_layer"] = True
    document = {
        key: value
        for key, value in base.items()
        # Docker's notes of the container that a layer was made in; they are not of this image.
        if key not in ("container", "container_config", "id", "parent", "docker_version")
    }
    if platform is not None:
        document["architecture"], document["os"] = platform.architecture, platform.os
        if platform.variant:
            document["variant"] = platform.variant
    if author:
        document["author"] = author
    document["created"] = timestamp(created)
    document["config"] = dict(settings)
    below = rootfs.get("diff_ids") or ()
    document["rootfs"] = {"type": "layers", "diff_ids": [*below, *filter(None, (diff_id,))]}
    document["history"] = [*(base.get("history") or ()), entry]
    return msgspec.json.encode(document, order="sorted")


def layer(digest: str, size: int, compression: str, *, docker: bool = False) -> Descriptor:
    """Descriptor of a layer, as an OCI manifest has it, or Docker's."""
    suffix = SUFFIX[compression]
    if docker:
        return Descriptor(DOCKER_LAYER + suffix.replace("+", "."), digest, size)
    return Descriptor(OCI_LAYER + suffix, digest, size)


def manifest(
    config: Descriptor,
    layers: Sequence[Descriptor],
    media_type: str = OCI_MANIFEST,
    annotations: Mapping[str, str] | None = None,
) -> bytes:
    """Manifest blob. All media types are of one family: OCI's, or Docker's."""
    document: dict[str, Any] = {
        "schemaVersion": 2,
        "mediaType": media_type,
        "config": _plain(config),
        "layers": [_plain(layer) for layer in layers],
    }
    if annotations:
        document["annotations"] = dict(sorted(annotations.items()))
    return msgspec.json.encode(document)


def config_descriptor(digest: str, size: int, media_type: str = OCI_CONFIG) -> Descriptor:
    return Descriptor(media_type, digest, size)


def _plain(descriptor: Descriptor) -> dict[str, Any]:
    return {
        "mediaType": descriptor.media_type,
        "digest": descriptor.digest,
        "size": descriptor.size,
    }
