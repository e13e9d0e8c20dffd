"""Tar headers to entries: ustar (POSIX.1-1988), PAX (POSIX.1-2001), GNU names and sparse files.

Our own reader, because it is several times as fast as tarfile's, works on bytes, and refuses what
an honest layer never has. Every length that a header names is checked before it is believed.
"""

from __future__ import annotations

from collections.abc import Iterator

from ..errors import ImageError
from .stream import LayerStream, Limits

BLOCK = 512
DIGITS = 21
"""Bytes of a line of a sparse file's map: a number of 64 bits."""

REGULAR, HARDLINK, SYMLINK, CHAR, BLOCKDEV, DIRECTORY, FIFO = (
    b"0",
    b"1",
    b"2",
    b"3",
    b"4",
    b"5",
    b"6",
)
ZERO = bytes(BLOCK)
EXTENDED = frozenset((b"x", b"g", b"L", b"K", b"X"))


class Entry:
    """One member. Names are bytes, as they stand in the tar."""

    __slots__ = (
        "devmajor", "devminor", "gid", "linkname", "mode", "mtime", "name", "real_size", "size",
        "sparse", "type", "uid", "xattrs",
    )  # fmt: skip

    def __init__(self) -> None:
        self.name = b""
        self.linkname = b""
        self.type = REGULAR
        self.mode = 0
        self.uid = 0
        self.gid = 0
        self.size = 0
        self.mtime = 0
        self.devmajor = 0
        self.devminor = 0
        self.xattrs: dict[str, bytes] | None = None
        self.sparse: list[tuple[int, int]] | None = None
        self.real_size = 0


def number(field: bytes) -> int:
    """Octal, or base-256 with the high bit set (GNU). Error: ImageError."""
    if field[0] & 0x80:
        value = int.from_bytes(field, "big")
        bits = len(field) * 8
        if field[0] == 0xFF:
            return value - (1 << bits)
        return value & ((1 << (bits - 1)) - 1)
    text = field.partition(b"\0")[0].strip(b" ")
    if not text:
        return 0
    if text.translate(None, b"01234567"):  # int() takes signs, underscores and 0o
        raise ImageError("layer has a tar header with a number that is none")
    return int(text, 8)


def entries(stream: LayerStream, limits: Limits) -> Iterator[Entry]:
    """The members, in order. The consumer reads an entry's `size` bytes (for sparse files: the
    sum of the pieces) from the stream before it asks for the next; padding is skipped here.

    Error: ImageError for anything broken or beyond the limits.
    """
    pax_global: dict[str, bytes] = {}
    pax: dict[str, bytes] = {}
    long_name = long_link = None
    count = global_bytes = 0
    while not stream.at_end():
        header = stream.read(BLOCK)
        if header == ZERO:
            return
        if number(header[148:156]) != sum(header) - sum(header[148:156]) + 256:
            raise ImageError("layer has a tar header with a wrong checksum")
        kind = header[156:157]
        size = number(header[124:136])
        if size < 0:
            raise ImageError("layer has a tar entry of negative size")
        count += 1
        if count > limits.entries:
            raise ImageError(f"layer has more than {limits.entries} entries")
        if kind in EXTENDED:
            if size > limits.header:
                raise ImageError(f"layer has a tar header larger than {limits.header} bytes")
            extended = stream.read(size)
            stream.skip(-size % BLOCK)
            if kind in (b"x", b"X"):
                pax = _pax(extended)
            elif kind == b"g":
                pax_global.update(_pax(extended))
                global_bytes += size
                if global_bytes > limits.header:
                    raise ImageError("layer has too many global PAX headers")
            elif kind == b"L":
                long_name = extended.rstrip(b"\0")
            else:
                long_link = extended.rstrip(b"\0")
            continue
        entry = _entry(header, kind, size, long_name, long_link)
        fields = {**pax_global, **pax} if pax_global or pax else None
        if fields:
            _override(entry, fields)
        data = entry.size
        if kind == b"S":
            _gnu_sparse(entry, header, stream, limits)
        elif fields and any(key.startswith("GNU.sparse.") for key in fields):
            data -= _pax_sparse(entry, fields, stream, limits)
        if len(entry.name) > limits.name or len(entry.linkname) > limits.name:
            raise ImageError(f"layer has a name longer than {limits.name} bytes")
        if b"\0" in entry.name or b"\0" in entry.linkname:
            raise ImageError("layer has a name with a zero byte")
        if entry.sparse is not None and sum(length for _, length in entry.sparse) > data:
            raise ImageError("layer has a sparse file with more data than its entry")
        pax, long_name, long_link = {}, None, None
        end = stream.position + data
        yield entry
        stream.skip(end - stream.position + -entry.size % BLOCK)


