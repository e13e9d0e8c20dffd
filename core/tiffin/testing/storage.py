"""The conformance suite for storage drivers: real layers, really mounted.

    class TestMine(StorageConformance):
        @pytest.fixture
        def storage_driver(self, tmp_path):
            return ...  # your driver, with directories below tmp_path in its `DriverContext`

Needs root. Tests are async: pytest-trio in trio mode.
"""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import tarfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import trio

from tiffin import idmap, userns
from tiffin.errors import DriverError, ImageError
from tiffin.hooks import IdMaps, IdRange, LayerBlob, StorageDriver

from .layers import (
    CAPABILITY,
    Image,
    Member,
    directory,
    hardlink,
    layer,
    member,
    sha256,
    snapshot,
    symlink,
    xattrs,
)

MANY = 128
"""Layers that every driver must be able to mount: more than any registry lets an image have."""

BASE: tuple[Member, ...] = (
    directory("etc"),
    member("etc/passwd", b"root"),
    member("etc/old", b"old"),
    directory("tmp", 0o1777),
    directory("usr/share/doc", 0o755),
    member("usr/share/doc/a", b"a"),
    member("usr/share/doc/b", b"b"),
)


PAGE = 30
"""Layers whose names do not fit into a page (mount(2)) in which they stand twice as long."""


def _owner(path: Path) -> tuple[int, int]:
    status = path.lstat()
    return status.st_uid, status.st_gid


class Container:
    """One container over an image, mounted where `path` says."""

    def __init__(self, image: Image, name: str) -> None:
        self.driver = image.driver
        self.layers = tuple(image.chain)
        self.id = name
        self.path = Path()

    async def mount(self) -> Path:
        await self.driver.prepare(self.id, self.layers)
        self.path = Path(await self.driver.mount(self.id, self.layers))
        return self.path

    async def changes(self) -> list[tuple[str, str]]:
        found = await self.driver.changes(self.id, self.layers)
        return [(change.kind, change.path) for change in found]


