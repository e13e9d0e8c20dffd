"""Manifests, indexes and configs: OCI image-spec 1.1 and Docker's image manifest version 2,
schema 2. All of it comes from a registry or an archive and is hostile until it is checked here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

import msgspec
from msgspec import Struct

from ..errors import ImageError
from . import digest as digests
from . import platform as platforms
from .platform import Platform, rank

digest_of = digests.of
is_digest = digests.is_digest
chain_ids = digests.chain_ids
parse_platform = platforms.parse

OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
OCI_INDEX = "application/vnd.oci.image.index.v1+json"
OCI_CONFIG = "application/vnd.oci.image.config.v1+json"
OCI_LAYER = "application/vnd.oci.image.layer.v1.tar"
DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_LIST = "application/vnd.docker.distribution.manifest.list.v2+json"
DOCKER_CONFIG = "application/vnd.docker.container.image.v1+json"
DOCKER_LAYER = "application/vnd.docker.image.rootfs.diff.tar"
SCHEMA1 = (
    "application/vnd.docker.distribution.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.v1+prettyjws",
)

ACCEPT = (OCI_INDEX, OCI_MANIFEST, DOCKER_LIST, DOCKER_MANIFEST)
MANIFESTS = (OCI_MANIFEST, DOCKER_MANIFEST)
INDEXES = (OCI_INDEX, DOCKER_LIST)
CONFIGS = (OCI_CONFIG, DOCKER_CONFIG)
LAYERS = (
    OCI_LAYER,
    DOCKER_LAYER,
    "application/vnd.oci.image.layer.nondistributable.v1.tar",
    "application/vnd.docker.image.rootfs.foreign.diff.tar",
)
"""Without the suffix that names the compression. Non-distributable layers are fetched like others:
the URLs that a manifest names for them are never followed, since they are whatever an attacker
wants this machine to connect to."""

SUFFIXES = {"": "none", "+gzip": "gzip", "+zstd": "zstd", ".gzip": "gzip", ".zstd": "zstd"}

MAX_MANIFEST = 4 << 20
"""Bytes; distribution-spec: registries and clients should handle at least 4 MiB."""
MAX_CONFIG = 8 << 20
MAX_LAYERS = 4096
MAX_VOLUMES = 256
MAX_BLOB = 1 << 42
"""Bytes of a blob that a manifest may claim."""

KERNEL = "containers share the host's kernel"


class Descriptor(Struct, frozen=True):
    """image-spec, descriptor.md; checked."""

    media_type: str
    digest: str
    size: int
    annotations: Mapping[str, str] = {}
    platform: Platform | None = None


class Manifest(Struct, frozen=True):
    media_type: str
    config: Descriptor
    layers: tuple[Descriptor, ...]


class Index(Struct, frozen=True):
    media_type: str
    manifests: tuple[Descriptor, ...]


class ImageConfig(Struct, frozen=True):
    """The config blob, checked and without nulls."""

    architecture: str
    os: str
    variant: str
    created: str
    """RFC 3339 as it stands there; may be empty."""
    author: str
    config: Mapping[str, Any]
    """Env, Cmd, Entrypoint, WorkingDir, User, Labels, ExposedPorts, Volumes, StopSignal, ...;
    what is null or empty is left out."""
    diff_ids: tuple[str, ...]
    history: tuple[Mapping[str, Any], ...]

    @property
    def labels(self) -> Mapping[str, str]:
        labels: Mapping[str, str] = self.config.get("Labels", {})
        return labels


# What msgspec checks; names and nulls as they come.


class _Platform(Struct):
    architecture: str = ""
    os: str = ""
    variant: str | None = ""


class _Descriptor(Struct, rename="camel"):
    digest: str
    size: int
    media_type: str = ""
    annotations: dict[str, str] | None = None
    platform: _Platform | None = None


class _Document(Struct, rename="camel"):
    schema_version: int = 0
    media_type: str = ""
    config: _Descriptor | None = None
    layers: list[_Descriptor] | None = None
    manifests: list[_Descriptor] | None = None
    fs_layers: Any = None


class _Healthcheck(Struct, rename="pascal"):
    test: list[str] | None = None
    interval: int | None = None
    timeout: int | None = None
    start_period: int | None = None
    retries: int | None = None


class _Settings(Struct, rename="pascal"):
    user: str | None = None
    env: list[str] | None = None
    entrypoint: list[str] | None = None
    cmd: list[str] | None = None
    working_dir: str | None = None
    labels: dict[str, str] | None = None
    exposed_ports: dict[str, Any] | None = None
    volumes: dict[str, Any] | None = None
    stop_signal: str | None = None
    healthcheck: _Healthcheck | None = None
    shell: list[str] | None = None
    on_build: list[str] | None = None


class _RootFs(Struct):
    diff_ids: list[str] | None = None
    type: str = "layers"


class _Config(Struct):
    architecture: str = ""
    os: str = ""
    variant: str | None = ""
    created: str | None = ""
    author: str | None = ""
    config: msgspec.Raw = msgspec.Raw(b"null")
    rootfs: _RootFs | None = None
    history: list[dict[str, Any]] | None = None


T = TypeVar("T")


def decode(data: bytes, kind: type[T], what: str) -> T:
    """JSON of a known shape. Error: ImageError in one line."""
    try:
        return msgspec.json.decode(data, type=kind)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise ImageError(f"{what} is broken: {first_line(error)}") from None


def parse(data: bytes, content_type: str = "") -> Manifest | Index:
    """A manifest or an index. `content_type`: what the transport or the descriptor said it is.

    A document that could be read as either, or that is not what it was said to be, is refused:
    two parties that read it differently would run different images (CVE-2021-41190).
    """
    if len(data) > MAX_MANIFEST:
        raise ImageError(f"manifest is larger than {MAX_MANIFEST >> 20} MiB")
    said = content_type.partition(";")[0].strip().lower()
    document = decode(data, _Document, "manifest")
    _unambiguous(data)
    if said in SCHEMA1 or document.schema_version == 1 or document.fs_layers is not None:
        raise ImageError(
            "image has a Docker schema 1 manifest, which is not supported",
            hint="push it again with a docker newer than 2016",
        )
    if document.schema_version != 2:
        raise ImageError(f"manifest has schema version {document.schema_version}, not 2")
    single = document.config is not None or document.layers is not None
    if single and document.manifests is not None:
        raise ImageError("manifest is ambiguous: it has both layers and manifests")
    known = said if said in ACCEPT else ""
    if document.media_type and known and document.media_type != known:
        raise ImageError(f"manifest says it is {document.media_type[:100]}, but came as {known}")
    media_type = document.media_type or known or (OCI_MANIFEST if single else OCI_INDEX)
    if media_type not in ACCEPT:
        raise ImageError(f"manifest type {media_type[:100]!r} is not an image's")
    if media_type in INDEXES:
        if single or document.manifests is None:
            raise ImageError("index has no list of manifests")
        return Index(media_type, tuple(map(_descriptor, document.manifests)))
    if document.config is None or document.layers is None:
        raise ImageError("manifest has no config or no layers")
    return _manifest(media_type, document.config, document.layers)


KEYS = ("schemaVersion", "mediaType", "config", "layers", "manifests", "fsLayers")


def _unambiguous(data: bytes) -> None:
    """Parsers differ in which of two equal names they take, and in whether `Layers` is `layers`."""
    import json

    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) != len(pairs):
            raise ImageError("manifest is ambiguous: a name comes twice in it")
        return found

    try:
        names = json.loads(data, object_pairs_hook=once)
    except (ValueError, RecursionError) as error:
        raise ImageError(f"manifest is broken: {first_line(error)}") from None
    lower = {key.lower() for key in KEYS}
    for name in names:
        if name not in KEYS and name.lower() in lower:
            raise ImageError(f"manifest is ambiguous: {name[:20]!r} is written in another way")


def _manifest(media_type: str, config: _Descriptor, layers: list[_Descriptor]) -> Manifest:
    checked = Manifest(media_type, _descriptor(config), tuple(map(_descriptor, layers)))
    if checked.config.media_type not in CONFIGS:
        raise ImageError(
            f"this is no container image but an artifact of type {checked.config.media_type[:100]}"
        )
    if checked.config.size > MAX_CONFIG:
        raise ImageError(f"image config is larger than {MAX_CONFIG >> 20} MiB")
    if len(layers) > MAX_LAYERS:
        raise ImageError(f"image has more than {MAX_LAYERS} layers")
    for layer in checked.layers:
        compression(layer.media_type)
    return checked


def _descriptor(raw: _Descriptor) -> Descriptor:
    digests.check(raw.digest, "manifest: digest")
    if not 0 <= raw.size <= MAX_BLOB:
        raise ImageError(f"manifest: size {raw.size} of {raw.digest} is impossible")
    platform = None
    if raw.platform is not None:
        given = raw.platform
        platform = Platform(given.architecture, given.os, given.variant or "")
    return Descriptor(raw.media_type, raw.digest, raw.size, raw.annotations or {}, platform)


def compression(media_type: str) -> str:
    """What a layer's media type says: `none`, `gzip` or `zstd`. Error: ImageError."""
    for layer in LAYERS:
        if media_type.startswith(layer) and media_type[len(layer) :] in SUFFIXES:
            return SUFFIXES[media_type[len(layer) :]]
    raise ImageError(f"layer type {media_type[:100]!r} is not supported")


