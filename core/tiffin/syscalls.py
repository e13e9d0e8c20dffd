"""System calls that Python lacks, each as a thin named wrapper that raises OSError.

Standard library only, and ctypes only when the first of them is called: every command imports this.
Numbers are those that x86_64 and arm64 share, or else given for each.
"""

from __future__ import annotations

import errno
import functools
import os
import stat
from typing import Any

TYPE_CHECKING = False  # without importing typing
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TypeVar

    T = TypeVar("T")

CLONE_NEWNS = 0x00020000
CLONE_NEWCGROUP = 0x02000000
CLONE_NEWUTS = 0x04000000
CLONE_NEWIPC = 0x08000000
CLONE_NEWUSER = 0x10000000
CLONE_NEWPID = 0x20000000
CLONE_NEWNET = 0x40000000

MS_RDONLY = 1
MS_NOSUID = 2
MS_NODEV = 4
MS_NOEXEC = 8
MS_REMOUNT = 32
MS_BIND = 4096
MS_MOVE = 8192
MS_REC = 16384
MS_UNBINDABLE = 1 << 17
MS_PRIVATE = 1 << 18
MS_SLAVE = 1 << 19
MS_SHARED = 1 << 20

MNT_FORCE = 1
MNT_DETACH = 2
UMOUNT_NOFOLLOW = 8

RESOLVE_NO_XDEV = 0x01
RESOLVE_NO_MAGICLINKS = 0x02
RESOLVE_NO_SYMLINKS = 0x04
RESOLVE_BENEATH = 0x08
RESOLVE_IN_ROOT = 0x10

AT_FDCWD = -100
AT_EMPTY_PATH = 0x1000
AT_RECURSIVE = 0x8000
OPEN_TREE_CLONE = 1
MOVE_MOUNT_F_EMPTY_PATH = 4
MOUNT_ATTR_IDMAP = 0x00100000

SYS_OPEN_TREE = 428
SYS_MOVE_MOUNT = 429
SYS_OPENAT2 = 437
SYS_MOUNT_SETATTR = 442
CAPABILITIES_3 = 0x20080522
SYS_KEYCTL = {"x86_64": 250, "aarch64": 219}
KEYCTL_JOIN_SESSION_KEYRING = 1
SYS_RT_SIGACTION = {"x86_64": 13, "aarch64": 134}

LIBRARY_SIGNALS = (32, 33)
"""glibc keeps these for its threads (nptl(7)) and refuses to speak of them."""


@functools.cache
def _libc() -> Any:
    import ctypes  # 3 ms

    return ctypes.CDLL(None, use_errno=True)


def _check(result: int, path: str | bytes | None = None) -> int:
    if result < 0:
        import ctypes

        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), path)
    return result


def _bytes(text: str | bytes | None) -> bytes | None:
    return None if text is None else os.fsencode(text)


def in_thread(work: Callable[[], T]) -> T:
    """Do this in a thread of its own, and give what it gives. What a thread has for itself (its
    namespaces, keys, file system ids) it may change, and that ends with it: no other thread of ours
    is ever in another namespace than the process is. Raises what `work` raises."""
    import threading  # rarely

    result: list[T] = []
    failure: list[BaseException] = []

    def carry_out() -> None:
        try:
            result.append(work())
        except BaseException as error:  # of another thread: raised again in ours
            failure.append(error)

    thread = threading.Thread(target=carry_out)
    thread.start()
    thread.join()
    if failure:
        raise failure[0]
    return result[0]


def mount(
    source: str | None, target: str, fstype: str | None, flags: int = 0, data: str | None = None
) -> None:
    """mount(2)."""
    import ctypes

    result = _libc().mount(
        _bytes(source), _bytes(target), _bytes(fstype), ctypes.c_ulong(flags), _bytes(data)
    )
    _check(result, target)


def umount2(target: str, flags: int = 0) -> None:
    """umount2(2)."""
    _check(_libc().umount2(_bytes(target), flags), target)


def is_mount_point(path: str) -> bool:
    """Whether something is mounted exactly there (proc_pid_mountinfo(5): a bind mount within one
    file system, too, which st_dev does not show)."""
    name = os.path.realpath(os.path.dirname(path)) + "/" + os.path.basename(path)
    escaped = "".join(f"\\{ord(c):03o}" if c in " \t\n\\" else c for c in name)
    with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as file:
        return any(line.split(" ", 5)[4] == escaped for line in file)


def unshare(flags: int) -> None:
    """unshare(2): of the calling thread."""
    _check(_libc().unshare(flags))


def setns(fd: int, nstype: int = 0) -> None:
    """setns(2): of the calling thread."""
    _check(_libc().setns(fd, nstype))


def prctl(option: int, argument: int) -> None:
    """prctl(2)."""
    import ctypes

    _check(_libc().prctl(option, ctypes.c_ulong(argument), *(ctypes.c_ulong(0),) * 3))


def syncfs(fd: int) -> None:
    """syncfs(2): everything of the file system that `fd` is on."""
    _check(_libc().syncfs(fd))


