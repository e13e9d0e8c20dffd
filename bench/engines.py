"""The two engines as commands, each with an own store below one directory."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

IMAGE = "localhost/bench:latest"
CONTAINERS_CONF = """
[containers]
default_ulimits = ["nofile=1024:1024", "nproc=1024:1024"]
"""
POLICY = '{"default": [{"type": "insecureAcceptAnything"}]}'


class Engine:
    """`run(...)` runs one command to its end and fails when the command does."""

    name = ""
    argv: tuple[str, ...] = ()
    env: Mapping[str, str] = MappingProxyType({})

    def run(self, *args: str, runtime: str = "") -> str:
        flags = (f"--runtime={runtime}",) if runtime else ()
        done = subprocess.run(
            [*self.argv, *flags, *args],
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
            env={**os.environ, **self.env},
        )
        if done.returncode:
            raise SystemExit(f"{self.name} {shlex.join(args)}: {done.stderr.strip()[-1000:]}")
        return done.stdout

    def remove_all(self) -> None:
        self.run("rm", "-a", "-f", "-t", "0")


class Tiffin(Engine):
    name = "tiffin"

    def __init__(self, base: Path) -> None:
        program = str(Path(sys.executable).parent / "tiffin")
        self.argv = (program, f"--root={base}/tiffin", f"--runroot={base}/tiffin-run")


class Podman(Engine):
    name = "podman"

    def __init__(self, base: Path) -> None:
        (base / "containers.conf").write_text(CONTAINERS_CONF)
        self.env = {"CONTAINERS_CONF": f"{base}/containers.conf"}
        self.argv = (
            "podman",
            f"--root={base}/podman",
            f"--runroot={base}/podman-run",
            f"--tmpdir={base}/podman-tmp",
            f"--network-config-dir={base}/podman-net",
            "--storage-driver=overlay",
            "--cgroup-manager=cgroupfs",
            "--events-backend=file",
        )


def enter_namespace() -> None:
    """Go on in a mount namespace in which the (almost empty) v2 hierarchy beside v1 is gone."""
    if "BENCH_INSIDE" in os.environ or not os.path.ismount("/sys/fs/cgroup/unified"):
        return
    script = 'umount /sys/fs/cgroup/unified; exec "$@"'
    os.environ["BENCH_INSIDE"] = "1"
    os.execvp(
        "unshare",
        [
            "unshare",
            "-m",
            "--propagation",
            "private",
            "sh",
            "-c",
            script,
            "-",
            sys.executable,
            *sys.argv,
        ],
    )


def unmount_below(base: Path) -> None:
    """Podman keeps its storage directory mounted upon itself."""
    for line in reversed(Path("/proc/self/mountinfo").read_text().splitlines()):
        target = line.split()[4]
        if target.startswith(f"{base}/"):
            subprocess.run(["umount", "-l", target], check=True)
