"""Trees to tars: what we write, we and others read back. As root."""

from __future__ import annotations

import io
import os
import shutil
import socket
import subprocess
import tarfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tiffin.errors import ImageError
from tiffin.layer.apply import Applier
from tiffin.layer.copies import copy_tree
from tiffin.layer.diff import changes, tree_changes
from tiffin.layer.pack import pack_tree, write_diff
from tiffin.layer.stream import LayerStream
from tiffin.layer.write import TarWriter, decimal
from tiffin.testing.layers import snapshot


def unpack(archive: Path, target: Path) -> None:
    target.mkdir()
    fd = os.open(target, os.O_RDONLY)
    try:
        Applier(fd, "overlay").run(LayerStream(iter([archive.read_bytes()])))
    finally:
        os.close(fd)


NAME = (
    st.binary(min_size=1, max_size=120)
    .filter(lambda name: not {0, 0x2F} & set(name) and name not in (b".", b".."))
    .filter(lambda name: not name.startswith(b".wh."))
)
TIME = st.integers(-(2**31) * 10**9, 2**33 * 10**9 - 1)
META = st.tuples(st.integers(0, 0o7777), st.integers(0, 2**32 - 2), st.integers(0, 2**32 - 2), TIME)
XATTRS = st.dictionaries(st.sampled_from(["user.a", "user.b.c", "user.é"]), st.binary(max_size=40))
TARGET = st.binary(min_size=1, max_size=300).filter(lambda target: 0 not in target)
LEAF = st.one_of(
    st.tuples(st.just("file"), META, st.binary(max_size=3000), XATTRS),
    st.tuples(st.just("link"), META, TARGET),
    st.tuples(st.just("fifo"), META),
    st.tuples(st.just("device"), META, st.integers(1, 4095), st.integers(0, 255)),
    st.tuples(st.just("hard"), META),
)
TREE = st.recursive(
    st.dictionaries(NAME, LEAF, max_size=4),
    lambda below: st.dictionaries(
        NAME, st.one_of(LEAF, st.tuples(st.just("directory"), META, below, XATTRS)), max_size=4
    ),
    max_leaves=12,
)


def build(top: bytes, tree: dict[bytes, Any], files: list[bytes]) -> None:
    for name, (kind, (mode, uid, gid, mtime), *rest) in tree.items():
        path = top + b"/" + name
        xattrs: dict[str, bytes] = {}
        if kind == "file":
            Path(os.fsdecode(path)).write_bytes(rest[0])
            files.append(path)
            xattrs = rest[1]
        elif kind == "directory":
            os.mkdir(path)
            build(path, rest[0], files)
            xattrs = rest[1]
        elif kind == "link":
            os.symlink(rest[0], path)
        elif kind == "fifo":
            os.mkfifo(path)
        elif kind == "device":
            os.mknod(path, 0o020600, os.makedev(*rest))
        elif files:
            os.link(files[0], path)
            continue
        else:
            continue
        os.chown(path, uid, gid, follow_symlinks=False)
        if kind != "link":
            os.chmod(path, mode)
        for key, value in xattrs.items():
            os.setxattr(path, key, value)
        os.utime(path, ns=(mtime, mtime), follow_symlinks=False)


