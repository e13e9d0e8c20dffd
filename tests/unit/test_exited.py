"""conmon's exit command: an attended end is left to the `run` that attends."""

from __future__ import annotations

import fcntl
import os
import subprocess
import time
from pathlib import Path

import pytest

from tiffin import exited
from tiffin.engine.exit_command import UNLESS_ATTENDED
from tiffin.layout import Layout


def started(attended: Path, path: str = os.environ["PATH"]) -> subprocess.Popen[str]:
    ending = str(attended).replace("attended", "ending")
    argv = ["/bin/sh", "-c", UNLESS_ATTENDED, "tiffin-exited", str(attended), ending]
    argv += ["/bin/echo", "runs"]
    return subprocess.Popen(argv, stdout=subprocess.PIPE, text=True, env={"PATH": path})


def shell(attended: Path, path: str = os.environ["PATH"]) -> str:
    with started(attended, path) as process:
        out, _ = process.communicate()
        assert process.returncode == 0
    return out.strip()


def waited_for(path: Path) -> bool:
    """proc_locks(5)"""
    inode = f":{path.stat().st_ino}"
    lines = [line.split() for line in Path("/proc/locks").read_text().splitlines()]
    return any("->" in words and any(word.endswith(inode) for word in words) for words in lines)


@pytest.fixture
def attended(tmp_path: Path) -> Path:
    path = Path(Layout(str(tmp_path), str(tmp_path)).attended("c1"))
    path.parent.mkdir(parents=True)
    return path


def test_both_looks_agree(tmp_path: Path, attended: Path) -> None:
    layout = Layout(str(tmp_path), str(tmp_path))
    assert (shell(attended), exited.attended(layout.attended("c1"))) == ("runs", False)
    with open(attended, "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        assert (shell(attended), exited.attended(layout.attended("c1"))) == ("", True)
    assert (shell(attended), exited.attended(layout.attended("c1"))) == ("runs", False)


def test_looking_makes_nothing(attended: Path) -> None:
    shell(attended)
    assert not attended.exists()


def test_without_flock_the_exit_command_looks_itself(attended: Path) -> None:
    with open(attended, "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        assert shell(attended, path="/nonexistent") == "runs"


@pytest.mark.parametrize("how", ["done", "killed", "another"])
def test_the_exit_command_waits_for_whoever_ends_the_container(attended: Path, how: str) -> None:
    """Who has done it takes the run directory away; who was killed does not. A file of that name
    that belongs to a later run of the container says that it was done, too."""
    ending = attended.with_name("ending")
    with open(ending, "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        process = started(attended)
        with process:
            deadline = time.monotonic() + 30
            while not waited_for(ending):
                assert process.poll() is None and time.monotonic() < deadline
                time.sleep(0.01)
            if how != "killed":
                ending.unlink()
            if how == "another":
                ending.touch()
            fcntl.flock(file, fcntl.LOCK_UN)
            assert process.communicate()[0].strip() == ("runs" if how == "killed" else "")
