"""`save`: images as a docker-archive, an oci-archive or an OCI directory.

Blobs go in as they are here, bit by bit; so a layer may be compressed in a docker-archive too,
which docker, podman and skopeo all read. The same images give the same bytes.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from typing import Any

from msgspec import Struct

from .content import ContentStore
from .errors import UserError
from .images import manifest
from .layer import tar
from .layer.write import TarWriter

LAYOUT = b'{"imageLayoutVersion":"1.0.0"}'
REF_NAME = "org.opencontainers.image.ref.name"
FORMATS = ("docker-archive", "oci-archive", "oci-dir", "docker-dir")
DIRECTORIES = ("oci-dir", "docker-dir")
DIR_VERSION = b"Directory Transport Version: 1.1\n"


class Saved(Struct, frozen=True):
    """An image to be written."""

    manifest: str
    """Digest."""
    media_type: str
    names: tuple[str, ...]


def _document(content: ContentStore, image: Saved) -> manifest.Manifest:
    data = content.read(image.manifest, manifest.MAX_MANIFEST)
    document = manifest.parse(data, image.media_type)
    assert isinstance(document, manifest.Manifest)
    return document


class _Archive:
    def __init__(self, out: int, content: ContentStore) -> None:
        self._tar = TarWriter(out)
        self._content = content
        self._written: set[str] = set()

    def close(self, *, complete: bool) -> None:
        self._tar.close(complete=complete)

    def directory(self, name: str) -> None:
        self._tar.entry(name.encode() + b"/", tar.DIRECTORY, mode=0o755)

    def data(self, name: str, data: bytes) -> None:
        self._tar.entry(name.encode(), tar.REGULAR, mode=0o644, size=len(data))
        fd = os.memfd_create("entry")
        try:
            os.write(fd, data)
            os.lseek(fd, 0, os.SEEK_SET)
            self._tar.data(fd, len(data))
        finally:
            os.close(fd)

    def blob(self, name: str, digest: str) -> None:
        if name in self._written:
            return
        self._written.add(name)
        with self._content.open(digest) as file:
            size = os.fstat(file.fileno()).st_size
            self._tar.entry(name.encode(), tar.REGULAR, mode=0o644, size=size)
            self._tar.data(file.fileno(), size)


def docker_archive(content: ContentStore, images: Sequence[Saved], out: int) -> None:
    """To a descriptor, which is closed. Errors: NotFound (a blob), OSError."""
    archive = _Archive(out, content)
    complete = False
    try:
        listed = []
        for image in images:
            document = _document(content, image)
            config = f"{document.config.digest[7:]}.json"
            layers = [f"{layer.digest[7:]}.tar" for layer in document.layers]
            for name, layer in zip(layers, document.layers, strict=True):
                archive.blob(name, layer.digest)
            archive.blob(config, document.config.digest)
            listed.append({"Config": config, "RepoTags": list(image.names), "Layers": layers})
        archive.data("manifest.json", _json(listed))
        complete = True
    finally:
        archive.close(complete=complete)


def oci_archive(content: ContentStore, images: Sequence[Saved], out: int) -> None:
    """To a descriptor, which is closed. Errors: NotFound (a blob), OSError."""
    archive = _Archive(out, content)
    complete = False
    try:
        archive.data("oci-layout", LAYOUT)
        archive.data("index.json", _json(_index(content, images)))
        archive.directory("blobs")
        archive.directory("blobs/sha256")
        for digest in _blobs(content, images):
            archive.blob(f"blobs/sha256/{digest[7:]}", digest)
        complete = True
    finally:
        archive.close(complete=complete)


def oci_directory(content: ContentStore, images: Sequence[Saved], directory: str) -> None:
    """Into a directory that may be there already: images in it stay (image-spec, image-layout.md).
    Errors: NotFound (a blob), OSError."""
    from .layer.copies import copy_data

    os.makedirs(f"{directory}/blobs/sha256", exist_ok=True)
    for digest in _blobs(content, images):
        path = f"{directory}/blobs/sha256/{digest[7:]}"
        if os.path.exists(path):
            continue
        with content.open(digest) as source, open(f"{path}.part", "wb") as target:
            copy_data(source.fileno(), target.fileno(), os.fstat(source.fileno()).st_size)
        os.replace(f"{path}.part", path)
    index = _index(content, images)
    try:
        with open(f"{directory}/index.json", "rb") as file:
            before = json.load(file)["manifests"]
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        before = []
    names = {entry.get("annotations", {}).get(REF_NAME) for entry in index["manifests"]}
    kept = [e for e in before if e.get("annotations", {}).get(REF_NAME) not in names]
    index["manifests"] = [*kept, *index["manifests"]]
    for name, data in (("oci-layout", LAYOUT), ("index.json", _json(index))):
        with open(f"{directory}/{name}.part", "wb") as target:
            target.write(data)
        os.replace(f"{directory}/{name}.part", f"{directory}/{name}")


def docker_directory(content: ContentStore, image: Saved, directory: str) -> None:
    """Into a directory for this image alone, as the transport `dir:` of podman and skopeo has it.
    Errors: NotFound (a blob), UserError for a directory with something else in it, OSError."""
    from .layer.copies import copy_data

    os.makedirs(directory, exist_ok=True)
    if os.listdir(directory) and not os.path.exists(f"{directory}/version"):
        raise UserError(f"{directory} has other files in it", hint="name a new directory")
    for digest in _blobs(content, [image]):
        name = "manifest.json" if digest == image.manifest else digest[7:]
        with content.open(digest) as source, open(f"{directory}/{name}.part", "wb") as target:
            copy_data(source.fileno(), target.fileno(), os.fstat(source.fileno()).st_size)
        os.replace(f"{directory}/{name}.part", f"{directory}/{name}")
    with open(f"{directory}/version", "wb") as file:
        file.write(DIR_VERSION)


def _json(value: Any) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()


def _index(content: ContentStore, images: Sequence[Saved]) -> dict[str, Any]:
    entries = []
    for image in images:
        descriptor = {
            "mediaType": image.media_type,
            "digest": image.manifest,
            "size": content.size(image.manifest),
        }
        for name in image.names or (None,):
            named = {"annotations": {REF_NAME: name}} if name else {}
            entries.append(descriptor | named)
    return {"schemaVersion": 2, "manifests": entries}


def _blobs(content: ContentStore, images: Sequence[Saved]) -> list[str]:
    """Each once, in order."""
    found: dict[str, None] = {}
    for image in images:
        document = _document(content, image)
        blobs = (*document.layers, document.config)
        found |= dict.fromkeys((image.manifest, *(blob.digest for blob in blobs)))
    return list(found)
