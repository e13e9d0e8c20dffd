"""The btrfs driver under the conformance suite, on a loop device, and what is special to it."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.cli import BUSYBOX, Tiffin

import tiffin_storage_btrfs
from tiffin.errors import DriverError, StorageFull
from tiffin.hooks import DriverContext, StorageDriver
from tiffin.testing.layers import Image, directory, member
from tiffin.testing.storage import Container, StorageConformance
from tiffin_storage_btrfs import subvolumes


def make_disk(image: Path, size: int, *options: str) -> None:
    with open(image, "wb") as file:
        file.truncate(size)
    subprocess.run(["mkfs.btrfs", "-q", *options, image], check=True, capture_output=True)


@pytest.fixture(scope="module")
def btrfs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A btrfs of its own, mounted."""
    if shutil.which("mkfs.btrfs") is None:
        pytest.skip("mkfs.btrfs is not installed: apt install btrfs-progs")
    image = tmp_path_factory.mktemp("btrfs") / "disk"
    make_disk(image, 1 << 30)
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
        assert [*path.glob("tmp/*")] == []
        assert [*path.glob("containers/*")] == []
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


@contextlib.contextmanager
def mounted(image: Path, top: Path) -> Iterator[None]:
    subprocess.run(["mount", "-o", "loop", image, top], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", top], check=True)


async def test_a_full_disk_is_named_and_leaves_nothing(tmp_path: Path, btrfs: Path) -> None:
    disk, top = tmp_path / "small", tmp_path / "top"
    make_disk(disk, 110 << 20, "--mixed")
    top.mkdir()
    with mounted(disk, top):
        image = Image(make(top / "storage"), tmp_path)
        with pytest.raises(StorageFull, match="no space left"):
            await image.add(member("big", os.urandom(160 << 20)))
        assert os.listdir(top / "storage/tmp") == []
        # btrfs frees the blocks of what is deleted a little later
        for what in ("filesystem", "subvolume"):
            subprocess.run(["btrfs", what, "sync", top], check=True, capture_output=True)
        await image.add(member("x"))


async def test_a_layer_that_counts_survives_a_power_failure(tmp_path: Path, btrfs: Path) -> None:
    """The disk as it is in the moment at which the layer counts, and again one layer later."""
    disk, top = tmp_path / "disk", tmp_path / "top"
    make_disk(disk, 256 << 20)
    top.mkdir()
    data = os.urandom(1 << 20)
    with mounted(disk, top):
        image = Image(make(top / "storage"), tmp_path)
        for number in range(2):
            await image.add(member(f"x{number}", data))
            subprocess.run(["cp", "--sparse=always", disk, tmp_path / f"{number}"], check=True)
    for number in range(2):
        with mounted(tmp_path / f"{number}", top):
            driver = make(top / "storage")
            assert [await driver.has_layer(layer) for layer in image.chain] == [True, number == 1]
            container = Container(image, "c" * 64)
            container.driver, container.layers = driver, tuple(image.chain[: number + 1])
            await container.mount()
            for name in range(number + 1):
                assert (container.path / f"x{name}").read_bytes() == data


def test_a_life_through_the_command_line(btrfs: Path) -> None:
    plain = Tiffin.fresh()
    tiffin = plain.using("--storage-driver", "btrfs")
    tiffin.fails("create", BUSYBOX, says="is not on btrfs")
    plain.root.mkdir(exist_ok=True)
    (btrfs / "store").mkdir()
    subprocess.run(["mount", "--bind", btrfs / "store", plain.root], check=True)
    try:
        script = "echo kept >/file; rm /bin/vi; echo hello"
        done = tiffin("run", "--name", "one", "--network", "none", BUSYBOX, "sh", "-c", script)
        assert done.out == "hello\n"
        assert tiffin.inspect("one")["Driver"] == "btrfs"
        own = {"A /file", "C /bin", "D /bin/vi"}  # and the mount points in /etc
        changed = tiffin("diff", "one").lines
        assert own <= set(changed)
        tiffin("commit", "one", "mine")
        shown = tiffin("run", "--rm", "--network", "none", "mine", "cat", "/file")
        assert shown.out == "kept\n"
        for driver in ("vfs", "btrfs", "overlay", "btrfs"):
            tiffin("storage", "migrate", "--to", driver, "one")
            assert tiffin.inspect("one")["Driver"] == driver
            assert tiffin("diff", "one").lines == changed
        tiffin("rm", "one")
        plain.empty()
        assert plain.left_in_store() == []
    finally:
        subprocess.run(["umount", plain.root], check=True)
        plain.close()
