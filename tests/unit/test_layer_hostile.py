"""Layers that mean harm, beyond those of test_layer_apply.py. As root."""

from __future__ import annotations

import contextlib
import os
import stat
import tarfile
from pathlib import Path

import pytest

from tiffin.errors import ImageError
from tiffin.layer.apply import Applier
from tiffin.layer.remove import remove_tree
from tiffin.layer.stream import LayerStream
from tiffin.testing.layers import (
    CAPABILITY,
    Member,
    directory,
    hardlink,
    layer,
    member,
    symlink,
    xattrs,
)


def apply(root: Path, *members: Member, whiteouts: str = "keep") -> None:
    root.mkdir(exist_ok=True)
    fd = os.open(root, os.O_RDONLY)
    try:
        Applier(fd, whiteouts).run(LayerStream(iter([layer(*members)])))
    finally:
        os.close(fd)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "outside").mkdir(mode=0o755)
    (tmp_path / "outside/secret").write_text("untouched")
    return tmp_path / "root"


def untouched(root: Path) -> bool:
    outside = root.parent / "outside"
    return os.listdir(outside) == ["secret"] and (outside / "secret").read_text() == "untouched"


def test_a_directory_that_turns_into_a_link_under_our_feet(root: Path) -> None:
    """CVE-2025-47290: the directory is remembered from the entry before, and what replaced it must
    not be followed."""
    apply(
        root,
        directory("d"),
        member("d/one"),
        symlink("d", "../outside"),
        directory("outside"),
        member("d/secret", b"overwritten"),
    )
    assert untouched(root)
    assert (root / "outside/secret").read_bytes() == b"overwritten"


def test_a_link_chain_ends_inside(root: Path) -> None:
    apply(
        root,
        directory("a/b"),
        symlink("a/up", ".."),
        symlink("far", "a/up/a/up/../../../../../outside"),
        directory("outside"),
        member("far/x", b"x"),
    )
    assert untouched(root)
    assert (root / "outside/x").read_bytes() == b"x"


def test_links_in_a_circle(root: Path) -> None:
    with pytest.raises(ImageError):
        apply(root, symlink("a", "b"), symlink("b", "a"), member("a/x"))


def test_parent_that_is_a_file_or_a_dangling_link(root: Path) -> None:
    with pytest.raises(ImageError):
        apply(root, member("f", b"x"), member("f/x"))
    with pytest.raises(ImageError):
        apply(root, symlink("l", "nowhere"), member("l/x"))


def test_device_behind_a_link_is_made_inside(root: Path) -> None:
    apply(
        root,
        symlink("dev", "../outside"),
        directory("outside"),
        member("dev/secret", type_=tarfile.CHRTYPE, devmajor=1, devminor=3),
    )
    assert untouched(root)
    assert stat.S_ISCHR(os.lstat(root / "outside/secret").st_mode)


def test_mode_and_owner_through_a_link_change_nothing_outside(root: Path) -> None:
    before = os.stat(root.parent / "outside")
    apply(root, symlink("l", "../outside"), member("l", type_=tarfile.FIFOTYPE, mode=0o777, uid=9))
    after = os.stat(root.parent / "outside")
    assert (before.st_mode, before.st_uid) == (after.st_mode, after.st_uid)


def test_hard_link_to_a_link_links_the_link(root: Path) -> None:
    apply(root, symlink("l", "/etc/shadow"), hardlink("h", "l"))
    assert os.readlink(root / "h") == "/etc/shadow"


@pytest.mark.parametrize("whiteouts", ["keep", "apply"])
def test_file_over_a_hard_link_changes_one_name_only(root: Path, whiteouts: str) -> None:
    apply(root, member("a", b"old"), hardlink("b", "a"))
    apply(root, member("b", b"new"), whiteouts=whiteouts)
    assert (root / "a").read_bytes() == b"old"
    assert (root / "b").read_bytes() == b"new"


def test_hard_link_to_itself_a_directory_or_a_whiteout(root: Path) -> None:
    apply(root, member("a", b"a"), hardlink("a", "a"))
    assert (root / "a").read_bytes() == b"a"
    with pytest.raises(ImageError):
        apply(root, directory("d"), hardlink("x", "d"))
    with pytest.raises(ImageError):
        apply(root, member(".wh.w"), hardlink("x", "w"))


def test_set_user_id_and_capabilities_survive_the_change_of_owner(root: Path) -> None:
    headers = xattrs(security__capability=CAPABILITY)
    apply(root, member("f", b"x", mode=0o6755, uid=5, gid=6, pax_headers=headers))
    status = os.stat(root / "f")
    assert (status.st_mode & 0o7777, status.st_uid, status.st_gid) == (0o6755, 5, 6)
    assert os.getxattr(root / "f", "security.capability") == CAPABILITY


def test_set_user_id_does_not_stay_on_a_replaced_file(root: Path) -> None:
    apply(root, member("f", b"x", mode=0o4755), member("f", b"y", mode=0o644))
    assert os.stat(root / "f").st_mode & 0o7777 == 0o644


def test_group_of_a_set_group_id_directory_is_not_inherited(root: Path) -> None:
    apply(
        root,
        directory("d", 0o2775, gid=50),
        member("d/f"),
        directory("d/sub"),
        member("d/implied/f"),
        symlink("d/l", "f"),
    )
    for name in ("f", "sub", "implied", "l"):
        status = os.lstat(root / "d" / name)
        assert status.st_gid == 0, name
        assert not status.st_mode & 0o2000, name


