"""Labels of files: the extended attribute security.selinux, which the kernel checks on writing."""

from __future__ import annotations

import errno
import os
import stat

from tiffin.errors import DriverError, UserError

ATTRIBUTE = "security.selinux"

KEPT = frozenset(
    "/ /bin /boot /dev /etc /etc/passwd /etc/pki /etc/shadow /home /lib /lib32 /lib64 /media "
    "/opt /proc /root /run /sbin /srv /sys /tmp /usr /usr/bin /usr/lib /usr/lib64 /usr/local "
    "/usr/sbin /usr/share /var /var/lib /var/log /var/run /var/tmp".split()
)
"""Places of the system: with a container's label on them the machine would no longer work."""

GONE = (errno.ENOENT, errno.ENOTDIR)
UNLABELLED = (errno.ENOTSUP, errno.EOPNOTSUPP, errno.EROFS)
"""File systems that hold no labels, or take no new ones: what the policy has for them counts."""


def check(path: str, home: str = "") -> None:
    """Error: UserError for a place that must keep the system's label."""
    _check(os.path.realpath(path), path, home)


def _check(real: str, path: str, home: str) -> None:
    homes = {os.path.realpath(home)} if home else set()
    if real in KEPT or real in homes or os.path.dirname(real) == "/home":
        shown = path if path == real else f"{path} ({real})"
        raise UserError(
            f"{shown} must not be relabelled: the system needs its label",
            hint="leave out :z and :Z and use --security-opt label=disable, or mount less",
        )


def label(path: str) -> str:
    """The label of a file; empty when it has none."""
    try:
        return os.getxattr(path, ATTRIBUTE).rstrip(b"\0").decode(errors="replace")
    except OSError:
        return ""


def relabel(path: str, label: str, *, mounts: bool = True, home: str = "") -> None:
    """Label a file, or a directory and all in it, never through a symbolic link: neither where one
    is found, nor where a directory is replaced by one meanwhile. Without `mounts`, what is mounted
    in it is left alone. Errors: DriverError, and UserError as `check`."""
    data = label.encode() + b"\0"
    try:
        fd = os.open(os.path.realpath(path), os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError as error:
        raise DriverError(f"cannot relabel {path}: {error.strerror}") from None
    try:
        # Whatever became of the path since `check`: this is what is open.
        _check(os.readlink(f"/proc/self/fd/{fd}"), path, home)
        _one(f"/proc/self/fd/{fd}", data, path, follow=True)
        if stat.S_ISDIR(os.fstat(fd).st_mode):
            top = os.open(f"/proc/self/fd/{fd}", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            _tree(top, data, path, None if mounts else os.fstat(fd).st_dev)
    except OSError as error:
        raise DriverError(f"cannot relabel {path}: {error.strerror}") from None
    finally:
        os.close(fd)


def _tree(top: int, data: bytes, shown: str, device: int | None) -> None:
    """Everything below the directory `top`, which is closed, on one `device` if it is given. One
    descriptor a level is open."""
    stack = [(top, os.listdir(top), shown)]
    try:
        while stack:
            fd, names, path = stack[-1]
            if not names:
                os.close(fd)
                stack.pop()
                continue
            name = names.pop()
            if device is not None and _device(fd, name) != device:
                continue
            _one(f"/proc/self/fd/{fd}/{name}", data, f"{path}/{name}", follow=False)
            flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
            try:
                below = os.open(name, flags, dir_fd=fd)
            except OSError as error:
                if error.errno in (*GONE, errno.ELOOP, errno.ENXIO):
                    continue  # no directory, or no longer one
                raise
            stack.append((below, os.listdir(below), f"{path}/{name}"))
    finally:
        for fd, _, _ in stack:
            os.close(fd)


def _device(directory: int, name: str) -> int:
    try:
        return os.stat(name, dir_fd=directory, follow_symlinks=False).st_dev
    except OSError:
        return -1  # gone


def _one(place: str, data: bytes, shown: str, *, follow: bool) -> None:
    """`place` goes through a descriptor of ours, so that only its last part can be a link."""
    try:
        if os.getxattr(place, ATTRIBUTE, follow_symlinks=follow).rstrip(b"\0") == data[:-1]:
            return
    except OSError as error:
        if error.errno in GONE:
            return
    try:
        os.setxattr(place, ATTRIBUTE, data, follow_symlinks=follow)
    except OSError as error:
        if error.errno == errno.EINVAL:
            raise DriverError(
                f"cannot relabel {shown}: the policy has no context {data[:-1].decode()}"
            ) from None
        if error.errno not in (*GONE, *UNLABELLED):
            raise DriverError(f"cannot relabel {shown}: {error.strerror}") from None
