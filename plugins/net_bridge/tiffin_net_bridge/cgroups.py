"""Out of the cgroup of whoever happened to start a process that works for others as well."""

from __future__ import annotations

import contextlib


def leave(pid: int) -> None:
    """Into the root cgroup: what limits, or ends, the command that happened to start the process
    has nothing to do with it. Where that is not ours to do it stays."""
    with contextlib.suppress(OSError):
        with open(f"/proc/{pid}/cgroup", encoding="ascii") as file:
            if all(line.rstrip("\n").endswith(":/") for line in file):
                return
        with open("/proc/self/mountinfo", encoding="ascii", errors="replace") as file:
            mounts = [line.split() for line in file]
        for fields in mounts:
            if fields[3] == "/" and fields[fields.index("-") + 1] in ("cgroup", "cgroup2"):
                with contextlib.suppress(OSError):
                    with open(f"{fields[4]}/cgroup.procs", "w", encoding="ascii") as file:
                        file.write(str(pid))
