"""Manifests, indexes, configs, platforms: checked before they are believed."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tiffin.errors import ImageError, TiffinError, UserError
from tiffin.images import digest, manifest, platform
from tiffin.images.manifest import (
    DOCKER_CONFIG,
    DOCKER_LAYER,
    DOCKER_LIST,
    DOCKER_MANIFEST,
    OCI_CONFIG,
    OCI_INDEX,
    OCI_LAYER,
    OCI_MANIFEST,
    Index,
    Manifest,
)
from tiffin.images.platform import Platform

DIGEST = "sha256:" + "ab" * 32
AMD64 = Platform("amd64")


def descriptor(media_type: str, **extra: Any) -> dict[str, Any]:
    return {"mediaType": media_type, "digest": DIGEST, "size": 3, **extra}


def document(**changes: Any) -> dict[str, Any]:
    found = {
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "config": descriptor(OCI_CONFIG),
        "layers": [descriptor(OCI_LAYER + "+gzip")],
        **changes,
    }
    return {key: value for key, value in found.items() if value is not None}


def parse(found: Any, content_type: str = "") -> Manifest | Index:
    return manifest.parse(json.dumps(found).encode(), content_type)


def index(*platforms: dict[str, str] | None, media_type: str = OCI_INDEX) -> Index:
    entries = []
    for number, wanted in enumerate(platforms):
        entry = {**descriptor(OCI_MANIFEST), "size": number}
        entries.append(entry if wanted is None else {**entry, "platform": wanted})
    found = parse({"schemaVersion": 2, "mediaType": media_type, "manifests": entries})
    assert isinstance(found, Index)
    return found


def refused(found: Any, says: str, content_type: str = "") -> None:
    with pytest.raises(ImageError, match=says) as caught:
        parse(found, content_type)
    assert "\n" not in str(caught.value)


def test_oci_and_docker_manifests() -> None:
    found = parse(document(), OCI_MANIFEST)
    assert isinstance(found, Manifest) and found.config.digest == DIGEST
    docker = document(
        mediaType=DOCKER_MANIFEST,
        config=descriptor(DOCKER_CONFIG),
        layers=[descriptor(DOCKER_LAYER + ".gzip"), descriptor(DOCKER_LAYER)],
    )
    found = parse(docker, f"{DOCKER_MANIFEST}; charset=utf-8")
    assert isinstance(found, Manifest)
    kinds = [manifest.compression(layer.media_type) for layer in found.layers]
    assert kinds == ["gzip", "none"]


def test_the_media_type_may_be_left_out() -> None:
    assert isinstance(parse(document(mediaType=None)), Manifest)
    assert isinstance(parse({"schemaVersion": 2, "manifests": []}), Index)
    assert isinstance(parse(document(mediaType=None), "application/json"), Manifest)


def test_a_document_with_two_readings_is_refused() -> None:
    """CVE-2021-41190."""
    refused(document(manifests=[]), "ambiguous")
    refused(document(mediaType=OCI_INDEX, manifests=[descriptor(OCI_MANIFEST)]), "ambiguous")
    refused(document(), "came as", OCI_INDEX)
    refused(document(mediaType=None), "no list of manifests", OCI_INDEX)
    refused(document(mediaType=OCI_INDEX), "no list of manifests")
    refused({"schemaVersion": 2, "mediaType": OCI_MANIFEST, "manifests": []}, "no config")


def test_schema_1_is_named() -> None:
    refused({"schemaVersion": 1, "fsLayers": [], "history": []}, "schema 1")
    refused(document(), "schema 1", manifest.SCHEMA1[1])


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"config": descriptor(OCI_CONFIG, digest="sha256:../../etc/passwd")}, "digest"),
        ({"layers": [descriptor(OCI_LAYER, digest="sha512:" + "a" * 128)]}, "sha512"),
        ({"layers": [descriptor(OCI_LAYER, size=-1)]}, "impossible"),
        ({"layers": [descriptor(OCI_LAYER, size=1 << 60)]}, "impossible"),
        ({"layers": [descriptor(OCI_LAYER, size="3")]}, "broken"),
        ({"config": descriptor(OCI_CONFIG, size=1 << 30)}, "larger than 8 MiB"),
        ({"config": descriptor("application/vnd.cncf.helm.config.v1+json")}, "artifact"),
        ({"layers": [descriptor("application/vnd.in-toto+json")]}, "not supported"),
        ({"layers": [descriptor(OCI_LAYER)] * 5000}, "more than 4096"),
        ({"layers": None}, "no config or no layers"),
        ({"schemaVersion": 3}, "schema version 3"),
        ({"mediaType": "text/html"}, "not an image"),
    ],
)
def test_hostile_manifests(changes: dict[str, Any], says: str) -> None:
    refused(document(**changes), says)


def test_an_oversize_manifest_is_refused_unread() -> None:
    with pytest.raises(ImageError, match="larger than 4 MiB"):
        manifest.parse(b" " * (manifest.MAX_MANIFEST + 1))


@given(st.binary(max_size=200))
def test_any_bytes_are_refused_in_one_line(data: bytes) -> None:
    for read in (manifest.parse, manifest.parse_config):
        try:
            read(data)
        except TiffinError as error:
            assert "\n" not in str(error)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner),
    max_leaves=10,
)
FIELDS = st.sampled_from(
    ["schemaVersion", "mediaType", "config", "layers", "manifests", "rootfs", "history", "os"]
)


@given(st.dictionaries(FIELDS, json_values))
def test_any_fields_give_a_document_or_an_image_error(fields: dict[str, Any]) -> None:
    for read in (manifest.parse, manifest.parse_config):
        try:
            read(json.dumps({**document(), **fields}).encode())
        except ImageError as error:
            assert "\n" not in str(error)


# --- platforms ------------------------------------------------------------------------------------


def chosen(found: Index, wanted: Platform) -> int:
    return manifest.choose(found, wanted).size


def test_choice_of_a_platform() -> None:
    found = index(
        {"os": "windows", "architecture": "amd64"},
        {"os": "linux", "architecture": "arm", "variant": "v6"},
        {"os": "linux", "architecture": "arm", "variant": "v7"},
        {"os": "linux", "architecture": "arm64", "variant": "v8"},
        {"os": "linux", "architecture": "386"},
        {"os": "linux", "architecture": "amd64"},
        {"os": "unknown", "architecture": "unknown"},
    )
    assert chosen(found, AMD64) == 5
    assert chosen(found, Platform("arm64", variant="v8")) == 3
    assert chosen(found, Platform("arm64")) == 3
    assert chosen(found, Platform("arm")) == 2
    assert chosen(found, Platform("arm", variant="v6")) == 1
    assert chosen(found, Platform("arm", variant="v8")) == 2
    with pytest.raises(ImageError, match=r"not for linux/s390x, but for .*linux/amd64"):
        manifest.choose(found, Platform("s390x"))


def test_last_resorts() -> None:
    i386 = {"os": "linux", "architecture": "386"}
    assert chosen(index(None, i386), AMD64) == 1
    assert chosen(index(None, {"os": "linux", "architecture": "s390x"}), AMD64) == 0
    v3 = {"os": "linux", "architecture": "amd64", "variant": "v3"}
    with pytest.raises(ImageError, match="processor"):
        manifest.choose(index(v3), AMD64)


def test_windows_in_one_line_with_the_reason() -> None:
    windows = index({"os": "windows", "architecture": "amd64", "os.version": "10.0.17763.1"})
    with pytest.raises(ImageError, match=r"Windows image .containers share the host's kernel"):
        manifest.choose(windows, AMD64)
    with pytest.raises(ImageError, match=r"Windows image .containers share the host's kernel"):
        manifest.check_platform(config(os="windows"), AMD64)


def test_another_processor() -> None:
    with pytest.raises(ImageError, match=r"linux/arm64, not for linux/amd64 .*processor"):
        manifest.check_platform(config(architecture="arm64"), AMD64)
    manifest.check_platform(config(architecture="arm64"), Platform("arm64", variant="v8"))
    manifest.check_platform(config(architecture=""), AMD64)


def test_platforms_as_people_write_them() -> None:
    assert platform.parse("linux/arm64") == Platform("arm64")
    assert platform.parse("x86_64") == AMD64
    assert platform.parse("linux/arm/v7") == Platform("arm", "linux", "v7")
    assert platform.parse("") == platform.host()
    for bad in ("linux", "a/b/c/d", "windows/amd64", "linux/", "linux/a b", "plan9/amd64"):
        with pytest.raises(UserError):
            platform.parse(bad)


# --- configs --------------------------------------------------------------------------------------


def config(layers: int | None = None, **changes: Any) -> manifest.ImageConfig:
    found = {
        "architecture": "amd64",
        "os": "linux",
        "rootfs": {"type": "layers", "diff_ids": [DIGEST]},
        **changes,
    }
    return manifest.parse_config(json.dumps(found).encode(), layers)


def test_nulls_and_empties_are_left_out_and_the_unknown_stays() -> None:
    found = config(
        config={"Env": None, "Cmd": ["sh"], "Labels": {}, "User": "", "ArgsEscaped": True},
        created=None,
        author=None,
        history=None,
    )
    assert found.config == {"Cmd": ["sh"], "ArgsEscaped": True}
    assert (found.created, found.history, found.labels) == ("", (), {})


@pytest.mark.parametrize(
    "settings",
    [
        {"Env": "PATH=/"}, {"Cmd": "sh"}, {"Labels": {"a": 1}}, {"User": 0}, {"Env": ["A=\0"]},
        {"Healthcheck": {"Test": "x"}}, [],
    ],
)  # fmt: skip
def test_settings_of_the_wrong_kind(settings: Any) -> None:
    if settings == []:
        with pytest.raises(ImageError):
            config(config=[1])
        return
    with pytest.raises(ImageError):
        config(config=settings)


def test_as_many_layers_as_diff_ids() -> None:
    config(1)
    with pytest.raises(ImageError, match="2 layers, but its config lists 1"):
        config(2)
    with pytest.raises(ImageError, match="diff id"):
        config(rootfs={"diff_ids": ["sha256:x"]})


def test_chain_ids() -> None:
    """image-spec, config.md#layer-chainid."""
    ids = tuple("sha256:" + c * 64 for c in "abc")
    first, second, third = digest.chain_ids(ids)
    assert first == ids[0]
    assert second == "sha256:" + hashlib.sha256(f"{ids[0]} {ids[1]}".encode()).hexdigest()
    assert third == "sha256:" + hashlib.sha256(f"{second} {ids[2]}".encode()).hexdigest()


