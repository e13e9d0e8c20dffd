"""Unpacking layers: what honest ones mean, and what hostile ones must not achieve. As root."""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import io
import os
import stat
import subprocess
import tarfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tiffin.errors import ImageError
from tiffin.layer import copies, diff, pack, worker
from tiffin.layer.apply import Applier
from tiffin.layer.stream import LayerStream


def member(name: str, type_: bytes = tarfile.REGTYPE, data: bytes = b"", **more: Any) -> Any:
    info = tarfile.TarInfo(name)
    info.type = type_
    info.size = len(data)
    info.mode = 0o755 if type_ == tarfile.DIRTYPE else 0o644
    for key, value in more.items():
        setattr(info, key, value)
    return info, data


def layer(*members: Any, format: int = tarfile.PAX_FORMAT) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=format, errors="surrogateescape") as tar:
        for info, data in members:
            tar.addfile(info, io.BytesIO(data))
    return out.getvalue()


def apply(root: Path, data: bytes, whiteouts: str = "keep") -> None:
    root.mkdir(exist_ok=True)
    fd = os.open(root, os.O_RDONLY | os.O_DIRECTORY)
    try:
        stream = LayerStream(iter([data]))
        Applier(fd, whiteouts).run(stream)
        stream.drain()
    finally:
        os.close(fd)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "secret").write_text("untouched")
    return tmp_path / "root"


def untouched(root: Path) -> bool:
    outside = root.parent / "outside"
    return (
        sorted(os.listdir(outside)) == ["secret"]
        and (outside / "secret").read_text() == "untouched"
    )


def test_files_directories_links_and_owners(root: Path) -> None:
    apply(
        root,
        layer(
            member("etc/", tarfile.DIRTYPE, mode=0o750, uid=5, gid=6, mtime=1000),
            member("etc/a", data=b"hello", mode=0o4711, uid=7, gid=8, mtime=2000),
            member("etc/link", tarfile.SYMTYPE, linkname="/etc/a"),
            member("etc/hard", tarfile.LNKTYPE, linkname="etc/a"),
            member("pipe", tarfile.FIFOTYPE),
            member("null", tarfile.CHRTYPE, devmajor=1, devminor=3),
        ),
    )
    a = os.stat(root / "etc/a")
    assert (a.st_mode & 0o7777, a.st_uid, a.st_gid, a.st_mtime) == (0o4711, 7, 8, 2000)
    assert os.stat(root / "etc/hard").st_ino == a.st_ino
    assert os.readlink(root / "etc/link") == "/etc/a"
    assert stat.S_ISFIFO(os.stat(root / "pipe").st_mode)
    assert os.stat(root / "null").st_rdev == os.makedev(1, 3)
    directory = os.stat(root / "etc")
    assert (directory.st_mode & 0o7777, directory.st_uid, directory.st_mtime) == (0o750, 5, 1000)


@pytest.mark.parametrize("name", ["../outside/x", "a/../../outside/x", "/../outside/x", ".."])
def test_names_that_lead_out_are_refused(root: Path, name: str) -> None:
    with pytest.raises(ImageError):
        apply(root, layer(member(name, data=b"x")))
    assert untouched(root)


def test_absolute_name_lands_inside(root: Path) -> None:
    apply(root, layer(member("/etc/passwd", data=b"inside")))
    assert (root / "etc/passwd").read_text() == "inside"


@pytest.mark.parametrize("target", ["../outside", "/outside", "../../../../tmp"])
def test_file_through_a_link_that_leads_out_stays_inside(root: Path, target: str) -> None:
    data = layer(
        member("door", tarfile.SYMTYPE, linkname=target),
        member("door/secret", data=b"overwritten"),
    )
    with contextlib.suppress(ImageError):  # a link to nothing inside the root: refused
        apply(root, data)
    assert untouched(root)


def test_file_over_a_link_replaces_the_link(root: Path) -> None:
    apply(
        root,
        layer(
            member("x", tarfile.SYMTYPE, linkname="../outside/secret"),
            member("x", data=b"mine"),
        ),
    )
    assert untouched(root)
    assert not (root / "x").is_symlink() and (root / "x").read_text() == "mine"


