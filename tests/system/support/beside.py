"""tiffin and the installed podman, each with a store of its own in which the same things are."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from . import world
from .cli import PATIENCE, PROGRAM, Done

CONF = """
[containers]
default_ulimits = ["nofile=1024:1024", "nproc=1024:1024"]
"""
IMAGE = "localhost/same:latest"


class Engine:
    """A command with a store of its own."""

    def __init__(self, base: Path, argv: list[str], env: dict[str, str]) -> None:
        self.folder = base / Path(argv[0]).name
        """Where it runs, and finds the files that the lines name."""
        self.argv = argv
        self.env = env

    def __call__(self, line: str) -> Done:
        done = subprocess.run(
            [*self.argv, *shlex.split(line)],
            env={**os.environ, **self.env},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=120 * PATIENCE,
            cwd=self.folder,
        )
        return Done(done.returncode, done.stdout, done.stderr)

    def must(self, line: str) -> str:
        done = self(line)
        assert done.code == 0, f"{self.argv[0]} {line}: {done.err}"
        return done.out


class Pair(NamedTuple):
    ours: Engine
    theirs: Engine


STANDING = (
    "create --name made --network none same echo made",
    "run --name ended --network none same sh -c 'echo out; echo err >&2; exit 3'",
    "run -d --name runs --network none --label meal=lunch --stop-timeout 0 same sleep 1000",
    "volume create --label a=b store",
)
"""What is there when each line is run; a line that changes it mends it again."""


@contextmanager
def standing() -> Iterator[Pair]:
    """Both, with what STANDING makes."""
    before = {path for path, _, _ in os.walk("/sys/fs/cgroup") if "libpod" in path}
    base = Path(tempfile.mkdtemp(prefix="tfn-", dir="/var/tmp"))
    (base / "containers.conf").write_text(CONF)
    ours = [PROGRAM, f"--root={base}/store", f"--runroot={base}/store-run", "--runtime=runc"]
    theirs = [
        "podman",
        f"--root={base}/podman-root",
        f"--runroot={base}/podman-run",
        f"--tmpdir={base}/podman-tmp",
        f"--network-config-dir={base}/podman-net",
        f"--volumepath={base}/podman-volumes",
        "--storage-driver=vfs",
        "--runtime=runc",
        "--cgroup-manager=cgroupfs",
        "--events-backend=file",
    ]
    env = {"CONTAINERS_CONF": f"{base}/containers.conf", "XDG_CONFIG_HOME": str(base)}
    engines = Pair(Engine(base, ours, env), Engine(base, theirs, env))
    try:
        for engine in engines:
            engine.folder.mkdir()
            _rootfs(engine.folder / "rootfs.tar")
            (engine.folder / "rootfs.tar.env").write_text("FROM_FILE=yes\n")
            engine.must("import -c 'CMD [\"sh\"]' rootfs.tar same")
            for line in STANDING:
                assert engine(line).code in (0, 3), line
        yield engines
        for engine in engines:
            engine.must("rm -a -f -t 0")
            engine.must("pod rm -a -f")
    finally:
        world.sweep(base)
        for path, _, _ in os.walk("/sys/fs/cgroup", topdown=False):
            if "libpod_parent" in path and path not in before:
                os.rmdir(path)  # podman leaves that of its conmons


def _rootfs(path: Path) -> None:
    program = shutil.which("busybox")
    assert program
    with tarfile.open(path, "w") as tar:
        for folder in ("bin", "dev", "proc", "sys", "tmp", "etc"):
            member = tarfile.TarInfo(folder)
            member.type, member.mode = tarfile.DIRTYPE, 0o755
            tar.addfile(member)
        tar.add(program, "bin/busybox")
        for name in ("sh", "echo", "sleep", "true", "false", "cat", "ls", "touch", "id", "env"):
            member = tarfile.TarInfo(f"bin/{name}")
            member.type, member.linkname = tarfile.SYMTYPE, "busybox"
            tar.addfile(member)
