"""Places in a container where the runtimes work by name, from outside of it: what is there must be
what they take it for."""

from __future__ import annotations

import os
import posixpath
import stat
from collections.abc import Sequence

from .. import syscalls
from ..errors import ImageError, UserError
from ..options import Mount

NULL = os.makedev(1, 3)
LINKS_MAX = 40


def need_plain(rootfs: str) -> None:
    """The runtimes fill these directories: runc follows a link at /dev to wherever it leads on this
    machine (CVE-2026-41579). Error: ImageError."""
    for place in ("/dev", "/proc", "/sys"):
        if os.path.islink(f"{rootfs}{place}"):
            raise ImageError(
                f"{place} of the container is a link, which could lead to this machine's files",
                hint="the image must have a directory there, or nothing",
            )


def need_null(rootfs: str, mounts: Sequence[Mount]) -> None:
    """The runtimes hide files of /proc by mounting the container's own /dev/null over them. Where
    that is a link, they mount what it leads to; where it is missing, they hide nothing
    (CVE-2025-31133). So what is mounted at /dev must have it. Error: UserError."""
    for mount in mounts:
        place = where(rootfs, mount.target)
        if place not in ("/dev", "/dev/null"):
            continue
        if mount.type == "tmpfs" and place == "/dev" and not os.path.islink(f"{rootfs}/dev/null"):
            continue  # what the image has there is copied into it, and devices are made
        null = mount.source if place == "/dev/null" else f"{mount.source}/null"
        if mount.type != "bind" or not _is_null(null):
            raise UserError(
                f"{mount.target} of the container cannot be {mount.source or mount.type}: "
                "it would leave no /dev/null there, which /proc/kcore and others are hidden with",
                hint="mount it at another place",
            )


def _is_null(path: str) -> bool:
    try:
        found = os.lstat(path)
    except OSError:
        return False
    return stat.S_ISCHR(found.st_mode) and found.st_rdev == NULL


def where(rootfs: str, target: str) -> str:
    """The path in the container to which a path leads, through links and to what is missing."""
    path = posixpath.normpath(f"/{target}".replace("//", "/"))
    rest: list[str] = []
    top = os.path.realpath(rootfs)
    for _ in range(LINKS_MAX + path.count("/")):
        try:
            fd = syscalls.open_in_root(rootfs, path, os.O_PATH | os.O_CLOEXEC)
        except FileNotFoundError:
            link = _link(rootfs, path)
            if link:
                path = posixpath.normpath(posixpath.join(posixpath.dirname(path), link))
            else:
                path, name = posixpath.split(path)
                rest.insert(0, name)
            continue
        except OSError:  # links in a circle, files for directories: no runtime gets there either
            break
        try:
            found = os.readlink(f"/proc/self/fd/{fd}")
        finally:
            os.close(fd)
        return posixpath.normpath("/".join([found.removeprefix(top) or "/", *rest]))
    return posixpath.join(path, *rest)


def _link(rootfs: str, path: str) -> str:
    """Where a link leads that leads nowhere; empty: there is none."""
    try:
        flags = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC
        fd = syscalls.open_in_root(rootfs, path, flags)
    except OSError:
        return ""
    try:
        return os.readlink("", dir_fd=fd)
    except OSError:
        return ""
    finally:
        os.close(fd)