@pytest.mark.parametrize("target", ["../outside/secret", "/../outside/secret", "", "nothing"])
def test_hard_link_to_outside_or_nothing_is_refused(root: Path, target: str) -> None:
    with pytest.raises(ImageError):
        apply(root, layer(member("x", tarfile.LNKTYPE, linkname=target)))


def test_hard_link_through_a_link_stays_inside(root: Path) -> None:
    with pytest.raises(ImageError):
        apply(
            root,
            layer(
                member("door", tarfile.SYMTYPE, linkname="../outside"),
                member("x", tarfile.LNKTYPE, linkname="door/secret"),
            ),
        )
    assert untouched(root)


def test_directory_metadata_does_not_follow_a_link(root: Path) -> None:
    before = os.stat(root.parent / "outside").st_mode
    apply(
        root,
        layer(
            member("d", tarfile.SYMTYPE, linkname="../outside"),
            member("d", tarfile.DIRTYPE, mode=0o777),
        ),
    )
    assert os.stat(root.parent / "outside").st_mode == before
    assert (root / "d").is_dir() and not (root / "d").is_symlink()


def test_whiteouts_become_overlayfs_own(root: Path) -> None:
    apply(root, layer(member("d/.wh.gone"), member("e/.wh..wh..opq"), member("e/new")))
    gone = os.lstat(root / "d/gone")
    assert stat.S_ISCHR(gone.st_mode) and gone.st_rdev == 0
    assert os.getxattr(root / "e", "trusted.overlay.opaque") == b"y"


def test_whiteouts_delete_where_layers_are_copies(root: Path) -> None:
    apply(root, layer(member("d/gone"), member("d/stays"), member("e/old"), member("f/x/y")))
    apply(
        root,
        layer(member("d/.wh.gone"), member("e/new"), member("e/.wh..wh..opq"), member(".wh.f")),
        "apply",
    )
    assert os.listdir(root / "d") == ["stays"]
    assert os.listdir(root / "e") == ["new"]
    assert not (root / "f").exists()


@pytest.mark.parametrize("whiteouts", ["keep", "apply"])
@pytest.mark.parametrize("name", [".wh...", ".wh..", ".wh."])
def test_whiteout_of_the_directory_itself_or_its_parent_is_refused(
    root: Path, name: str, whiteouts: str
) -> None:
    with pytest.raises(ImageError):
        apply(root, layer(member(f"d/{name}")), whiteouts)


def test_whiteout_through_a_link_deletes_nothing_outside(root: Path) -> None:
    data = layer(member("door", tarfile.SYMTYPE, linkname="../outside"), member("door/.wh.secret"))
    with contextlib.suppress(ImageError):
        apply(root, data, "apply")
    assert untouched(root)


def test_attributes_of_overlayfs_and_of_the_host_are_not_taken(root: Path) -> None:
    headers = {
        "SCHILY.xattr.trusted.overlay.redirect": "/outside",
        "SCHILY.xattr.trusted.overlay.opaque": "y",
        "SCHILY.xattr.security.selinux": "x",
        "SCHILY.xattr.user.mine": "kept",
    }
    apply(root, layer(member("a", data=b"x", pax_headers=headers)))
    assert os.listxattr(root / "a") == ["user.mine"]


def test_device_that_would_be_a_whiteout_is_refused(root: Path) -> None:
    with pytest.raises(ImageError):
        apply(root, layer(member("passwd", tarfile.CHRTYPE, devmajor=0, devminor=0)))


def test_duplicate_entries_the_last_one_counts(root: Path) -> None:
    apply(
        root,
        layer(
            member("x", data=b"1"),
            member("x/", tarfile.DIRTYPE),
            member("x/y", data=b"2"),
            member("x", data=b"3"),
            member("x/", tarfile.DIRTYPE),
        ),
    )
    assert os.listdir(root / "x") == []