def _entry(
    header: bytes, kind: bytes, size: int, long_name: bytes | None, long_link: bytes | None
) -> Entry:
    entry = Entry()
    name = header[:100].partition(b"\0")[0]
    if header[257:263] == b"ustar\0":
        prefix = header[345:500].partition(b"\0")[0]
        if prefix:
            name = prefix + b"/" + name
    entry.name = name if long_name is None else long_name
    entry.linkname = header[157:257].partition(b"\0")[0] if long_link is None else long_link
    if kind in (b"", b"\0", b"7", b"S"):
        kind = DIRECTORY if entry.name.endswith(b"/") and kind != b"S" else REGULAR
    entry.type = kind
    entry.mode = number(header[100:108]) & 0o7777
    entry.uid = number(header[108:116])
    entry.gid = number(header[116:124])
    entry.size = size if kind == REGULAR else 0
    if kind != REGULAR and kind not in (HARDLINK, SYMLINK, CHAR, BLOCKDEV, DIRECTORY, FIFO):
        raise ImageError(f"layer has a tar entry of unknown type {kind!r}")
    entry.mtime = number(header[136:148]) * 1_000_000_000
    if kind in (CHAR, BLOCKDEV):
        entry.devmajor = number(header[329:337])
        entry.devminor = number(header[337:345])
    return entry


SPARSE_0_0 = (b"GNU.sparse.offset", b"GNU.sparse.numbytes")


def _pax(data: bytes) -> dict[str, bytes]:
    """Records `LENGTH KEY=VALUE\\n` (pax(1), extended header format)."""
    fields: dict[str, bytes] = {}
    pieces: list[bytes] = []
    position = 0
    while position < len(data):
        space = data.find(b" ", position, position + 20)
        length = data[position:space]
        if space < 0 or not length.isdigit():
            raise ImageError("layer has a broken PAX header")
        end = position + int(length)
        if end > len(data) or end <= space or data[end - 1 : end] != b"\n":
            raise ImageError("layer has a broken PAX header")
        key, separator, value = data[space + 1 : end - 1].partition(b"=")
        if not separator:
            raise ImageError("layer has a broken PAX header")
        position = end
        if key in SPARSE_0_0:  # the one pair of keys that may come again and again
            pieces.append(value)
        else:
            fields[key.decode("utf-8", "surrogateescape")] = value
    if pieces:
        fields["GNU.sparse.map"] = b",".join(pieces)
    return fields


def nanoseconds(text: bytes) -> int:
    """`123.456` seconds as an integer of ns. Error: ValueError."""
    seconds, _, fraction = text.partition(b".")
    part = int(fraction[:9].ljust(9, b"0")) if fraction else 0
    whole = int(seconds) * 1_000_000_000
    return whole - part if seconds.startswith(b"-") else whole + part


XATTR = "SCHILY.xattr."


