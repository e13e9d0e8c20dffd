"""`load`: images out of docker-archives, oci-archives and OCI layout directories.

docker-archive: what `docker save` writes, a tar with manifest.json (moby, image spec v1.2).
oci-archive: a tar of an OCI layout (image-spec, image-layout.md). Newer dockers write a tar that is
both; the OCI half is taken, since its blobs are those of the registry.

An archive is hostile: names are looked up in an index of its members and never become paths, links
in it are followed only to other members, every length is checked before anything is read.
"""

from __future__ import annotations

import errno
import os
import posixpath
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from io import BufferedReader
from typing import Protocol

import msgspec
import trio

from . import decompress
from .content import PIECE, ContentStore, canceller, opened, room
from .errors import ImageError, UserError
from .images import compose, manifest, reference
from .images import digest as digests
from .images.manifest import DOCKER_CONFIG, DOCKER_LAYER, DOCKER_MANIFEST, Descriptor, Index
from .images.platform import Platform
from .layer.stream import LayerStream, Limits, open_blob
from .layer.tar import HARDLINK, REGULAR, SYMLINK, entries
from .transfer import MAX_DEPTH, Fetched, from_store

LIMITS = Limits(entries=200_000)
MAX_JSON = 8 << 20
"""Bytes of manifest.json, index.json, ..."""
MAX_LINKS = 8
MAX_NAMES = 32 << 20
"""Bytes of the names of an archive's members."""
MAX_IMAGES = 1000
MAX_CONFIGS = 16 << 20
"""Bytes of the configs of its images, which are all kept in memory."""
MAX_SPOOL = 1 << 42
"""Bytes of an uncompressed archive."""
COMPRESSED = ("gzip", "zstd")
NAMES = ("io.containerd.image.name", "org.opencontainers.image.ref.name")


async def load(source: str, content: ContentStore, *, wanted: str = "") -> list[Fetched]:
    """All images of an archive file, a directory or, with `-`, stdin; blobs go into the store.

    Of an index the image for `wanted` (`--platform`) is taken. Errors: NotFound, UserError,
    ImageError (broken, hostile, or not for this machine), StorageFull.
    """
    machine = manifest.parse_platform(wanted)

    def work() -> list[Fetched]:
        with ExitStack() as stack:
            files = _open(source, content, stack)
            if files.has("oci-layout") or files.has("index.json"):
                found = _oci(files, content, machine)
            elif files.has("version") and files.has("manifest.json"):
                found = [_dir(files, content)]
            elif files.has("manifest.json"):
                found = _docker(files, content)
            else:
                raise ImageError("it is no docker-archive, oci-archive or OCI layout")
        for image in found:
            manifest.check_platform(image.config, machine)
        return found

    try:
        return await trio.to_thread.run_sync(work)
    except ImageError as error:
        raise ImageError(f"cannot load {source}: {error.what}", hint=error.hint) from None


# --- the files of an archive ----------------------------------------------------------------------


class Files(Protocol):
    """Files by their normalised names."""

    def has(self, name: str) -> bool: ...

    def pieces(self, name: str) -> Iterator[bytes]:
        """Error: ImageError when there is no such file."""

    def size(self, name: str) -> int:
        """Bytes. Error: ImageError when there is no such file."""


def read(files: Files, name: str) -> bytes:
    """A small file. Error: ImageError (missing, too large)."""
    if files.size(name) > MAX_JSON:
        raise ImageError(f"{name[:100]} is larger than {MAX_JSON >> 20} MiB")
    return b"".join(files.pieces(name))


class Directory:
    """Files below a directory on disk; nothing outside it can be reached."""

    def __init__(self, fd: int) -> None:
        self._fd = fd

    def has(self, name: str) -> bool:
        try:
            os.close(self._open(name))
        except ImageError:
            return False
        return True

    def size(self, name: str) -> int:
        fd = self._open(name)
        try:
            return os.fstat(fd).st_size
        finally:
            os.close(fd)

    def pieces(self, name: str) -> Iterator[bytes]:
        with open(self._open(name), "rb", buffering=0) as file:
            while piece := file.read(PIECE):
                yield piece

    def _open(self, name: str) -> int:
        from .syscalls import open_file_in_root

        try:
            return open_file_in_root(self._fd, name)
        except OSError as error:
            what = "is not a file" if error.errno == errno.ENXIO else "is missing"
            raise ImageError(f"{name[:100]} {what}") from None