def choose(index: Index, wanted: Platform) -> Descriptor:
    """The image of an index that suits best. Error: ImageError that lists what there is."""
    best: tuple[int, Descriptor] | None = None
    for offered in index.manifests:
        if offered.media_type not in ACCEPT:
            continue
        # An entry that names no platform is the last resort: its config will say.
        score = 100 if offered.platform is None else rank(offered.platform, wanted)
        if score >= 0 and (best is None or score < best[0]):
            best = score, offered
    if best is not None:
        return best[1]
    named = [entry.platform for entry in index.manifests if entry.platform is not None]
    offers = sorted({str(platform) for platform in named} - {"unknown/unknown"})
    if offers and all(offer.startswith("windows/") for offer in offers):
        raise ImageError("this is a Windows image", hint=f"{KERNEL}, which is Linux")
    raise ImageError(
        f"image is not for {wanted}, but for {', '.join(offers[:12]) or 'nothing'}",
        hint=f"{KERNEL} and its processor; see --platform",
    )


def parse_config(data: bytes, layers: int | None = None) -> ImageConfig:
    """The config blob. `layers`: how many the manifest has; the config must have as many."""
    if len(data) > MAX_CONFIG:
        raise ImageError(f"image config is larger than {MAX_CONFIG >> 20} MiB")
    raw = decode(data, _Config, "image config")
    diff_ids = tuple((raw.rootfs and raw.rootfs.diff_ids) or ())
    for diff_id in diff_ids:
        digests.check(diff_id, "image config: diff id")
    if layers is not None and layers != len(diff_ids):
        raise ImageError(f"image has {layers} layers, but its config lists {len(diff_ids)}")
    return ImageConfig(
        architecture=raw.architecture,
        os=raw.os or "linux",
        variant=raw.variant or "",
        created=raw.created or "",
        author=raw.author or "",
        config=_settings(bytes(raw.config)),
        diff_ids=diff_ids,
        history=tuple(raw.history or ()),
    )


