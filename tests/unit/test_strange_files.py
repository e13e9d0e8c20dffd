"""Files that a container or an image has made, read by us: what must not happen when they are
opened. As root."""

from __future__ import annotations

import contextlib
import os
import stat
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tiffin import process_table, syscalls
from tiffin.archives import Directory
from tiffin.copying.places import Place
from tiffin.copying.streams import export, send
from tiffin.copying.tree import Rules, copy
from tiffin.errors import ImageError, TiffinError, UserError
from tiffin.inotify import Inotify
from tiffin.layer.copies import copy_tree
from tiffin.layer.diff import tree_changes, write_tree_diff
from tiffin.layer.pack import pack_tree, write_diff
from tiffin.layer.remove import remove_tree
from tiffin.layer.usage import tree_size
from tiffin.spec import users
from tiffin.testing.layers import CAPABILITY

OPEN = 0x20
"""inotify(7)"""
NULL = os.makedev(1, 3)


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """/etc/passwd is a device, /etc/group a pipe."""
    (tmp_path / "tree/etc").mkdir(parents=True)
    os.mknod(tmp_path / "tree/etc/passwd", stat.S_IFCHR | 0o666, NULL)
    os.mkfifo(tmp_path / "tree/etc/group")
    (tmp_path / "tree/file").write_text("plain")
    return tmp_path / "tree"


@contextlib.contextmanager
def never_opened(*paths: Path) -> Iterator[None]:
    with Inotify() as watching:
        for path in paths:
            watching.watch(str(path), OPEN)
        yield
        assert watching.events() == []


def _out(tree: Path, out: Path, work: Callable[[Path, int], None]) -> None:
    fd = os.open(out / "tar", os.O_WRONLY | os.O_CREAT)
    work(tree, fd)


READERS: dict[str, Callable[[Path, Path], object]] = {
    "user": lambda tree, out: users.in_container(str(tree), "1000"),
    "top": lambda tree, out: process_table.names(str(tree), "etc/passwd"),
    "export": lambda tree, out: _out(
        tree, out, lambda at, fd: export(os.open(at, os.O_RDONLY | os.O_DIRECTORY), fd)
    ),
    "pack": lambda tree, out: pack_tree(str(tree), str(out / "tar")),
    "diff": lambda tree, out: write_diff(str(tree), str(out / "tar")),
    "tree diff": lambda tree, out: write_tree_diff(str(out), str(tree), str(out) + ".tar"),
    "same trees": lambda tree, out: tree_changes(str(tree), str(tree)),
    "copy": lambda tree, out: copy_tree(str(tree), str(out)),
}


@pytest.mark.parametrize("how", READERS)
def test_a_device_in_a_strangers_tree_is_not_opened(tmp_path: Path, tree: Path, how: str) -> None:
    """To open a device is to act on it: a watchdog starts and reboots the machine, a tape rewinds.
    Nor do we wait for a pipe's other end."""
    (tmp_path / "out").mkdir()
    with never_opened(tree / "etc/passwd", tree / "etc/group"):
        READERS[how](tree, tmp_path / "out")


@pytest.mark.parametrize("what", ["/etc/passwd", "/etc", "/etc/group"])
def test_cp_opens_no_device_and_brings_none_here(tmp_path: Path, tree: Path, what: str) -> None:
    (tmp_path / "out").mkdir()
    root = os.open(tree, os.O_PATH | os.O_DIRECTORY)
    try:
        with never_opened(tree / "etc/passwd", tree / "etc/group"):
            source = Place(what, root=root, container="box")
            copy(source, Place(str(tmp_path / "out")), Rules((0, 0), tame=True))
            with contextlib.suppress(TiffinError):
                send(source, os.open(tmp_path / "tar", os.O_WRONLY | os.O_CREAT))
    finally:
        os.close(root)
    assert not [path for path in (tmp_path / "out").rglob("*") if path.is_char_device()]


