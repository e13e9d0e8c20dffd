"""The btrfs driver under the conformance suite, on a loop device, and what is special to it."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.cli import Tiffin

import tiffin_storage_btrfs
from tiffin.errors import DriverError, StorageFull
from tiffin.hooks import DriverContext, StorageDriver
from tiffin.testing.layers import Image, directory, member
from tiffin.testing.storage import Container, StorageConformance
from tiffin_storage_btrfs import subvolumes


@pytest.fixture(scope="module")
def btrfs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A btrfs of its own, mounted."""
    if shutil.which("mkfs.btrfs") is None:
        pytest.skip("mkfs.btrfs is not installed: apt install btrfs-progs")
    image = tmp_path_factory.mktemp("btrfs") / "disk"
    with open(image, "wb") as file:
        file.truncate(1 << 30)
    subprocess.run(["mkfs.btrfs", "-q", image], check=True)
    top = tmp_path_factory.mktemp("btrfs")
    mounted = subprocess.run(["mount", "-o", "loop", image, top], capture_output=True, text=True)
    if mounted.returncode:
        with open("/proc/filesystems") as known:
            if "\tbtrfs\n" not in known.read():
                pytest.skip("this kernel has no btrfs")
        if not os.path.exists("/dev/loop-control"):
            pytest.skip("this kernel has no loop devices")
        pytest.fail(mounted.stderr)
    yield top
    subprocess.run(["umount", top], check=True)
    os.unlink(image)


def make(root: Path) -> StorageDriver:
    context = DriverContext(root=str(root), run=str(root) + ".run")
    driver = tiffin_storage_btrfs.storage_driver("btrfs", context)
    assert driver is not None
    return driver


@pytest.fixture
def storage(btrfs: Path) -> Iterator[Path]:
    """The driver's directory, which must hold no subvolume but layers at the end."""
    path = btrfs / os.urandom(4).hex()
    yield path
    if path.exists():
        assert os.listdir(path / "tmp") == []
        left = [*path.glob("containers/*/*")]
        assert left == []
        for layer in path.glob("layers/*"):
            subvolumes.destroy(str(layer))
        shutil.rmtree(path)


@pytest.fixture
def storage_driver(storage: Path) -> StorageDriver:
    return make(storage)


class TestBtrfs(StorageConformance):
    @pytest.fixture
    def storage_driver(self, storage: Path) -> StorageDriver:
        return make(storage)


async def test_another_file_system_is_named(tmp_path: Path) -> None:
    driver = make(tmp_path / "storage")
    assert await driver.probe() == f"{tmp_path}/storage is not on btrfs"
    with pytest.raises(DriverError, match="is not on btrfs"):
        await driver.prepare("c" * 64, ())
    image = Image(driver, tmp_path)
    with pytest.raises(DriverError, match="is not on btrfs"):
        await image.add(member("x"))
    assert os.listdir(tmp_path / "storage/tmp") == []


async def test_a_layer_is_read_only_and_shares_what_is_below(
    storage_driver: StorageDriver, storage: Path, tmp_path: Path
) -> None:
    image = Image(storage_driver, tmp_path)
    lower = await image.add(member("big", os.urandom(1 << 20)))
    upper = await image.add(member("x", b"x"))
    paths = [storage / "layers" / name.removeprefix("sha256:") for name in (lower, upper)]
    for path in paths:
        with pytest.raises(OSError, match="Read-only"):
            (path / "new").write_text("x")
    shared = subprocess.run(
        ["btrfs", "filesystem", "du", "--raw", "-s", paths[1]],
        capture_output=True, text=True, check=True,
    ).stdout.splitlines()[1].split()  # fmt: skip
    assert int(shared[2]) >= 1 << 20, "Set shared"


async def test_usage_is_what_the_container_wrote(
    storage_driver: StorageDriver, tmp_path: Path
) -> None:
    image = Image(storage_driver, tmp_path)
    await image.add(member("big", bytes(1 << 20)))
    container = Container(image, "c" * 64)
    top = await container.mount()
    assert await storage_driver.usage(container.id) == 0
    (top / "own").write_bytes(bytes(77))
    assert await storage_driver.usage(container.id) == 77
    await storage_driver.remove(container.id)


async def test_what_a_dead_process_left_is_swept(
    storage_driver: StorageDriver, storage: Path, tmp_path: Path
) -> None:
    """A process that was killed: half a layer, a container without its tree, one half removed."""
    image = Image(storage_driver, tmp_path)
    await image.add(directory("d"), member("d/x", b"x"))
    subvolumes.create(str(storage / "tmp/dead"))
    (storage / "tmp/dead/d").mkdir()
    (storage / "tmp/dead/d/half").write_text("x")
    await image.add(member("y"))
    assert os.listdir(storage / "tmp") == []
    container = Container(image, "c" * 64)
    (storage / "containers" / container.id).mkdir(parents=True)
    (storage / "containers" / container.id / "begun").touch()
    top = await container.mount()
    (top / "own").write_text("x")
    assert await container.changes() == [("A", "/own")]
    subvolumes.destroy(str(top))
    assert not await storage_driver.is_mounted(container.id)
    await storage_driver.remove(container.id)
    empty = Container(Image(storage_driver, tmp_path), "e" * 64)
    (storage / "containers" / empty.id).mkdir()
    subvolumes.create(str(storage / "containers" / empty.id / "new"))
    assert os.listdir(await empty.mount()) == []
    assert os.stat(empty.path).st_mode & 0o777 == 0o755
    await storage_driver.remove(empty.id)


async def test_subvolumes_that_a_container_made_go_with_it(
    storage_driver: StorageDriver, tmp_path: Path
) -> None:
    """Anybody can make some: beside each other, in each other, read-only, deeper than a path is
    long."""
    container = Container(Image(storage_driver, tmp_path), "c" * 64)
    top = await container.mount()
    for number in range(100):
        subvolumes.create(str(top / f"sub-{number}-{'n' * 200}"))
    below = top
    for name in ("a", "b", "c"):
        (below / "dir").mkdir()
        subvolumes.create(str(below / "dir" / name))
        (below / "dir" / name / "file").write_text("x")
        below = below / "dir" / name
    subprocess.run(["btrfs", "property", "set", top / "dir/a", "ro", "true"], check=True)
    script = (
        "for n in $(seq 60); do mkdir $0 && cd -P $0 || exit 1; done; "
        "btrfs -q subvolume create deep && mkdir -p deep/x/y && "
        "for n in $(seq 60); do mkdir $0 && cd -P $0 || exit 1; done; btrfs -q subvolume create s"
    )
    subprocess.run(["sh", "-c", script, "d" * 100], cwd=top, check=True)
    for _ in range(2):
        await storage_driver.remove(container.id)
    assert not top.parent.exists()


async def test_a_full_disk_is_named_and_leaves_nothing(tmp_path: Path, btrfs: Path) -> None:
    disk, top = tmp_path / "small", tmp_path / "top"
    with open(disk, "wb") as file:
        file.truncate(110 << 20)
    subprocess.run(["mkfs.btrfs", "-q", "--mixed", disk], check=True)
    top.mkdir()
    subprocess.run(["mount", "-o", "loop", disk, top], check=True)
    try:
        driver = make(top / "storage")
        image = Image(driver, tmp_path)
        with pytest.raises(StorageFull, match="no space left"):
            await image.add(member("big", os.urandom(160 << 20)))
        assert os.listdir(top / "storage/tmp") == []
        await image.add(member("x"))
    finally:
        subprocess.run(["umount", top], check=True)