def _settings(data: bytes) -> dict[str, Any]:
    """The `config` object: types checked, unknown fields kept, nulls and empties left out."""
    if data == b"null":
        return {}
    decode(data, _Settings, "image config")
    plain = decode(data, dict[str, Any], "image config")
    settings = {key: value for key, value in plain.items() if value not in (None, "", [], {})}
    for entry in settings.get("Env", ()):
        if "\0" in entry:
            raise ImageError("image config has an environment variable with a NUL in it")
    for key in ("User", "WorkingDir", "StopSignal"):
        if "\0" in settings.get(key, ""):
            raise ImageError(f"image config has a {key} with a NUL in it")
    volumes = settings.get("Volumes", {})
    if len(volumes) > MAX_VOLUMES:  # a directory and an event each, with every container
        raise ImageError(f"image config has more than {MAX_VOLUMES} volumes")
    if any("\0" in volume for volume in volumes):
        raise ImageError("image config has a volume with a NUL in it")
    return settings


def check_platform(config: ImageConfig, wanted: Platform) -> None:
    """Error: ImageError when the image cannot run on `wanted`."""
    if config.os == "windows":
        raise ImageError("this is a Windows image", hint=f"{KERNEL}, which is Linux")
    if config.os != "linux":
        raise ImageError(f"this is a {config.os[:40]} image", hint=f"{KERNEL}, which is Linux")
    offered = Platform(config.architecture, config.os, config.variant)
    if config.architecture and rank(offered, wanted) < 0:
        raise ImageError(
            f"image is for {offered}, not for {wanted}",
            hint=f"{KERNEL} and its processor; see --platform",
        )


def annotation(entry: Descriptor, names: Sequence[str]) -> str:
    """The first of these annotations that is there, or an empty string."""
    for name in names:
        if entry.annotations.get(name):
            return entry.annotations[name]
    return ""


def first_line(error: BaseException) -> str:
    return (str(error) or type(error).__name__).splitlines()[0][:200]
