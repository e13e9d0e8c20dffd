"""Archives: what `load` and `import` take, and what they refuse."""

from __future__ import annotations

import bz2
import gzip
import hashlib
import io
import json
import lzma
import os
import subprocess
import tarfile
from pathlib import Path
from typing import Any

import pytest

from tiffin import archives, image_builder
from tiffin.content import ContentStore
from tiffin.errors import ImageError, NotFound, TiffinError, UserError
from tiffin.images import manifest, platform
from tiffin.transfer import Fetched

ARCH = platform.host().architecture


def sha(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def tar(files: dict[str, bytes | str]) -> bytes:
    """A string is a symbolic link's target."""
    target = io.BytesIO()
    with tarfile.open(fileobj=target, mode="w") as archive:
        for name, data in files.items():
            entry = tarfile.TarInfo(name)
            if isinstance(data, str):
                entry.type, entry.linkname = tarfile.SYMTYPE, data
                archive.addfile(entry)
            else:
                entry.size = len(data)
                archive.addfile(entry, io.BytesIO(data))
    return target.getvalue()


LAYERS = (tar({"a": b"one"}), tar({"b": b"two" * 5000}))


def config(*layers: bytes, **changes: Any) -> bytes:
    rootfs = {"type": "layers", "diff_ids": [sha(layer) for layer in layers]}
    found = {"architecture": ARCH, "os": "linux", "config": {"Cmd": ["sh"]}, "rootfs": rootfs}
    return json.dumps({**found, **changes}).encode()


def docker(**changes: Any) -> dict[str, bytes | str]:
    """The files of a docker-archive."""
    document = {
        "Config": "abc.json",
        "RepoTags": ["busybox:1", "quay.io/a/b:2", "NO NAME"],
        "Layers": ["one/layer.tar", "two/layer.tar"],
        **changes,
    }
    return {
        "abc.json": config(*LAYERS),
        "one/layer.tar": LAYERS[0],
        "two/layer.tar": LAYERS[1],
        "manifest.json": json.dumps([document]).encode(),
    }


def oci(*names: str, layers: tuple[bytes, ...] = LAYERS) -> dict[str, bytes | str]:
    """The files of an OCI layout with gzip'd layers, one image for each name."""
    files: dict[str, bytes | str] = {"oci-layout": b'{"imageLayoutVersion":"1.0.0"}'}

    def add(media_type: str, data: bytes) -> dict[str, Any]:
        files[f"blobs/sha256/{sha(data)[7:]}"] = data
        return {"mediaType": media_type, "digest": sha(data), "size": len(data)}

    packed = [gzip.compress(layer, mtime=0) for layer in layers]
    document = {
        "schemaVersion": 2,
        "mediaType": manifest.OCI_MANIFEST,
        "config": add(manifest.OCI_CONFIG, config(*layers)),
        "layers": [add(manifest.OCI_LAYER + "+gzip", layer) for layer in packed],
    }
    entry = add(manifest.OCI_MANIFEST, json.dumps(document).encode())
    key = "org.opencontainers.image.ref.name"
    entries = [{**entry, "annotations": {key: name}} for name in names]
    files["index.json"] = json.dumps({"schemaVersion": 2, "manifests": entries}).encode()
    return files


@pytest.fixture
def store(tmp_path: Path) -> ContentStore:
    return ContentStore(str(tmp_path / "blobs"))


async def load(store: ContentStore, tmp_path: Path, data: bytes) -> list[Fetched]:
    path = tmp_path / "archive"
    path.write_bytes(data)
    return await archives.load(str(path), store)


async def refused(store: ContentStore, tmp_path: Path, data: bytes, says: str = "") -> None:
    with pytest.raises(ImageError, match=says or None) as caught:
        await load(store, tmp_path, data)
    assert len(str(caught.value).splitlines()) == 1
    partial = Path(store.root) / "partial"
    assert not partial.exists() or not list(partial.iterdir())


async def test_docker_archive(store: ContentStore, tmp_path: Path) -> None:
    (image,) = await load(store, tmp_path, tar(docker()))
    assert image.names == ("docker.io/library/busybox:1", "quay.io/a/b:2")
    assert image.config_digest == sha(config(*LAYERS)), "docker's image id"
    assert [layer.digest for layer in image.layers] == [sha(layer) for layer in LAYERS]
    assert [store.read(layer.diff_id) for layer in image.layers] == list(LAYERS)
    assert image.media_type == manifest.DOCKER_MANIFEST
    assert (await load(store, tmp_path, tar(docker())))[0] == image, "the same id again"


async def test_docker_archive_with_links_and_shared_layers(
    store: ContentStore, tmp_path: Path
) -> None:
    files = {**docker(), "two/layer.tar": "../one/layer.tar", "abc.json": config(*LAYERS[:1] * 2)}
    (image,) = await load(store, tmp_path, tar(files))
    assert len({layer.digest for layer in image.layers}) == 1
    assert len({layer.chain_id for layer in image.layers}) == 2


async def test_docker_archive_with_compressed_layers(store: ContentStore, tmp_path: Path) -> None:
    packed = gzip.compress(LAYERS[1])
    (image,) = await load(store, tmp_path, tar({**docker(), "two/layer.tar": packed}))
    assert [layer.compression for layer in image.layers] == ["none", "gzip"]
    assert store.read(sha(packed)) == packed


async def test_oci_archive_and_directory(store: ContentStore, tmp_path: Path) -> None:
    files = oci("localhost/lunch:1", "quay.io/a:2")
    first, second = await load(store, tmp_path, tar(files))
    assert (first.names, second.names) == (("localhost/lunch:1",), ("quay.io/a:2",))
    for name, data in files.items():
        if name.startswith("blobs/") and isinstance(data, bytes):
            assert store.read(f"sha256:{name[13:]}") == data, "bit-identical"
        path = tmp_path / "layout" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        assert isinstance(data, bytes)
        path.write_bytes(data)
    other = ContentStore(str(tmp_path / "other"))
    assert await archives.load(str(tmp_path / "layout"), other) == [first, second]


async def test_both_in_one_gives_the_registrys_blobs_and_dockers_names(
    store: ContentStore, tmp_path: Path
) -> None:
    """docker 25 and newer."""
    files = oci("")
    name = f"blobs/sha256/{sha(config(*LAYERS))[7:]}"
    listed = [{"Config": name, "RepoTags": ["lunch:5"], "Layers": []}]
    files["manifest.json"] = json.dumps(listed).encode()
    (image,) = await load(store, tmp_path, tar(files))
    assert image.names == ("docker.io/library/lunch:5",)
    assert image.layers[0].compression == "gzip"


@pytest.mark.parametrize("how", ["gzip", "bz2", "xz", "zstd", "two bz2"])
async def test_compressed_archives(store: ContentStore, tmp_path: Path, how: str) -> None:
    data = tar(docker())
    packed = {
        "gzip": lambda: gzip.compress(data),
        "bz2": lambda: bz2.compress(data),
        "xz": lambda: lzma.compress(data),
        "two bz2": lambda: bz2.compress(data[:700]) + bz2.compress(data[700:]),
        "zstd": lambda: subprocess.run(["zstd", "-qc"], input=data, stdout=-1, check=True).stdout,
    }[how]()
    assert len(await load(store, tmp_path, packed)) == 1
    if how in ("bz2", "xz"):
        await refused(ContentStore(str(tmp_path / "x")), tmp_path, packed[:-30], "broken")
    assert sorted(os.listdir(store.root)) == ["partial", "sha256"]


@pytest.mark.parametrize("cut", [1, 511, 512, 5000, 12000, 20000])
async def test_truncated_archives(store: ContentStore, tmp_path: Path, cut: int) -> None:
    await refused(store, tmp_path, tar(docker())[:cut])
    await refused(store, tmp_path, gzip.compress(tar(docker()))[: cut // 100 + 10])


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"manifest.json": b"[]"}, "no image"),
        ({"manifest.json": b"{"}, "broken"),
        ({"manifest.json": b"[" * 100_000}, "broken"),
        ({"manifest.json": b" " * (9 << 20)}, "larger than 8 MiB"),
        ({"abc.json": b"null"}, "broken"),
        ({"abc.json": config(LAYERS[0])}, "2 layers, but its config lists 1"),
        ({"abc.json": config(LAYERS[1], LAYERS[0])}, "wrong digest"),
        ({"abc.json": config(*LAYERS, os="windows")}, "Windows"),
        ({"abc.json": config(*LAYERS, architecture="s390x")}, "processor"),
        ({"two/layer.tar": gzip.compress(LAYERS[0])}, "not what the config says"),
        ({"two/layer.tar": gzip.compress(LAYERS[1])[:40]}, "truncated"),
        ({"two/layer.tar": "/etc/passwd"}, "missing"),
        ({"two/layer.tar": "layer.tar"}, "missing"),
        ({"two/layer.tar": "../../../../etc/passwd"}, "missing"),
    ],
)
async def test_hostile_docker_archives(
    store: ContentStore, tmp_path: Path, changes: dict[str, bytes | str], says: str
) -> None:
    await refused(store, tmp_path, tar({**docker(), **changes}), says)


