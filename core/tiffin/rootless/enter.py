"""Entering the namespace of the user who calls. Standard library only: every command that changes
something begins with this."""

from __future__ import annotations

import os

from .. import USER_MARK, syscalls
from ..processes import start_time
from . import places

HOLDER = "namespace"
"""In the user's run directory: pid and start time of the process that keeps the namespace."""
PR_SET_DUMPABLE = 4
UNSET = 4294967295


def enter(uid: int) -> None:
    """This process is root in the namespace of the user it belongs to, afterwards; that is made
    when there is none. To be called with one thread. Errors: UserError, DriverError."""
    directory = places.prepare(uid)
    mark = f"{uid}:{_number('/proc/self/loginuid')}:{_number('/proc/self/sessionid')}"
    if not join(directory):
        from . import make

        make.make(directory, uid)
    os.environ[USER_MARK] = mark


def join(directory: str) -> bool:
    """Enter the namespace that is held now; False when there is none."""
    pid, started = holder(directory)
    return pid > 0 and join_process(pid, started)


def holder(directory: str) -> tuple[int, int]:
    """(pid, start time) as they are written down; zeros when nothing is."""
    try:
        with open(f"{directory}/{HOLDER}", encoding="ascii") as file:
            pid, started = map(int, file.read().split())
    except (OSError, ValueError):
        return 0, 0
    return pid, started


def join_process(pid: int, started: int = 0) -> bool:
    """Enter user and mount namespace of a process, if it is still the one that began then. The
    kernel lets nobody in but the user who made the namespace."""
    held: list[int] = []
    try:
        for kind in ("user", "mnt"):
            held.append(os.open(f"/proc/{pid}/ns/{kind}", os.O_RDONLY | os.O_CLOEXEC))
        if started and start_time(pid) != started:
            return False
        here = _directory()
        syscalls.setns(held[0], syscalls.CLONE_NEWUSER)
        syscalls.setns(held[1], syscalls.CLONE_NEWNS)
    except OSError:
        return False
    finally:
        for fd in held:
            os.close(fd)
    arrive(here)
    return True


def arrive(here: str) -> None:
    """What a process must put right once it is in the namespace: its working directory, its group
    where `newgrp` had changed that, and that its own /proc is its own."""
    try:
        os.chdir(here or "/")
    except OSError:
        os.chdir("/")
    if os.getegid() != 0:
        os.setgid(0)
    syscalls.prctl(PR_SET_DUMPABLE, 1)


def _directory() -> str:
    try:
        return os.getcwd()
    except OSError:
        return ""


def _number(path: str) -> int:
    try:
        with open(path, "rb") as file:
            return int(file.read())
    except (OSError, ValueError):
        return UNSET
