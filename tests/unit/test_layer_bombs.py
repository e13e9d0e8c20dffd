"""Layers, archives and trees that are small until they are unpacked: limits, and memory measured.
As root."""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import subprocess
import sys
import tarfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from tiffin import archives
from tiffin.content import ContentStore
from tiffin.errors import ImageError
from tiffin.layer.apply import Applier
from tiffin.layer.pack import pack_tree, write_diff
from tiffin.layer.stream import LayerStream, Limits
from tiffin.layer.write import record
from tiffin.testing.layers import Member, directory, layer, member

MIB = 1 << 20
PLENTY = 100
"""MiB that the process may take at most which unpacks; it has 30 when it has done nothing."""
ENTRIES = 1_000_000 if os.environ.get("TIFFIN_TORTURE") == "all" else 10_000


MEASURED = (
    *(sys.executable, "-I", "-c"),
    "import resource, subprocess, sys; subprocess.run(sys.argv[1:]);"
    "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss, file=sys.stderr)",
)
"""Runs a command and says on stderr how many KiB it had at most. In between, because a process
counts what its parent had when it was born."""


class Unpacked:
    def __init__(self, reply: dict[str, Any], memory: int) -> None:
        self.error = reply.get("what", "")
        self.usage = reply.get("usage", {})
        self.mib = memory // 1024


def unpack(
    target: Path, pieces: Iterator[bytes], limits: Sequence[int] = (), whiteouts: str = "keep"
) -> Unpacked:
    """A gzip'd layer in a process of its own, as the engine does it, with what memory it took."""
    target.mkdir(exist_ok=True)
    path = target.parent / "blob"
    digest = hashlib.sha256()
    with gzip.open(path, "wb", compresslevel=1) as blob:
        for piece in pieces:
            digest.update(piece)
            blob.write(piece)
    request = {
        "target": str(target), "path": str(path), "compression": "gzip",
        "diff_id": f"sha256:{digest.hexdigest()}", "whiteouts": whiteouts, "limits": limits,
    }  # fmt: skip
    done = subprocess.run(
        [*MEASURED, sys.executable, "-I", "-m", "tiffin.layer.worker"],
        input=json.dumps(request).encode(),
        capture_output=True,
        check=True,
    )
    return Unpacked(json.loads(done.stdout), int(done.stderr))


def header(name: str, size: int, type_: bytes = tarfile.REGTYPE) -> bytes:
    info = tarfile.TarInfo(name)
    info.size, info.type = size, type_
    return info.tobuf(tarfile.GNU_FORMAT)


def pax(*records: tuple[str, str]) -> bytes:
    data = b"".join(record(key.encode(), value.encode()) for key, value in records)
    return header("pax", len(data), tarfile.XHDTYPE) + data + bytes(-len(data) % 512)


def test_a_bomb_of_zeros(tmp_path: Path) -> None:
    """CVE-2017-14992: 256 MiB in a few KiB. What is beyond the limit is never written."""

    def bomb() -> Iterator[bytes]:
        yield header("zeros", 256 * MIB)
        for _ in range(256):
            yield bytes(MIB)

    done = unpack(tmp_path / "t", bomb(), Limits(bytes=64 * MIB))
    assert "larger than any layer may be" in done.error
    assert done.mib < PLENTY
    assert os.stat(tmp_path / "t/zeros").st_size <= 65 * MIB


def test_a_map_of_a_sparse_file_that_never_ends(tmp_path: Path) -> None:
    """Two hundred megabytes of digits, without a line's end."""

    def bomb() -> Iterator[bytes]:
        yield pax(("GNU.sparse.major", "1"), ("GNU.sparse.minor", "0"))
        yield header("sparse", 200 * MIB)
        for _ in range(200):
            yield b"1" * MIB

    done = unpack(tmp_path / "t", bomb())
    assert "broken map" in done.error
    assert done.mib < PLENTY


def test_blocks_of_a_gnu_sparse_header_that_never_end(tmp_path: Path) -> None:
    def bomb() -> Iterator[bytes]:
        first = bytearray(header("sparse", 0, tarfile.GNUTYPE_SPARSE))
        first[482] = 1
        first[148:156] = b" " * 8
        first[148:156] = b"%06o\0 " % sum(first)
        yield bytes(first)
        for _ in range(100):
            yield (bytes(504) + b"\1" + bytes(7)) * 2048

    done = unpack(tmp_path / "t", bomb())
    assert "too many pieces" in done.error


