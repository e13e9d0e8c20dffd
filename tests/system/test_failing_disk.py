"""A disk that fails beneath the store at a random write: commands say so in one line, and once the
disk is well again all that was acknowledged is there, and the same command works.

The file system (`support.disk`) lies in a sparse file of a tmpfs that has hardly any room left: the
file system believes that there is room, and the block layer answers EIO. Kernel and SQLite, the
workers that unpack layers, and conmon all meet it, not our own code alone.
"""

from __future__ import annotations

import contextlib
import datetime
import os
import random
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from support import world
from support.cli import BUSYBOX, PROGRESS, Tiffin
from support.disk import Disk, disk
from test_power import NOTHING, Step, _remains, created, end_processes, examine, image, listed

WHOLE = os.environ.get("TIFFIN_TORTURE", "") == "all"
ROOM = "200m"
TURNS = 40 if WHOLE else 2
LEFT_MAX = 1500 << 10
"""Bytes that can still be written, at most; more than most of the commands need."""
VFS = ["--storage-driver=vfs"]
SLEEP = ["--network=none", BUSYBOX, "sleep", "9"]
STEPS = [
    Step([*VFS, "create", "--name=one", *SLEEP], "one", created("one")),
    Step(["volume", "create", "mine"], "mine", listed("mine", "volume", "ls", "-q")),
    Step([*VFS, "run", "--name=two", "--network=none", BUSYBOX, "true"], "two", created("two")),
    Step(
        ["run", "--rm", "--network=none", "-v", "filled:/bin", BUSYBOX, "true"], "filled",
        listed("filled", "volume", "ls", "-q"),
    ),
    Step(["tag", BUSYBOX, "localhost/also:1"], "also", image("localhost/also:1")),
    Step(
        [*VFS, "run", "--rm", "--network=none", BUSYBOX, "sh", "-c", "head -c 900k /dev/zero >/x"],
        "", lambda tiffin: True,
    ),
    Step(["commit", "kept", "localhost/made:1"], "made", image("localhost/made:1")),
    Step(["storage", "migrate", "--to=vfs", "kept"], "kept", created("kept")),
]  # fmt: skip


class Failing:
    def __init__(self, tiffin: Tiffin, disk: Disk, backing: Path) -> None:
        self.tiffin = tiffin
        self.disk = disk
        self.backing = backing

    def fail_after(self, left: int) -> None:
        """So many bytes, and then errors."""
        room = os.statvfs(self.backing)
        used = (room.f_blocks - room.f_bfree) * room.f_frsize
        self._size(str(used + left))

    def heal(self) -> None:
        self._size(ROOM)
        end_processes(self.tiffin)

        def let_go() -> None:
            for mount in reversed(world.mounts_below(self.tiffin.root)):
                if mount.target != str(self.tiffin.root):
                    subprocess.run(["umount", "-l", mount.target], check=True)

        self.disk.again(let_go)

    def _size(self, size: str) -> None:
        mount = ("mount", "-o", f"remount,size={size}", str(self.backing))
        subprocess.run(mount, check=True)


@pytest.fixture
def failing(tmp_path: Path) -> Iterator[Failing]:
    tiffin = Tiffin.fresh()
    backing = tmp_path / "backing"
    backing.mkdir()
    with contextlib.ExitStack() as stack:
        stack.callback(world.remove, tiffin.base)
        stack.callback(world.unmount_below, tiffin.base)
        stack.callback(world.unmount_below, tmp_path)
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={ROOM}", "none", backing], check=True)
        made = stack.enter_context(disk(backing, tiffin.root))
        stack.callback(_remains, tiffin)
        yield Failing(tiffin, made, backing)


def test_a_disk_that_fails(failing: Failing) -> None:
    tiffin = failing.tiffin
    tiffin("pull", BUSYBOX)
    tiffin("create", "--name=kept", "--network=none", BUSYBOX, "sleep", "1000")
    tiffin("start", "kept")
    tiffin("exec", "kept", "sh", "-c", "head -c 300000 /dev/urandom >/mine")
    tiffin("stop", "-t", "0", "kept")
    facts = {"kept": Step([], "kept", created("kept"))}
    chance = random.Random(f"{datetime.date.today()} {os.urandom(4).hex() if WHOLE else ''}")
    met = 0
    for turn in range(TURNS):
        step = chance.choice([s for s in STEPS if s.fact not in facts or s.fact == "kept"])
        left = chance.randrange(0, LEFT_MAX, 4096) if turn else 0
        where = f"{' '.join(step.args)} with {left} bytes left"
        failing.fail_after(left)
        try:
            done = tiffin.attempt(*step.args)
            errors = [line for line in done.err.splitlines() if not PROGRESS.match(line)]
            assert "internal error" not in done.err and "Traceback" not in done.err, done.err
            assert done.code == 0 or len(errors) == 1, done.err
            met += done.code != 0
            failing.heal()
            examine(tiffin, facts, NOTHING if done.code == 0 else step)
            if done.code == 0 and step.fact:
                facts[step.fact] = step
            elif not step.holds(tiffin):
                tiffin(*step.args)
                facts[step.fact] = step
        except (AssertionError, subprocess.SubprocessError) as error:
            raise AssertionError(f"{where}\n{error}") from error
    assert met, "no error was met"
