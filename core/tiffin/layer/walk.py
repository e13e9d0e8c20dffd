"""Walking a tree that may belong to a running container, which can move things about meanwhile:
by descriptor, and never through a link."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator

from .. import syscalls
from ..errors import ImageError
from .remove import FLAGS
from .whiteouts import is_whiteout

MAX_DEPTH = 500
"""Directories within directories; one descriptor is open for each."""

VANISHED = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENXIO)
"""What opening something gives that is gone, or something else by now."""


class Item:
    """Something in a tree: `dirfd` and `base` lead to it, `path` is relative to the tree."""

    __slots__ = ("base", "dirfd", "path", "stat")

    def __init__(self, dirfd: int, base: str, path: str, status: os.stat_result) -> None:
        self.dirfd = dirfd
        self.base = base
        self.path = path
        self.stat = status

    @property
    def is_directory(self) -> bool:
        return stat.S_ISDIR(self.stat.st_mode)

    @property
    def is_whiteout(self) -> bool:
        return is_whiteout(self.stat)

    def open_directory(self) -> int:
        """Error: OSError, also when it is no directory by now."""
        return os.open(self.base, FLAGS, dir_fd=self.dirfd)

    def open_file(self) -> int:
        """Error: OSError, also when it is no regular file by now."""
        return syscalls.open_file(self.base, self.dirfd)


def open_tree(path: str) -> int:
    return os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)


def _items(fd: int, prefix: str) -> Iterator[Item]:
    """What is in one directory: overlayfs's whiteouts first (image-spec, layer.md: they should
    stand before their siblings), then by name."""
    found = []
    for base in os.listdir(fd):
        try:
            status = os.stat(base, dir_fd=fd, follow_symlinks=False)
        except FileNotFoundError:
            continue
        found.append(Item(fd, base, prefix + base, status))
    found.sort(key=lambda item: (not item.is_whiteout, os.fsencode(item.base)))
    return iter(found)


def walk(root: int) -> Iterator[Item]:
    """Everything below a directory, a directory before what is in it, in the same order each
    time. What vanishes meanwhile is passed over. Error: ImageError when it is too deep."""
    stack = [(root, _items(root, ""))]
    try:
        while stack:
            fd, items = stack[-1]
            item = next(items, None)
            if item is None:
                stack.pop()
                if stack:
                    os.close(fd)
                continue
            yield item
            if item.is_directory:
                if len(stack) > MAX_DEPTH:
                    raise ImageError(
                        f"directories are nested more than {MAX_DEPTH} deep: {item.path[:60]!a}..."
                    )
                try:
                    below = item.open_directory()
                except OSError as error:
                    if error.errno in VANISHED:
                        continue
                    raise
                stack.append((below, _items(below, f"{item.path}/")))
    finally:
        for fd, _ in stack[1:]:
            os.close(fd)


def named(directory: str) -> list[str]:
    """What is in a directory, sorted; nothing when it is not there."""
    try:
        return sorted(os.listdir(directory))
    except FileNotFoundError:
        return []
