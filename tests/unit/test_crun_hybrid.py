"""Recognising a hybrid cgroup machine, and the wrapper for crun there."""

import os
import subprocess
from pathlib import Path

from tiffin import oci_runtime
from tiffin.hooks import DriverContext
from tiffin_runtime_crun import hybrid

V1 = """\
31 23 0:28 / /sys/fs/cgroup rw - tmpfs tmpfs rw
32 31 0:29 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu
"""
V2_BESIDE = "41 31 0:38 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n"


def test_machines() -> None:
    assert hybrid.hybrid(V1) == (False, False)
    assert hybrid.hybrid(V1 + V2_BESIDE) == (True, False)
    assert hybrid.hybrid(V1.replace("rw - tmpfs", "rw shared:9 - tmpfs") + V2_BESIDE) == (
        True,
        True,
    )
    assert hybrid.hybrid("31 23 0:28 / /sys/fs/cgroup rw shared:4 - cgroup2 c rw\n")[0] is False
    assert hybrid.hybrid("") == (False, False)


def test_only_create_is_wrapped(tmp_path: Path) -> None:
    crun = tmp_path / "it's crun"
    crun.write_text('#!/bin/sh\nprintf "<%s>" "$@"\n')
    crun.chmod(0o755)
    wrapper = tmp_path / "wrapper"
    wrapper.write_text(hybrid.script(str(crun), shared=False))
    run = subprocess.run(
        ["/bin/sh", wrapper, "--root", "a b", "exec", "x", "*"], capture_output=True, check=True
    )
    assert run.stdout == b"<--root><a b><exec><x><*>"
    assert "unshare --mount" in wrapper.read_text()


def test_the_wrapper_is_written_once_and_is_private(tmp_path: Path) -> None:
    path = f"{tmp_path}/run/crun-hybrid"
    oci_runtime._write(path, b"#!/bin/sh\n")
    assert os.stat(path).st_mode & 0o777 == 0o700
    inode = os.stat(path).st_ino
    oci_runtime._write(path, b"#!/bin/sh\n")
    assert os.stat(path).st_ino == inode
    oci_runtime._write(path, b"#!/bin/sh\n:\n")
    assert Path(path).read_bytes() == b"#!/bin/sh\n:\n"
    assert os.listdir(f"{tmp_path}/run") == ["crun-hybrid"]


def test_where_there_is_no_need_crun_itself_is_run(tmp_path: Path) -> None:
    program = hybrid.Wrapper(DriverContext(root=f"{tmp_path}/root", run=f"{tmp_path}/run"))
    with open("/proc/self/mountinfo") as file:
        needed, _ = hybrid.hybrid(file.read())
    expected = f"{tmp_path}/run/crun-hybrid" if needed else "/usr/bin/crun"
    assert program("/usr/bin/crun") == expected
