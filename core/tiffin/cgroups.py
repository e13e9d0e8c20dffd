"""A container's cgroup, when the runtime could not remove it: its processes were still zombies that
init had not reaped (cgroups(7): a cgroup with zombies in it is busy)."""

from __future__ import annotations

import contextlib
import os
import signal
import time

from .errors import DriverError

UNIFIED = "/sys/fs/cgroup"
"""Where the one hierarchy of v2 is mounted."""
PATIENCE = 10.0
"""Seconds in which init reaps what is dead; it is milliseconds as a rule."""


FRESH = 1.0
"""Seconds for which it is remembered where the hierarchies are."""


def places(cgroup: str) -> list[str]:
    """Where a cgroup exists now: in each v1 hierarchy, and in the unified one."""
    if not cgroup.strip("/"):
        return []
    paths = [f"{top}/{cgroup.strip('/')}" for top in hierarchies()]
    return [path for path in paths if os.path.isdir(path)]


def unified() -> bool:
    """True where cgroup v2 is all that there is (cgroups(7))."""
    return os.path.exists(f"{UNIFIED}/cgroup.controllers")


def usual_manager(uid: int) -> str:
    """As podman: systemd where it runs the machine with cgroup v2."""
    from . import systemd

    return "systemd" if unified() and systemd.reachable(uid) else "cgroupfs"


def own() -> str:
    """The cgroup of this process in the unified hierarchy."""
    with open("/proc/self/cgroup", encoding="utf-8", errors="surrogateescape") as file:
        for line in file:
            if line.startswith("0::"):
                return line[3:].rstrip("\n")
    return "/"


def controllers(below: str = "") -> frozenset[str]:
    """Those that may limit what is made below a cgroup (v2), or that a hierarchy has (v1)."""
    try:
        if unified():
            with open(f"{UNIFIED}{below}/cgroup.controllers", encoding="ascii") as file:
                return frozenset(file.read().split())
        with open("/proc/cgroups", encoding="ascii") as file:
            rows = [line.split() for line in file if not line.startswith("#")]
    except OSError:
        return frozenset()
    return frozenset(row[0] for row in rows if row[1] != "0" and row[3] == "1")


_seen: tuple[float, list[str]] = (0.0, [])


def hierarchies() -> list[str]:
    """Where each hierarchy is mounted; as of a moment ago, since with many containers the table of
    mounts is long, and a command may end many."""
    global _seen
    now = time.monotonic()
    if not _seen[1] or now - _seen[0] > FRESH:
        _seen = now, _mounted()
    return _seen[1]


def _mounted() -> list[str]:
    found = []
    with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as file:
        for line in file:
            fields = line.split()
            if fields[fields.index("-") + 1] in ("cgroup", "cgroup2"):
                found.append(fields[4])
    return found


async def remove(cgroup: str, container: str = "") -> None:
    """Remove it everywhere; waits a little for what is dying in it. In one that is named after the
    `container` nothing stays alive: a runtime that was killed while it made a container may have
    left a process that nobody else knows of. Idempotent. Error: DriverError, so that what the
    caller intended stays open, and the next command tries again."""
    own = bool(container) and container in os.path.basename(cgroup)
    for path in places(cgroup):
        if own:
            kill(path)
        await remove_at(path)


def kill(path: str) -> None:
    """SIGKILL to all processes in the cgroup at a path, and in those below it."""
    for directory, _, _ in os.walk(path):
        for pid in _processes(directory):
            with contextlib.suppress(OSError):
                fd = os.pidfd_open(pid)
                try:
                    if pid in _processes(directory):  # and no other one that got its number
                        signal.pidfd_send_signal(fd, signal.SIGKILL)
                finally:
                    os.close(fd)


def _processes(directory: str) -> list[int]:
    """Those of this pid namespace."""
    try:
        with open(f"{directory}/cgroup.procs", encoding="ascii") as file:
            return [pid for pid in map(int, file.read().split()) if pid]
    except OSError:
        return []


async def remove_at(path: str) -> None:
    """The same in one hierarchy."""
    import trio  # what only reads (`top`) does without it

    deadline = trio.current_time() + PATIENCE
    while os.path.isdir(path):
        for directory, _, _ in os.walk(path, topdown=False):
            with contextlib.suppress(OSError):
                os.rmdir(directory)
        if not os.path.isdir(path):
            return
        if trio.current_time() > deadline:
            raise DriverError(f"cgroup {path} cannot be removed", hint="something is alive in it")
        await trio.sleep(0.02)
