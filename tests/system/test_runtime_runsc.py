"""The runsc driver under the conformance suite for OCI runtimes, as far as gVisor goes, and a
container's life with it."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

import tiffin_runtime_runsc
from tiffin.hooks import DriverContext, OCIRuntime
from tiffin.testing.runtime import RuntimeConformance

if shutil.which("runsc") is None:
    pytest.skip("runsc is not installed: apt install runsc", allow_module_level=True)


def make(tmp_path: Path, name: str = "runsc") -> OCIRuntime:
    context = DriverContext(root=str(tmp_path / "root"), run=str(tmp_path / "runtime"))
    runtime = tiffin_runtime_runsc.oci_runtime(name, context)
    assert runtime is not None
    return runtime


class TestRunsc(RuntimeConformance):
    @pytest.fixture
    def runtime(self, tmp_path: Path) -> OCIRuntime:
        return make(tmp_path)
