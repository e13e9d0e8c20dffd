"""Network namespaces that outlive us: pinned as bind mounts of nsfs (network_namespaces(7))."""

from __future__ import annotations

import contextlib
import errno
import os
import threading

from . import syscalls
from .errors import DriverError, UserError

TYPE_CHECKING = False  # without importing typing
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TypeVar

    T = TypeVar("T")

SIOCSIFFLAGS = 0x8914
IFF_UP = 0x1
NS_GET_NSTYPE = 0xB703


def create(path: str, userns: str = "") -> None:
    """Pin a new network namespace, with `lo` up, at `path`. One that is there already is kept. With
    `userns` it belongs to that user namespace (a path).

    Error: DriverError.
    """
    if exists(path):
        return
    if userns:
        from . import userns as user_namespaces  # rarely

        user_namespaces.network(path, userns)
        return
    os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
    with contextlib.suppress(FileExistsError):
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDONLY | os.O_CLOEXEC, 0o400))

    def make() -> None:
        syscalls.unshare(syscalls.CLONE_NEWNET)
        loopback_up()
        own = f"/proc/self/task/{threading.get_native_id()}/ns/net"
        syscalls.mount(own, path, None, syscalls.MS_BIND)

    try:
        syscalls.in_thread(make)
    except OSError as error:
        os.unlink(path)
        raise DriverError(f"cannot make a network namespace: {error}") from None


def pin(path: str, namespace: str) -> None:
    """Pin one that exists (`/proc/PID/ns/net`), if nothing is pinned there. Error: DriverError."""
    if exists(path):
        return
    try:
        os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
        os.close(os.open(path, os.O_CREAT | os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, 0o400))
        syscalls.mount(namespace, path, None, syscalls.MS_BIND)
    except OSError as error:
        raise DriverError(f"cannot pin {namespace}: {error}") from None


def loopback_up_in(path: str) -> None:
    """The same in the namespace at a path, from a thread that ends there. Error: DriverError."""
    _in(path, loopback_up)


def _in(path: str, work: Callable[[], T]) -> T:
    def enter() -> T:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            syscalls.setns(fd, syscalls.CLONE_NEWNET)
        finally:
            os.close(fd)
        return work()

    try:
        return syscalls.in_thread(enter)
    except OSError as error:
        raise DriverError(f"network namespace {path}: {error}") from None


def links(path: str) -> list[str]:
    """Names of the interfaces in the namespace at a path. Error: DriverError."""
    import socket

    return _in(path, lambda: [name for _, name in socket.if_nameindex()])


def loopback_up() -> None:
    """`ip link set lo up` in the calling thread's namespace (netdevice(7))."""
    import fcntl
    import socket
    import struct

    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        fcntl.ioctl(control, SIOCSIFFLAGS, struct.pack("16sh14x", b"lo", IFF_UP))


def remove(path: str) -> None:
    """Unpin it; the kernel frees it, and its interfaces, with its last process. Idempotent."""
    try:
        syscalls.umount2(path, syscalls.MNT_DETACH | syscalls.UMOUNT_NOFOLLOW)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOENT):
            raise DriverError(f"cannot unmount the namespace {path}: {error}") from error
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)


def need(path: str) -> None:
    """Error: UserError when that is no network namespace."""
    if kind(path, "network") != syscalls.CLONE_NEWNET:
        raise UserError(f"{path} is not a network namespace")


def kind(path: str, noun: str) -> int:
    """CLONE_NEW... of the namespace at a path (ioctl_ns(2)), 0 for anything else.
    Error: UserError."""
    import fcntl

    try:
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise UserError(f"{noun} namespace {path}: {error.strerror}") from None
    try:
        return fcntl.ioctl(fd, NS_GET_NSTYPE)
    except OSError:
        return 0
    finally:
        os.close(fd)


def exists(path: str) -> bool:
    """True when a namespace is pinned there: the file is on nsfs, not on its folder's device."""
    try:
        return os.stat(path).st_dev != os.stat(os.path.dirname(path)).st_dev
    except OSError:
        return False