@pytest.mark.parametrize("name", ["/etc/passwd", "../../etc/passwd", "x" * 5000, "", "one", "\0"])
async def test_hostile_names_in_a_docker_archive(
    store: ContentStore, tmp_path: Path, name: str
) -> None:
    await refused(store, tmp_path, tar(docker(Layers=[name, name])), "missing")
    await refused(store, tmp_path, tar(docker(Config=name)), "missing")


async def test_hostile_oci_layouts(store: ContentStore, tmp_path: Path) -> None:
    files = oci("a:1")
    for name in [name for name in files if name.startswith("blobs/")]:
        missing = {key: data for key, data in files.items() if key != name}
        await refused(ContentStore(str(tmp_path / name[-9:])), tmp_path, tar(missing), "missing")
        data = files[name]
        assert isinstance(data, bytes)
        wrong = {**files, name: bytes([data[0] ^ 1]) + data[1:]}
        await refused(ContentStore(str(tmp_path / name[-8:])), tmp_path, tar(wrong), "wrong digest")
    await refused(store, tmp_path, tar({**files, "index.json": b'{"schemaVersion":2}'}))
    assert isinstance(files["index.json"], bytes)
    evil = json.loads(files["index.json"])
    evil["manifests"][0]["digest"] = "sha256:../../../../etc/passwd"
    await refused(store, tmp_path, tar({**files, "index.json": json.dumps(evil).encode()}))


