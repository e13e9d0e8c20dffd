"""The wheel and the sdist are complete: an empty venv with one of them runs a container."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from support.cli import BUSYBOX, Tiffin

pytestmark = pytest.mark.outside  # the package index is there

TOP = Path(__file__).parents[2]
PIP = (sys.executable, "-m", "pip", "-qq", "--disable-pip-version-check")


def run(*argv: str | Path, **env: str) -> str:
    done = subprocess.run(
        list(map(str, argv)),
        cwd=TOP,
        env=os.environ | env,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with a wheel and an sdist. (The package index must be reachable.)"""
    backend, out = tmp_path_factory.mktemp("backend"), tmp_path_factory.mktemp("dist")
    run(*PIP, "install", "--target", backend, "hatchling")
    run(sys.executable, "-m", "hatchling", "build", "-d", out, PYTHONPATH=str(backend))
    return out


@pytest.mark.parametrize("kind", ["whl", "tar.gz"])
def test_an_empty_venv_runs_a_container(
    tiffin: Tiffin, built: Path, tmp_path: Path, kind: str
) -> None:
    (package,) = built.glob(f"*.{kind}")
    run(sys.executable, "-m", "venv", "--without-pip", tmp_path / "venv")
    run(*PIP, "--python", tmp_path / "venv/bin/python", "install", package)
    program = tmp_path / "venv/bin/tiffin"
    store = (f"--root={tiffin.root}", f"--runroot={tiffin.run}")
    assert run(program, *store, "run", "--rm", BUSYBOX, "echo", kind) == f"{kind}\n"
    assert "overlay" in run(program, *store, "plugin", "ls")
