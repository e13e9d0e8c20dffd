"""The bytes of a layer: decompressed in bounded pieces and hashed as they pass."""

from __future__ import annotations

import hashlib
import os
import zlib
from collections.abc import Iterator
from typing import NamedTuple

from ..errors import DriverError, ImageError

PIECE = 1 << 20
"""Bytes decompressed, at most, in one go."""

INPUT = 1 << 17
"""Bytes of a compressed blob read in one go: what zlib has not used yet is copied each time."""

AHEAD = 4
"""Pieces that are decompressed before they are asked for."""


class Limits(NamedTuple):
    """What no honest layer exceeds. (A tuple: the worker cannot afford to import msgspec.)"""

    bytes: int = 1 << 40
    """Uncompressed bytes of a layer."""
    ratio: int = 2000
    """Uncompressed to compressed bytes; gzip cannot reach it, zstd can."""
    free: int = 16 << 30
    """Uncompressed bytes up to which the ratio does not matter."""
    entries: int = 5_000_000
    header: int = 1 << 20
    """Bytes of one PAX header or long name, and of all global PAX headers together."""
    name: int = 4096
    """Bytes of a path or link target: PATH_MAX."""
    depth: int = 500
    """Components of a path."""
    pieces: int = 100_000
    """Pieces of a sparse file."""
    memory: int = 512 << 20
    """Bytes that it takes to remember the directories, whose times are set last."""


class LayerStream:
    """An uncompressed layer, read in order."""

    def __init__(self, pieces: Iterator[bytes], limit: int = Limits().bytes) -> None:
        self._pieces = pieces
        self._piece = b""
        self._at = 0
        """What of `_piece` has been handed out."""
        self._hash = hashlib.sha256()
        self._left = limit
        self.position = 0
        """Uncompressed bytes handed out so far."""

    def _fill(self) -> bool:
        for piece in self._pieces:
            if piece:
                self._left -= len(piece)
                if self._left < 0:
                    raise ImageError("layer is larger than any layer may be")
                self._hash.update(piece)
                self._piece = piece
                self._at = 0
                return True
        self._piece = b""
        self._at = 0
        return False

    def _need(self) -> int:
        """Bytes at hand, at least one. Error: ImageError at the end of the stream."""
        have = len(self._piece) - self._at
        if not have:
            if not self._fill():
                raise ImageError("layer is truncated")
            have = len(self._piece)
        return have

    def read(self, count: int) -> bytes:
        """Exactly `count` bytes. Error: ImageError when the layer ends before that."""
        self.position += count
        end = self._at + count
        if end <= len(self._piece):
            data = self._piece[self._at : end]
            self._at = end
            return data
        parts = []
        while count:
            part = self._piece[self._at : self._at + min(count, self._need())]
            parts.append(part)
            self._at += len(part)
            count -= len(part)
        return b"".join(parts)

    def at_end(self) -> bool:
        return self._at == len(self._piece) and not self._fill()

    def copy(self, fd: int, count: int) -> None:
        """Write the next `count` bytes to a file."""
        self.position += count
        while count:
            have = self._need()
            part = memoryview(self._piece)[self._at : self._at + min(count, have)]
            written = os.write(fd, part)
            self._at += written
            count -= written

    def skip(self, count: int) -> None:
        self.position += count
        while count:
            part = min(count, self._need())
            self._at += part
            count -= part

    def drain(self) -> str:
        """Read to the end; returns the diff id, `sha256:HEX` of all that there was."""
        while self._fill():
            pass
        return f"sha256:{self._hash.hexdigest()}"


def open_blob(path: str, compression: str, limits: Limits) -> LayerStream:
    """A blob as a stream. Errors: ImageError (broken, a bomb), DriverError (no zstd)."""
    size = os.stat(path).st_size
    bound = min(limits.bytes, max(limits.free, size * limits.ratio))
    if compression == "none":
        return LayerStream(_plain(path, PIECE), bound)
    if compression == "gzip":
        unpacked = _gzip(path)
        return LayerStream(_ahead(unpacked) if size > PIECE else unpacked, bound)
    if compression == "zstd":
        return LayerStream(_zstd(path), bound)
    raise ImageError(f"layer has compression {compression!r}, which is not known")


def _plain(path: str, count: int) -> Iterator[bytes]:
    with open(path, "rb", buffering=0) as file:
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_SEQUENTIAL)
        while piece := file.read(count):
            yield piece


def _gzip(path: str) -> Iterator[bytes]:
    """RFC 1952, several members one after the other; zeros may follow the last."""
    inflate = zlib.decompressobj(wbits=31)
    used = False  # by a member that has begun
    try:
        for data in _plain(path, INPUT):
            while data:
                if inflate.eof:
                    data = data.lstrip(b"\0")
                    if not data:
                        break
                    inflate = zlib.decompressobj(wbits=31)
                used = True
                yield inflate.decompress(data, PIECE)
                data = inflate.unused_data if inflate.eof else inflate.unconsumed_tail
        while used and not inflate.eof:  # what zlib still holds back
            piece = inflate.decompress(inflate.unconsumed_tail, PIECE)
            if not piece:
                break
            yield piece
    except zlib.error as error:
        raise ImageError(f"layer is not gzip: {error}") from None
    if not inflate.eof:
        raise ImageError("layer is truncated")


def _ahead(pieces: Iterator[bytes]) -> Iterator[bytes]:
    """The same pieces, made by a thread: zlib, sha256 and write(2) all let go of the GIL, so one
    core decompresses while the other writes files."""
    import threading  # large blobs only
    from queue import Queue

    queue: Queue[bytes | BaseException | None] = Queue(AHEAD)

    def produce() -> None:
        try:
            for piece in pieces:
                queue.put(piece)
        except Exception as error:  # raised again where the pieces are used
            queue.put(error)
        else:
            queue.put(None)

    # A daemon: when the layer turns out to be bad, nobody empties the queue any more.
    threading.Thread(target=produce, daemon=True).start()
    while (piece := queue.get()) is not None:
        if isinstance(piece, BaseException):
            raise piece
        yield piece


def _zstd(path: str) -> Iterator[bytes]:
    """RFC 8878, by the program. Its default bound for memory (windows up to 128 MiB) stays."""
    import fcntl
    import shutil
    import subprocess

    program = shutil.which("zstd") or shutil.which("zstd", path="/usr/local/bin:/usr/bin:/bin")
    if program is None:
        raise DriverError("zstd is not installed", hint="install it: apt install zstd")
    with (
        open(path, "rb", buffering=0) as file,
        subprocess.Popen(
            [program, "-dcq"],
            stdin=file,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            bufsize=0,
        ) as process,
    ):
        assert process.stdout is not None and process.stderr is not None
        fcntl.fcntl(process.stdout, fcntl.F_SETPIPE_SZ, PIECE)
        try:
            while piece := process.stdout.read(PIECE):
                yield piece
        finally:
            process.stdout.close()  # it ends with SIGPIPE if it is not done
        if process.wait():
            why = process.stderr.read(400).decode(errors="replace").strip().splitlines()
            raise ImageError(f"layer is not zstd: {why[-1] if why else 'broken'}")
