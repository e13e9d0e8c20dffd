"""`embedded:busybox`: an image made on the spot, so that the first `run` needs no registry.

The same busybox gives the same bytes, hence the same image id, every time.
"""

from __future__ import annotations

import io
import os
import shutil
import struct
import subprocess
import tarfile

from .content import ContentStore
from .errors import DriverError, NotFound
from .image_builder import store
from .images import compose, platform
from .transfer import Fetched

PREFIX = "embedded:"
NAME = "localhost/embedded:busybox"
"""So that `embedded:busybox`, read as a short name, finds it."""
PACKAGE = "busybox-static"
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
MAX_BINARY = 1 << 24
"""Bytes that a busybox may have."""

DIRECTORIES = (
    ("bin", 0o755), ("dev", 0o755), ("etc", 0o755), ("home", 0o755), ("lib", 0o755),
    ("mnt", 0o755), ("proc", 0o555), ("root", 0o700), ("run", 0o755), ("sbin", 0o755),
    ("sys", 0o555), ("tmp", 0o1777), ("usr", 0o755), ("usr/bin", 0o755), ("usr/sbin", 0o755),
    ("var", 0o755), ("var/log", 0o755), ("var/spool", 0o755), ("var/tmp", 0o1777),
    ("var/www", 0o755),
)  # fmt: skip

FILES = {
    "etc/passwd": (
        "root:x:0:0:root:/root:/bin/sh\n"
        "daemon:x:1:1:daemon:/usr/sbin:/bin/false\n"
        "bin:x:2:2:bin:/bin:/bin/false\n"
        "www-data:x:33:33:www-data:/var/www:/bin/false\n"
        "nobody:x:65534:65534:nobody:/home:/bin/false\n"
    ),
    "etc/group": (
        "root:x:0:\ndaemon:x:1:\nbin:x:2:\nsys:x:3:\ntty:x:5:\ndisk:x:6:\nmail:x:8:\n"
        "www-data:x:33:\nusers:x:100:\nnogroup:x:65534:\n"
    ),
    "etc/hosts": "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n",
    "etc/nsswitch.conf": "hosts: files dns\n",
    "etc/shells": "/bin/sh\n/bin/ash\n",
}


def make(given: str, content: ContentStore) -> Fetched:
    """The image, in the content store. Blocking.

    Errors: NotFound for another name, DriverError without a static busybox, StorageFull.
    """
    if given.partition(PREFIX)[2] not in ("busybox", "busybox:latest"):
        raise NotFound(f"there is no {given}", hint="there is embedded:busybox")
    program = find_busybox()
    with open(program, "rb") as file:
        binary = file.read(MAX_BINARY)
        built = int(os.fstat(file.fileno()).st_mtime)
    rootfs = tar(binary, applets(program), built)
    with content.ingest(size=len(rootfs)) as writer:
        writer.write(rootfs)
    config = compose.config(
        {},
        settings={"Cmd": ["sh"], "Env": [f"PATH={PATH}"]},
        diff_id=writer.digest,
        created=built * 1_000_000_000,
        created_by="tiffin: the host's busybox",
        platform=platform.host(),
    )
    return store(content, config, [compose.layer(writer.digest, len(rootfs), "none")], (NAME,))


def find_busybox() -> str:
    """Path of a static busybox. Error: DriverError that names the package."""
    found = [path for path in ("/bin/busybox", shutil.which("busybox")) if path]
    for path in found:
        if os.path.isfile(path) and is_static(path):
            return path
    why = "is not linked statically" if any(map(os.path.isfile, found)) else "is not installed"
    raise DriverError(f"busybox {why}", hint=f"install it: apt install {PACKAGE}")


def is_static(path: str) -> bool:
    """An ELF executable without a program interpreter (elf(5))."""
    try:
        with open(path, "rb") as file:
            head = file.read(4096)
    except OSError:
        return False
    if len(head) < 64 or head[:4] != b"\x7fELF" or head[4] not in (1, 2):
        return False
    order = "<" if head[5] == 1 else ">"
    try:
        if head[4] == 2:
            (table,) = struct.unpack_from(f"{order}Q", head, 32)
            size, count = struct.unpack_from(f"{order}HH", head, 54)
        else:
            (table,) = struct.unpack_from(f"{order}I", head, 28)
            size, count = struct.unpack_from(f"{order}HH", head, 42)
        kinds = [struct.unpack_from(f"{order}I", head, table + i * size)[0] for i in range(count)]
    except (struct.error, OverflowError):
        return False
    return bool(kinds) and 3 not in kinds  # PT_INTERP


def applets(program: str) -> list[str]:
    """`usr/bin/awk` and so on, sorted. Error: DriverError."""
    try:
        done = subprocess.run([program, "--list-full"], capture_output=True, timeout=30)
    except (OSError, subprocess.TimeoutExpired):
        raise DriverError(f"{program} does not run", hint=f"apt install {PACKAGE}") from None
    names = sorted({line.strip("/ ") for line in done.stdout.decode("ascii", "replace").split()})
    if done.returncode or not any(name.endswith("bin/sh") or name == "sh" for name in names):
        raise DriverError(f"{program} has no shell", hint=f"apt install {PACKAGE}")
    return [name for name in names if name != "bin/busybox" and ".." not in name]


def tar(binary: bytes, names: list[str], built: int) -> bytes:
    """The root file system; every time in it is `built` (UTC seconds)."""
    target = io.BytesIO()
    directories = {name for name, _ in DIRECTORIES}
    with tarfile.open(fileobj=target, mode="w", format=tarfile.USTAR_FORMAT) as archive:

        def add(name: str, kind: bytes, mode: int, data: bytes = b"", link: str = "") -> None:
            entry = tarfile.TarInfo(name)
            entry.type, entry.mode, entry.mtime = kind, mode, built
            entry.size, entry.linkname = len(data), link
            archive.addfile(entry, io.BytesIO(data) if data else None)

        for name, mode in DIRECTORIES:
            add(name, tarfile.DIRTYPE, mode)
        add("bin/busybox", tarfile.REGTYPE, 0o755, binary)
        for name in names:
            parent = os.path.dirname(name)
            if parent in directories:
                add(name, tarfile.SYMTYPE, 0o777, link="/bin/busybox")
        for shell in ("bin/sh", "bin/ash"):
            if shell not in names:
                add(shell, tarfile.SYMTYPE, 0o777, link="/bin/busybox")
        for name, text in FILES.items():
            add(name, tarfile.REGTYPE, 0o644, text.encode())
        add("etc/mtab", tarfile.SYMTYPE, 0o777, link="/proc/mounts")
    return target.getvalue()