class StorageConformance:
    """Give it the fixture `storage_driver`. An ordinary user's has no devices, other ids, and may
    be unable to show other owners than are stored."""

    DEVICES = True
    FIRST_ID = 300000
    MAPS = True

    @pytest.fixture
    async def image(self, storage_driver: StorageDriver, tmp_path: Path) -> AsyncIterator[Image]:
        """An image without layers; what a test leaves mounted is unmounted afterwards."""
        made = Image(storage_driver, tmp_path)
        yield made
        for container in made.containers:
            await storage_driver.remove(container)

    def container(self, image: Image) -> Container:
        made = Container(image, os.urandom(32).hex())
        image.containers.append(made.id)
        return made

    async def mounted(self, image: Image, *layers: tuple[Member, ...]) -> Container:
        for members in layers:
            await image.add(*members)
        made = self.container(image)
        await made.mount()
        return made

    # --- layers -----------------------------------------------------------------------------------

    async def test_the_driver_works_here(self, storage_driver: StorageDriver) -> None:
        assert await storage_driver.probe() is None

    async def test_a_layer_counts_from_unpack_to_remove(self, image: Image) -> None:
        driver = image.driver
        blob = image.blob(layer(*BASE))
        assert not await driver.has_layer(blob.diff_id)
        usage = await driver.unpack(blob.diff_id, (), blob)
        assert (usage.size, usage.entries) == (9, 7)
        assert await driver.has_layer(blob.diff_id)
        await driver.remove_layer(blob.diff_id)
        assert not await driver.has_layer(blob.diff_id)

    async def test_unpacking_or_removing_twice_is_success(self, image: Image) -> None:
        blob = image.blob(layer(*BASE))
        for _ in range(2):
            await image.driver.unpack(blob.diff_id, (), blob)
        for _ in range(2):
            await image.driver.remove_layer(blob.diff_id)

    async def test_a_bad_layer_is_an_image_error_and_never_counts(self, image: Image) -> None:
        whole = layer(*BASE)
        bad = {
            "wrong diff id": LayerBlob(image.blob(whole).path, "none", sha256(b"other")),
            "truncated": image.blob(whole[:2000]),
            "not gzip": LayerBlob(image.blob(whole).path, "gzip", sha256(whole)),
            "leads out": image.blob(layer(member("../escaped", b"x"))),
        }
        for what, blob in bad.items():
            with pytest.raises(ImageError):
                await image.driver.unpack(blob.diff_id, (), blob)
            assert not await image.driver.has_layer(blob.diff_id), what

    async def test_a_cancelled_unpack_never_counts(self, image: Image) -> None:
        blob = image.blob(layer(*(member(f"f{number}", bytes(9000)) for number in range(3000))))
        with trio.move_on_after(0.05):
            await image.driver.unpack(blob.diff_id, (), blob)
        if await image.driver.has_layer(blob.diff_id):
            pytest.fail("the unpack was over before it could be cancelled")
        await image.driver.unpack(blob.diff_id, (), blob)
        assert await image.driver.has_layer(blob.diff_id)

    async def test_layers_unpack_side_by_side_unless_the_driver_needs_parents(
        self, image: Image
    ) -> None:
        blobs = [image.blob(layer(member(f"f{number}", b"x"))) for number in range(6)]
        chain: list[str] = []
        for blob in blobs:
            image.chain = chain
            chain = [*chain, image.next_chain(blob.diff_id)]
        image.chain = chain
        limit = trio.CapacityLimiter(1 if image.driver.needs_parents() else len(blobs))

        async def unpack(number: int) -> None:
            async with limit:
                await image.driver.unpack(chain[number], chain[:number], blobs[number])

        if image.driver.needs_parents():
            for number in range(len(blobs)):
                await unpack(number)
        else:
            async with trio.open_nursery() as nursery:
                for number in range(len(blobs)):
                    nursery.start_soon(unpack, number)
        container = await self.mounted(image)
        assert sorted(os.listdir(container.path)) == [f"f{number}" for number in range(6)]

    # --- what a container sees --------------------------------------------------------------------

    async def test_everything_a_layer_records_arrives(self, image: Image) -> None:
        bad = os.fsdecode(b"\xff-name")
        members = (
            directory("d", 0o2750, uid=1, gid=2, mtime=1000),
            member("d/suid", b"x", mode=0o4755, uid=3, gid=4, mtime=2000),
            member("d/inherits", b"y"),
            member(
                "cap", b"x", mode=0o755,
                pax_headers=xattrs(security__capability=CAPABILITY, user__note=b"\xff\0"),
            ),
            symlink("link", "/etc/passwd"),
            hardlink("d/hard", "d/suid"),
            member("null", type_=tarfile.CHRTYPE, devmajor=1, devminor=3, mode=0o666),
            member("pipe", type_=tarfile.FIFOTYPE, mode=0o600, uid=9),
            member(bad, b"z"),
            member("l" * 200 + "/" + "n" * 200, b"long"),
        )  # fmt: skip
        top = (await self.mounted(image, members)).path
        found = snapshot(str(top))
        status = os.stat(top / "d/suid")
        assert found["d"][:3] == ("drwxr-s---", 1, 2)
        assert (status.st_mode & 0o7777, status.st_uid, status.st_gid) == (0o4755, 3, 4)
        assert status.st_mtime == 2000
        assert os.stat(top / "d/hard").st_ino == status.st_ino
        assert os.stat(top / "d/inherits").st_gid == 0
        assert os.stat(top / "d").st_mtime == 1000
        assert os.getxattr(top / "cap", "security.capability") == CAPABILITY
        assert os.getxattr(top / "cap", "user.note") == b"\xff\0"
        assert os.readlink(top / "link") == "/etc/passwd"
        if self.DEVICES:
            assert found["null"][0] == "crw-rw-rw-" and found["null"][3] == os.makedev(1, 3)
        else:
            assert "null" not in found
        assert found["pipe"][:2] == ("prw-------", 9)
        assert (top / bad).read_bytes() == b"z"
        assert (top / ("l" * 200) / ("n" * 200)).read_bytes() == b"long"

    async def test_upper_layers_hide_change_and_add(self, image: Image) -> None:
        container = await self.mounted(
            image,
            BASE,
            (
                directory("etc", 0o700),
                member("etc/.wh.old"),
                member("etc/passwd", b"changed"),
                directory("usr/share/doc"),
                member("usr/share/doc/.wh..wh..opq"),
                member("usr/share/doc/c", b"c"),
            ),
        )
        top = container.path
        assert sorted(os.listdir(top / "etc")) == ["passwd"]
        assert (top / "etc/passwd").read_bytes() == b"changed"
        assert os.stat(top / "etc").st_mode & 0o777 == 0o700
        assert os.listdir(top / "usr/share/doc") == ["c"]
        assert os.stat(top / "tmp").st_mode & 0o7777 == 0o1777

    async def test_a_file_where_a_directory_was_and_the_other_way_round(self, image: Image) -> None:
        container = await self.mounted(
            image, BASE, (member("usr", b"file"), directory("etc/old"), member("etc/old/new"))
        )
        assert (container.path / "usr").read_bytes() == b"file"
        assert os.listdir(container.path / "etc/old") == ["new"]

    @pytest.mark.parametrize("first", ["whiteout", "directory"])
    async def test_a_layer_hides_a_directory_and_brings_its_own(
        self, image: Image, first: str
    ) -> None:
        gone = [member("usr/share/.wh.doc")]
        own = [directory("usr/share/doc"), member("usr/share/doc/new")]
        members = gone + own if first == "whiteout" else own + gone
        container = await self.mounted(image, BASE, tuple(members))
        assert os.listdir(container.path / "usr/share/doc") == ["new"]

    async def test_the_root_directory_has_the_mode_that_a_layer_gave_it(self, image: Image) -> None:
        container = await self.mounted(
            image, (directory("./", 0o711, uid=5), *BASE), (member("x", b"x"),)
        )
        status = os.stat(container.path)
        assert (status.st_mode & 0o7777, status.st_uid) == (0o711, 5)

    async def test_an_image_without_layers_is_an_empty_directory(self, image: Image) -> None:
        container = await self.mounted(image)
        assert os.listdir(container.path) == []
        (container.path / "x").write_text("x")
        assert await container.changes() == [("A", "/x")]

    async def test_many_layers(self, image: Image) -> None:
        for number in range(MANY):
            await image.add(member(f"layer{number}", b"x"), member("top", str(number).encode()))
        container = await self.mounted(image)
        assert len(os.listdir(container.path)) == MANY + 1
        assert (container.path / "top").read_text() == str(MANY - 1)
        (container.path / "own").write_text("x")
        assert await container.changes() == [("A", "/own")]

    async def test_a_missing_layer_is_named(self, image: Image) -> None:
        await image.add(*BASE)
        missing = await image.add(member("x", b"x"))
        container = self.container(image)
        await image.driver.remove_layer(missing)
        with pytest.raises(DriverError, match=missing.removeprefix("sha256:")):
            await container.mount()

    # --- a container's own layer ------------------------------------------------------------------

    async def test_what_was_unpacked_is_what_is_verified(self, image: Image) -> None:
        """For drivers that are a `hooks.CheckedStorage`."""
        driver: Any = image.driver
        if not hasattr(driver, "verify_layer"):
            return
        upper = (
            member("etc/.wh.old", b""),
            directory("usr/share/doc"),
            member("usr/share/doc/.wh..wh..opq", b""),
            member("usr/share/doc/c", b"c"),
            symlink("usr/link", "share"),
            member("etc/passwd", b"toor"),
            hardlink("etc/again", "etc/passwd"),
        )
        for members in (BASE, upper):
            blob = image.blob(layer(*members))
            below = tuple(image.chain)
            image.chain.append(image.next_chain(blob.diff_id))
            await driver.unpack(image.chain[-1], below, blob)
            assert list(await driver.verify_layer(image.chain[-1], below, blob)) == []
        other = image.blob(layer(*upper, member("etc/more", b"more")))
        differs = await driver.verify_layer(image.chain[-1], tuple(image.chain[:-1]), other)
        assert list(differs) == ["/etc/more"]
        assert set(await driver.kept_layers()) == set(image.chain)
        container = self.container(image)
        assert not await driver.has_own_layer(container.id)
        await container.mount()
        assert await driver.has_own_layer(container.id)
        assert list(await driver.kept_containers()) == [container.id]

    async def test_containers_see_neither_each_other_nor_change_the_image(
        self, image: Image
    ) -> None:
        one = await self.mounted(image, BASE)
        two = await self.mounted(image)
        (one.path / "etc/passwd").write_text("one")
        (one.path / "etc/old").unlink()
        assert (two.path / "etc/passwd").read_text() == "root"
        three = await self.mounted(image)
        assert snapshot(str(two.path)) == snapshot(str(three.path))

    async def test_mount_and_unmount_again_and_again(self, image: Image) -> None:
        driver = image.driver
        container = await self.mounted(image, BASE)
        assert str(container.path) == driver.mount_path(container.id)
        assert await driver.is_mounted(container.id)
        (container.path / "own").write_text("kept")
        os.chmod(container.path, 0o700)
        for _ in range(2):
            assert await container.mount() == container.path
        for _ in range(2):
            await driver.unmount(container.id)
        await container.mount()
        assert (container.path / "own").read_text() == "kept"
        assert os.stat(container.path).st_mode & 0o777 == 0o700

    async def test_owners_are_as_a_user_namespace_maps_them(
        self, image: Image, tmp_path: Path
    ) -> None:
        """By the driver (`maps_ids`) or by a mount over what it mounted; stored are the owners that
        the container sees."""
        if not self.MAPS:
            pytest.skip("this driver cannot, as this user")
        for number in range(PAGE):
            await image.add(member(f"layer{number}", b"x"))
        await image.add(*BASE)
        driver, container = image.driver, self.container(image)
        namespace, seen = str(tmp_path / "userns"), tmp_path / "seen"
        ids = (IdRange(0, self.FIRST_ID, 1000),)
        userns.create(namespace, IdMaps(ids, ids))
        try:
            await driver.prepare(container.id, container.layers)
            if getattr(driver, "maps_ids", False):
                mount: Any = driver.mount
                path = await mount(container.id, container.layers, userns=namespace)
                namespace_of_ours = ""
            else:
                path, namespace_of_ours = await container.mount(), namespace
            seen.mkdir()
            idmap.bind(str(path), str(seen), namespace_of_ours)
            for name in ("", "etc", "etc/passwd", "layer0", f"layer{PAGE - 1}"):
                assert _owner(seen / name) == (self.FIRST_ID, self.FIRST_ID)
            os.chown(seen / "etc/passwd", self.FIRST_ID + 7, self.FIRST_ID + 8)
            os.unlink(seen / "layer0")
        finally:
            idmap.unmount(str(seen))
            userns.remove(namespace)
        changed = [("C", "/etc"), ("C", "/etc/passwd"), ("D", "/layer0")]
        assert set(changed) - {("C", "/etc")} <= set(await container.changes()) <= set(changed)
        await driver.unmount(container.id)
        await container.mount()
        assert _owner(container.path / "etc/passwd") == (7, 8)
        assert _owner(container.path / "layer1") == (0, 0)

    async def test_unmount_while_somebody_is_in_there(self, image: Image) -> None:
        container = await self.mounted(image, BASE)
        with subprocess.Popen(["sleep", "60"], cwd=container.path / "etc") as process:
            try:
                await image.driver.unmount(container.id)
                await container.mount()
                assert (container.path / "etc/passwd").read_text() == "root"
            finally:
                process.kill()

    async def test_remove_leaves_the_layers(self, image: Image) -> None:
        container = await self.mounted(image, BASE)
        for _ in range(2):
            await image.driver.remove(container.id)
        assert not container.path.exists()
        assert not await image.driver.is_mounted(container.id)
        again = await self.mounted(image)
        assert (again.path / "etc/passwd").read_text() == "root"

    async def test_remove_however_deep_the_directories_are(self, image: Image) -> None:
        container = await self.mounted(image, BASE)
        script = "for n in $(seq 1500); do mkdir d && cd -P d || exit 1; done"
        subprocess.run(["sh", "-c", script], cwd=container.path, check=True)
        await image.driver.remove(container.id)
        assert not container.path.exists()

    async def test_usage_grows_with_what_is_written(self, image: Image) -> None:
        container = await self.mounted(image, BASE)
        before = await image.driver.usage(container.id)
        (container.path / "new").write_bytes(bytes(5000))
        assert await image.driver.usage(container.id) == before + 5000

    # --- what has changed -------------------------------------------------------------------------

    async def test_changes_are_named(self, image: Image) -> None:
        container = await self.mounted(image, BASE)
        assert await container.changes() == []
        top = container.path
        (top / "etc/passwd").write_text("changed")
        (top / "etc/old").unlink()
        (top / "new").mkdir()
        (top / "new/file").write_text("x")
        shutil.rmtree(top / "usr/share")
        assert await container.changes() == [
            ("C", "/etc"),
            ("D", "/etc/old"),
            ("C", "/etc/passwd"),
            ("A", "/new"),
            ("A", "/new/file"),
            ("C", "/usr"),
            ("D", "/usr/share"),
        ]

    async def test_a_change_that_keeps_size_and_time_is_one(self, image: Image) -> None:
        container = await self.mounted(image, BASE)
        path = container.path / "etc/passwd"
        before = os.stat(path)
        path.write_text("toor")
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
        assert ("C", "/etc/passwd") in await container.changes()

    async def test_a_directory_deleted_and_made_again_hides_what_was_in_it(
        self, image: Image
    ) -> None:
        container = await self.mounted(image, BASE)
        doc = container.path / "usr/share/doc"
        shutil.rmtree(doc)
        doc.mkdir()
        (doc / "b").write_text("new")
        found = await container.changes()
        assert ("D", "/usr/share/doc/a") in found and ("C", "/usr/share/doc/b") in found
        await self.check_diff(image, container)

    async def check_diff(self, image: Image, container: Container) -> None:
        """A container's diff, on top of its image, is the container's tree; and writing it again
        gives the same bytes."""
        one, two = image.directory / "diff-1", image.directory / "diff-2"
        await image.driver.diff(container.id, container.layers, str(one))
        await image.driver.diff(container.id, container.layers, str(two))
        assert one.read_bytes() == two.read_bytes()
        await image.add_layer(one.read_bytes())
        committed = await self.mounted(image)
        assert snapshot(str(committed.path)) == snapshot(str(container.path))
        assert await committed.changes() == []

    async def test_a_diff_on_top_of_its_image_is_the_container(self, image: Image) -> None:
        container = await self.mounted(image, BASE)
        top = container.path
        (top / "etc/passwd").write_text("changed")
        (top / "etc/old").unlink()
        (top / "tmp/mine").write_text("x")
        os.mkdir(top / "dir", 0o710)
        os.chown(top / "dir", 7, 8)
        (top / "dir/one").write_text("1")
        os.link(top / "dir/one", top / "dir/two")
        os.symlink("../nowhere", top / "dir/link")
        os.mkfifo(top / "dir/pipe", 0o620)
        if self.DEVICES:
            os.mknod(top / "dir/zero", stat.S_IFCHR | 0o666, os.makedev(1, 5))
        (top / "dir/cap").write_text("x")
        os.setxattr(top / "dir/cap", "security.capability", CAPABILITY)
        os.chmod(top / "usr/share/doc/a", 0o4711)
        os.setxattr(top / "usr/share/doc/b", "user.note", b"\xfe\0")
        (top / os.fsdecode(b"\xff\xfe")).write_text("x")
        (top / ("n" * 220)).write_text("long")
        with open(top / "sparse", "wb") as file:
            file.truncate(1_000_000)
        await self.check_diff(image, container)

    async def test_a_renamed_directory_is_in_the_diff_with_all_that_is_in_it(
        self, image: Image
    ) -> None:
        container = await self.mounted(image, BASE)
        script = "mv usr/share/doc moved && rm -r etc && echo file >etc"
        subprocess.run(["sh", "-c", script], cwd=container.path, check=True)
        assert ("A", "/moved/a") in await container.changes()
        await self.check_diff(image, container)

    async def test_mode_and_owner_of_the_root_directory_are_in_the_diff(self, image: Image) -> None:
        container = await self.mounted(image, BASE)
        os.chmod(container.path, 0o701)
        os.chown(container.path, 3, 4)
        await self.check_diff(image, container)
        status = os.stat((await self.mounted(image)).path)
        assert (status.st_mode & 0o7777, status.st_uid, status.st_gid) == (0o701, 3, 4)

    async def test_nothing_changed_is_an_empty_layer(self, image: Image, tmp_path: Path) -> None:
        await image.add(*BASE)
        container = self.container(image)
        for target in ("before it is prepared", "after"):
            await image.driver.diff(container.id, container.layers, str(tmp_path / target))
            assert await container.changes() == []
            with tarfile.open(tmp_path / target) as tar:
                assert tar.getnames() == []
            await container.mount()

    async def test_a_name_that_would_mean_a_whiteout_is_refused(
        self, image: Image, tmp_path: Path
    ) -> None:
        container = await self.mounted(image, BASE)
        (container.path / "etc/.wh.passwd").write_text("x")
        with pytest.raises(ImageError, match=r"\.wh\.passwd"):
            await image.driver.diff(container.id, container.layers, str(tmp_path / "diff"))
        assert not (tmp_path / "diff").exists()
