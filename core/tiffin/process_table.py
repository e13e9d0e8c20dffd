"""The processes of a container as ps(1) shows them: read from /proc (proc_pid_stat(5),
proc_pid_status(5)), with ids and names as the container sees them.

Standard library only: `top` imports no engine.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Sequence

from . import syscalls

HERTZ = os.sysconf("SC_CLK_TCK")
PASSWD_MAX = 4 << 20
CAPABILITIES = (
    "CHOWN DAC_OVERRIDE DAC_READ_SEARCH FOWNER FSETID KILL SETGID SETUID SETPCAP LINUX_IMMUTABLE "
    "NET_BIND_SERVICE NET_BROADCAST NET_ADMIN NET_RAW IPC_LOCK IPC_OWNER SYS_MODULE SYS_RAWIO "
    "SYS_CHROOT SYS_PTRACE SYS_PACCT SYS_ADMIN SYS_BOOT SYS_NICE SYS_RESOURCE SYS_TIME "
    "SYS_TTY_CONFIG MKNOD LEASE AUDIT_WRITE AUDIT_CONTROL SETFCAP MAC_OVERRIDE MAC_ADMIN SYSLOG "
    "WAKE_ALARM BLOCK_SUSPEND AUDIT_READ PERFMON BPF CHECKPOINT_RESTORE"
).split()
"""By number (linux/capability.h)."""
SECCOMP = {"0": "disabled", "1": "strict", "2": "filter"}


class Process:
    """One process, read once. Attributes are strings or numbers of /proc."""

    def __init__(self, pid: int) -> None:
        """Error: OSError when it is gone."""
        self.pid = pid
        text = _read(f"/proc/{pid}/stat")
        name, _, rest = text.partition("(")[2].rpartition(") ")
        self.comm = name
        self.stat = rest.split()
        """From field 3, the state, on."""
        self.status = dict(
            line.split(":", 1) for line in _read(f"/proc/{pid}/status").splitlines() if ":" in line
        )
        words = _read(f"/proc/{pid}/cmdline").rstrip("\0").split("\0")
        self.args = " ".join(words) if words != [""] else f"[{self.comm}]"

    def ids(self, key: str) -> list[int]:
        """`Uid`, `Gid`: real, effective, saved, file system; `NSpid`: outermost first."""
        return [int(word) for word in self.status.get(key, "").split()]

    @property
    def inner_pid(self) -> int:
        return (self.ids("NSpid") or [self.pid])[-1]

    @property
    def cpu_seconds(self) -> float:
        return (int(self.stat[11]) + int(self.stat[12])) / HERTZ

    @property
    def age(self) -> float:
        """Seconds since it began."""
        return max(0.0, time.clock_gettime(time.CLOCK_BOOTTIME) - int(self.stat[19]) / HERTZ)


def _read(path: str) -> str:
    with open(path, encoding="utf-8", errors="replace") as file:
        return file.read()


def cgroup_pids(directories: Sequence[str]) -> list[int]:
    """The processes in these cgroups and those below them, by pid."""
    found: set[int] = set()
    for top in directories:
        for directory, _, _ in os.walk(top):
            with contextlib.suppress(OSError):
                found.update(map(int, _read(f"{directory}/cgroup.procs").split()))
    found.discard(0)
    return sorted(found)


def tree(pid: int) -> list[int]:
    """A process and all below it: what there is of a container without a cgroup of its own."""
    from .processes import children

    found = [pid]
    for one in found:
        found += children(one)
    return found


def processes(pids: Sequence[int]) -> list[Process]:
    """Those that are still there."""
    found = []
    for pid in pids:
        with contextlib.suppress(OSError, ValueError, IndexError):
            found.append(Process(pid))
    return found


class Table:
    """What the descriptors of podman-top(1) say of the processes of one container."""

    def __init__(self, found: Sequence[Process], root: str) -> None:
        """`root`: the container's, where its names of users are (`/proc/PID/root`)."""
        self.found = found
        self._inner = {process.pid: process.inner_pid for process in found}
        self._users = names(root, "etc/passwd")
        self._groups = names(root, "etc/group")

    def rows(self, descriptors: Sequence[str]) -> list[list[str]]:
        readers = [DESCRIPTORS[one][1] for one in descriptors]
        return [[read(self, process) for read in readers] for process in self.found]

    def user(self, uid: int) -> str:
        return self._users.get(uid, str(uid))

    def group(self, gid: int) -> str:
        return self._groups.get(gid, str(gid))

    def parent(self, process: Process) -> str:
        """0 for one that is outside, as the container sees it."""
        return str(self._inner.get(int(process.stat[1]), 0))

    def inner_group(self, process: Process) -> str:
        return str((process.ids("NSpgid") or [0])[-1])


def names(root: str, path: str) -> dict[int, str]:
    """Number to name of passwd(5) or group(5); broken lines are passed over. The file is the
    container's, and so is opened with its root as root directory."""
    try:
        fd = syscalls.open_file_in_root(root, path)
    except OSError:
        return {}
    with open(fd, "rb") as file:
        text = file.read(PASSWD_MAX).decode("utf-8", "replace")
    found: dict[int, str] = {}
    for line in text.splitlines():
        fields = line.split(":")
        if len(fields) > 2 and fields[2].isascii() and fields[2].isdecimal():
            found.setdefault(int(fields[2][:10]), fields[0])
    return found


# --- descriptors ----------------------------------------------------------------------------------


