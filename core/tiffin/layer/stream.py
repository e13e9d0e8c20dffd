"""The bytes of a layer: decompressed in bounded pieces and hashed as they pass."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import zlib
from collections.abc import Iterator

from ..errors import DriverError, ImageError

PIECE = 1 << 20
"""Bytes read, and at most decompressed, in one go."""

MAX_BYTES = 1 << 40
"""Uncompressed bytes of one layer; beyond that it is a bomb."""


class LayerStream:
    """An uncompressed layer, read in order. `digest` holds once `drain` has returned."""

    def __init__(self, pieces: Iterator[bytes], limit: int = MAX_BYTES) -> None:
        self._pieces = pieces
        self._piece = memoryview(b"")
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
                self._piece = memoryview(piece)
                return True
        return False

    def read(self, count: int) -> bytes:
        """Exactly `count` bytes. Error: ImageError when the layer ends before that."""
        self.position += count
        if len(self._piece) >= count:
            data = bytes(self._piece[:count])
            self._piece = self._piece[count:]
            return data
        parts = []
        while count:
            if not self._piece and not self._fill():
                raise ImageError("layer is truncated")
            part = self._piece[:count]
            parts.append(bytes(part))
            self._piece = self._piece[len(part) :]
            count -= len(part)
        return b"".join(parts)

    def read_some(self, count: int) -> bytes:
        """Up to `count` bytes; fewer only at the end."""
        try:
            return self.read(count)
        except ImageError:
            return b""

    def copy(self, fd: int, count: int) -> None:
        """Write the next `count` bytes to a file."""
        self.position += count
        while count:
            if not self._piece and not self._fill():
                raise ImageError("layer is truncated")
            part = self._piece[:count]
            written = os.write(fd, part)
            self._piece = self._piece[written:]
            count -= written

    def skip(self, count: int) -> None:
        self.position += count
        while count:
            if not self._piece and not self._fill():
                raise ImageError("layer is truncated")
            part = min(count, len(self._piece))
            self._piece = self._piece[part:]
            count -= part

    def drain(self) -> str:
        """Read to the end; returns the diff id, `sha256:HEX` of all that there was."""
        self._piece = memoryview(b"")
        while self._fill():
            self._piece = memoryview(b"")
        return f"sha256:{self._hash.hexdigest()}"


def pieces(path: str, compression: str) -> Iterator[bytes]:
    """The uncompressed bytes of a blob. Errors: ImageError (broken), DriverError (no zstd)."""
    if compression == "none":
        return _plain(path)
    if compression == "gzip":
        return _gzip(path)
    if compression == "zstd":
        return _zstd(path)
    raise ImageError(f"layer compression {compression!r} is not known")


def _plain(path: str) -> Iterator[bytes]:
    with open(path, "rb", buffering=0) as file:
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_SEQUENTIAL)
        while piece := file.read(PIECE):
            yield piece


def _gzip(path: str) -> Iterator[bytes]:
    """RFC 1952, several members one after the other; zeros may follow the last."""
    inflate = zlib.decompressobj(wbits=31)
    started = False
    try:
        for data in _plain(path):
            while data:
                if inflate.eof:
                    data = data.lstrip(b"\0")
                    if not data:
                        break
                    inflate = zlib.decompressobj(wbits=31)
                    started = False
                out = inflate.decompress(data, PIECE)
                started = True
                if out:
                    yield out
                data = inflate.unused_data if inflate.eof else inflate.unconsumed_tail
    except zlib.error as error:
        raise ImageError(f"layer is not gzip: {error}") from None
    while not inflate.eof and started:
        out = inflate.decompress(inflate.unconsumed_tail, PIECE)
        if not out:
            raise ImageError("layer is truncated")
        yield out


def _zstd(path: str) -> Iterator[bytes]:
    program = shutil.which("zstd")
    if program is None:
        raise DriverError("zstd is not installed", hint="install it: apt install zstd")
    with (
        open(path, "rb") as file,
        subprocess.Popen(
            [program, "-dcq", "--long=31"],
            stdin=file,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        ) as process,
    ):
        assert process.stdout is not None and process.stderr is not None
        try:
            while piece := process.stdout.read(PIECE):
                yield piece
        except GeneratorExit:
            process.kill()
            raise
        if process.wait():
            why = process.stderr.read(400).decode(errors="replace").strip().splitlines()
            raise ImageError(f"layer is not zstd: {why[-1] if why else 'broken'}")