def test_an_image_directory_of_devices(tree: Path) -> None:
    fd = os.open(tree, os.O_RDONLY | os.O_DIRECTORY)
    try:
        with never_opened(tree / "etc/passwd", tree / "etc/group"):
            with pytest.raises(ImageError, match="not a file"):
                Directory(fd).size("etc/passwd")
            assert not Directory(fd).has("etc/group")
    finally:
        os.close(fd)


def test_a_file_that_turns_into_a_device_meanwhile(tmp_path: Path) -> None:
    """A container renames one onto the other while its tree is read."""
    (tmp_path / "d").mkdir()
    file, device = tmp_path / "d/file", tmp_path / "d/device"
    file.write_text("plain")
    os.mknod(device, stat.S_IFCHR | 0o666, NULL)
    directory = os.open(tmp_path / "d", os.O_RDONLY | os.O_DIRECTORY)
    stop = threading.Event()

    def swap() -> None:
        while not stop.is_set():
            os.rename(file, tmp_path / "d/x")
            os.rename(device, file)
            os.rename(tmp_path / "d/x", device)

    thread = threading.Thread(target=swap)
    with never_opened(device):
        thread.start()
        opened = refused = 0
        end = time.monotonic() + 30
        try:
            while (opened < 50 or refused < 50) and time.monotonic() < end:
                try:
                    os.close(syscalls.open_file("file", directory))
                    opened += 1
                except OSError:
                    refused += 1
        finally:
            stop.set()
            thread.join()
            os.close(directory)
    assert opened >= 50 and refused >= 50


def test_what_comes_out_of_a_container_has_no_rights_of_roots(tmp_path: Path) -> None:
    """A set-user-id file of whoever would be one of root's here."""
    (tmp_path / "in/d").mkdir(parents=True)
    (tmp_path / "out").mkdir()
    program = tmp_path / "in/d/program"
    program.write_text("x")
    os.chown(program, 1234, 1234)
    os.setxattr(program, "security.capability", CAPABILITY)
    os.setxattr(program, "user.note", b"kept")
    program.chmod(0o6755)
    (tmp_path / "in/d").chmod(0o2775)
    root = os.open(tmp_path / "in", os.O_PATH | os.O_DIRECTORY)
    try:
        for source in ("/d", "/d/program"):
            place = Place(source, root=root, container="box")
            copy(place, Place(str(tmp_path / "out")), Rules((0, 0), tame=True))
    finally:
        os.close(root)
    for came in (tmp_path / "out/d/program", tmp_path / "out/program"):
        assert stat.S_IMODE(came.stat().st_mode) == 0o755
        assert os.listxattr(came) == ["user.note"]
    assert stat.S_IMODE((tmp_path / "out/d").stat().st_mode) == 0o2775


def test_a_tree_deeper_than_anybody_would_make(tmp_path: Path) -> None:
    """A refusal where it matters, and a size all the same: one container must not keep `system df`
    from telling about the others."""
    (tmp_path / "in").mkdir()
    (tmp_path / "out").mkdir()
    (tmp_path / "in/file").write_bytes(b"12345")
    fd = os.open(tmp_path / "in", os.O_RDONLY | os.O_DIRECTORY)
    for _ in range(700):
        os.mkdir("d", dir_fd=fd)
        below = os.open("d", os.O_RDONLY | os.O_DIRECTORY, dir_fd=fd)
        os.close(fd)
        fd = below
    os.close(fd)
    assert tree_size(str(tmp_path / "in")) in (0, 5)
    for place in (tmp_path / "in", tmp_path / "in/d/d"):
        with pytest.raises(UserError, match="nested more than"):
            copy(Place(str(place)), Place(str(tmp_path / "out")), Rules((0, 0), tame=True))
    with pytest.raises(ImageError, match="nested more than"):
        pack_tree(str(tmp_path / "in"), str(tmp_path / "tar"))
    for name in ("in", "out"):  # which pytest's own clean-up cannot
        remove_tree(str(tmp_path / name))
