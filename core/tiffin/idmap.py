"""Mounts that show other owners of files than are stored ("idmapped", mount_setattr(2)): the same
files for containers with different ids, and nothing copied or changed."""

from __future__ import annotations

import errno
import os

from . import syscalls
from .errors import DriverError
from .hooks import IdMaps


def bind(source: str, target: str, userns: str = "", *, recursive: bool = False) -> None:
    """Mount the directory or file `source` at `target` as well; with `userns` (path of a user
    namespace) files belong there to what this maps their stored owners to, and what is made is
    stored the other way round.

    Errors: NotMappable where the kernel or the file system has no such mounts, DriverError.
    """
    flags = syscalls.OPEN_TREE_CLONE | (syscalls.AT_RECURSIVE if recursive else 0)
    try:
        tree = syscalls.open_tree(source, flags)
    except OSError as error:
        raise DriverError(f"cannot mount {source}: {error.strerror}") from None
    try:
        if userns:
            _map(tree, source, userns, recursive)
        syscalls.move_mount(tree, target)
    except OSError as error:
        raise DriverError(f"cannot mount {source} at {target}: {error.strerror}") from None
    finally:
        os.close(tree)


def _map(tree: int, source: str, userns: str, recursive: bool) -> None:
    namespace = os.open(userns, os.O_RDONLY | os.O_CLOEXEC)
    try:
        syscalls.map_mount(tree, namespace, recursive=recursive)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.EPERM, errno.ENOSYS):
            raise
        raise NotMappable(
            f"the file system of {source} cannot show other owners of files",
            hint="ext4, xfs, btrfs and tmpfs can, with a kernel that is new enough",
        ) from None
    finally:
        os.close(namespace)


def maps_of(userns: str) -> IdMaps:
    """The ids of a user namespace (a path), as they are called here. Errors: UserError,
    DriverError."""
    from . import userns as user_namespaces

    return user_namespaces.maps_of(userns)


def possible(source: str, userns: str) -> bool:
    """Whether `bind` can map the owners of files there. Error: OSError."""
    tree = syscalls.open_tree(source, syscalls.OPEN_TREE_CLONE)
    try:
        _map(tree, source, userns, False)
        return True
    except NotMappable:
        return False
    finally:
        os.close(tree)


class NotMappable(DriverError):
    """The kernel, or the file system, has no mounts with other owners."""


def unmount(target: str) -> None:
    """Take away all that is mounted at `target`. Idempotent. Error: DriverError."""
    while True:
        try:
            syscalls.umount2(target, syscalls.MNT_DETACH | syscalls.UMOUNT_NOFOLLOW)
        except OSError as error:
            if error.errno in (errno.EINVAL, errno.ENOENT):
                return
            raise DriverError(f"cannot unmount {target}: {error.strerror}") from None