async def test_links_of_a_layout_directory_end_inside(store: ContentStore, tmp_path: Path) -> None:
    layout = tmp_path / "layout"
    layout.mkdir()
    (tmp_path / "secret").write_text("{}")
    (layout / "oci-layout").write_text("{}")
    for target in ("../secret", str(tmp_path / "secret"), "/dev/zero", "."):
        (layout / "index.json").symlink_to(target)
        with pytest.raises(ImageError):
            await archives.load(str(layout), store)
        (layout / "index.json").unlink()
    os.mkfifo(layout / "index.json")
    with pytest.raises(ImageError, match="not a file"):
        await archives.load(str(layout), store)


async def test_what_is_no_archive(store: ContentStore, tmp_path: Path) -> None:
    await refused(store, tmp_path, b"")
    await refused(store, tmp_path, b"hello" * 1000)
    await refused(store, tmp_path, bytes(10240))
    await refused(store, tmp_path, tar({"a": b""}), "no docker-archive")
    with pytest.raises(NotFound):
        await archives.load(str(tmp_path / "nope"), store)
    with pytest.raises(ImageError):
        await archives.load(str(tmp_path), store)


# --- import and commit ----------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["none", "gzip", "zstd", "bz2", "xz"])
async def test_import(store: ContentStore, tmp_path: Path, how: str) -> None:
    data = LAYERS[1]
    packed = {
        "none": lambda: data,
        "gzip": lambda: gzip.compress(data),
        "bz2": lambda: bz2.compress(data),
        "xz": lambda: lzma.compress(data),
        "zstd": lambda: subprocess.run(["zstd", "-qc"], input=data, stdout=-1, check=True).stdout,
    }[how]()
    (tmp_path / "rootfs").write_bytes(packed)
    image = await image_builder.import_rootfs(
        str(tmp_path / "rootfs"),
        store,
        name="localhost/r:1",
        changes=('CMD ["x"]', "ENV A=b"),
        message="why",
        created=1_700_000_000_000_000_001,
    )
    (layer,) = image.layers
    assert layer.diff_id == sha(data)
    assert store.read(layer.digest) == (packed if how in ("none", "gzip", "zstd") else data)
    assert image.config.config == {"Cmd": ["x"], "Env": ["A=b"]}
    assert image.config.created == "2023-11-14T22:13:20.000000001Z"
    assert image.config.history[0]["comment"] == "why"
    assert (image.config.architecture, image.names) == (ARCH, ("localhost/r:1",))


