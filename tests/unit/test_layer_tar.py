"""Tar headers: every format that layers come in, and what no honest one has."""

from __future__ import annotations

import os
import subprocess
import tarfile
from pathlib import Path

import pytest

from tiffin.errors import ImageError
from tiffin.layer.apply import Applier
from tiffin.layer.stream import LayerStream, Limits
from tiffin.testing.layers import Member, directory, layer, member, xattrs


def entries(data: bytes, target: Path, limits: Limits | None = None) -> Path:
    """Unpack; the directory."""
    target.mkdir(exist_ok=True)
    fd = os.open(target, os.O_RDONLY)
    try:
        Applier(fd, "overlay", limits).run(LayerStream(iter([data])))
    finally:
        os.close(fd)
    return target


def pax(records: bytes) -> Member:
    return member("pax", records, tarfile.XHDTYPE)


def record(key: bytes, value: bytes) -> bytes:
    """One PAX record, with its length in front."""
    rest = b" " + key + b"=" + value + b"\n"
    length = len(rest)
    while len(str(length)) + len(rest) != length:
        length = len(str(length)) + len(rest)
    return str(length).encode() + rest


FORMATS = ["v7", "ustar", "oldgnu", "gnu", "posix"]


@pytest.mark.parametrize("format", FORMATS)
def test_what_tar_writes_in_any_format(tmp_path: Path, format: str) -> None:
    source = tmp_path / "source"
    (source / "a/b").mkdir(parents=True)
    (source / "a/b/file").write_bytes(b"x" * 1025)
    (source / "empty").write_bytes(b"")
    (source / "link").symlink_to("a/b/file")
    os.link(source / "empty", source / "hard")
    if format not in ("v7", "ustar"):
        (source / ("n" * 180)).mkdir()
        (source / ("n" * 180) / ("m" * 180)).symlink_to("t" * 300)
    archive = tmp_path / "tar"
    command = ["tar", "-C", str(source), f"--format={format}", "-cf", str(archive), "."]
    subprocess.run(command, check=True)
    target = entries(archive.read_bytes(), tmp_path / "target")
    done = subprocess.run(["diff", "-r", "--no-dereference", str(source), str(target)])
    assert done.returncode == 0
    assert os.stat(target / "hard").st_ino == os.stat(target / "empty").st_ino


@pytest.mark.parametrize("version", ["0.0", "0.1", "1.0"])
def test_sparse_files_of_all_three_pax_formats(tmp_path: Path, version: str) -> None:
    source = tmp_path / "source"
    source.mkdir()
    with open(source / "holes", "wb") as file:
        for piece in range(40):  # more than fit into one header
            file.seek(piece * 1_000_000)
            file.write(b"piece %d" % piece)
        file.truncate(50_000_000)
    archive = tmp_path / "tar"
    command = ["tar", "-C", str(source), "-S", "--format=posix", f"--sparse-version={version}"]
    subprocess.run([*command, "-cf", str(archive), "holes"], check=True)
    target = entries(archive.read_bytes(), tmp_path / "target")
    assert os.listdir(target) == ["holes"]
    assert (target / "holes").read_bytes() == (source / "holes").read_bytes()
    assert os.stat(target / "holes").st_blocks < 2000


def test_ids_and_sizes_in_base_256(tmp_path: Path) -> None:
    data = layer(member("x", uid=3_000_000_000, gid=2_500_000), format=tarfile.GNU_FORMAT)
    status = os.stat(entries(data, tmp_path / "t") / "x")
    assert (status.st_uid, status.st_gid) == (3_000_000_000, 2_500_000)


def test_time_before_1970_and_beyond_what_a_file_system_takes(tmp_path: Path) -> None:
    for number, mtime in enumerate((b"-1.5", b"99999999999999999999", b"1700000000.123456789")):
        top = entries(layer(pax(record(b"mtime", mtime)), member("x")), tmp_path / str(number))
        expected = (-1_500_000_000, 0, 1_700_000_000_123_456_789)[number]
        assert os.stat(top / "x").st_mtime_ns == expected


def test_global_pax_header_is_for_all_that_follows(tmp_path: Path) -> None:
    info, data = member("pax", record(b"uid", b"77"), tarfile.XGLTYPE)
    top = entries(layer((info, data), member("x"), member("y")), tmp_path / "t")
    assert [os.stat(top / name).st_uid for name in "xy"] == [77, 77]


def test_a_name_of_a_pax_header_is_checked_like_any_other(tmp_path: Path) -> None:
    for name in (b"../x", b"a/../../x", b"x\0y", b"", b"/"):
        if name in (b"", b"/"):
            entries(layer(pax(record(b"path", name)), member("harmless")), tmp_path / "t")
            continue
        with pytest.raises(ImageError):
            entries(layer(pax(record(b"path", name)), member("harmless")), tmp_path / "t")
    assert sorted(os.listdir(tmp_path)) == ["t"]
    assert os.listdir(tmp_path / "t") == []


