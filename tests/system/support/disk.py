"""A disk whose power can be cut: an ext4 file system in a file, on a loop device.

What is in the file is what has reached the block layer, and nothing else: what a file system had
only in memory is not there. So a copy of the file, made while nothing is written, is the disk after
a power cut at that moment. The mount options leave nothing to the kindness of ext4: data is not
written before the metadata that refers to it, nor before a rename, and hardly ever by itself.
"""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

from .cli import eventually

OPTIONS = "loop,data=writeback,noauto_da_alloc,commit=600"


class Disk:
    def __init__(self, directory: Path, mountpoint: Path, size: int = 512 << 20) -> None:
        self.file = directory / "disk-0"
        self.mountpoint = mountpoint
        self.cuts = 0
        with self.file.open("wb") as file:
            file.truncate(size)
        run("mkfs.ext4", "-q", "-E", "lazy_itable_init=1,nodiscard", str(self.file))
        mountpoint.mkdir()
        self._mount()

    def _mount(self) -> None:
        run("mount", "-o", OPTIONS, str(self.file), str(self.mountpoint))

    def _writes(self) -> str:
        """The number of writes that the loop device has seen."""
        found = run("findmnt", "-n", "-o", "SOURCE", "--mountpoint", str(self.mountpoint))
        return Path(f"/sys/block/{Path(found.strip()).name}/stat").read_text().split()[4]

    def cut(self, let_go: Callable[[], None]) -> None:
        """The file system as it is after a power cut now; journal replayed. Nobody may be writing
        to it any more. `let_go` takes away what is mounted below it, which comes after the cut:
        an overlay that is unmounted syncs the file system it is on."""
        copy = self.file.with_name(f"disk-{self.cuts + 1}")

        def copied_in_peace() -> bool:
            before = self._writes()
            run("cp", "--sparse=always", str(self.file), str(copy))
            return self._writes() == before

        eventually(copied_in_peace, lambda: "the disk is never quiet")
        let_go()
        self._unmount()
        self.file.unlink()
        self.file = copy
        self.cuts += 1
        self._mount()

    def _unmount(self) -> None:
        """The kernel may still be letting go of what killed processes had."""

        def done() -> bool:
            umount = subprocess.run(["umount", str(self.mountpoint)], capture_output=True)
            return umount.returncode == 0

        eventually(done, lambda: f"{self.mountpoint} is busy: {self._users()}")

    def _users(self) -> str:
        done = subprocess.run(
            ["fuser", "-vm", str(self.mountpoint)], capture_output=True, text=True, check=False
        )
        return done.stdout + done.stderr

    def close(self) -> None:
        self._unmount()
        self.file.unlink()
        self.mountpoint.rmdir()


@contextlib.contextmanager
def disk(directory: Path, mountpoint: Path) -> Iterator[Disk]:
    made = Disk(directory, mountpoint)
    try:
        yield made
    finally:
        made.close()


def run(*argv: str) -> str:
    return subprocess.run(argv, check=True, capture_output=True, text=True).stdout
