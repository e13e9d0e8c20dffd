"""Subvolumes of btrfs, by ioctl(2): structures and numbers of linux/btrfs.h.

Errors are OSError throughout.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import stat
import struct
from collections.abc import Iterator

from tiffin.hooks import layer_tools, sys_tools

SUBVOL_CREATE = 0x5000940E
TREE_SEARCH = 0xD0009411
INO_LOOKUP = 0xD0009412
SNAP_CREATE_V2 = 0x50009417
SUBVOL_SETFLAGS = 0x4008941A
SNAP_DESTROY_V2 = 0x5000943F

SUBVOL_RDONLY = 1 << 1
ROOT_TREE = 1
"""The tree of trees: it says which subvolume is in which."""
ROOT_REF_KEY = 156
TOP_INODE = 256
"""Inode number of every subvolume's own directory (BTRFS_FIRST_FREE_OBJECTID)."""
LAST = (1 << 64) - 1
DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC

_ARGS = struct.Struct("=q4088s")
_ARGS_V2 = struct.Struct("=qQQ4Q4040s")
_LOOKUP = struct.Struct("=QQ4080s")
_KEY = struct.Struct("=7Q4I4Q")
_HEADER = struct.Struct("=QQQII")
_REF = struct.Struct("<QQH")


@contextlib.contextmanager
def opened(path: str) -> Iterator[int]:
    """Descriptor of a directory."""
    fd = os.open(path, DIRECTORY)
    try:
        yield fd
    finally:
        os.close(fd)


def is_subvolume(path: str) -> bool:
    """True for the top of a subvolume, on a file system that is known to be btrfs."""
    try:
        status = os.lstat(path)
    except FileNotFoundError:
        return False
    return stat.S_ISDIR(status.st_mode) and status.st_ino == TOP_INODE


def identity(fd: int) -> int:
    """Id of the subvolume that a directory is in. ENOTTY: it is on another file system."""
    buffer = bytearray(_LOOKUP.pack(0, TOP_INODE, b""))
    fcntl.ioctl(fd, INO_LOOKUP, buffer)
    return int(_LOOKUP.unpack(buffer)[0])


def create(path: str) -> None:
    """An empty subvolume, writable."""
    with opened(os.path.dirname(path)) as above:
        fcntl.ioctl(
            above, SUBVOL_CREATE, bytearray(_ARGS.pack(0, os.fsencode(os.path.basename(path))))
        )


def snapshot(source: str, path: str, *, read_only: bool = False) -> None:
    """A snapshot of the subvolume `source`. It is on the disk, with all that was written to
    `source`, when this returns: the kernel commits a transaction for it."""
    flags = SUBVOL_RDONLY if read_only else 0
    name = os.fsencode(os.path.basename(path))
    with opened(source) as fd, opened(os.path.dirname(path)) as above:
        fcntl.ioctl(above, SNAP_CREATE_V2, bytearray(_ARGS_V2.pack(fd, 0, flags, 0, 0, 0, 0, name)))


def destroy(path: str) -> None:
    """Delete a subvolume at once, read-only or not, and those in it: whoever may write in a
    directory may make some there. What is gone already is success."""
    directory, _, base = path.rpartition("/")
    with opened(directory) as above:
        todo = [base]
        while todo:
            try:
                _destroy(above, todo[-1])
            except FileNotFoundError:
                pass
            except OSError as error:
                if error.errno != errno.ENOTEMPTY:
                    raise
                todo += _hoist(above, directory, todo[-1])
                continue
            todo.pop()


def _destroy(above: int, base: str) -> None:
    buffer = bytearray(_ARGS_V2.pack(0, 0, 0, 0, 0, 0, 0, os.fsencode(base)))
    fcntl.ioctl(above, SNAP_DESTROY_V2, buffer)


def _hoist(above: int, directory: str, base: str) -> list[str]:
    """Move the subvolumes within a subvolume up beside it, however deep they are; returns their
    new names. btrfs deletes no subvolume that another one is in."""
    hoisted: list[str] = []
    with opened(f"{directory}/{base}") as fd:
        _set_writable(fd)
        own = identity(fd)
        for inode, name in _within(fd, own):
            try:
                place = _path(fd, own, inode)
            except OSError as error:
                if error.errno != errno.ENAMETOOLONG:
                    raise
                continue
            below = sys_tools().open_in_root(fd, place or ".", os.O_RDONLY | os.O_DIRECTORY)
            try:
                inner = os.open(name, DIRECTORY, dir_fd=below)
                try:
                    _set_writable(inner)
                finally:
                    os.close(inner)
                new = f"nested-{os.urandom(16).hex()}"
                os.rename(name, new, src_dir_fd=below, dst_dir_fd=above)
            finally:
                os.close(below)
            hoisted.append(new)
    if not hoisted:
        # Too deep for a name: emptying the tree brings them up, until one of them is in the way.
        with contextlib.suppress(OSError):
            layer_tools().remove_tree(f"{directory}/{base}")
    return hoisted


def _set_writable(fd: int) -> None:
    """A subvolume that is read-only cannot be moved, nor lets go of those in it."""
    fcntl.ioctl(fd, SUBVOL_SETFLAGS, struct.pack("=Q", 0))


def _within(fd: int, subvolume: int) -> list[tuple[int, bytes]]:
    """(inode of its directory, name) of subvolumes directly within one: as many as one answer
    has room for."""
    key = (ROOT_TREE, subvolume, subvolume, 0, LAST, 0, LAST, ROOT_REF_KEY, ROOT_REF_KEY)
    buffer = bytearray(4096)
    _KEY.pack_into(buffer, 0, *key, 1 << 16, *([0] * 5))
    fcntl.ioctl(fd, TREE_SEARCH, buffer)
    found = []
    position = _KEY.size
    for _ in range(_KEY.unpack_from(buffer)[9]):
        length = _HEADER.unpack_from(buffer, position)[4]
        position += _HEADER.size
        inode, _, size = _REF.unpack_from(buffer, position)
        start = position + _REF.size
        found.append((inode, bytes(buffer[start : start + size])))
        position += length
    return found


def _path(fd: int, subvolume: int, inode: int) -> bytes:
    """Path of a directory within its subvolume. ENAMETOOLONG: of 4 KiB and more."""
    buffer = bytearray(_LOOKUP.pack(subvolume, inode, b""))
    fcntl.ioctl(fd, INO_LOOKUP, buffer)
    name: bytes = _LOOKUP.unpack(buffer)[2]
    return name.partition(b"\0")[0].rstrip(b"/")
