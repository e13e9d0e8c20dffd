"""What the containers of a pod have in common, without a process that holds it: namespaces pinned
as bind mounts of nsfs (as netns.py has it), and the tmpfs of /dev/shm. Only a pid namespace needs
a process: it lasts as long as its first one."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import threading
from collections.abc import Mapping

from . import netns, programs, syscalls
from .errors import DriverError
from .processes import alive

FLAGS = {"ipc": syscalls.CLONE_NEWIPC, "uts": syscalls.CLONE_NEWUTS}
MARK = "TIFFIN_POD"
"""Environment variable of a pause process: it is found again by it, whoever was killed when."""
PAUSE = "setpriv --reuid=65534 --regid=65534 --clear-groups --bounding-set=-all --no-new-privs"
SCRIPT = f'cd /; setsid {PAUSE} "$0" -P </dev/null >/dev/null 2>&1 & echo $!'


def create(paths: Mapping[str, str], hostname: str, shm_size: int) -> None:
    """Make and pin those of ipc and uts that are wanted, and mount `shm`. Error: DriverError."""
    wanted = {kind: paths[kind] for kind in FLAGS if kind in paths}

    def make() -> None:
        for kind, path in wanted.items():
            flags = os.O_CREAT | os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC
            os.close(os.open(path, flags, 0o400))
            syscalls.unshare(FLAGS[kind])
        if "uts" in wanted:
            socket.sethostname(hostname)
        for kind, path in wanted.items():
            own = f"/proc/self/task/{threading.get_native_id()}/ns/{kind}"
            syscalls.mount(own, path, None, syscalls.MS_BIND)

    try:
        if wanted:
            syscalls.in_thread(make)
    except OSError as error:
        raise DriverError(f"cannot make the namespaces of a pod: {error}") from None
    if "shm" in paths:
        os.makedirs(paths["shm"], mode=0o700, exist_ok=True)
        flags = syscalls.MS_NOSUID | syscalls.MS_NODEV | syscalls.MS_NOEXEC
        syscalls.mount("shm", paths["shm"], "tmpfs", flags, f"mode=1777,size={shm_size}")


def there(paths: Mapping[str, str]) -> bool:
    """True when all of them are as `create` left them: a machine may have been restarted."""
    pinned = all(netns.exists(path) for kind, path in paths.items() if kind in FLAGS)
    return pinned and ("shm" not in paths or syscalls.is_mount_point(paths["shm"]))


def remove(paths: Mapping[str, str]) -> None:
    """Idempotent."""
    for kind, path in paths.items():
        if kind in FLAGS:
            netns.remove(path)
        elif kind == "shm":
            while syscalls.is_mount_point(path):
                syscalls.umount2(path, syscalls.MNT_DETACH)


async def pause(pod: str, program: str) -> int:
    """Start the process that holds a pid namespace of its own (unshare(1)); its pid. It has no
    rights, and belongs to nobody. Error: DriverError."""
    unshare = programs.find("unshare", "util-linux")
    argv = [programs.find("env", "coreutils"), f"{MARK}={pod}"]
    argv += [unshare, "--pid", "sh", "-c", SCRIPT, program]
    _, out, _ = await programs.run(argv)
    try:
        return int(out)
    except ValueError:
        raise DriverError("the pod's pause process did not start") from None


def holds(pid: int, pod: str) -> bool:
    """Whether that process is the pause process of the pod (pids are used again)."""
    try:
        with open(f"/proc/{pid}/environ", "rb") as file:
            return f"{MARK}={pod}".encode() in file.read().split(b"\0") and alive(pid)
    except OSError:
        return False


def end_pause(pod: str) -> None:
    """End it, wherever it is; all that is in its pid namespace ends with it."""
    for name in os.listdir("/proc"):
        if name.isdecimal() and int(name) != os.getpid() and holds(int(name), pod):
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(name), signal.SIGKILL)