def openat2(dirfd: int, path: str | bytes, flags: int, mode: int = 0, resolve: int = 0) -> int:
    """openat2(2): a new descriptor, close-on-exec."""
    import ctypes
    import struct

    name = os.fsencode(path)
    if b"\0" in name:  # to C, the name would end there
        raise OSError(errno.EINVAL, "a zero byte in a path", path)
    how = struct.pack("QQQ", flags | os.O_CLOEXEC, mode, resolve)
    while True:
        result = _libc().syscall(
            ctypes.c_long(SYS_OPENAT2),
            ctypes.c_int(dirfd),
            ctypes.c_char_p(name),
            ctypes.c_char_p(how),
            ctypes.c_size_t(len(how)),
        )
        # EAGAIN: a rename raced with the look-up (openat2(2), RESOLVE_IN_ROOT); it may be tried
        # again.
        if result >= 0 or ctypes.get_errno() not in (errno.EAGAIN, errno.EINTR):
            return _check(int(result), path)


def open_in_root(root: str | int, path: str | bytes, flags: int, mode: int = 0) -> int:
    """Open `path` as a process with this root directory would: absolute links and `..` end inside.

    `root` is a path or a directory descriptor. Magic links (/proc/PID/fd) are refused.
    """
    resolve = RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS
    if isinstance(root, int):
        return openat2(root, path, flags, mode, resolve)
    fd = os.open(root, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        return openat2(fd, path, flags, mode, resolve)
    finally:
        os.close(fd)


def reopen_file(fd: int, flags: int = os.O_RDONLY) -> int:
    """What an O_PATH descriptor (which is closed) stands for, opened, if it is a regular file.

    This is how a stranger's file is opened: to open a device is to act on it (a watchdog starts, a
    tape rewinds), and outside of a container no rule about devices prevents that. Error: OSError.
    """
    try:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            raise OSError(errno.ENXIO, "not a regular file")
        return os.open(f"/proc/self/fd/{fd}", flags | os.O_NONBLOCK | os.O_CLOEXEC)
    finally:
        os.close(fd)


def open_file(path: str | bytes, dir_fd: int, flags: int = os.O_RDONLY) -> int:
    """The regular file of this name in a directory, never through a link. Error: OSError."""
    found = os.open(path, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=dir_fd)
    return reopen_file(found, flags)


def open_file_in_root(root: str | int, path: str | bytes) -> int:
    """A regular file for reading, found as `open_in_root` finds it. Error: OSError."""
    return reopen_file(open_in_root(root, path, os.O_PATH))


def ignore_signal(number: int, ignore: bool) -> None:
    """Set a signal to SIG_IGN or SIG_DFL, also one of LIBRARY_SIGNALS, which sigaction(3) refuses.

    Nothing is done on a processor whose system call number we do not know.
    """
    import ctypes

    if (call := SYS_RT_SIGACTION.get(os.uname().machine)) is not None:
        action = (ctypes.c_uint64 * 4)(1 if ignore else 0)  # handler; no flags, no mask
        _check(_libc().syscall(call, number, action, None, 8))


def open_tree(path: str, flags: int) -> int:
    """open_tree(2): a new descriptor, close-on-exec; with OPEN_TREE_CLONE of a copy of the mount
    that is mounted nowhere, and goes with the descriptor."""
    import ctypes

    number, at = ctypes.c_long(SYS_OPEN_TREE), ctypes.c_int(AT_FDCWD)
    return _check(_libc().syscall(number, at, os.fsencode(path), flags | os.O_CLOEXEC), path)


def move_mount(fd: int, target: str) -> None:
    """move_mount(2): what `open_tree` gave is mounted at `target`."""
    import ctypes

    number, at = ctypes.c_long(SYS_MOVE_MOUNT), ctypes.c_int(AT_FDCWD)
    place = os.fsencode(target)
    _check(_libc().syscall(number, fd, b"", at, place, MOVE_MOUNT_F_EMPTY_PATH), target)


def map_mount(fd: int, namespace: int, *, recursive: bool = False) -> None:
    """mount_setattr(2): what `open_tree` gave shows the owners of its files as the user namespace
    `namespace` (a descriptor) maps them."""
    import ctypes
    import struct

    attributes = struct.pack("QQQQ", MOUNT_ATTR_IDMAP, 0, 0, namespace)
    flags = AT_EMPTY_PATH | (AT_RECURSIVE if recursive else 0)
    number, size = ctypes.c_long(SYS_MOUNT_SETATTR), ctypes.c_size_t(len(attributes))
    _check(_libc().syscall(number, fd, b"", flags, attributes, size))


def leave_session_keyring() -> None:
    """keyctl(2), KEYCTL_JOIN_SESSION_KEYRING: the calling thread, and what it starts, has an empty
    session keyring. Without effect where a kernel or a sandbox has no keyrings."""
    import ctypes

    if (call := SYS_KEYCTL.get(os.uname().machine)) is not None:
        _libc().syscall(ctypes.c_long(call), ctypes.c_int(KEYCTL_JOIN_SESSION_KEYRING), None)


def become_on_files(uid: int, gid: int) -> None:
    """setfsuid(2), setfsgid(2): what the calling thread makes belongs to them from now on; it keeps
    all its capabilities, which the kernel takes away with the first."""
    import ctypes
    import struct

    libc = _libc()
    libc.setfsgid(ctypes.c_uint(gid))
    libc.setfsuid(ctypes.c_uint(uid))
    header = struct.pack("Ii", CAPABILITIES_3, 0)
    sets = ctypes.create_string_buffer(24)
    _check(libc.capget(header, sets))
    _, low, inherited_low, _, high, inherited_high = struct.unpack("6I", sets.raw)
    whole = struct.pack("6I", low, low, inherited_low, high, high, inherited_high)
    _check(libc.capset(header, whole))
