"""Images made on the spot: OCI layouts, and archives of them that skopeo makes."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import platform
import shutil
import subprocess
import tarfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

ARCHITECTURE = {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), platform.machine())
OCI = "application/vnd.oci.image"
MANIFEST = f"{OCI}.manifest.v1+json"
INDEX = f"{OCI}.index.v1+json"
APPLETS = "sh cat echo env id ls mkdir printf ps rm sleep stat test touch true tty wc".split()

Descriptor = dict[str, Any]


def busybox() -> str:
    found = shutil.which("busybox")
    assert found, "busybox-static is not installed"
    return found


def layer(files: Mapping[str, str | bytes | None]) -> bytes:
    """A tar of these files; None makes a directory, `->TARGET` a symbolic link."""
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.mode = 0o755
            if content is None:
                info.type = tarfile.DIRTYPE
                tar.addfile(info)
            elif isinstance(content, str) and content.startswith("->"):
                info.type, info.linkname = tarfile.SYMTYPE, content[2:]
                tar.addfile(info)
            else:
                data = content.encode() if isinstance(content, str) else content
                info.size = len(data)
                tar.addfile(info, io.BytesIO(data))
    return raw.getvalue()


def base_layer() -> bytes:
    """A root file system with busybox in it."""
    files: dict[str, str | bytes | None] = {
        "bin": None, "etc": None, "tmp": None, "root": None,
        "bin/busybox": Path(busybox()).read_bytes(),
        "etc/passwd": "root:x:0:0:root:/root:/bin/sh\nann:x:1000:1000::/:/bin/sh\n",
        "etc/group": "root:x:0:\nann:x:1000:\n",
    }  # fmt: skip
    files |= {f"bin/{name}": "->busybox" for name in APPLETS}
    return layer(files)


def unpack(tar: bytes, target: Path) -> None:
    subprocess.run(["tar", "-x", "-C", target], input=tar, check=True)


class Layout:
    """An OCI image layout directory (image-spec, image-layout.md)."""

    def __init__(self, path: Path) -> None:
        self.path = path
        (path / "blobs/sha256").mkdir(parents=True)
        (path / "oci-layout").write_text('{"imageLayoutVersion":"1.0.0"}')
        self.manifests: list[Descriptor] = []

    def blob(self, data: bytes, media_type: str) -> Descriptor:
        digest = hashlib.sha256(data).hexdigest()
        (self.path / "blobs/sha256" / digest).write_bytes(data)
        return {"mediaType": media_type, "digest": f"sha256:{digest}", "size": len(data)}

    def json(self, document: object, media_type: str) -> Descriptor:
        return self.blob(json.dumps(document).encode(), media_type)

    def image(
        self,
        layers: Sequence[bytes],
        *,
        compression: str = "gzip",
        architecture: str = ARCHITECTURE,
        os: str = "linux",
        config: Mapping[str, Any] | None = None,
    ) -> Descriptor:
        """Add an image of these uncompressed layers; returns its manifest's descriptor."""
        descriptors = [
            self.blob(compress(tar, compression), f"{OCI}.layer.v1.tar{SUFFIX[compression]}")
            for tar in layers
        ]
        document = {
            "architecture": architecture,
            "os": os,
            "created": "2024-05-06T07:08:09Z",
            "config": {"Cmd": ["/bin/sh"], "Env": ["PATH=/bin"], **(config or {})},
            "rootfs": {
                "type": "layers",
                "diff_ids": [f"sha256:{hashlib.sha256(tar).hexdigest()}" for tar in layers],
            },
            "history": [
                {"created": "2024-05-06T07:08:09Z", "created_by": f"layer {number}"}
                for number, _ in enumerate(layers)
            ],
        }
        manifest = {
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": self.json(document, f"{OCI}.config.v1+json"),
            "layers": descriptors,
        }
        found = self.json(manifest, MANIFEST)
        return {**found, "platform": {"architecture": architecture, "os": os}}

    def index(self, manifests: Sequence[Descriptor]) -> Descriptor:
        return self.json(
            {"schemaVersion": 2, "mediaType": INDEX, "manifests": list(manifests)}, INDEX
        )

    def tag(self, descriptor: Descriptor, name: str) -> None:
        """Give a manifest or index a name in index.json."""
        annotations = {"org.opencontainers.image.ref.name": name}
        self.manifests.append({**descriptor, "annotations": annotations})
        document = {"schemaVersion": 2, "mediaType": INDEX, "manifests": self.manifests}
        (self.path / "index.json").write_text(json.dumps(document))

    def read(self, descriptor: Descriptor) -> bytes:
        path: Path = self.path / "blobs" / descriptor["digest"].replace(":", "/")
        return path.read_bytes()


SUFFIX = {"none": "", "gzip": "+gzip", "zstd": "+zstd"}


def compress(data: bytes, how: str) -> bytes:
    if how == "gzip":
        return gzip.compress(data, 6, mtime=0)
    if how == "zstd":
        zstd = subprocess.run(["zstd", "-q", "-c"], input=data, capture_output=True, check=True)
        return bytes(zstd.stdout)
    return data


def simple(path: Path, name: str = "latest", **options: Any) -> Layout:
    """A layout with one image of two layers: busybox, and a file that says hello."""
    layout = Layout(path)
    layers = (base_layer(), layer({"hello.txt": "hello from the image\n"}))
    layout.tag(layout.image(layers, **options), name)
    return layout


def skopeo(*args: str) -> None:
    done = subprocess.run(
        ["skopeo", "--insecure-policy", *args],
        capture_output=True,
        text=True,
        env={**os.environ, "TMPDIR": "/tmp"},
    )
    assert done.returncode == 0, done.stderr


def copy(source: str, target: str, *options: str) -> None:
    skopeo(
        "copy", "-q", "--src-tls-verify=false", "--dest-tls-verify=false", *options, source, target
    )


def blobs(root: Path) -> dict[str, bytes]:
    """digest -> content of a store or layout (`blobs/sha256/HEX`)."""
    return {f"sha256:{p.name}": p.read_bytes() for p in (root / "blobs/sha256").iterdir()}
