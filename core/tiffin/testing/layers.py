"""Layers for tests: made member by member, and trees compared in all that a layer records."""

from __future__ import annotations

import hashlib
import io
import os
import stat
import tarfile
from pathlib import Path
from typing import Any

from tiffin.hooks import LayerBlob, StorageDriver

Member = tuple[tarfile.TarInfo, bytes]

CAPABILITY = bytes.fromhex("0100000200040000000000000000000000000000")
"""cap_net_bind_service, as `security.capability` has it (linux/capability.h, revision 2)."""


def member(name: str, data: bytes = b"", type_: bytes = tarfile.REGTYPE, **more: Any) -> Member:
    """One member; `more` sets attributes of tarfile.TarInfo (mode, uid, mtime, linkname, ...)."""
    info = tarfile.TarInfo(name)
    info.type = type_
    info.size = len(data)
    info.mode = 0o644
    for key, value in more.items():
        setattr(info, key, value)
    return info, data


def directory(name: str, mode: int = 0o755, **more: Any) -> Member:
    return member(name, type_=tarfile.DIRTYPE, mode=mode, **more)


def symlink(name: str, target: str) -> Member:
    return member(name, type_=tarfile.SYMTYPE, linkname=target, mode=0o777)


def hardlink(name: str, target: str) -> Member:
    return member(name, type_=tarfile.LNKTYPE, linkname=target)


def xattrs(**values: bytes) -> dict[str, str]:
    """`pax_headers` of a member: `user__key=b""` stands for `user.key`."""
    return {
        f"SCHILY.xattr.{key.replace('__', '.')}": value.decode("utf-8", "surrogateescape")
        for key, value in values.items()
    }


def layer(*members: Member, format: int = tarfile.PAX_FORMAT) -> bytes:
    """An uncompressed layer."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=format, errors="surrogateescape") as tar:
        for info, data in members:
            tar.addfile(info, io.BytesIO(data))
    return out.getvalue()


def sha256(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


class Image:
    """Layers in a driver: `chain` has their chain ids, lowest first; `containers` the ids of the
    containers that a test has made of them."""

    def __init__(self, driver: StorageDriver, directory: Path) -> None:
        self.driver = driver
        self.directory = directory
        self.chain: list[str] = []
        self.containers: list[str] = []

    def blob(self, data: bytes) -> LayerBlob:
        path = self.directory / f"blob-{os.urandom(6).hex()}"
        path.write_bytes(data)
        return LayerBlob(path=str(path), compression="none", diff_id=sha256(data))

    def next_chain(self, diff_id: str) -> str:
        """image-spec, config.md#layer-chainid."""
        return sha256(f"{self.chain[-1]} {diff_id}".encode()) if self.chain else diff_id

    async def add(self, *members: Member) -> str:
        return await self.add_layer(layer(*members))

    async def add_layer(self, data: bytes) -> str:
        """Unpack one more layer on top; returns its chain id."""
        blob = self.blob(data)
        chain_id = self.next_chain(blob.diff_id)
        await self.driver.unpack(chain_id, tuple(self.chain), blob)
        self.chain.append(chain_id)
        return chain_id


def snapshot(tree: str) -> dict[str, tuple[Any, ...]]:
    """Path to all that a layer records of it: type and mode, owner, device, link target or
    contents, attributes; and the time, except of directories, which change with what is in them.
    Hard links show as the first of their names."""
    found: dict[str, tuple[Any, ...]] = {}
    first: dict[int, str] = {}
    for above, names, files in os.walk(tree):
        names.sort()
        for name in sorted(names + files):
            path = f"{above}/{name}"
            relative = os.path.relpath(path, tree)
            status = os.lstat(path)
            kind = stat.S_IFMT(status.st_mode)
            content: object = ""
            if kind == stat.S_IFLNK:
                content = os.readlink(path)
            elif kind == stat.S_IFREG:
                content = sha256(Path(path).read_bytes())
            keys = os.listxattr(path, follow_symlinks=False)
            found[relative] = (
                stat.filemode(status.st_mode),
                status.st_uid,
                status.st_gid,
                status.st_rdev if kind in (stat.S_IFCHR, stat.S_IFBLK) else 0,
                content,
                sorted(
                    (key, os.getxattr(path, key, follow_symlinks=False))
                    for key in keys
                    if key == "security.capability" or key.startswith("user.")
                ),
                0 if kind == stat.S_IFDIR else status.st_mtime_ns,
                "" if kind == stat.S_IFDIR else first.setdefault(status.st_ino, relative),
            )
    return found