class Tar:
    """Members of an uncompressed tar: where their bytes are."""

    def __init__(self, file: BufferedReader) -> None:
        self._file = file
        self._places: dict[str, tuple[int, int]] = {}
        self._links: dict[str, str] = {}
        self._room = MAX_NAMES
        self._length = os.fstat(file.fileno()).st_size
        stream = _Seekable(file.fileno(), self._length)
        check_cancelled = canceller()
        try:
            for count, entry in enumerate(entries(stream, LIMITS)):
                if not count % 1000:
                    check_cancelled()
                self._add(entry.name, entry.linkname, entry.type, stream.position, entry.size)
                if entry.sparse is not None:
                    raise ImageError("it has a sparse member")
        except ImageError as error:
            raise ImageError(error.what.replace("layer", "archive")) from None
        if not self._places:
            raise ImageError("it is no tar, or an empty one")

    def _add(self, raw: bytes, link: bytes, kind: bytes, position: int, size: int) -> None:
        self._room -= len(raw) + len(link)
        if self._room < 0:
            raise ImageError("it has too many names")
        name = _normal(raw.decode("utf-8", "replace"))
        target = link.decode("utf-8", "replace")
        self._links.pop(name, None)
        if kind == REGULAR:
            if position + size > self._length:
                raise ImageError(f"it is cut off in {name[:100]}")
            self._places[name] = position, size
        elif kind == SYMLINK:
            self._links[name] = _normal(posixpath.join(posixpath.dirname(name), target))
        elif kind == HARDLINK:
            self._links[name] = _normal(target)

    def _find(self, name: str) -> tuple[int, int] | None:
        for _ in range(MAX_LINKS):
            if name not in self._links:
                return self._places.get(name)
            name = self._links[name]
        return None

    def has(self, name: str) -> bool:
        return self._find(_normal(name)) is not None

    def _need(self, name: str) -> tuple[int, int]:
        found = self._find(_normal(name))
        if found is None:
            raise ImageError(f"{name[:100]} is missing")
        return found

    def size(self, name: str) -> int:
        return self._need(name)[1]

    def pieces(self, name: str) -> Iterator[bytes]:
        position, left = self._need(name)
        while left:
            piece = os.pread(self._file.fileno(), min(PIECE, left), position)
            if not piece:
                raise ImageError(f"it is cut off in {name[:100]}")
            yield piece
            position, left = position + len(piece), left - len(piece)


class _Seekable(LayerStream):
    """A tar that is skipped through by position, not by reading it."""

    def __init__(self, fd: int, length: int) -> None:
        super().__init__(iter(()))
        self._fd = fd
        self._length = length

    def read(self, count: int) -> bytes:
        data = os.pread(self._fd, count, self.position)
        if len(data) != count:
            raise ImageError("layer is truncated")
        self.position += count
        return data

    def at_end(self) -> bool:
        return self.position >= self._length

    def skip(self, count: int) -> None:
        self.position += count
        if self.position > self._length + 511:  # some writers leave the last padding out
            raise ImageError("layer is truncated")


def _normal(name: str) -> str:
    """`./a//b` as `a/b`; `..` cannot leave the top."""
    return posixpath.normpath(f"/{name}").lstrip("/")