def test_index_of_dockers_kind() -> None:
    found = index({"os": "linux", "architecture": "amd64"}, media_type=DOCKER_LIST)
    assert found.media_type == DOCKER_LIST


CONFIG = f'{{"mediaType":"{manifest.OCI_CONFIG}","digest":"sha256:{"0" * 64}","size":2}}'


@pytest.mark.parametrize(
    "text",
    [
        f'{{"schemaVersion":2,"config":{CONFIG},"layers":[],"manifests":[]}}',
        f'{{"schemaVersion":2,"config":{CONFIG},"layers":[],"Manifests":[]}}',
        f'{{"schemaVersion":2,"config":{CONFIG},"layers":[],"LAYERS":[{CONFIG}]}}',
        f'{{"schemaVersion":2,"config":{CONFIG},"layers":[],"layers":[{CONFIG}]}}',
        f'{{"schemaVersion":2,"config":{CONFIG[:-1]},"size":3}},"layers":[]}}',
        f'{{"schemaVersion":2,"config":{CONFIG},"layers":[],"mediaType":"{manifest.OCI_INDEX}"}}',
    ],
)
def test_a_document_that_two_parsers_would_read_differently(text: str) -> None:
    """CVE-2021-41190, and the same by means of JSON: what one party takes for an image must not be
    an index, or another image, to the next one."""
    manifest.parse(f'{{"schemaVersion":2,"config":{CONFIG},"layers":[]}}'.encode())
    with pytest.raises(ImageError):
        manifest.parse(text.encode())


