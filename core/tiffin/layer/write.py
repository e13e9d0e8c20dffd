"""Entries to a tar: ustar (POSIX.1-1988), with a PAX header (POSIX.1-2001) where that is too small.

Our own writer, because it is several times as fast as tarfile's, and works on bytes. The same
entries give the same bytes: there is no access time, no name of an owner, no process id.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Mapping
from typing import BinaryIO

from .stream import LayerStream
from .tar import BLOCK, XATTR

HEADER = struct.Struct("100s8s8s8s12s12s8s1s100s8s32s32s8s8s167s")
BUFFER = 1 << 20
NAMES = (b"path", b"linkpath")
MAX_7 = 0o7777777
"""Largest number in a field of 8 bytes, and in one of 12:"""
MAX_11 = 0o77777777777


class TarWriter:
    """Writes a tar to a new file, or to a descriptor (which is closed at the end)."""

    def __init__(self, target: str | int) -> None:
        self._file: BinaryIO = open(target, "wb", buffering=BUFFER)  # noqa: SIM115

    def close(self, *, complete: bool) -> None:
        """With `complete`, the end of the archive is written first."""
        try:
            if complete:
                self._file.write(bytes(2 * BLOCK))
        finally:
            self._file.close()

    def entry(
        self,
        name: bytes,
        kind: bytes,
        *,
        mode: int = 0,
        uid: int = 0,
        gid: int = 0,
        mtime: int = 0,
        size: int = 0,
        link: bytes = b"",
        device: int = 0,
        xattrs: Mapping[str, bytes] | None = None,
    ) -> None:
        """A header; `size` bytes must follow it, by `data`. `mtime` is in ns, `kind` as in tar."""
        more: list[tuple[bytes, bytes]] = []
        seconds, part = divmod(mtime, 1_000_000_000)
        if part or not 0 <= seconds <= MAX_11:
            more.append((b"mtime", decimal(mtime)))
            seconds = min(max(seconds, 0), MAX_11)
        if len(name) > 100 or not name.isascii():
            more.append((b"path", name))
        if len(link) > 100 or not link.isascii():
            more.append((b"linkpath", link))
        if uid > MAX_7:
            more.append((b"uid", b"%d" % uid))
        if gid > MAX_7:
            more.append((b"gid", b"%d" % gid))
        if size > MAX_11:
            more.append((b"size", b"%d" % size))
        for key in sorted(xattrs or ()):
            assert xattrs is not None
            more.append(((XATTR + key).encode(errors="surrogateescape"), xattrs[key]))
        if more:
            self._pax(more)
        self._file.write(_header(name, kind, mode, uid, gid, size, seconds, link, device))

    def _pax(self, records: list[tuple[bytes, bytes]]) -> None:
        data = b"".join(record(key, value) for key, value in records)
        if any(key in NAMES and not _is_utf8(value) for key, value in records):
            data = record(b"hdrcharset", b"BINARY") + data  # pax(1)
        self._file.write(_header(b"PaxHeader", b"x", 0o644, 0, 0, len(data), 0, b"", 0))
        self._file.write(data)
        self._file.write(bytes(-len(data) % BLOCK))

    def copy(self, stream: LayerStream, size: int) -> None:
        """The contents of an entry: the next `size` bytes of a stream."""
        left = size
        while left:
            piece = stream.read(min(left, BUFFER))
            self._file.write(piece)
            left -= len(piece)
        self._file.write(bytes(-size % BLOCK))

    def data(self, fd: int, size: int) -> None:
        """The contents of an entry: exactly `size` bytes, whatever a container does to the file
        while we read; what is missing becomes zeros."""
        left = size
        while left:
            piece = os.read(fd, min(left, BUFFER))
            if not piece:
                break
            self._file.write(piece)
            left -= len(piece)
        while left:
            piece = bytes(min(left, BUFFER))
            self._file.write(piece)
            left -= len(piece)
        self._file.write(bytes(-size % BLOCK))


def _header(
    name: bytes,
    kind: bytes,
    mode: int,
    uid: int,
    gid: int,
    size: int,
    seconds: int,
    link: bytes,
    device: int,
) -> bytes:
    block = HEADER.pack(
        name,
        b"%07o" % mode,
        b"%07o" % (uid if uid <= MAX_7 else 0),
        b"%07o" % (gid if gid <= MAX_7 else 0),
        b"%011o" % (size if size <= MAX_11 else 0),
        b"%011o" % seconds,
        b"        ",
        kind,
        link,
        b"ustar\x0000",
        b"",
        b"",
        b"%07o" % os.major(device),
        b"%07o" % os.minor(device),
        b"",
    )
    return b"%b%06o\0 %b" % (block[:148], sum(block), block[156:])


def _is_utf8(text: bytes) -> bool:
    try:
        text.decode()
    except UnicodeDecodeError:
        return False
    return True


def record(key: bytes, value: bytes) -> bytes:
    """One PAX record: its own length in front, which counts itself."""
    rest = b" " + key + b"=" + value + b"\n"
    length = len(rest) + len(str(len(rest)))
    if len(str(length)) > len(str(len(rest))):
        length += 1
    return b"%d%b" % (length, rest)


def decimal(ns: int) -> bytes:
    """Seconds with as many digits as they need."""
    seconds, part = divmod(abs(ns), 1_000_000_000)
    text = f"{seconds}.{part:09d}".rstrip("0").rstrip(".") if part else str(seconds)
    return f"-{text}".encode() if ns < 0 else text.encode()
