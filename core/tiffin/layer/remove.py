"""Deleting a tree that a stranger has made: however deep, and never across a mount."""

from __future__ import annotations

import os
from contextlib import suppress

FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def remove_tree(path: str | bytes, dir_fd: int | None = None) -> None:
    """Delete a file or a directory with all that is in it; what is gone already is success.

    Every directory is moved up to the top before it is emptied. So there is no recursion (a
    container can nest deeper than Python's stack and the limit of open files go), and what
    something is mounted on is met as EBUSY before anything in it is touched (rename(2)).
    Error: OSError.
    """
    try:
        os.unlink(path, dir_fd=dir_fd)
        return
    except FileNotFoundError:
        return
    except IsADirectoryError:
        top = os.open(path, FLAGS, dir_fd=dir_fd)
    unique = f".gone-{os.urandom(8).hex()}-"
    try:
        count = 0
        todo = [""]  # the top itself
        while todo:
            name = todo.pop()
            fd = os.open(name, FLAGS, dir_fd=top) if name else top
            try:
                with os.scandir(fd) as listing:
                    found = [(entry.name, entry.is_dir(follow_symlinks=False)) for entry in listing]
                for base, is_directory in found:
                    if is_directory:
                        count += 1
                        moved = f"{unique}{count}"
                        os.rename(base, moved, src_dir_fd=fd, dst_dir_fd=top)
                        todo.append(moved)
                    else:
                        os.unlink(base, dir_fd=fd)
            finally:
                if name:
                    os.close(fd)
            if name:
                os.rmdir(name, dir_fd=top)
    finally:
        os.close(top)
    os.rmdir(path, dir_fd=dir_fd)


def discard_tree(path: str) -> None:
    """`remove_tree` for what no longer matters: an error leaves the rest where it is."""
    with suppress(OSError):
        remove_tree(path)
