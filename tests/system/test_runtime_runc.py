"""The runc driver under the conformance suite for OCI runtimes."""

from pathlib import Path

import pytest

import tiffin_runtime_runc
from tiffin.hooks import DriverContext, OCIRuntime
from tiffin.testing.runtime import RuntimeConformance


class TestRunc(RuntimeConformance):
    @pytest.fixture
    def runtime(self, tmp_path: Path) -> OCIRuntime:
        context = DriverContext(root=str(tmp_path / "root"), run=str(tmp_path / "runtime"))
        runtime = tiffin_runtime_runc.oci_runtime("runc", context)
        assert runtime is not None
        return runtime
