"""conmon's exit command: an attended end is left to the `run` that attends."""

from __future__ import annotations

import fcntl
import os
import subprocess
from pathlib import Path

import pytest

from tiffin import exited
from tiffin.engine.bundle import UNLESS_ATTENDED
from tiffin.layout import Layout


def shell(attended: Path, path: str = os.environ["PATH"]) -> str:
    argv = ["/bin/sh", "-c", UNLESS_ATTENDED, "tiffin-exited", str(attended), "/bin/echo", "runs"]
    done = subprocess.run(argv, capture_output=True, text=True, env={"PATH": path}, check=True)
    return done.stdout.strip()


@pytest.fixture
def attended(tmp_path: Path) -> Path:
    path = Path(Layout(str(tmp_path), str(tmp_path)).attended("c1"))
    path.parent.mkdir(parents=True)
    return path


def test_both_looks_agree(tmp_path: Path, attended: Path) -> None:
    layout = Layout(str(tmp_path), str(tmp_path))
    assert (shell(attended), exited.attended(layout, "c1")) == ("runs", False)
    with open(attended, "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        assert (shell(attended), exited.attended(layout, "c1")) == ("", True)
    assert (shell(attended), exited.attended(layout, "c1")) == ("runs", False)


def test_looking_makes_nothing(attended: Path) -> None:
    shell(attended)
    assert not attended.exists()


def test_without_flock_the_exit_command_looks_itself(attended: Path) -> None:
    with open(attended, "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        assert shell(attended, path="/nonexistent") == "runs"