def test_implied_parents_are_roots_and_0755(root: Path) -> None:
    umask = os.umask(0o077)
    try:
        apply(root, member("a/b/c", uid=5))
    finally:
        os.umask(umask)
    for name in ("a", "a/b"):
        status = os.stat(root / name)
        assert (status.st_mode & 0o7777, status.st_uid) == (0o755, 0)


def test_time_of_a_directory_is_set_last(root: Path) -> None:
    apply(root, directory("d", mtime=5), member("d/x"), directory("d/e", mtime=6), member("d/e/y"))
    assert [os.stat(root / name).st_mtime for name in ("d", "d/e")] == [5, 6]


def test_time_of_a_directory_that_became_something_else(root: Path) -> None:
    apply(root, directory("d", mtime=5), member("d", b"x", mtime=7))
    assert os.stat(root / "d").st_mtime == 7


def test_something_beneath_a_whiteout(root: Path) -> None:
    with pytest.raises(ImageError, match="beneath a whiteout"):
        apply(root, member("d/.wh.x/y"))


def test_leftovers_of_aufs_are_passed_over(root: Path) -> None:
    apply(
        root,
        member(".wh..wh.aufs"),
        directory(".wh..wh.plnk"),
        member(".wh..wh.plnk/1.2"),
        member("x"),
    )
    assert os.listdir(root) == ["x"]


@pytest.mark.parametrize("opaque_first", [True, False])
def test_opaque_directory_keeps_what_its_own_layer_has(root: Path, opaque_first: bool) -> None:
    apply(root, member("d/sub/old"), member("d/old"), directory("d/gone"), member("other"))
    own = [member("d/sub/new", b"n"), symlink("d/link", "sub")]
    opaque = [member("d/.wh..wh..opq")]
    apply(root, *(opaque + own if opaque_first else own + opaque), whiteouts="apply")
    assert sorted(os.listdir(root / "d")) == ["link", "sub"]
    assert os.listdir(root / "d/sub") == ["new"]
    assert (root / "other").exists()


def test_attributes_of_a_lower_directory_do_not_stay(root: Path) -> None:
    apply(root, directory("d", pax_headers=xattrs(user__old=b"1", user__both=b"1")))
    apply(root, directory("d", pax_headers=xattrs(user__both=b"2")), whiteouts="apply")
    assert os.listxattr(root / "d") == ["user.both"]
    assert os.getxattr(root / "d", "user.both") == b"2"


@pytest.mark.parametrize("uid", [2**32 - 1, 2**40])
def test_owner_that_cannot_be(root: Path, uid: int) -> None:
    with pytest.raises(ImageError, match="owner"):
        apply(root, member("x", pax_headers={"uid": str(uid)}))


def test_name_that_no_file_system_takes(root: Path) -> None:
    for name in ("n" * 256, "n" * 300 + "/x"):
        with pytest.raises(ImageError):
            apply(root, member(name))


def test_removal_of_a_tree_deeper_than_the_stack(root: Path) -> None:
    apply(root, member("/".join(["d"] * 400) + "/x"))
    for _ in range(5):  # a link to the deepest directory lets the next layer go deeper
        deepest = "/".join(["d"] * 400)
        apply(root, symlink("l", deepest), directory("l/" + "/".join(["e"] * 400)))
    fd = os.open(root, os.O_RDONLY)
    try:
        remove_tree("d", dir_fd=fd)
    finally:
        os.close(fd)
    assert os.listdir(root) == ["l"]


def hostile(outside: Path) -> dict[str, list[Member]]:
    """What must be refused, or end inside."""
    up = "../" * 20
    return {
        "dots": [member(f"{up}{outside}/x")],
        "dots of a directory": [directory(f"a/..{outside}")],
        "absolute": [member(f"{outside}/secret", b"inside")],
        "link": [symlink("l", str(outside)), member("l/x")],
        "link up": [symlink("l", f"{up}{outside}"), member("l/x")],
        "hard link": [hardlink("h", f"{outside}/secret"), member("h", b"x")],
        "hard link up": [hardlink("h", f"{up}{outside}/secret"), member("h", b"x")],
        "hard link by a link": [symlink("l", str(outside)), hardlink("h", "l/secret")],
        "replaced": [directory("d"), member("d/x"), symlink("d", str(outside)), member("d/x")],
        "whiteout": [member(f"{up}{outside}/.wh.secret")],
        "whiteout by a link": [symlink("l", str(outside)), member("l/.wh.secret")],
        "whiteout of dots": [member("d/.wh...")],
        "opaque by a link": [symlink("l", str(outside)), member("l/.wh..wh..opq")],
        "device": [symlink("l", str(outside)), member("l/n", type_=tarfile.CHRTYPE, devminor=3)],
        "directory's mode": [symlink("l", str(outside)), directory("l", 0o777)],
        "name of a pax header": [member("x", pax_headers={"path": f"{up}{outside}/x"})],
    }


@pytest.mark.parametrize("whiteouts", ["keep", "apply"])
def test_every_way_out_is_closed(root: Path, whiteouts: str) -> None:
    """CVE-2014-6407, CVE-2014-9356: refused, or it ends inside; whatever lies there already."""
    outside = root.parent / "outside"
    before = outside.stat()
    for number, (what, members) in enumerate(hostile(outside).items()):
        for below in ((), (directory("d"), symlink("l", str(outside)), member("h"))):
            target = root.parent / f"root{number}{len(below)}"
            apply(target, *below)
            with contextlib.suppress(ImageError):
                apply(target, *members, whiteouts=whiteouts)
            assert untouched(root), what
            after = outside.stat()
            assert (before.st_mode, before.st_uid, before.st_nlink) == (
                after.st_mode,
                after.st_uid,
                after.st_nlink,
            ), what
