"""The crun driver under the conformance suite for OCI runtimes."""

from pathlib import Path

import pytest

import tiffin_runtime_crun
from tiffin.hooks import DriverContext, OCIRuntime
from tiffin.testing.runtime import RuntimeConformance


class TestCrun(RuntimeConformance):
    @pytest.fixture
    def runtime(self, tmp_path: Path) -> OCIRuntime:
        context = DriverContext(root=str(tmp_path / "root"), run=str(tmp_path / "runtime"))
        runtime = tiffin_runtime_crun.oci_runtime("crun", context)
        assert runtime is not None
        return runtime