@given(TREE)
@settings(max_examples=120, suppress_health_check=list(HealthCheck))
def test_any_tree_comes_back_the_same(tmp_path: Path, tree: dict[bytes, Any]) -> None:
    top = tmp_path / os.urandom(6).hex()
    source = top / "source"
    source.mkdir(parents=True)
    build(os.fsencode(source), tree, [])
    pack_tree(str(source), str(top / "tar"))
    unpack(top / "tar", top / "target")
    assert snapshot(str(top / "target")) == snapshot(str(source))
    assert tree_changes(str(source), str(top / "target")) == []
    pack_tree(str(top / "target"), str(top / "again"))
    assert (top / "again").read_bytes() == (top / "tar").read_bytes()
    (top / "copy").mkdir()
    copy_tree(str(source), str(top / "copy"))
    assert snapshot(str(top / "copy")) == snapshot(str(source))
    shutil.rmtree(top)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A tree with all that needs more than a plain header."""
    top = tmp_path / "source"
    (top / ("d" * 150) / "below").mkdir(parents=True)
    (top / ("d" * 150) / "below" / ("f" * 200)).write_bytes(b"x" * 700)
    (top / os.fsdecode(b"bad-\xff")).write_text("bad")
    (top / "é").symlink_to("t" * 150)
    (top / "owned").write_text("x")
    os.setxattr(top / "owned", "user.no=pax", b"cannot be named in a PAX record: left out")
    os.chown(top / "owned", 3_000_000, 4_000_000_000)
    os.setxattr(top / "owned", "user.note", b"\xff\n\0=")
    os.link(top / "owned", top / "owned-too")
    os.mkfifo(top / "pipe")
    os.mknod(top / "null", 0o020666, os.makedev(1, 3))
    os.utime(top / "owned", ns=(0, -1_500_000_000))
    return top


def expected(source: Path) -> dict[str, tuple[Any, ...]]:
    os.removexattr(source / "owned", "user.no=pax")
    return snapshot(str(source))


def test_gnu_tar_reads_what_we_write(tmp_path: Path, source: Path) -> None:
    pack_tree(str(source), str(tmp_path / "tar"))
    target = tmp_path / "target"
    target.mkdir()
    command = ["tar", "-C", str(target), "--numeric-owner", "--xattrs", "-xpf"]
    subprocess.run([*command, str(tmp_path / "tar")], check=True)
    assert snapshot(str(target)) == expected(source)


def test_pythons_tarfile_reads_what_we_write(tmp_path: Path, source: Path) -> None:
    pack_tree(str(source), str(tmp_path / "tar"))
    with tarfile.open(tmp_path / "tar", errors="surrogateescape") as tar:
        names = sorted(tar.getnames())
        owned = tar.getmember("owned")
        assert (owned.uid, owned.gid, owned.mtime) == (3_000_000, 4_000_000_000, -1.5)
        assert tar.getmember("owned-too").islnk()
    assert names == sorted(snapshot(str(source)))


def test_numbers_that_do_not_fit_into_a_header(tmp_path: Path) -> None:
    writer = TarWriter(str(tmp_path / "tar"))
    writer.entry(b"x", b"0", size=1 << 40, uid=1 << 31, mtime=(1 << 34) * 10**9)
    writer.close(complete=False)
    with tarfile.open(fileobj=io.BytesIO((tmp_path / "tar").read_bytes())) as tar:
        found = tar.next()
    assert found is not None
    assert (found.size, found.uid, found.mtime) == (1 << 40, 1 << 31, 1 << 34)


@pytest.mark.parametrize(
    ("ns", "text"),
    [(0, b"0"), (1_500_000_000, b"1.5"), (-1, b"-0.000000001"), (-2_000_000_000, b"-2")],
)
def test_decimal_seconds(ns: int, text: bytes) -> None:
    assert decimal(ns) == text


def test_sockets_are_left_out(tmp_path: Path) -> None:
    top = tmp_path / "t"
    top.mkdir()
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(top / "socket"))
        pack_tree(str(top), str(tmp_path / "tar"))
    with tarfile.open(tmp_path / "tar") as tar:
        assert tar.getnames() == []


def test_whiteouts_stand_before_their_siblings(tmp_path: Path) -> None:
    upper = tmp_path / "upper"
    (upper / "d").mkdir(parents=True)
    (upper / "d/a").touch()
    os.mknod(upper / "d/z", 0o020000, 0)
    os.setxattr(upper / "d", "trusted.overlay.opaque", b"y")
    write_diff(str(upper), str(tmp_path / "tar"))
    with tarfile.open(tmp_path / "tar") as tar:
        assert tar.getnames() == ["d", "d/.wh..wh..opq", "d/.wh.z", "d/a"]


def test_a_file_that_shrinks_is_filled_up(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"abc")
    writer = TarWriter(str(tmp_path / "tar"))
    with open(path, "rb") as file:
        writer.entry(b"x", b"0", size=2000)
        writer.data(file.fileno(), 2000)
    writer.close(complete=True)
    with tarfile.open(tmp_path / "tar") as tar:
        member = tar.extractfile("x")
        assert member is not None and member.read() == b"abc" + bytes(1997)


def test_a_tree_too_deep_for_a_layer_is_an_error_and_leaves_no_file(tmp_path: Path) -> None:
    top = tmp_path / "t"
    top.mkdir()
    script = "for n in $(seq 600); do mkdir d && cd -P d || exit 1; done"
    subprocess.run(["sh", "-c", script], cwd=top, check=True)
    with pytest.raises(ImageError, match="nested more than"):
        pack_tree(str(top), str(tmp_path / "tar"))
    assert not (tmp_path / "tar").exists()


def test_changes_look_neither_through_links_nor_below_what_hides(tmp_path: Path) -> None:
    low, middle, upper = (tmp_path / name for name in ("low", "middle", "upper"))
    (low / "d").mkdir(parents=True)
    (low / "d/hidden").touch()
    (low / "gone").touch()
    (low / "link").symlink_to("/etc")
    (middle / "d").mkdir(parents=True)
    os.setxattr(middle / "d", "trusted.overlay.opaque", b"y")
    os.mknod(middle / "gone", 0o020000, 0)
    for name in ("d/hidden", "gone", "link/passwd"):
        (upper / name).parent.mkdir(parents=True, exist_ok=True)
        (upper / name).touch()
    found = [(change.kind, change.path) for change in changes(str(upper), [str(low), str(middle)])]
    assert found == [
        ("C", "/d"),
        ("A", "/d/hidden"),
        ("A", "/gone"),
        ("C", "/link"),
        ("A", "/link/passwd"),
    ]