def _open(source: str, content: ContentStore, stack: ExitStack) -> Files:
    try:
        if source != "-" and os.path.isdir(source):
            fd = os.open(source, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            stack.callback(os.close, fd)
            return Directory(fd)
        file = stack.enter_context(opened(source))
    except OSError as error:
        raise UserError(f"{source} cannot be read: {error.strerror}") from None
    if file.seekable() and decompress.peek(file) == "none":
        return Tar(file)
    return Tar(stack.enter_context(_spooled(file, content)))


@contextmanager
def _spooled(file: BufferedReader, content: ContentStore) -> Iterator[BufferedReader]:
    """The archive, uncompressed, in a file without a name on the store's file system."""
    os.makedirs(content.root, mode=0o700, exist_ok=True)
    how = decompress.peek(file)
    with room(content.root), _nameless(content.root) as spool:
        if how == "zstd" and not file.seekable():  # the program wants the whole of it
            with _nameless(content.root) as packed:
                _write(decompress.unpack(file, "none"), packed)
                _write(decompress.unpack(packed, how), spool)
        else:
            _write(decompress.unpack(file, how), spool)
        yield spool


@contextmanager
def _nameless(directory: str) -> Iterator[BufferedReader]:
    import tempfile

    with tempfile.TemporaryFile(dir=directory, buffering=0) as file:
        with open(file.fileno(), "rb", closefd=False) as reader:
            yield reader


def _write(source: Iterator[bytes], target: BufferedReader) -> None:
    check_cancelled = canceller()
    size = 0
    for piece in source:
        check_cancelled()
        size += len(piece)
        if size > MAX_SPOOL:
            raise ImageError("it is larger than any archive may be")
        view = memoryview(piece)
        while view:
            view = view[os.write(target.fileno(), view) :]
    os.lseek(target.fileno(), 0, os.SEEK_SET)


# --- OCI ------------------------------------------------------------------------------------------


def _oci(files: Files, content: ContentStore, wanted: Platform) -> list[Fetched]:
    top = manifest.parse(read(files, "index.json"), manifest.OCI_INDEX)
    if not isinstance(top, Index) or not top.manifests:
        raise ImageError("index.json lists no image")
    _bounded(len(top.manifests))
    docker_names = _names_by_config(files)
    found: list[Fetched] = []
    size = 0
    for entry in top.manifests:
        index = ""
        for _ in range(MAX_DEPTH):
            document = _document(files, content, entry)
            if not isinstance(document, Index):
                break
            index = index or entry.digest
            entry = manifest.choose(document, wanted)
        else:
            raise ImageError(f"indexes in indexes, more than {MAX_DEPTH} deep")
        size += document.config.size
        _bounded(len(found), size)
        for blob in (document.config, *document.layers):
            _ingest(files, _blob_name(blob.digest), content, blob)
        names = _oci_names(top.manifests[len(found)])
        names = names or docker_names.get(document.config.digest, ())
        found.append(
            from_store(content, entry.digest, media_type=entry.media_type, index=index, names=names)
        )
    return found


class _Typed(msgspec.Struct):
    media_type: str = msgspec.field(name="mediaType", default="")


def _dir(files: Files, content: ContentStore) -> Fetched:
    """The transport `dir:` of podman and skopeo: a manifest, and blobs by their digests."""
    data = read(files, "manifest.json")
    media_type = manifest.decode(data, _Typed, "manifest.json").media_type or manifest.OCI_MANIFEST
    document = manifest.parse(data, media_type)
    if isinstance(document, Index):
        raise ImageError("it is a list of images", hint="copy the one for this machine: skopeo")
    _bounded(1, document.config.size)
    digest = digests.of(data)
    _ingest(files, "manifest.json", content, Descriptor(media_type, digest, len(data)))
    for blob in (document.config, *document.layers):
        _ingest(files, digests.check(blob.digest)[7:], content, blob)
    return from_store(content, digest, media_type=media_type, index="", names=())


def _document(files: Files, content: ContentStore, entry: Descriptor) -> Index | manifest.Manifest:
    if entry.size > manifest.MAX_MANIFEST:
        raise ImageError(f"manifest is larger than {manifest.MAX_MANIFEST >> 20} MiB")
    _ingest(files, _blob_name(entry.digest), content, entry)
    return manifest.parse(content.read(entry.digest, manifest.MAX_MANIFEST), entry.media_type)


def _blob_name(digest: str) -> str:
    return f"blobs/sha256/{digests.check(digest)[7:]}"


def _oci_names(entry: Descriptor) -> tuple[str, ...]:
    """The name that index.json gives an image. A bare tag (`latest`) names nothing: podman makes
    `localhost/latest` of it, which nobody wants, but scripts know it."""
    name = manifest.annotation(entry, NAMES)
    return _valid((name,)) if name else ()


def _valid(names: Sequence[str]) -> tuple[str, ...]:
    """Full names; what is none is dropped, since an archive's author cannot be asked."""
    found = []
    for name in names:
        try:
            tagged = reference.parse(name, reference.LOCAL).tagged
        except UserError:
            continue
        if tagged and tagged not in found:
            found.append(tagged)
    return tuple(found)


# --- docker ---------------------------------------------------------------------------------------


class _Image(msgspec.Struct, rename="pascal"):
    config: str
    layers: list[str]
    repo_tags: list[str] | None = None


def _images(files: Files) -> list[_Image]:
    found = manifest.decode(read(files, "manifest.json"), list[_Image], "manifest.json")
    if not found:
        raise ImageError("manifest.json lists no image")
    _bounded(len(found))
    return found


def _bounded(images: int, size: int = 0) -> None:
    """A few bytes name an image, and so one config of a few megabytes again and again."""
    if images > MAX_IMAGES:
        raise ImageError(f"it has more than {MAX_IMAGES} images")
    if size > MAX_CONFIGS:
        raise ImageError(f"the configs of its images are larger than {MAX_CONFIGS >> 20} MiB")


def _names_by_config(files: Files) -> Mapping[str, tuple[str, ...]]:
    """Names from the docker half of an archive that is both."""
    if not files.has("manifest.json"):
        return {}
    return {
        f"sha256:{posixpath.basename(image.config).removesuffix('.json')}": _docker_names(image)
        for image in _images(files)
    }


def _docker_names(image: _Image) -> tuple[str, ...]:
    """RepoTags: docker writes docker.io's images without a registry."""
    found = []
    for name in image.repo_tags or ():
        try:
            found.append(str(reference.parse(name)))
        except UserError:
            continue
    return _valid(found)


def _docker(files: Files, content: ContentStore) -> list[Fetched]:
    known: dict[tuple[str, str], Descriptor] = {}
    found: list[Fetched] = []
    size = 0
    for image in _images(files):
        data = read(files, image.config)
        size += len(data)
        _bounded(len(found), size)
        config = manifest.parse_config(data, len(image.layers))
        layers = []
        for layer in zip(image.layers, config.diff_ids, strict=True):
            if layer not in known:
                known[layer] = _docker_layer(files, *layer, content)
            layers.append(known[layer])
        described = compose.config_descriptor(content.put(data), len(data), DOCKER_CONFIG)
        made = compose.manifest(described, layers, DOCKER_MANIFEST)
        found.append(from_store(content, content.put(made), names=_docker_names(image)))
    return found


def _docker_layer(files: Files, name: str, diff_id: str, content: ContentStore) -> Descriptor:
    """A layer, which is a plain tar, or compressed by newer tools; verified by its diff id."""
    how = decompress.kind(next(files.pieces(name), b"")[:6])
    size = files.size(name)
    if how not in COMPRESSED:
        _ingest(files, name, content, Descriptor("", diff_id, size))
        return Descriptor(DOCKER_LAYER, diff_id, size)
    check_cancelled = canceller()
    with content.ingest(size=size) as writer:
        for piece in files.pieces(name):
            check_cancelled()
            writer.write(piece)
        actual = open_blob(writer.path, how, Limits()).drain()
        if actual != diff_id:
            raise ImageError(f"layer {name[:100]} is not what the config says: {actual}")
    return Descriptor(f"{DOCKER_LAYER}.{how}", writer.digest, size)


def _ingest(files: Files, name: str, content: ContentStore, blob: Descriptor) -> None:
    """Copy a file into the store, verified."""
    if content.has(blob.digest):
        return
    size = files.size(name)
    if size != blob.size:
        raise ImageError(f"{name[:100]} has {size} bytes, not {blob.size}")
    check_cancelled = canceller()
    with content.ingest(blob.digest, size) as writer:
        for piece in files.pieces(name):
            check_cancelled()
            writer.write(piece)
