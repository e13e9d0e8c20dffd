"""New images in the content store: from a container's changes, or from a root file system's tar."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from io import BufferedReader
from typing import Any

import msgspec
import trio

from . import decompress
from .content import PIECE, ContentStore, Writer, canceller, opened
from .errors import ImageError
from .images import changes as instructions
from .images import compose, platform
from .images.manifest import (
    DOCKER_CONFIG,
    DOCKER_MANIFEST,
    OCI_CONFIG,
    OCI_MANIFEST,
    Descriptor,
    ImageConfig,
)
from .layer.stream import Limits, open_blob
from .layer.tar import entries
from .transfer import Fetched, from_store

GZIP_LEVEL = 1
"""Fast: a commit waits for it. Level 6 takes four times as long for a tenth fewer bytes."""
GZIP_HEADER = b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x04\xff"
"""RFC 1952: no name, time 0, so that the same layer has the same digest."""


class NewLayer(msgspec.Struct, frozen=True):
    descriptor: Descriptor
    diff_id: str


def gzip_file(source: BufferedReader, writer: Writer, level: int = GZIP_LEVEL) -> str:
    """Compress a file into a blob, reproducibly; returns the digest of what was read."""
    import hashlib
    import zlib

    deflate = zlib.compressobj(level, zlib.DEFLATED, -15)
    check, size, plain = 0, 0, hashlib.sha256()
    check_cancelled = canceller()
    writer.write(GZIP_HEADER)
    while piece := source.read(PIECE):
        check_cancelled()
        check, size = zlib.crc32(piece, check), size + len(piece)
        plain.update(piece)
        writer.write(deflate.compress(piece))
    writer.write(deflate.flush())
    writer.write(check.to_bytes(4, "little") + (size & 0xFFFFFFFF).to_bytes(4, "little"))
    return f"sha256:{plain.hexdigest()}"


def add_layer(content: ContentStore, path: str) -> NewLayer:
    """An uncompressed layer tar as a gzip blob. Errors: StorageFull, NotFound."""
    with opened(path) as file, content.ingest() as writer:
        diff_id = gzip_file(file, writer)
    return NewLayer(compose.layer(writer.digest, writer.size, "gzip"), diff_id)


def store(
    content: ContentStore,
    config: bytes,
    layers: Sequence[Descriptor],
    names: Sequence[str] = (),
    *,
    docker: bool = False,
) -> Fetched:
    """Config and manifest of a new image whose layers are in the store."""
    of_config = DOCKER_CONFIG if docker else OCI_CONFIG
    media_type = DOCKER_MANIFEST if docker else OCI_MANIFEST
    described = compose.config_descriptor(content.put(config), len(config), of_config)
    document = compose.manifest(described, layers, media_type)
    return from_store(content, content.put(document), media_type=media_type, names=names)


async def commit(
    content: ContentStore,
    base_config: ImageConfig,
    base: Mapping[str, Any],
    layer: str,
    name: str,
    *,
    author: str = "",
    message: str = "",
    changes: Sequence[str] = (),
    settings: Mapping[str, Any] | None = None,
    created: int | None = None,
    squash: bool = False,
    docker: bool = False,
) -> Fetched:
    """An image of `base` and one layer more; with `squash`, that layer is all of it.

    `base` has the image's `id` and `layers` (digest, size, compression), `layer` is the path of an
    uncompressed tar, `settings` take the place of those in the image's config, `created` is UTC ns.
    Errors: UserError (changes), StorageFull, NotFound (a blob of the base is gone).
    """
    merged = {**base_config.config, **(settings or {})}
    changed = instructions.apply({k: v for k, v in merged.items() if v}, changes)
    below = [
        compose.layer(known["digest"], known["size"], known["compression"], docker=docker)
        for known in ([] if squash else base["layers"])
    ]
    when = time.time_ns() if created is None else created

    def build() -> Fetched:
        new = add_layer(content, layer)
        document = content.read_json(base["id"])
        if squash:
            document |= {"rootfs": {"type": "layers", "diff_ids": []}, "history": []}
        config = compose.config(
            document,
            settings=changed,
            diff_id=new.diff_id,
            created=when,
            created_by="tiffin commit",
            author=author,
            comment=message,
        )
        found = new.descriptor
        own = compose.layer(found.digest, found.size, "gzip", docker=docker)
        return store(content, config, [*below, own], (name,) if name else (), docker=docker)

    return await trio.to_thread.run_sync(build)


async def import_rootfs(
    source: str,
    content: ContentStore,
    *,
    name: str = "",
    changes: Sequence[str] = (),
    message: str = "",
    author: str = "",
    wanted: str = "",
    created: int | None = None,
) -> Fetched:
    """An image of one layer: the tar at the path `source`, or on stdin when it is `-`.

    gzip and zstd stay as they are, bzip2 and xz are unpacked, since no layer may have them.
    `wanted`: `--platform`. Errors: UserError, NotFound, ImageError (no tar), StorageFull.
    """
    settings = instructions.apply({}, changes)
    machine = platform.parse(wanted)
    when = time.time_ns() if created is None else created

    def build() -> Fetched:
        with opened(source) as file, content.ingest() as writer:
            how = decompress.peek(file)
            _copy(file, how, writer)
            how = "none" if how in decompress.FOREIGN else how
            _need_tar(writer.path, how, source)
            plain = how == "none"
            diff_id = writer.digest if plain else open_blob(writer.path, how, Limits()).drain()
        config = compose.config(
            {},
            settings=settings,
            diff_id=diff_id,
            created=when,
            created_by=f"tiffin import {source}",
            platform=machine,
            author=author,
            comment=message,
        )
        layer = compose.layer(writer.digest, writer.size, how)
        return store(content, config, [layer], (name,) if name else ())

    return await trio.to_thread.run_sync(build)


def _copy(file: BufferedReader, how: str, writer: Writer) -> None:
    check_cancelled = canceller()
    for piece in decompress.unpack(file, how if how in decompress.FOREIGN else "none"):
        check_cancelled()
        writer.write(piece)


def _need_tar(path: str, how: str, source: str) -> None:
    """Error: ImageError when the first header is not one; the rest is checked when unpacked."""
    try:
        first = next(entries(open_blob(path, how, Limits()), Limits()), None)
    except ImageError:
        first = None
    if first is None:
        raise ImageError(f"{source} is not a tar of a root file system")
