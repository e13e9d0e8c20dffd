"""A systemd-journald of one's own, on a machine without systemd: commands run in a mount namespace
in which it is at the usual place."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
from collections.abc import Iterator

from .cli import Tiffin, eventually

DAEMON = "/lib/systemd/systemd-journald"
PLACES = ("/run", "/var/log", "/etc/systemd")
"""Where journald looks and writes: empty ones, that go with the namespace."""
MACHINE_ID, MACHINE = "/etc/machine-id", "5ca1ab1e" * 4
"""In containers that file is often empty: journald would not start."""
SETTINGS = "[Journal]\nStorage=volatile\nReadKMsg=no\nAudit=no\nRateLimitIntervalSec=0\n"
INSIDE = f"""
set -e
for place in {" ".join(PLACES)}; do mount -t tmpfs -o mode=755 none $place; done
mkdir -p /run/systemd/journal
echo {MACHINE} >/run/machine-id
mount --bind /run/machine-id {MACHINE_ID}
printf '{SETTINGS}' >/etc/systemd/journald.conf
exec {DAEMON}
"""


def installed() -> bool:
    """conmon writes to a journal only if it was built to; so is Debian's."""
    needed = (DAEMON, MACHINE_ID, "/etc/systemd")
    return all(map(os.path.exists, needed)) and shutil.which("journalctl") is not None


class Journal:
    """Where a journald runs: `tiffin(...)` there."""

    def __init__(self, pid: int) -> None:
        self.pid = pid

    def argv(self, *argv: str) -> list[str]:
        return ["nsenter", f"--mount=/proc/{self.pid}/ns/mnt", f"--wd={os.getcwd()}", *argv]

    def at(self, tiffin: Tiffin) -> Tiffin:
        return InJournal(tiffin, self)


class InJournal(Tiffin):
    def __init__(self, plain: Tiffin, journal: Journal) -> None:
        super().__init__(plain.base, *plain.flags)
        self.journal = journal

    def using(self, *flags: str) -> Tiffin:
        return InJournal(super().using(*flags), self.journal)

    def argv(self, *args: object) -> list[str]:
        return self.journal.argv(*super().argv(*map(str, args)))


@contextlib.contextmanager
def journald() -> Iterator[Journal]:
    process = subprocess.Popen(
        ["unshare", "--mount", "sh", "-c", INSIDE],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    journal = Journal(process.pid)

    def listens() -> bool:
        return os.path.exists(f"/proc/{process.pid}/root/run/systemd/journal/socket")

    try:
        eventually(lambda: process.poll() is not None or listens())
        assert listens(), "systemd-journald did not start"
        yield journal
    finally:
        process.terminate()
        process.wait()