@pytest.mark.parametrize(
    "digest",
    ["../../../etc/passwd", "sha256:../../x", "sha256:" + "A" * 64, "sha256:" + "0" * 63, "0" * 64,
     "sha256:" + "0" * 64 + "\n", "md5:" + "0" * 32, ""],
)  # fmt: skip
def test_a_digest_that_would_be_another_path(digest: str) -> None:
    """CVE-2024-3727, CVE-2014-9358: a digest is a file's name here."""
    config = CONFIG.replace("sha256:" + "0" * 64, digest.replace("\n", "\\n"))
    with pytest.raises(ImageError):
        manifest.parse(f'{{"schemaVersion":2,"config":{config},"layers":[]}}'.encode())


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"User": "0\0x"}, "NUL"),
        ({"WorkingDir": "/proc/self/fd/7\0"}, "NUL"),
        ({"Env": ["A=\0"]}, "NUL"),
        ({"Volumes": {"/a\0b": {}}}, "NUL"),
        ({"Volumes": {f"/v{number}": {} for number in range(300)}}, "more than 256 volumes"),
        ({"User": 5}, "broken"),
        ({"Volumes": ["/a"]}, "broken"),
        ({"Cmd": "sh"}, "broken"),
    ],
)
def test_settings_of_an_image_that_no_builder_writes(settings: Any, says: str) -> None:
    with pytest.raises(ImageError, match=says):
        manifest.parse_config(json.dumps({"config": settings}).encode())
