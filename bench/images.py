"""What is benchmarked: a small root file system, and a large image of many layers."""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import io
import json
import platform
import random
import shutil
import socket
import subprocess
import tarfile
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

ARCHITECTURE = {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), platform.machine())
OCI = "application/vnd.oci.image"
LAYERS, FILES, SIZE = 20, 150, 24 << 10
"""Layers of the large image, files in each, mean bytes of a file: 72 MB in 3000 files."""


def _add(tar: tarfile.TarFile, name: str, data: bytes) -> None:
    info = tarfile.TarInfo(name)
    info.size, info.mode = len(data), 0o755
    tar.addfile(info, io.BytesIO(data))


def rootfs(path: Path) -> None:
    """A tar with busybox and the links that the benchmark calls."""
    program = shutil.which("busybox")
    if program is None:
        raise SystemExit("busybox is not installed")
    with tarfile.open(path, "w") as tar:
        _add(tar, "bin/busybox", Path(program).read_bytes())
        for applet in ("sh", "true", "sleep", "echo"):
            link = tarfile.TarInfo(f"bin/{applet}")
            link.type, link.linkname = tarfile.SYMTYPE, "busybox"
            tar.addfile(link)


def kitchen(directory: Path, image: str) -> None:
    """A context: twelve steps, four each that run, that copy, and that only set something; in two
    stages."""
    (directory / "files").mkdir(parents=True)
    for number in range(50):
        (directory / f"files/{number}").write_bytes(random.Random(number).randbytes(20_000))
    lines = [f"FROM {image} AS one"]
    for number in range(4):
        lines += [f"ENV N{number}=x", f"COPY files /copied{number}/", f"RUN echo > /ran{number}"]
    lines += [f"FROM {image}", "COPY --from=one /copied0 /copied", 'CMD ["true"]']
    (directory / "Containerfile").write_text("\n".join(lines) + "\n")


def large(directory: Path) -> None:
    """An OCI layout, tagged `latest`. Half of each file compresses well, as in real images."""
    (directory / "blobs/sha256").mkdir(parents=True)
    rng = random.Random(1)

    def blob(data: bytes, kind: str) -> dict[str, object]:
        digest = hashlib.sha256(data).hexdigest()
        (directory / "blobs/sha256" / digest).write_bytes(data)
        return {"mediaType": f"{OCI}.{kind}", "digest": f"sha256:{digest}", "size": len(data)}

    layers, diff_ids = [], []
    for number in range(LAYERS):
        raw = io.BytesIO()
        with tarfile.open(fileobj=raw, mode="w") as tar:
            for file in range(FILES):
                half = rng.randrange(1, SIZE)
                data = rng.randbytes(half) + b"lunch in a box, " * (half // 16)
                _add(tar, f"usr/share/layer{number}/d{file % 10}/file{file}", data)
        diff_ids.append(f"sha256:{hashlib.sha256(raw.getvalue()).hexdigest()}")
        layers.append(blob(gzip.compress(raw.getvalue(), 6, mtime=0), "layer.v1.tar+gzip"))
    config = {
        "architecture": ARCHITECTURE,
        "os": "linux",
        "config": {"Cmd": ["/bin/true"]},
        "rootfs": {"type": "layers", "diff_ids": diff_ids},
    }
    manifest = {
        "schemaVersion": 2,
        "mediaType": f"{OCI}.manifest.v1+json",
        "config": blob(json.dumps(config).encode(), "config.v1+json"),
        "layers": layers,
    }
    found = blob(json.dumps(manifest).encode(), "manifest.v1+json")
    index = {
        "schemaVersion": 2,
        "manifests": [{**found, "annotations": {"org.opencontainers.image.ref.name": "latest"}}],
    }
    (directory / "index.json").write_text(json.dumps(index))
    (directory / "oci-layout").write_text('{"imageLayoutVersion":"1.0.0"}')


@contextlib.contextmanager
def registry(base: Path) -> Iterator[str]:
    """A docker-registry on loopback with the large image in it; gives its reference."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = f"127.0.0.1:{listener.getsockname()[1]}"
    (base / "registry.yml").write_text(
        "version: 0.1\nlog: {level: error}\n"
        f"storage: {{filesystem: {{rootdirectory: {base}/registry}}}}\n"
        f"http: {{addr: '{address}'}}\n"
    )
    process = subprocess.Popen(
        ["docker-registry", "serve", f"{base}/registry.yml"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        for _ in range(100):
            with contextlib.suppress(OSError), urllib.request.urlopen(f"http://{address}/v2/"):
                break
            time.sleep(0.1)
        large(base / "large")
        subprocess.run(
            ["skopeo", "--insecure-policy", "copy", "-q", "--dest-tls-verify=false",
             f"oci:{base}/large:latest", f"docker://{address}/large:latest"],
            check=True,
        )  # fmt: skip
        yield f"{address}/large:latest"
    finally:
        process.terminate()
        process.wait()
