"""The drivers pasta and slirp4netns over real processes, namespaces and sockets."""

from __future__ import annotations

from pathlib import Path
from typing import cast

import pytest

from tiffin.hooks import DriverContext, StackDriver
from tiffin.testing.stack import StackConformance
from tiffin_net_pasta import network_driver as pasta
from tiffin_net_slirp4netns import network_driver as slirp4netns


class TestPasta(StackConformance):
    @pytest.fixture
    def driver(self, tmp_path: Path) -> StackDriver:
        found = pasta("pasta", DriverContext(root="/nowhere", run=str(tmp_path / "run")))
        return cast("StackDriver", found)


class TestSlirp4netns(StackConformance):
    @pytest.fixture
    def driver(self, tmp_path: Path) -> StackDriver:
        context = DriverContext(root="/nowhere", run=str(tmp_path / "run"))
        return cast("StackDriver", slirp4netns("slirp4netns", context))
