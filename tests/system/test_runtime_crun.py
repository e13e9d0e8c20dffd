"""The crun driver under the conformance suite for OCI runtimes."""

import subprocess
from pathlib import Path

import pytest

import tiffin_runtime_crun
from tiffin.hooks import DriverContext, OCIRuntime
from tiffin.testing.runtime import RuntimeConformance
from tiffin_runtime_crun.hybrid import script


class TestCrun(RuntimeConformance):
    @pytest.fixture
    def runtime(self, tmp_path: Path) -> OCIRuntime:
        context = DriverContext(root=str(tmp_path / "root"), run=str(tmp_path / "runtime"))
        runtime = tiffin_runtime_crun.oci_runtime("crun", context)
        assert runtime is not None
        return runtime


def test_the_unmount_stays_in_the_wrappers_namespace(tmp_path: Path) -> None:
    """On a host whose /sys/fs/cgroup is shared, as systemd makes it: here in a namespace of ours,
    with a cgroup mount made for the purpose."""
    look = tmp_path / "look"
    look.write_text("#!/bin/sh\ngrep -c ' /sys/fs/cgroup/unified ' /proc/self/mountinfo\n:\n")
    look.chmod(0o755)
    wrapper = tmp_path / "wrapper"
    wrapper.write_text(script(str(look), shared=True))
    steps = (
        "mount -t tmpfs x /sys/fs/cgroup && mkdir /sys/fs/cgroup/unified && "
        "mount --make-shared /sys/fs/cgroup && mount -t tmpfs y /sys/fs/cgroup/unified && "
        f"sh {wrapper} create && exec {look}"
    )
    run = subprocess.run(
        ["unshare", "--mount", "--propagation", "private", "sh", "-c", steps],
        capture_output=True,
        text=True,
        check=True,
    )
    before, after = map(int, run.stdout.split())
    assert after == before + 1
