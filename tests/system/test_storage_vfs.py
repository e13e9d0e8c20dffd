"""The vfs driver under the conformance suite, and what is special to it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

import tiffin_storage_vfs
from tiffin.hooks import DriverContext, StorageDriver
from tiffin.testing.layers import Image, member
from tiffin.testing.storage import Container, StorageConformance


def make(root: Path) -> StorageDriver:
    context = DriverContext(root=str(root), run=str(root) + ".run")
    driver = tiffin_storage_vfs.storage_driver("vfs", context)
    assert driver is not None
    return driver


class TestVfs(StorageConformance):
    @pytest.fixture
    def storage_driver(self, tmp_path: Path) -> StorageDriver:
        return make(tmp_path / "storage")


async def test_copies_keep_holes(tmp_path: Path) -> None:
    image = Image(make(tmp_path / "storage"), tmp_path)
    await image.add(member("x", b"x"))
    container = Container(image, "c" * 64)
    top = await container.mount()
    layer = tmp_path / "storage/layers" / image.chain[0].removeprefix("sha256:")
    with open(layer / "holes", "wb") as file:
        file.seek(50_000_000)
        file.write(b"end")
    two = Container(image, "d" * 64)
    copy = await two.mount() / "holes"
    assert copy.read_bytes() == (layer / "holes").read_bytes()
    assert os.stat(copy).st_blocks < 1000
    assert not (top / "holes").exists()
    for made in (container, two):
        await image.driver.remove(made.id)
    assert os.listdir(tmp_path / "storage/tmp") == []
