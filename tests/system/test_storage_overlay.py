"""The overlay driver under the conformance suite, and what is special to it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import tiffin_storage_overlay
from tiffin.errors import StorageFull
from tiffin.hooks import DriverContext, StorageDriver
from tiffin.testing.layers import Image, directory, layer, member
from tiffin.testing.storage import BASE, Container, StorageConformance


def make(root: Path) -> StorageDriver:
    context = DriverContext(root=str(root), run=str(root) + ".run")
    driver = tiffin_storage_overlay.storage_driver("overlay", context)
    assert driver is not None
    return driver


class TestOverlay(StorageConformance):
    @pytest.fixture
    def storage_driver(self, tmp_path: Path) -> StorageDriver:
        return make(tmp_path / "storage")


class TestOverlayInAnAwkwardPlace(StorageConformance):
    """The mount options are separated by what the path has in it."""

    @pytest.fixture
    def storage_driver(self, tmp_path: Path) -> StorageDriver:
        return make(tmp_path / 'a:b,c\\d "e" é')


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "storage"


def test_another_name_is_not_ours(tmp_path: Path) -> None:
    context = DriverContext(root=str(tmp_path), run=str(tmp_path))
    assert tiffin_storage_overlay.storage_driver("vfs", context) is None


def test_importing_the_plugin_loads_nothing_but_the_hooks() -> None:
    script = (
        "import sys, tiffin.hooks; before = set(sys.modules); import tiffin_storage_overlay;"
        "print(*sorted(set(sys.modules) - before))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.stdout.split() == ["tiffin_storage_overlay"]


async def test_failed_and_abandoned_unpacks_leave_nothing(root: Path, tmp_path: Path) -> None:
    image = Image(make(root), tmp_path)
    await image.add(*BASE)
    (root / "tmp/left-by-a-crash/d").mkdir(parents=True)
    bad = image.blob(layer(member("x", bytes(3000)))[:2000])
    with pytest.raises(Exception, match="truncated"):
        await image.driver.unpack(bad.diff_id, (), bad)
    assert os.listdir(root / "tmp") == []
    assert len(os.listdir(root / "layers")) == 1


async def test_unpacked_layer_is_named_in_the_error(root: Path, tmp_path: Path) -> None:
    image = Image(make(root), tmp_path)
    bad = image.blob(layer(member("../x")))
    with pytest.raises(Exception, match=f"^layer {bad.diff_id[7:19]} has a name that leads out"):
        await image.driver.unpack(bad.diff_id, (), bad)


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Path]:
    """A file system of 4 MiB."""
    top = tmp_path / "small"
    top.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(top)]
    subprocess.run(command, check=True)
    yield top
    subprocess.run(["umount", str(top)], check=True)


async def test_a_full_disk_is_said_and_nothing_is_left(small: Path, tmp_path: Path) -> None:
    image = Image(make(small / "storage"), tmp_path)
    blob = image.blob(layer(member("big", bytes(8 << 20))))
    with pytest.raises(StorageFull):
        await image.driver.unpack(blob.diff_id, (), blob)
    assert os.listdir(small / "storage/tmp") == []


async def test_removal_never_follows_a_mount(root: Path, tmp_path: Path) -> None:
    """What is still mounted somewhere in a container's directory is not deleted with it."""
    image = Image(make(root), tmp_path)
    await image.add(*BASE)
    container = Container(image, "c" * 64)
    await container.mount()
    upper = root / "containers" / container.id / "upper/precious"
    upper.mkdir()
    precious = tmp_path / "precious"
    precious.mkdir()
    (precious / "file").write_text("keep")
    subprocess.run(["mount", "--bind", str(precious), str(upper)], check=True)
    try:
        with pytest.raises(Exception, match="cannot remove"):
            await image.driver.remove(container.id)
        assert (precious / "file").read_text() == "keep"
    finally:
        for line in Path("/proc/self/mounts").read_text().splitlines():
            if (where := line.split()[1]).startswith(str(root)):
                subprocess.run(["umount", where], check=True)
    await image.driver.remove(container.id)
    assert not upper.exists()


async def test_layers_and_containers_are_closed_to_other_users(root: Path, tmp_path: Path) -> None:
    """Or they could run an image's set-user-id programs on the host."""
    image = Image(make(root), tmp_path)
    await image.add(directory("bin"), member("bin/su", b"x", mode=0o4755))
    assert os.stat(root).st_mode & 0o077 == 0