def test_long_and_undecodable_names(root: Path) -> None:
    long = "d" * 200 + "/" + "é" * 100
    bad = os.fsdecode(b"\xff\xfe-bad")
    for format in (tarfile.GNU_FORMAT, tarfile.PAX_FORMAT):
        apply(root, layer(member(long, data=b"x"), member(bad, data=b"y"), format=format))
        assert (root / long).read_text() == "x"
        assert b"\xff\xfe-bad" in os.listdir(os.fsencode(root))


def test_sparse_file_has_its_holes(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    with open(source / "holes", "wb") as file:
        file.seek(10_000_000)
        file.write(b"end")
        file.truncate(20_000_000)
    expected = (source / "holes").read_bytes()
    for number, format in enumerate(("gnu", "posix")):
        archive = tmp_path / f"{format}.tar"
        subprocess.run(
            ["tar", "-C", str(source), "--sparse", f"--format={format}", "-cf", str(archive), "."],
            check=True,
        )
        assert archive.stat().st_size < 100_000
        apply(tmp_path / f"root{number}", archive.read_bytes())
        assert (tmp_path / f"root{number}" / "holes").read_bytes() == expected
        assert (tmp_path / f"root{number}" / "holes").stat().st_blocks < 1000


def test_truncated_layer_and_wrong_checksum(root: Path) -> None:
    whole = layer(member("x", data=b"x" * 5000))
    with pytest.raises(ImageError, match="truncated"):
        apply(root, whole[:2000])
    with pytest.raises(ImageError, match="checksum"):
        apply(root, whole[:100] + b"1" + whole[101:])


@pytest.mark.parametrize(
    "records",
    [b"99999999999 a=b\n", b"5 a\n", b"x a=b\n", b"-5 a=b\n", b"12 size=-5\n\n", b"11 size=xx\n"],
)
def test_broken_pax_headers_are_refused(root: Path, records: bytes) -> None:
    info, data = member("pax", tarfile.XHDTYPE, records)
    with pytest.raises(ImageError):
        apply(root, layer((info, data), member("x")))


@given(st.binary(max_size=3000))
@settings(max_examples=200, suppress_health_check=list(HealthCheck))
def test_noise_is_an_image_error_or_an_empty_layer(tmp_path: Path, noise: bytes) -> None:
    with contextlib.suppress(ImageError):
        apply(tmp_path / "noise", noise)
    assert os.listdir(tmp_path / "noise") == []


@given(st.data())
@settings(max_examples=100, suppress_health_check=list(HealthCheck))
def test_a_damaged_layer_never_does_worse_than_an_image_error(
    tmp_path: Path, data: st.DataObject
) -> None:
    whole = bytearray(
        layer(
            member("a/", tarfile.DIRTYPE),
            member("a/b", data=b"x" * 600),
            member("a/l", tarfile.SYMTYPE, linkname="../../outside"),
            member("n" * 150, data=b"y", pax_headers={"SCHILY.xattr.user.k": "v"}),
        )
    )
    for _ in range(data.draw(st.integers(1, 6))):
        whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    outside = tmp_path / "outside"
    outside.mkdir(exist_ok=True)
    root = tmp_path / os.urandom(4).hex()
    with contextlib.suppress(ImageError):
        apply(root, bytes(whole))
    assert os.listdir(outside) == []


NAMES = st.text(
    st.characters(blacklist_characters="/\0", blacklist_categories=("Cs",)), min_size=1, max_size=20
).filter(lambda n: n not in (".", "..") and not n.startswith(".wh.") and len(n.encode()) < 200)


@given(st.dictionaries(NAMES, st.binary(max_size=2000), max_size=8))
@settings(max_examples=40, suppress_health_check=list(HealthCheck))
def test_tree_to_tar_to_tree_is_the_same(tmp_path: Path, files: dict[str, bytes]) -> None:
    top = tmp_path / os.urandom(4).hex()
    source, target = top / "source", top / "target"
    source.mkdir(parents=True)
    for number, (name, content) in enumerate(files.items()):
        directory = source / f"d{number % 3}"
        directory.mkdir(exist_ok=True)
        (directory / name).write_bytes(content)
        os.utime(directory / name, (1000 + number, 1000 + number))
    pack.pack_tree(str(source), str(top / "tar"))
    apply(target, (top / "tar").read_bytes())
    pack.pack_tree(str(target), str(top / "again"))
    assert (top / "again").read_bytes() == (top / "tar").read_bytes()
    assert diff.tree_changes(str(source), str(target)) == []


def test_upper_directory_to_layer_and_back(tmp_path: Path) -> None:
    upper = tmp_path / "upper"
    apply(
        upper,
        layer(
            member("d/.wh.gone"),
            member("e/.wh..wh..opq"),
            member("e/new", data=b"n"),
            member("h1", data=b"same"),
            member("h2", tarfile.LNKTYPE, linkname="h1"),
        ),
    )
    pack.write_diff(str(upper), str(tmp_path / "diff"))
    with tarfile.open(tmp_path / "diff") as tar:
        names = tar.getnames()
    assert set(names) == {"d", "d/.wh.gone", "e", "e/.wh..wh..opq", "e/new", "h1", "h2"}
    apply(tmp_path / "again", (tmp_path / "diff").read_bytes())
    pack.write_diff(str(tmp_path / "again"), str(tmp_path / "diff2"))
    assert (tmp_path / "diff").read_bytes() == (tmp_path / "diff2").read_bytes()


def test_difference_of_trees(tmp_path: Path) -> None:
    old, new = tmp_path / "old", tmp_path / "new"
    apply(old, layer(member("a", data=b"1"), member("b/c", data=b"2"), member("same", data=b"s")))
    pack_copy(old, new)
    (new / "a").write_text("changed")
    (new / "b/c").unlink()
    (new / "b").rmdir()
    (new / "n").write_text("new")
    found = [(c.kind, c.path) for c in diff.tree_changes(str(old), str(new))]
    assert found == [("C", "/a"), ("D", "/b"), ("A", "/n")]
    diff.write_tree_diff(str(old), str(new), str(tmp_path / "diff"))
    apply(old, (tmp_path / "diff").read_bytes(), "apply")
    assert diff.tree_changes(str(old), str(new)) == []


def pack_copy(source: Path, target: Path) -> None:
    target.mkdir()
    copies.copy_tree(str(source), str(target))


def blob(tmp_path: Path, data: bytes, compression: str) -> dict[str, str]:
    path = tmp_path / f"blob.{compression}"
    stored = data
    if compression == "gzip":
        half = len(data) // 2
        stored = gzip.compress(data[:half]) + gzip.compress(data[half:])  # two members
    elif compression == "zstd":
        stored = subprocess.run(["zstd", "-qc"], input=data, capture_output=True).stdout
    path.write_bytes(stored)
    diff_id = f"sha256:{hashlib.sha256(data).hexdigest()}"
    return {"path": str(path), "compression": compression, "diff_id": diff_id, "whiteouts": "keep"}


@pytest.mark.parametrize("compression", ["none", "gzip", "zstd"])
def test_compressions(tmp_path: Path, compression: str) -> None:
    data = layer(member("x", data=os.urandom(3_000_000)))
    (tmp_path / "t").mkdir()
    usage = worker.unpack(str(tmp_path / "t"), **blob(tmp_path, data, compression))
    assert usage == {"size": 3_000_000, "entries": 1}


@pytest.mark.parametrize("compression", ["gzip", "zstd"])
def test_truncated_compressed_layer(tmp_path: Path, compression: str) -> None:
    request = blob(tmp_path, layer(member("x", data=os.urandom(3_000_000))), compression)
    stored = Path(request["path"]).read_bytes()
    Path(request["path"]).write_bytes(stored[: len(stored) // 3])
    (tmp_path / "t").mkdir()
    with pytest.raises(ImageError):
        worker.unpack(str(tmp_path / "t"), **request)


def test_wrong_diff_id(tmp_path: Path) -> None:
    request = blob(tmp_path, layer(member("x")), "none") | {"diff_id": "sha256:" + "0" * 64}
    (tmp_path / "t").mkdir()
    with pytest.raises(ImageError, match="is not what its image says"):
        worker.unpack(str(tmp_path / "t"), **request)