def go_duration(seconds: float) -> str:
    """As Go prints a time.Duration: `1h2m3.5s`, `1.5s`, `12ms`, `0s`."""
    if 0 < seconds < 1:
        return f"{seconds * 1000:.6f}".rstrip("0").rstrip(".") + "ms"
    minutes, rest = divmod(seconds, 60)
    hours, minutes = divmod(int(minutes), 60)
    text = f"{rest:.9f}".rstrip("0").rstrip(".") + "s"
    return f"{hours}h{minutes}m{text}" if hours else f"{minutes}m{text}" if minutes else text


def _capabilities(key: str) -> Callable[[Table, Process], str]:
    def read(_: Table, process: Process) -> str:
        mask = int(process.status.get(key, "0"), 16)
        every = (1 << len(CAPABILITIES)) - 1
        with contextlib.suppress(OSError, ValueError):
            every = (1 << (int(_read("/proc/sys/kernel/cap_last_cap")) + 1)) - 1
        if mask & every == every:
            return "full"
        held = [name for bit, name in enumerate(CAPABILITIES) if mask >> bit & 1]
        return ",".join(sorted(held)) or "none"

    return read


def _host_user(_: Table, process: Process) -> str:
    import pwd

    uid = process.ids("Uid")[1]
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def _host_group(gid: int) -> str:
    import grp

    try:
        return grp.getgrgid(gid).gr_name
    except KeyError:
        return str(gid)


def _label(_: Table, process: Process) -> str:
    try:
        return _read(f"/proc/{process.pid}/attr/current").strip("\0\n") or "?"
    except OSError:
        return "?"


def _terminal(_: Table, process: Process) -> str:
    number = int(process.stat[4])
    major, minor = os.major(number), os.minor(number)
    if not number:
        return "?"
    return f"pts/{minor + (major - 136) * 256}" if 136 <= major <= 143 else f"tty{minor}"


def _share(_: Table, process: Process) -> str:
    return f"{100 * process.cpu_seconds / process.age if process.age else 0:.3f}"


def _started(_: Table, process: Process) -> str:
    from time import localtime, strftime

    return strftime("%Y-%m-%d %H:%M:%S %z", localtime(time.time() - process.age))


DESCRIPTORS: dict[str, tuple[str, Callable[[Table, Process], str]]] = {
    "args": ("COMMAND", lambda t, p: p.args),
    "capamb": ("AMBIENT CAPS", _capabilities("CapAmb")),
    "capbnd": ("BOUNDING CAPS", _capabilities("CapBnd")),
    "capeff": ("EFFECTIVE CAPS", _capabilities("CapEff")),
    "capinh": ("INHERITED CAPS", _capabilities("CapInh")),
    "capprm": ("PERMITTED CAPS", _capabilities("CapPrm")),
    "comm": ("COMMAND", lambda t, p: p.comm),
    "command": ("COMMAND", lambda t, p: p.args),
    "etime": ("ELAPSED", lambda t, p: go_duration(p.age)),
    "group": ("GROUP", lambda t, p: t.group(p.ids("Gid")[1])),
    "groups": ("GROUPS", lambda t, p: ",".join(map(t.group, p.ids("Groups")))),
    "hgroup": ("HGROUP", lambda t, p: _host_group(p.ids("Gid")[1])),
    "hgroups": ("HGROUPS", lambda t, p: ",".join(map(_host_group, p.ids("Groups")))),
    "hpid": ("HPID", lambda t, p: str(p.pid)),
    "huser": ("HUSER", _host_user),
    "label": ("LABEL", _label),
    "nice": ("NI", lambda t, p: p.stat[16]),
    "pcpu": ("%CPU", _share),
    "pgid": ("PGID", lambda t, p: t.inner_group(p)),
    "pid": ("PID", lambda t, p: str(p.inner_pid)),
    "ppid": ("PPID", lambda t, p: t.parent(p)),
    "rgroup": ("RGROUP", lambda t, p: t.group(p.ids("Gid")[0])),
    "rss": ("RSS", lambda t, p: p.status.get("VmRSS", "0 kB").split()[0]),
    "ruser": ("RUSER", lambda t, p: t.user(p.ids("Uid")[0])),
    "seccomp": ("SECCOMP", lambda t, p: SECCOMP.get(p.status.get("Seccomp", "").strip(), "?")),
    "state": ("STATE", lambda t, p: p.stat[0]),
    "stime": ("STIME", _started),
    "time": ("TIME", lambda t, p: go_duration(p.cpu_seconds)),
    "tty": ("TTY", _terminal),
    "user": ("USER", lambda t, p: t.user(p.ids("Uid")[1])),
    "vsz": ("VSZ", lambda t, p: str(int(p.stat[20]) // 1024)),
}
"""name -> (heading, how it is read). Names and headings are podman-top(1)'s."""

CODES = {
    "%C": "pcpu", "%G": "group", "%P": "ppid", "%U": "user", "%a": "args", "%c": "comm",
    "%g": "rgroup", "%n": "nice", "%p": "pid", "%r": "pgid", "%t": "etime", "%u": "ruser",
    "%x": "time", "%y": "tty", "%z": "vsz",
}  # fmt: skip
"""ps(1)'s AIX codes."""
DEFAULT = ("user", "pid", "ppid", "pcpu", "etime", "tty", "time", "args")


def descriptors(words: Sequence[str]) -> list[str] | None:
    """The descriptors that these words name, `pid,args` as well as `pid args`; None when one of
    them is none: then they are meant for ps(1)."""
    found = []
    for word in ",".join(words).split(","):
        name = CODES.get(word, word)
        if name not in DESCRIPTORS:
            return None
        found.append(name)
    return found
