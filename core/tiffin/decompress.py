"""Compressions that no layer may have, but that tars on disk do: bzip2 and xz."""

from __future__ import annotations

from collections.abc import Iterator
from typing import BinaryIO, Protocol

from .content import PIECE
from .errors import ImageError

XZ_MEMORY = 1 << 30
"""Bytes; enough for `xz -9`, which needs 65 MiB, and for any honest file."""


class _Engine(Protocol):
    @property
    def eof(self) -> bool: ...

    @property
    def needs_input(self) -> bool: ...

    def decompress(self, data: bytes, max_length: int = -1) -> bytes: ...


def unpack_foreign(file: BinaryIO) -> Iterator[bytes]:
    """The bytes of a file, decompressed when it is bzip2 or xz. Error: ImageError (broken)."""
    piece = file.read(PIECE)
    if piece.startswith(b"BZh"):
        import bz2

        yield from _decompressed(file, piece, bz2.BZ2Decompressor(), (OSError,))
    elif piece.startswith(b"\xfd7zXZ\0"):
        import lzma

        engine = lzma.LZMADecompressor(memlimit=XZ_MEMORY)
        yield from _decompressed(file, piece, engine, (lzma.LZMAError,))
    else:
        while piece:
            yield piece
            piece = file.read(PIECE)


def _decompressed(
    file: BinaryIO, piece: bytes, engine: _Engine, broken: tuple[type[Exception], ...]
) -> Iterator[bytes]:
    """In pieces of at most PIECE bytes, however much a bomb would give."""
    while not engine.eof:
        if engine.needs_input and not piece:
            raise ImageError("archive is truncated")
        try:
            out = engine.decompress(piece, PIECE)
        except broken as error:
            raise ImageError(f"archive is broken: {error}") from None
        piece = file.read(PIECE) if engine.needs_input and not engine.eof else b""
        yield out
