"""Full copies of trees, for storage without overlayfs."""

from __future__ import annotations

import contextlib
import errno
import os
import stat

from .walk import Item, open_tree, walk
from .whiteouts import kept

NO_COPY_RANGE = (errno.EXDEV, errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP)


def copy_tree(source: str, target: str) -> None:
    """A full copy with owners, modes, times, attributes, links and holes, into an existing,
    empty directory. Shares blocks where the file system can (reflink). Sockets are left out.
    Errors: OSError, ImageError (nested too deeply)."""
    links: dict[tuple[int, int], str] = {}
    directories: list[tuple[str, os.stat_result]] = []
    old, new = open_tree(source), open_tree(target)
    try:
        for item in walk(old):
            _copy(item, new, links)
            if item.is_directory:
                directories.append((item.path, item.stat))
        for path, status in reversed(directories):
            os.utime(path, ns=_times(status), dir_fd=new, follow_symlinks=False)
        top = os.fstat(old)
        _copy_metadata(old, new, top)
    finally:
        os.close(old)
        os.close(new)


def _times(status: os.stat_result) -> tuple[int, int]:
    return status.st_mtime_ns, status.st_mtime_ns


def _copy(item: Item, new: int, links: dict[tuple[int, int], str]) -> None:
    status, path, mode = item.stat, item.path, item.stat.st_mode
    if stat.S_ISSOCK(mode):
        return
    if status.st_nlink > 1 and not item.is_directory:
        first = links.setdefault((status.st_dev, status.st_ino), path)
        if first != path:
            os.link(first, path, src_dir_fd=new, dst_dir_fd=new, follow_symlinks=False)
            return
    if stat.S_ISDIR(mode) or stat.S_ISREG(mode):
        _copy_inside(item, new)
        return
    if stat.S_ISLNK(mode):
        os.symlink(os.readlink(item.base, dir_fd=item.dirfd), path, dir_fd=new)
        os.chown(path, status.st_uid, status.st_gid, dir_fd=new, follow_symlinks=False)
    else:
        os.mknod(path, stat.S_IFMT(mode) | 0o600, status.st_rdev, dir_fd=new)
        os.chown(path, status.st_uid, status.st_gid, dir_fd=new, follow_symlinks=False)
        os.chmod(path, stat.S_IMODE(mode), dir_fd=new)
    os.utime(path, ns=_times(status), dir_fd=new, follow_symlinks=False)


def _copy_inside(item: Item, new: int) -> None:
    """A file or a directory: what can be opened."""
    if item.is_directory:
        original = item.open_directory()
        os.mkdir(item.path, 0o700, dir_fd=new)
        flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
    else:
        original = item.open_file()
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        copy = os.open(item.path, flags, 0o600, dir_fd=new)
        try:
            if not item.is_directory:
                copy_data(original, copy, item.stat.st_size)
            _copy_metadata(original, copy, item.stat)
        finally:
            os.close(copy)
    finally:
        os.close(original)


def _copy_metadata(original: int, copy: int, status: os.stat_result) -> None:
    os.fchown(copy, status.st_uid, status.st_gid)
    os.fchmod(copy, stat.S_IMODE(status.st_mode))  # after chown, which clears set-user-id
    try:
        keys = os.listxattr(original)
    except OSError:
        keys = []
    for key in keys:
        if kept(key):
            with contextlib.suppress(OSError):  # gone meanwhile, or not for this file system
                os.setxattr(copy, key, os.getxattr(original, key))
    os.utime(copy, ns=_times(status))


def copy_data(original: int, copy: int, size: int) -> None:
    """Data with its holes (lseek(2), SEEK_DATA), by copy_file_range(2)."""
    position = 0
    while position < size:
        try:
            start = os.lseek(original, position, os.SEEK_DATA)
        except OSError as error:
            if error.errno == errno.ENXIO:
                break
            raise
        position = os.lseek(original, start, os.SEEK_HOLE)
        while start < position:
            done = _copy_piece(original, copy, start, position - start)
            if not done:
                break
            start += done
    os.ftruncate(copy, size)


def _copy_piece(original: int, copy: int, start: int, count: int) -> int:
    try:
        return os.copy_file_range(original, copy, count, start, start)
    except OSError as error:
        if error.errno not in NO_COPY_RANGE:
            raise
    return os.pwrite(copy, os.pread(original, min(count, 1 << 20), start), start)
