"""fuse-overlayfs under the conformance suite, as root and as an ordinary user."""

from __future__ import annotations

import contextlib
import os
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from support import world
from support.cli import BUSYBOX
from support.person import Person, TheirTiffin, person

import tiffin_storage_fuse_overlayfs
from tiffin.hooks import DriverContext, StorageDriver
from tiffin.testing.layers import Image
from tiffin.testing.storage import BASE, StorageConformance

NONE = ("--network", "none")


class TestFuseOverlayfs(StorageConformance):
    @pytest.fixture
    def storage_driver(self, tmp_path: Path) -> StorageDriver:
        context = DriverContext(root=f"{tmp_path}/storage", run=f"{tmp_path}/run")
        driver = tiffin_storage_fuse_overlayfs.storage_driver("fuse-overlayfs", context)
        assert driver is not None
        return driver

    @pytest.mark.parametrize("name", [".wh.passwd", ".wh..wh..opq"])
    async def test_a_name_that_would_mean_a_whiteout_is_refused(  # type: ignore[override]
        self, image: Image, name: str
    ) -> None:
        """At once, by the program itself."""
        container = await self.mounted(image, BASE)
        with pytest.raises(OSError, match="Invalid argument"):
            (container.path / f"etc/{name}").write_text("x")


SUITES = """
import pytest
import tiffin_storage_fuse_overlayfs, tiffin_storage_overlay
from tiffin.hooks import DriverContext
from tiffin.testing.storage import StorageConformance

class AsUser(StorageConformance):
    DEVICES = False
    FIRST_ID = 1000
    module = name = None

    @pytest.fixture
    def storage_driver(self, tmp_path):
        context = DriverContext(root=f"{tmp_path}/storage", run=f"{tmp_path}/run", rootless=True)
        return self.module.storage_driver(self.name, context)

class TestOverlay(AsUser):
    module, name = tiffin_storage_overlay, "overlay"
    MAPS = False

class TestFuseOverlayfs(AsUser):
    module, name = tiffin_storage_fuse_overlayfs, "fuse-overlayfs"

    def test_a_name_that_would_mean_a_whiteout_is_refused(self):
        "By the program itself: see above."
"""
SLOW = "not many_layers and not however_deep and not cancelled and not crash"
"""Some of them that are no different for a user."""


@pytest.fixture(scope="module")
def who() -> Iterator[Person]:
    with person() as made:
        yield made


@pytest.fixture(scope="module")
def theirs(who: Person) -> Iterator[TheirTiffin]:
    made = TheirTiffin.of(who)
    yield made
    made.close()


@contextlib.contextmanager
def bound(directory: Path, mode: int) -> Iterator[None]:
    """/dev/fuse with this mode: udev makes it for everybody, a bare kernel for root."""
    node = directory / "fuse"
    os.mknod(node, stat.S_IFCHR, os.stat("/dev/fuse").st_rdev)
    node.chmod(mode)
    subprocess.run(["mount", "--bind", node, "/dev/fuse"], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", "/dev/fuse"], check=True)


@pytest.fixture(scope="module")
def fuse(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with bound(tmp_path_factory.mktemp("dev"), 0o666):
        yield


def test_both_overlays_as_an_ordinary_user(theirs: TheirTiffin, fuse: None) -> None:
    home = theirs.base / "home"
    suites = home / "test_suites.py"
    suites.write_text(SUITES)
    suites.chmod(0o644)
    scratch = f"--basetemp={home}/t"
    options = ("-q", "-p", "no:cacheprovider", "-o", "trio_mode=true", "--rootdir", home)
    command = (sys.executable, "-m", "pytest", *options, scratch, "-k", SLOW, suites)
    theirs("unshare", *command, timeout=240, cwd=home)


def test_it_runs_containers_and_ends_with_them(theirs: TheirTiffin, fuse: None) -> None:
    tiffin = theirs.using("--storage-driver", "fuse-overlayfs")
    tiffin.detached(*NONE, "--name", "box", BUSYBOX, "sleep", "1000")
    assert "fuse.fuse-overlayfs" in tiffin("exec", "box", "head", "-1", "/proc/mounts").out
    tiffin("exec", "box", "sh", "-c", "echo kept >/file; rm -r /home; mkdir /home")
    assert set(tiffin("diff", "box").lines) >= {"A /file"}
    tiffin("stop", "-t", "0", "box")
    assert serving(theirs) == []
    tiffin("start", "box")
    assert tiffin("exec", "box", "cat", "/file").word == "kept"
    tiffin("commit", "-q", "box", "changed")
    tiffin("rm", "-f", "-t", "0", "box")
    assert tiffin("run", "--rm", *NONE, "changed", "cat", "/file").word == "kept"
    assert serving(theirs) == []


def serving(theirs: TheirTiffin) -> list[int]:
    mine = theirs.who.processes()
    return [pid for pid, name, _ in world.processes() if name == "fuse-overlayfs" and pid in mine]


def test_where_the_device_may_not_be_opened_it_says_so(theirs: TheirTiffin, tmp_path: Path) -> None:
    theirs.who.log_out()  # the namespace has the mounts of when it was made
    with bound(tmp_path, 0o600):
        asked = ("--storage-driver", "fuse-overlayfs", "run", "--rm", *NONE, BUSYBOX, "id")
        assert "chmod 666 /dev/fuse" in theirs.fails(*asked, says="/dev/fuse: Permission denied")