NO_TARS = (b"", b"no tar at all" * 100, gzip.compress(b"x", mtime=0), b"BZh9" * 9)


@pytest.mark.parametrize("data", NO_TARS)
async def test_import_of_what_is_no_tar(store: ContentStore, tmp_path: Path, data: bytes) -> None:
    (tmp_path / "rootfs").write_bytes(data)
    with pytest.raises(ImageError):
        await image_builder.import_rootfs(str(tmp_path / "rootfs"), store)
    with pytest.raises(UserError, match="directory"):
        await image_builder.import_rootfs(str(tmp_path), store)
    assert store.digests() == []


async def test_commit_keeps_what_it_does_not_know(store: ContentStore, tmp_path: Path) -> None:
    files = docker()
    files["abc.json"] = config(*LAYERS, future={"x": 1}, container="abc", variant="")
    (base,) = await load(store, tmp_path, tar(files))
    (tmp_path / "layer").write_bytes(tar({"c": b"three" * 99}))
    row = {
        "id": base.config_digest,
        "layers": [
            {"digest": found.digest, "size": found.size, "compression": found.compression}
            for found in base.layers
        ],
    }

    async def commit(created: int) -> Fetched:
        return await image_builder.commit(
            store, base.config, row, str(tmp_path / "layer"), "localhost/new:1",
            author="ann", message="lunch", changes=["USER 5"], created=created,
        )  # fmt: skip

    image = await commit(7)
    document = store.read_json(image.config_digest)
    assert document["future"] == {"x": 1} and "container" not in document
    assert document["config"] == {"Cmd": ["sh"], "User": "5"}
    assert document["history"] == [
        {
            "author": "ann",
            "comment": "lunch",
            "created": "1970-01-01T00:00:00.000000007Z",
            "created_by": "tiffin commit",
        }
    ]
    assert [layer.chain_id for layer in image.layers[:2]] == [
        layer.chain_id for layer in base.layers
    ]
    packed = store.read(image.layers[2].digest)
    assert gzip.decompress(packed) == (tmp_path / "layer").read_bytes()
    assert await commit(7) == image, "deterministic"
    assert (await commit(8)).config_digest != image.config_digest


async def test_any_damage_is_an_error_in_one_line(store: ContentStore, tmp_path: Path) -> None:
    """Every byte of the headers and documents of an archive, changed in turn (some by chance)."""
    data = bytearray(tar(docker()))
    for position in range(0, 2048, 37):
        damaged = bytearray(data)
        damaged[position] ^= 0x41
        try:
            await load(store, tmp_path, bytes(damaged))
        except TiffinError as error:
            assert len(str(error).splitlines()) == 1