def test_zero_byte_in_a_gnu_long_name(tmp_path: Path) -> None:
    long = member("long", b"a\0b" + b"c" * 200, tarfile.GNUTYPE_LONGNAME)
    with pytest.raises(ImageError, match="zero byte"):
        entries(layer(long, member("x")), tmp_path / "t")


SMALL = Limits(header=4096, name=300, depth=10, entries=20, pieces=5)


@pytest.mark.parametrize(
    ("what", "members"),
    [
        ("header larger", [pax(record(b"comment", b"x" * 5000)), member("x")]),
        ("header larger", [member("l", b"x" * 5000, tarfile.GNUTYPE_LONGNAME), member("x")]),
        ("name longer", [member("x" * 200 + "/" + "y" * 200)]),
        ("name longer", [member("x", type_=tarfile.SYMTYPE, linkname="y" * 400)]),
        ("nested too deeply", [member("d/" * 11 + "x")]),
        ("more than 20 entries", [member(f"f{number}") for number in range(30)]),
        (
            "more than 20 entries",
            [member("g", record(b"k", b"v"), tarfile.XGLTYPE) for _ in range(30)],
        ),
        (
            "too many global",
            [
                member("g", record(b"k%d" % number, b"v" * 1000), tarfile.XGLTYPE)
                for number in range(9)
            ],
        ),
    ],
)
def test_limits(tmp_path: Path, what: str, members: list[Member]) -> None:
    with pytest.raises(ImageError, match=what):
        entries(layer(*members), tmp_path / "t", SMALL)


@pytest.mark.parametrize(
    "fields",
    [
        {b"major": b"1", b"minor": b"0", b"realsize": b"9"},  # a map that never ends
        {b"map": b"0,5,3,4", b"size": b"100"},  # pieces overlap
        {b"map": b"0,50", b"size": b"10"},  # beyond the end of the file
        {b"map": b"0,5", b"size": b"-1"},
        {b"map": b"0,9999", b"size": b"99999"},  # more than the entry has
        {b"map": b"x", b"size": b"10"},
        {b"map": b",".join(b"%d,0" % n for n in range(9)), b"size": b"99"},  # too many pieces
        {b"size": b"99999999999999999999"},
    ],
)
def test_sparse_maps_that_no_tar_writes(tmp_path: Path, fields: dict[bytes, bytes]) -> None:
    records = b"".join(record(b"GNU.sparse." + key, value) for key, value in fields.items())
    with pytest.raises(ImageError):
        entries(layer(pax(records), member("x", b"7" * 600)), tmp_path / "t", SMALL)


@pytest.mark.parametrize(
    "key", ["user.overlay.opaque", "trusted.x", "security.ima", "system.posix_acl_access", "x"]
)
def test_attributes_that_are_the_hosts_business(tmp_path: Path, key: str) -> None:
    headers = {f"SCHILY.xattr.{key}": "y"}
    top = entries(layer(member("f", pax_headers=headers)), tmp_path / "t")
    assert os.listxattr(top / "f") == []


def test_attributes_that_the_kernel_refuses(tmp_path: Path) -> None:
    for headers in (
        xattrs(security__capability=b"nonsense"),
        {"SCHILY.xattr.user." + "k" * 300: "v"},
        {"SCHILY.xattr.user.a\0b": "v"},
    ):
        with pytest.raises(ImageError):
            entries(layer(member("f", pax_headers=headers)), tmp_path / "t")


@pytest.mark.parametrize("cut", [1, 511, 513, 700, 1535])
def test_cut_anywhere(tmp_path: Path, cut: int) -> None:
    whole = layer(member("x", b"x" * 600))
    with pytest.raises(ImageError, match="truncated"):
        entries(whole[:cut], tmp_path / "t")


def test_end_without_zero_blocks_is_an_end(tmp_path: Path) -> None:
    whole = layer(member("x", b"x" * 512))
    assert (entries(whole[:1024], tmp_path / "t") / "x").stat().st_size == 512


def test_type_that_nobody_knows(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match="unknown type"):
        entries(layer(member("x", type_=b"Q")), tmp_path / "t")


def test_a_directory_without_the_slash_and_a_file_with_one(tmp_path: Path) -> None:
    """V7 had no type for directories: a trailing slash says it."""
    info, _ = member("old/")
    info.type = tarfile.AREGTYPE
    top = entries(layer((info, b""), directory("new")), tmp_path / "t")
    assert sorted(os.listdir(top)) == ["new", "old"]
    assert (top / "old").is_dir() and (top / "new").is_dir()
