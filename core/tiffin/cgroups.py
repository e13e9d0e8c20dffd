"""A container's cgroup, when the runtime could not remove it: its processes were still zombies that
init had not reaped (cgroups(7): a cgroup with zombies in it is busy)."""

from __future__ import annotations

import contextlib
import os

PATIENCE = 3.0
"""Seconds in which init reaps what is dead; it is milliseconds as a rule."""


def places(cgroup: str) -> list[str]:
    """Where a cgroup exists now: in each v1 hierarchy, and in the unified one."""
    if not cgroup.strip("/"):
        return []
    paths = [f"{top}/{cgroup.strip('/')}" for top in hierarchies()]
    return [path for path in paths if os.path.isdir(path)]


def hierarchies() -> list[str]:
    """Where each hierarchy is mounted."""
    found = []
    with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as file:
        for line in file:
            fields = line.split()
            if fields[fields.index("-") + 1] in ("cgroup", "cgroup2"):
                found.append(fields[4])
    return found


async def remove(cgroup: str) -> None:
    """Remove it everywhere; waits a little for what is dying in it. Idempotent."""
    for path in places(cgroup):
        await remove_at(path)


async def remove_at(path: str) -> None:
    """The same in one hierarchy."""
    import trio  # what only reads (`top`) does without it

    deadline = trio.current_time() + PATIENCE
    while os.path.isdir(path):
        for directory, _, _ in os.walk(path, topdown=False):
            with contextlib.suppress(OSError):
                os.rmdir(directory)
        if not os.path.isdir(path) or trio.current_time() > deadline:
            return
        await trio.sleep(0.02)
