"""tiffin's conformance kit on the driver `dir`. Needs root."""

from __future__ import annotations

from pathlib import Path

import pytest

import tiffin_storage_dir
from tiffin.hooks import DriverContext, StorageDriver
from tiffin.testing.storage import StorageConformance


class TestDir(StorageConformance):
    @pytest.fixture
    def storage_driver(self, tmp_path: Path) -> StorageDriver:
        context = DriverContext(root=str(tmp_path / "root"), run=str(tmp_path / "run"))
        driver = tiffin_storage_dir.storage_driver("dir", context)
        assert driver is not None
        return driver


def test_other_names_are_not_ours(tmp_path: Path) -> None:
    context = DriverContext(root=str(tmp_path), run=str(tmp_path))
    assert tiffin_storage_dir.storage_driver("another", context) is None
