"""Making a user's namespace, and the process that keeps it: once a login, as a rule.

The keeper is `sleep infinity`: it hangs off init, has nothing open, and is no part of anything.
When it is lost (all of the user's processes killed, a log-out, a reboot) the next command makes
another: from the namespace of a container that still runs, if there is one, else from nothing.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import subprocess
from collections.abc import Callable, Sequence
from typing import NoReturn

from .. import syscalls
from ..errors import DriverError, UserError
from ..processes import start_time
from . import enter, ranges

KEEPER = ("sleep", "infinity")
TOOLS = {"uid": "newuidmap", "gid": "newgidmap"}
UNIFIED = "/sys/fs/cgroup/unified"
SEARCH = ("/usr/bin", "/usr/local/bin", "/bin", "/usr/sbin", "/sbin")
SWITCHES = (
    ("/proc/sys/user/max_user_namespaces", "0", "user.max_user_namespaces", "15000"),
    ("/proc/sys/kernel/unprivileged_userns_clone", "0", "kernel.unprivileged_userns_clone", "1"),
    (
        "/proc/sys/kernel/apparmor_restrict_unprivileged_userns",
        "1",
        "kernel.apparmor_restrict_unprivileged_userns",
        "0",
    ),
)
"""(file, value that forbids user namespaces, name, value that allows them)."""


def make(directory: str, uid: int) -> None:
    """Be in the user's namespace, with a keeper. Errors: UserError, DriverError."""
    with open(f"{directory}/{enter.HOLDER}.lock", "ab") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if enter.join(directory):  # another command was quicker
            return
        if not _join_container(directory):
            _create(directory, uid)
            if not enter.join(directory):
                raise DriverError("the user namespace that was made cannot be entered")
        else:
            _write(directory, _keep())
        _place(uid, enter.holder(directory)[0])


def _place(uid: int, pid: int) -> None:
    """Where the user has a systemd, the keeper is no part of the service or the session that
    happened to be the first to need it, and would take it along at its end."""
    from .. import systemd

    if systemd.reachable(uid):
        with contextlib.suppress(DriverError):
            name = f"tiffin-namespace-{pid}.scope"
            text = "keeps the user namespace for tiffin"
            systemd.start_scope(uid, name, pid, slice="user.slice", description=text)


# --- a container that still runs ------------------------------------------------------------------


def _join_container(directory: str) -> bool:
    """Enter the namespace of a container's conmon: it holds the mounts that containers have."""
    with contextlib.suppress(OSError):
        for cid in os.listdir(f"{directory}/containers"):
            with contextlib.suppress(OSError, ValueError):
                with open(f"{directory}/containers/{cid}/conmon.pid", "rb") as file:
                    pid = int(file.read())
                with open(f"/proc/{pid}/cmdline", "rb") as file:
                    line = file.read()
                if cid.encode() in line and _is_other(pid) and enter.join_process(pid):
                    return True
    return False


def _is_other(pid: int) -> bool:
    return os.readlink(f"/proc/{pid}/ns/user") != os.readlink("/proc/self/ns/user")


# --- from nothing ---------------------------------------------------------------------------------


def _create(directory: str, uid: int) -> None:
    """Make a namespace and its keeper, and write down which process that is."""
    import pwd

    try:
        name = pwd.getpwuid(uid).pw_name
    except KeyError:
        name = ""
    maps = {
        kind: ranges.mapping(own, ranges.of_user(kind, name, uid))
        for kind, own in (("uid", uid), ("gid", os.getegid()))
    }
    alone = any(len(lines) == 1 for lines in maps.values())
    told, tell = os.pipe2(os.O_CLOEXEC)
    awaited, release = os.pipe2(os.O_CLOEXEC)
    with open(told, "rb") as answer, open(release, "wb", buffering=0) as go:
        _fork(lambda: _born(tell, awaited, (told, release)))
        os.close(tell)
        os.close(awaited)
        said = answer.readline().decode()
        if not said.strip().isdecimal():
            raise _forbidden(said.strip())
        pid = int(said)
        if alone:
            _map_alone(pid, uid, os.getegid())
        else:
            for kind, lines in maps.items():
                _map(kind, pid, lines, name or str(uid))
        go.write(b"1")
        if answer.read(1) != b"1":  # it is about to become the keeper
            raise DriverError("the process that keeps the user namespace was killed")
        _write(directory, pid)


def _born(tell: int, awaited: int, parents: Sequence[int]) -> NoReturn:
    """The keeper's first steps. When the command fails or is killed, its ends of the pipes are
    closed, and this ends as well."""
    try:
        for fd in parents:
            os.close(fd)
        syscalls.unshare(syscalls.CLONE_NEWUSER | syscalls.CLONE_NEWNS)
        os.write(tell, b"%d\n" % os.getpid())
        if os.read(awaited, 1) != b"1":
            os._exit(1)
        # What the host mounts later is seen in here; what is mounted in here stays in here.
        syscalls.mount(None, "/", None, syscalls.MS_REC | syscalls.MS_SLAVE)
        _plain_cgroups()
        os.write(tell, b"1")
    except OSError as error:
        os.write(tell, f"{error.errno} {error.strerror}\n".encode())
        os._exit(1)
    _become_keeper()