@pytest.mark.parametrize("whiteouts", ["keep", "apply"])
def test_very_many_entries(tmp_path: Path, whiteouts: str) -> None:
    """Files in a few directories, and one name again and again. All of it with little memory."""

    def many() -> Iterator[bytes]:
        for number in range(ENTRIES // 2):
            yield header(f"d{number % 7}/{number}", 0) + header("same", 0)

    done = unpack(tmp_path / "t", many(), whiteouts=whiteouts)
    assert not done.error
    assert done.usage["entries"] == ENTRIES
    assert done.mib < PLENTY + ENTRIES * 200 // MIB


def test_very_many_directories(tmp_path: Path) -> None:
    def many() -> Iterator[bytes]:
        for number in range(ENTRIES // 4):
            yield header(f"{'d' * 60}{number}/", 0, tarfile.DIRTYPE)

    done = unpack(tmp_path / "t", many())
    assert not done.error
    assert done.mib < PLENTY + ENTRIES * 200 // MIB
    done = unpack(tmp_path / "few", many(), Limits(memory=100_000))
    assert "more directories than" in done.error


def test_more_entries_than_any_layer_has(tmp_path: Path) -> None:
    def many() -> Iterator[bytes]:
        for _ in range(3000):
            yield header("same", 0) * 100

    done = unpack(tmp_path / "t", many(), Limits(entries=5000))
    assert "more than 5000 entries" in done.error


@pytest.mark.parametrize("size", [-1, -(2**60), 2**63 - 1, 2**64])
def test_sizes_in_base_256_that_no_file_has(tmp_path: Path, size: int) -> None:
    """GNU tar's numbers may be negative, or larger than any integer of C's."""
    block = bytearray(header("x", 0))
    block[124:136] = size.to_bytes(12, "big", signed=True)
    block[124] |= 0x80
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    done = unpack(tmp_path / "t", iter([bytes(block), bytes(2048)]))
    assert "negative size" in done.error or "truncated" in done.error
    assert done.mib < PLENTY


@pytest.mark.parametrize(
    "field", [b"-0000000001\0", b"0o000000010\0", b"0000_00001\0\0", b"0000000009\0\0"]
)
def test_numbers_that_only_python_takes(tmp_path: Path, field: bytes) -> None:
    """What another unpacker takes for the size decides where it sees the next entry."""
    block = bytearray(header("x", 0))
    block[124:136] = field
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    done = unpack(tmp_path / "t", iter([bytes(block), bytes(2048)]))
    assert "number that is none" in done.error


@pytest.mark.parametrize("size", ["-1", "99999999999999999999", "1" * 5000, "0x10", "1e3"])
def test_sizes_in_a_pax_header_that_no_file_has(tmp_path: Path, size: str) -> None:
    done = unpack(tmp_path / "t", iter([pax(("size", size)), header("x", 4), bytes(2048)]))
    assert done.error and done.mib < PLENTY


def test_holes_beyond_what_a_layer_may_hold(tmp_path: Path) -> None:
    """A file of an exabyte that is all hole takes no room, until something copies or packs it."""
    records = (("GNU.sparse.map", "0,0"), ("GNU.sparse.size", str(1 << 50)))
    done = unpack(tmp_path / "t", iter([pax(*records), header("x", 0), bytes(1024)]))
    assert "larger than any layer may be" in done.error


@pytest.mark.parametrize("pack", [pack_tree, write_diff])
def test_a_file_of_an_exabyte_is_not_packed(tmp_path: Path, pack: Any) -> None:
    """`truncate -s 8E x` in a container must not fill the disk when it is committed."""
    (tmp_path / "tree").mkdir()
    with open(tmp_path / "tree/x", "wb") as file:
        file.truncate(8 << 40)
    with pytest.raises(ImageError, match="more than any layer may have"):
        pack(str(tmp_path / "tree"), str(tmp_path / "tar"))
    assert not (tmp_path / "tar").exists()


def test_a_loop_of_long_names(tmp_path: Path) -> None:
    """GNU long names and PAX headers for each other, without an entry, are entries that count."""
    long = member("l", b"n" * 100, tarfile.GNUTYPE_LONGNAME)
    data = layer(*[long] * 300, member("x"))
    fd = os.open(tmp_path, os.O_RDONLY)
    try:
        with pytest.raises(ImageError, match="more than 200 entries"):
            Applier(fd, "keep", Limits(entries=200)).run(LayerStream(iter([data])))
    finally:
        os.close(fd)


# --- archives -------------------------------------------------------------------------------------


def archive(tmp_path: Path, *members: Member) -> str:
    path = tmp_path / "archive.tar"
    path.write_bytes(layer(*members))
    return str(path)


async def refused(tmp_path: Path, says: str, *members: Member) -> None:
    store = ContentStore(str(tmp_path / "blobs"))
    with pytest.raises(ImageError, match=says):
        await archives.load(archive(tmp_path, *members), store)


def _json(value: object) -> bytes:
    return json.dumps(value).encode()


async def test_an_archive_of_very_many_images(tmp_path: Path) -> None:
    """CVE-2023-25153 and its like: thirty bytes name a config of megabytes once more."""
    image = {"Config": "c", "Layers": []}
    config = _json({"architecture": "", "os": "linux", "history": [{}] * 500_000})
    named = [member("c", config), member("manifest.json", _json([image] * 900))]
    await refused(tmp_path, "larger than 16 MiB", *named)
    named[1] = member("manifest.json", _json([image] * 2000))
    await refused(tmp_path, "more than 1000 images", *named)


async def test_an_oci_archive_of_very_many_images(tmp_path: Path) -> None:
    config = _json({"architecture": "", "os": "linux", "history": [{}] * 500_000})
    digest = hashlib.sha256(config).hexdigest()
    kind = "application/vnd.oci.image.config.v1+json"
    described = {"mediaType": kind, "digest": f"sha256:{digest}", "size": len(config)}
    document = _json({"schemaVersion": 2, "config": described, "layers": []})
    own = hashlib.sha256(document).hexdigest()
    entry = {
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "digest": f"sha256:{own}",
        "size": len(document),
    }
    for count, says in ((900, "larger than 16 MiB"), (2000, "more than 1000 images")):
        await refused(
            tmp_path,
            says,
            member("oci-layout", b"{}"),
            member("index.json", _json({"schemaVersion": 2, "manifests": [entry] * count})),
            member(f"blobs/sha256/{digest}", config),
            member(f"blobs/sha256/{own}", document),
        )


async def test_an_archive_of_very_many_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(archives, "MAX_NAMES", 10_000)
    await refused(tmp_path, "too many names", *(member("n" * 90 + str(n)) for n in range(200)))


async def test_a_file_of_an_archive_that_is_read_whole(tmp_path: Path) -> None:
    """CVE-2023-25153: manifest.json of any size was read into memory."""
    path = tmp_path / "archive.tar"
    with open(path, "wb") as file:
        file.write(header("manifest.json", 1 << 33))
        file.truncate(512 + (1 << 33) + 1024)
    store = ContentStore(str(tmp_path / "blobs"))
    with pytest.raises(ImageError, match="larger than 8 MiB"):
        await archives.load(str(path), store)


async def test_names_in_an_archive_lead_nowhere(tmp_path: Path) -> None:
    """CVE-2014-9356, CVE-2014-9357: paths and links of an archive that lead out of it."""
    (tmp_path / "secret").write_text("{}")
    for name in ("../secret", f"{tmp_path}/secret", "link"):
        document = member("manifest.json", _json([{"Config": name, "Layers": []}]))
        link = member("link", type_=tarfile.SYMTYPE, linkname=f"{tmp_path}/secret")
        await refused(tmp_path, "is missing", document, link, directory("d"))
    circle = [
        member(one, type_=tarfile.SYMTYPE, linkname=other)
        for one, other in (("a", "b"), ("b", "a"))
    ]
    document = member("manifest.json", _json([{"Config": "a", "Layers": []}]))
    await refused(tmp_path, "is missing", document, *circle)
