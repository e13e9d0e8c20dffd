"""New images in the content store: from a container's changes, or from a root file system's tar."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any, BinaryIO

import msgspec
import trio

from .content import PIECE, ContentStore, Writer, canceller
from .decompress import unpack_foreign
from .errors import ImageError, NotFound, UserError
from .images import changes as instructions
from .images import compose, platform
from .images.manifest import Descriptor, ImageConfig
from .transfer import Fetched, compression, from_store

GZIP_LEVEL = 1
"""Fast: a commit waits for it. Level 6 takes four times as long for a tenth fewer bytes."""
GZIP_HEADER = b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x04\xff"
"""RFC 1952: no name, time 0, so that the same layer has the same digest."""


class NewLayer(msgspec.Struct, frozen=True):
    descriptor: Descriptor
    diff_id: str


def gzip_file(source: BinaryIO, writer: Writer, level: int = GZIP_LEVEL) -> str:
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
    with _opened(path) as file, content.ingest() as writer:
        diff_id = gzip_file(file, writer)
    return NewLayer(compose.layer(writer.digest, writer.size, "gzip"), diff_id)


def store(
    content: ContentStore, config: bytes, layers: Sequence[Descriptor], names: Sequence[str] = ()
) -> Fetched:
    """Config and manifest of a new image whose layers are in the store."""
    described = compose.config_descriptor(content.put(config), len(config))
    return from_store(content, content.put(compose.manifest(described, layers)), names=names)


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
) -> Fetched:
    """An image of `base` and one layer more.

    `base` has the image's `id` and `layers` (digest, size, compression), `layer` is the path of an
    uncompressed tar, `settings` take the place of those in the image's config, `created` is UTC ns.
    Errors: UserError (changes), StorageFull, NotFound (a blob of the base is gone).
    """
    merged = {**base_config.config, **(settings or {})}
    changed = instructions.apply({k: v for k, v in merged.items() if v}, changes)
    below = [
        compose.layer(known["digest"], known["size"], known["compression"])
        for known in base["layers"]
    ]
    when = time.time_ns() if created is None else created

    def build() -> Fetched:
        new = add_layer(content, layer)
        config = compose.config(
            content.read_json(base["id"]),
            settings=changed,
            diff_id=new.diff_id,
            created=when,
            created_by="tiffin commit",
            author=author,
            comment=message,
        )
        return store(content, config, [*below, new.descriptor], (name,) if name else ())

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
        with _opened(source) as file, content.ingest() as writer:
            _copy(file, writer)
            found = _compression_of(writer)
            diff_id = writer.digest if found == "none" else _diff_id(writer.path, found)
            _need_tar(writer.path, found, source)
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
        layer = compose.layer(writer.digest, writer.size, found)
        return store(content, config, [layer], (name,) if name else ())

    return await trio.to_thread.run_sync(build)


def _opened(source: str) -> BinaryIO:
    try:
        return open(0, "rb", closefd=False) if source == "-" else open(source, "rb")
    except FileNotFoundError:
        raise NotFound(f"{source} does not exist") from None
    except OSError as error:
        raise UserError(f"{source} cannot be read: {error.strerror}") from None


def _copy(file: BinaryIO, writer: Writer) -> None:
    check_cancelled = canceller()
    try:
        for piece in unpack_foreign(file):
            check_cancelled()
            writer.write(piece)
    except IsADirectoryError:
        raise UserError("a directory cannot be imported", hint="make a tar of it") from None


def _compression_of(writer: Writer) -> str:
    import os

    return compression(os.pread(writer.fd, 4, 0))


def _diff_id(path: str, found: str) -> str:
    import hashlib

    from .layer.stream import pieces

    check_cancelled = canceller()
    digest = hashlib.sha256()
    for piece in pieces(path, found):
        check_cancelled()
        digest.update(piece)
    return f"sha256:{digest.hexdigest()}"


def _need_tar(path: str, found: str, source: str) -> None:
    """Error: ImageError when the first header is not one; the rest is checked when unpacked."""
    from .layer.stream import LayerStream, pieces
    from .layer.tar import entries

    try:
        first = next(entries(LayerStream(pieces(path, found))), None)
    except ImageError:
        first = None
    if first is None:
        raise ImageError(f"{source} is not a tar of a root file system")
