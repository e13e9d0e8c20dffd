"""What whiteouts mean (image-spec, layer.md#whiteouts), and which attributes a layer may carry."""

from __future__ import annotations

import os
import stat

from .. import USER_MARK, syscalls
from .remove import FLAGS, remove_tree

WHITEOUT = b".wh."
AUFS = b".wh..wh."
OPAQUE = b".wh..wh..opq"


def _kind() -> str:
    """Of attributes that are for the host: a user's overlay is mounted with `userxattr`."""
    if USER_MARK in os.environ:
        from ..rootless import within

        return "user" if within() else "trusted"
    return "trusted"


_KIND = _kind()
HOST_S = ("user.overlay.", "user.fuseoverlayfs.", "user.tiffin.")
MORE_IDS = "an administrator gives more: usermod --add-subuids FIRST-LAST --add-subgids FIRST-LAST"


def own_ids() -> tuple[int, int] | None:
    """How many user and group ids an ordinary user's namespace has, from 0 on; None: all."""
    if _KIND == "trusted":
        return None
    from ..rootless import ids

    return ids("uid"), ids("gid")


OVERLAY_OPAQUE = f"{_KIND}.overlay.opaque"
ROOT_NAMED = f"{_KIND}.tiffin.root"
"""Set on the root directory by a layer that names it, so that a storage driver can tell which
layer's mode and owner the root of a container has. Only where whiteouts are kept."""


def kept(key: str) -> bool:
    """Whether an extended attribute belongs to an image: file capabilities and `user.*`. All else
    is the host's business: an image must not set the attributes of overlayfs (which also has
    `user.overlay.*`, for mounts without privilege), SELinux, IMA, or us."""
    if key.startswith("user."):
        return not key.startswith(HOST_S)
    return key == "security.capability"


def is_whiteout(status: os.stat_result) -> bool:
    """overlayfs's own form (kernel documentation, overlayfs.rst)."""
    return stat.S_ISCHR(status.st_mode) and status.st_rdev == 0


class Hidden:
    """Whiteouts where a layer is applied to a copy of the layers below it.

    A whiteout is for what lies below, never for what its own layer has brought, in whatever order
    the two come. What is "ours" is known by inode number: all of it is made here, so a number that
    is used again is ours again.
    """

    def __init__(self, root: int) -> None:
        self._root = root
        self._ours: set[int] = set()
        self._parents: set[bytes] = set()

    def spare(self, status: os.stat_result) -> None:
        self._ours.add(status.st_ino)

    def spare_parents(self, name: bytes) -> None:
        """Something of ours will lie in this directory: the directories on the way stay."""
        while name and name not in self._parents:
            self._parents.add(name)
            fd = syscalls.open_in_root(self._root, name, os.O_PATH | os.O_DIRECTORY)
            try:
                self.spare(os.fstat(fd))
            finally:
                os.close(fd)
            name = name.rpartition(b"/")[0]

    def hide(self, parent: int, base: bytes) -> None:
        try:
            status = os.stat(base, dir_fd=parent, follow_symlinks=False)
        except FileNotFoundError:
            return
        if status.st_ino not in self._ours:
            remove_tree(base, dir_fd=parent)
        elif stat.S_ISDIR(status.st_mode):
            fd = os.open(base, FLAGS, dir_fd=parent)
            try:
                self.empty(fd)
            finally:
                os.close(fd)

    def empty(self, directory: int) -> None:
        """Remove what is not ours from a directory and from our directories in it."""
        todo = [b"."]
        while todo:
            name = todo.pop()
            fd = syscalls.open_in_root(directory, name, FLAGS)
            try:
                for base in map(os.fsencode, os.listdir(fd)):
                    status = os.stat(base, dir_fd=fd, follow_symlinks=False)
                    if status.st_ino not in self._ours:
                        remove_tree(base, dir_fd=fd)
                    elif stat.S_ISDIR(status.st_mode):
                        todo.append(name + b"/" + base)
            finally:
                os.close(fd)
