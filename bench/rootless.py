"""Times tiffin beside podman, both as the same ordinary user, and prints the ratios: see README.md.

rootless.py [-n ROUNDS] [--check]      makes the user, and removes them again; needs root
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import subprocess
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import images

NAME = "tiffin-bench"
IMAGE = "localhost/bench:1"
CONTAINERS = 30
"""Containers in the store while `ps -a` is timed."""
PROGRAM = Path(__file__).parents[1] / ".venv/bin/tiffin"
MEASURED: tuple[tuple[str, float, tuple[str, ...]], ...] = (
    ("run --rm none", 0.8, ("run", "--rm", "--network=none", IMAGE, "true")),
    ("create", 1.0, ("create", "--network=none", IMAGE, "true")),
    ("ps -a", 1.0, ("ps", "-a")),
    ("images", 1.0, ("images",)),
)


class User:
    def __init__(self, base: Path) -> None:
        subprocess.run(["useradd", "-M", "-d", str(base), NAME], check=True, capture_output=True)
        self.base = base
        shutil.chown(base, NAME, NAME)
        (base / "run").mkdir(mode=0o700)
        shutil.chown(base / "run", NAME, NAME)

    def __call__(self, *argv: str) -> None:
        who = ["setpriv", f"--reuid={NAME}", f"--regid={NAME}", "--init-groups", "--"]
        env = {
            "HOME": str(self.base),
            "XDG_RUNTIME_DIR": f"{self.base}/run",
            "PATH": "/usr/local/bin:/usr/bin:/bin",
        }
        done = subprocess.run([*who, *argv], env=env, capture_output=True, text=True, cwd="/")
        if done.returncode:
            raise SystemExit(f"bench: {' '.join(argv)}: {done.stderr.strip()}")

    def close(self) -> None:
        for _ in range(50):
            subprocess.run(["pkill", "-KILL", "-u", NAME], check=False)
            if subprocess.run(["userdel", NAME], capture_output=True, check=False).returncode == 0:
                return
            time.sleep(0.2)


def engines() -> list[list[str]]:
    podman = ["podman", "--cgroup-manager=cgroupfs", "--events-backend=file", "--runtime=crun"]
    if os.path.exists("/sys/fs/cgroup/unified"):
        podman[-1] = "--runtime=runc"  # crun refuses v1 beside v2, and podman does not hide it
    return [[str(PROGRAM), podman[-1]], podman]


def measure(user: User, pair: list[list[str]], words: Sequence[str], rounds: int) -> list[float]:
    """Median milliseconds of each; they take turns, and take turns at going first."""
    times: list[list[float]] = [[], []]
    for number in range(rounds + 1):
        for which in (0, 1) if number % 2 else (1, 0):
            began = time.perf_counter()
            user(*pair[which], *words)
            times[which].append((time.perf_counter() - began) * 1000)
    return [statistics.median(one[1:]) for one in times]


def main() -> int:
    parser = argparse.ArgumentParser(usage=__doc__)
    parser.add_argument("-n", type=int, default=12)
    parser.add_argument("--check", action="store_true")
    args = parser.parse_args()
    base = Path(tempfile.mkdtemp(prefix="tfb-", dir="/var/tmp"))
    base.chmod(0o711)
    images.rootfs(base / "rootfs.tar")
    (base / "rootfs.tar").chmod(0o644)
    user = User(base)
    reached = True
    try:
        pair = engines()
        for engine in pair:
            user(*engine, "import", f"{base}/rootfs.tar", IMAGE)
            for _ in range(CONTAINERS):
                user(*engine, "create", "--network=none", IMAGE, "true")
        print(f"{'milliseconds (median)':22} {'tiffin':>8} {'podman':>8} {'ratio':>7}   goal")
        for name, goal, words in MEASURED:
            ours, theirs = measure(user, pair, words, args.n)
            good = ours / theirs <= goal
            reached = reached and good
            print(
                f"{name:22} {ours:8.0f} {theirs:8.0f} {ours / theirs:7.2f}  {goal:5.2f}  "
                f"{'ok' if good else 'MISSED'}",
                flush=True,
            )
    finally:
        user.close()
        shutil.rmtree(base, ignore_errors=True)
    return int(args.check and not reached)


if __name__ == "__main__":
    raise SystemExit(main())