def _plain_cgroups() -> None:
    """Where cgroup v2 is mounted beside v1 ("hybrid") nothing is to be done in it, and there are
    runtimes that refuse to work beside it: it is covered up. (What is inherited from the host
    cannot be unmounted.)"""
    with contextlib.suppress(OSError):
        if os.path.exists(f"{UNIFIED}/cgroup.procs"):
            flags = syscalls.MS_RDONLY | syscalls.MS_NOSUID | syscalls.MS_NODEV | syscalls.MS_NOEXEC
            syscalls.mount("tmpfs", UNIFIED, "tmpfs", flags, "size=4k,mode=555")


def _keep() -> int:
    """A keeper for the namespace that we are in; its pid."""
    told, tell = os.pipe2(os.O_CLOEXEC)

    def born() -> NoReturn:
        os.write(tell, b"%d\n" % os.getpid())
        _become_keeper()

    with open(told, "rb") as answer:
        _fork(born)
        os.close(tell)
        return int(answer.readline())


def _fork(work: Callable[[], NoReturn]) -> None:
    """Do this in a process that hangs off init, without our session and what we have open."""
    child = os.fork()
    if child == 0:
        try:
            os.setsid()
            if os.fork() == 0:
                work()
        finally:
            os._exit(0)
    os.waitpid(child, 0)


def _become_keeper() -> NoReturn:
    os.chdir("/")
    null = os.open(os.devnull, os.O_RDWR)
    for fd in (0, 1, 2):
        os.dup2(null, fd)
    os.closerange(3, 1 << 20)
    for directory in SEARCH:
        with contextlib.suppress(OSError):
            os.execve(f"{directory}/{KEEPER[0]}", KEEPER, {})  # noqa: S606
    os._exit(1)


def _write(directory: str, pid: int) -> None:
    path = f"{directory}/{enter.HOLDER}"
    with open(f"{path}.new", "w", encoding="ascii") as file:
        file.write(f"{pid} {start_time(pid)}\n")
    os.rename(f"{path}.new", path)


# --- ids ------------------------------------------------------------------------------------------


def _map(kind: str, pid: int, lines: Sequence[tuple[int, int, int]], name: str) -> None:
    """By the set-uid program that may. Errors: DriverError, UserError."""
    name_of_tool = TOOLS[kind]
    path = tool(name_of_tool)
    if not path:
        raise DriverError(f"{name_of_tool} is not installed", hint="apt install uidmap")
    words = [str(number) for line in lines for number in line]
    done = subprocess.run([path, str(pid), *words], capture_output=True, check=False)
    if done.returncode == 0:
        return
    said = done.stderr.decode(errors="replace").strip().splitlines()
    why = said[-1].strip() if said else f"it ended with {done.returncode}"
    if not privileged(path):
        raise DriverError(
            f"{path} has no privilege: it is neither set-uid nor has it file capabilities",
            hint=f"an administrator mends it: chmod u+s {path}",
        )
    raise DriverError(
        f"{name_of_tool} gives {name} no ids of {ranges.FILES[kind]}: {why}",
        hint=f"look at the lines of {name} in {ranges.FILES[kind]}",
    )


def tool(name: str) -> str:
    """Its path; empty when it is not there. Not from PATH: it is to be the system's own."""
    return next((f"{d}/{name}" for d in SEARCH if os.access(f"{d}/{name}", os.X_OK)), "")


def privileged(path: str) -> bool:
    """Whether a program gets a privilege from its file."""
    try:
        if os.stat(path).st_mode & 0o4000 and os.stat(path).st_uid == 0:
            return True
        return bool(os.getxattr(path, "security.capability"))
    except OSError:
        return False


def _map_alone(pid: int, uid: int, gid: int) -> None:
    """Without ranges: the user's own id, which needs nobody's leave (user_namespaces(7))."""
    for name, text in (
        ("setgroups", "deny"),
        ("uid_map", f"0 {uid} 1"),
        ("gid_map", f"0 {gid} 1"),
    ):
        with open(f"/proc/{pid}/{name}", "w", encoding="ascii") as file:
            file.write(text)


def _forbidden(said: str) -> UserError | DriverError:
    """Why the kernel makes no user namespace."""
    why = switched_off()
    return why or DriverError(f"the kernel makes no user namespace: {said or 'no answer'}")


def switched_off() -> UserError | None:
    """The kernel's parameter that forbids user namespaces."""
    for path, forbids, name, allows in SWITCHES:
        with contextlib.suppress(OSError), open(path, encoding="ascii") as file:
            if file.read().strip() == forbids:
                return UserError(
                    f"user namespaces are switched off for ordinary users ({name} = {forbids})",
                    hint=f"an administrator mends it: sysctl -w {name}={allows}",
                )
    return None