def _override(entry: Entry, fields: dict[str, bytes]) -> None:
    try:
        for key, value in fields.items():
            if key == "path":
                entry.name = value
            elif key == "linkpath":
                entry.linkname = value
            elif key == "size":
                if entry.type == REGULAR:
                    entry.size = int(value)
            elif key == "uid":
                entry.uid = int(value)
            elif key == "gid":
                entry.gid = int(value)
            elif key == "mtime":
                entry.mtime = nanoseconds(value)
            elif key.startswith(XATTR):
                if entry.xattrs is None:
                    entry.xattrs = {}
                entry.xattrs[key[len(XATTR) :]] = value
                if "\0" in key:
                    raise ImageError("layer has an attribute with a zero byte in its name")
    except ValueError:
        raise ImageError("layer has a PAX header with a number that is none") from None
    if entry.size < 0:
        raise ImageError("layer has a tar entry of negative size")


def _gnu_sparse(entry: Entry, header: bytes, stream: LayerStream, limits: Limits) -> None:
    """Old GNU format: pieces in the header, and in blocks that follow it."""
    sparse: list[tuple[int, int]] = []
    _sparse_block(header[386:482], sparse)
    extended = header[482]
    blocks = 0
    while extended:
        blocks += 1
        if blocks > limits.pieces // 20:
            raise ImageError("layer has a sparse file in too many pieces")
        block = stream.read(BLOCK)
        _sparse_block(block[:504], sparse)
        extended = block[504]
    entry.real_size = number(header[483:495])
    entry.sparse = _checked(sparse, entry.real_size, limits)


def _sparse_block(block: bytes, sparse: list[tuple[int, int]]) -> None:
    for start in range(0, len(block), 24):
        offset, length = block[start : start + 12], block[start + 12 : start + 24]
        if offset.strip(b"\0") or length.strip(b"\0"):
            sparse.append((number(offset), number(length)))


def _pax_sparse(entry: Entry, fields: dict[str, bytes], stream: LayerStream, limits: Limits) -> int:
    """GNU's formats 0.0, 0.1 and 1.0 (tar manual, "Sparse Formats"). Returns the bytes of map
    that were read."""
    try:
        if "GNU.sparse.name" in fields:
            entry.name = fields["GNU.sparse.name"]
        size = fields.get("GNU.sparse.realsize", fields.get("GNU.sparse.size"))
        entry.real_size = int(size) if size is not None else entry.size
        if fields.get("GNU.sparse.major") == b"1":
            numbers, used = _sparse_map(stream, entry.size, limits)
        else:
            used = 0
            numbers = [int(n) for n in fields.get("GNU.sparse.map", b"").split(b",") if n]
    except ValueError:
        raise ImageError("layer has a sparse file with a broken map") from None
    pairs = list(zip(numbers[::2], numbers[1::2], strict=False))
    entry.sparse = _checked(pairs, entry.real_size, limits)
    return used


def _sparse_map(stream: LayerStream, size: int, limits: Limits) -> tuple[list[int], int]:
    """Format 1.0: the map stands before the data, in decimal lines, padded to a block."""
    blocks: list[bytes] = []
    newlines, wanted = 0, 1
    while newlines < wanted:
        if (len(blocks) + 1) * BLOCK > min(size, (1 + 2 * limits.pieces) * DIGITS + BLOCK):
            raise ImageError("layer has a sparse file with a broken map")
        block = stream.read(BLOCK)
        blocks.append(block)
        if not newlines and b"\n" in block:
            pieces = int(b"".join(blocks).partition(b"\n")[0])
            if not 0 <= pieces <= limits.pieces:
                raise ImageError("layer has a sparse file in too many pieces")
            wanted = 1 + 2 * pieces
        newlines += block.count(b"\n")
    lines = b"".join(blocks).split(b"\n")
    return [int(line) for line in lines[1:wanted]], len(blocks) * BLOCK


def _checked(
    sparse: list[tuple[int, int]], real_size: int, limits: Limits
) -> list[tuple[int, int]]:
    if len(sparse) > limits.pieces or real_size < 0 or real_size > 1 << 60:
        raise ImageError("layer has a sparse file that no tar would have")
    end = 0
    for offset, length in sparse:
        if offset < end or length < 0 or offset + length > real_size:
            raise ImageError("layer has a sparse file with a broken map")
        end = offset + length
    return sparse
