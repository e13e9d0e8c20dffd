"""Archives on disk may be compressed in more ways than layers: bzip2 and xz as well."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from io import BufferedReader
from typing import IO, Protocol

from .content import PIECE
from .errors import DriverError, ImageError

XZ_MEMORY = 128 << 20
"""Bytes; `xz -9` needs 65 MiB to decompress."""

MAGIC = {
    b"\x1f\x8b": "gzip",
    b"\x28\xb5\x2f\xfd": "zstd",
    b"BZh": "bzip2",
    b"\xfd7zXZ\0": "xz",
}


FOREIGN = ("bzip2", "xz")
"""What no layer may have."""


def kind(head: bytes) -> str:
    """`none`, `gzip`, `zstd`, `bzip2` or `xz`, by the first six bytes. Zstandard may begin with a
    skippable frame (RFC 8878, 3.1.2)."""
    for magic, name in MAGIC.items():
        if head.startswith(magic):
            return name
    return "zstd" if head[1:4] == b"\x2a\x4d\x18" and head[0] >> 4 == 5 else "none"


def peek(file: BufferedReader) -> str:
    """`kind` of what comes next; nothing is consumed."""
    return kind(file.peek(6)[:6])


def unpack(file: BufferedReader, how: str) -> Iterator[bytes]:
    """The decompressed bytes, in pieces of at most PIECE, however much a bomb would give.

    `zstd` needs a file that can be rewound, since a program reads it.
    Errors: ImageError (broken), DriverError (no zstd).
    """
    if how == "gzip":
        return _gzip(file)
    if how == "bzip2":
        import bz2

        return _streams(file, bz2.BZ2Decompressor, OSError)
    if how == "xz":
        import lzma

        return _streams(file, lambda: lzma.LZMADecompressor(memlimit=XZ_MEMORY), lzma.LZMAError)
    if how == "zstd":
        return _zstd(file)
    return iter(lambda: file.read(PIECE), b"")


def _gzip(file: BufferedReader) -> Iterator[bytes]:
    import gzip
    import zlib

    try:
        with gzip.GzipFile(fileobj=file) as unpacked:
            while piece := unpacked.read(PIECE):
                yield piece
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise ImageError(f"archive is broken: {error}") from None


class _Engine(Protocol):
    @property
    def eof(self) -> bool: ...

    @property
    def needs_input(self) -> bool: ...

    @property
    def unused_data(self) -> bytes: ...

    def decompress(self, data: bytes, max_length: int = -1) -> bytes: ...


def _streams(
    file: BufferedReader, make: Callable[[], _Engine], broken: type[Exception]
) -> Iterator[bytes]:
    """One compressed stream after the other, as parallel compressors write them."""
    engine = make()
    data = file.read(PIECE)
    while True:
        if engine.eof:
            data = (engine.unused_data or file.read(PIECE)).lstrip(b"\0")
            if not data:
                return
            engine = make()
        elif engine.needs_input and not data:
            raise ImageError("archive is broken: it is cut off")
        try:
            out = engine.decompress(data, PIECE)
        except broken as error:
            raise ImageError(f"archive is broken: {error}") from None
        yield out
        data = file.read(PIECE) if engine.needs_input and not engine.eof else b""


def _zstd(file: IO[bytes]) -> Iterator[bytes]:
    import shutil
    import subprocess

    program = shutil.which("zstd") or shutil.which("zstd", path="/usr/local/bin:/usr/bin:/bin")
    if program is None:
        raise DriverError("zstd is not installed", hint="install it: apt install zstd")
    os.lseek(file.fileno(), 0, os.SEEK_SET)
    with subprocess.Popen(
        [program, "-dcq"], stdin=file, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout is not None and process.stderr is not None
        try:
            while piece := process.stdout.read(PIECE):
                yield piece
        finally:
            process.stdout.close()  # it ends with SIGPIPE if it is not done
        if process.wait():
            why = process.stderr.read(400).decode(errors="replace").strip().splitlines()
            raise ImageError(f"archive is broken: {why[-1] if why else 'no zstd'}")
