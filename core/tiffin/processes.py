"""Is a process still there? /proc, and files that conmon leaves. Standard library only."""

from __future__ import annotations

import os

from .layout import Layout


def alive(pid: int) -> bool:
    """True when the process exists and is no zombie."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            return file.read().rpartition(b") ")[2][:1] not in (b"Z", b"X")
    except OSError:
        return False


def start_time(pid: int) -> int:
    """When a process began, in the kernel's ticks (proc_pid_stat(5)); 0 for one that is not there,
    or is dead."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            fields = file.read().rpartition(b") ")[2].split()
    except OSError:
        return 0
    return 0 if fields[0] in (b"Z", b"X") else int(fields[19])


def children(pid: int) -> set[int]:
    """Those that are there now; none when the process is gone."""
    found: set[int] = set()
    try:
        for task in os.listdir(f"/proc/{pid}/task"):
            with open(f"/proc/{pid}/task/{task}/children", "rb") as file:
                found.update(map(int, file.read().split()))
    except OSError:
        return found
    return found


def parent(pid: int) -> int:
    """Process id of its parent; 0 when it is gone."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            return int(file.read().rpartition(b") ")[2].split()[1])
    except (OSError, ValueError, IndexError):
        return 0


def signal_child(pid: int, of: int, number: int) -> bool:
    """Send a signal to a process, if it is a child of `of` (pids are used again); one that has
    ended needs none. False: it is not."""
    import signal

    try:
        fd = os.pidfd_open(pid)
    except OSError:
        return False
    try:
        if parent(pid) != of:  # the descriptor keeps the pid from being another's by now
            return False
        signal.pidfd_send_signal(fd, number)
    except ProcessLookupError:
        return True
    finally:
        os.close(fd)
    return True


def oom_file(layout: Layout, cid: str) -> str:
    """conmon touches it when the kernel killed for want of memory."""
    return f"{layout.container_run(cid)}/persist/oom"


def exit_code(run: str, cid: str) -> int | None:
    """What conmon left in its run directory, an exec's for example; None while there is none."""
    try:
        with open(f"{run}/exits/{cid}", "rb") as file:
            return int(file.read())
    except (OSError, ValueError):
        return None


def recorded_exit(layout: Layout, cid: str) -> tuple[int, bool] | None:
    """(exit code, out of memory) as conmon left it, or None while there is none."""
    code = exit_code(layout.container_run(cid), cid)
    return None if code is None else (code, os.path.exists(oom_file(layout, cid)))


def observe(layout: Layout, cid: str, pid: int, conmon_pid: int) -> tuple[int, bool, str] | None:
    """How a container that the log calls running has ended: (code, oom, reason), or None when it
    has not. Without an exit file, a vanished run directory means a reboot."""
    found = recorded_exit(layout, cid)
    if found is not None:
        return (*found, "")
    if not os.path.isdir(layout.container_run(cid)):
        return 255, False, "reboot"
    if alive(pid) or alive(conmon_pid):
        return None
    return 255, False, "lost"
