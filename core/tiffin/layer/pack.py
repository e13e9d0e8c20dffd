"""A tree, or the difference of two, to a tar that is the same each time (image-spec, layer.md).

The trees may belong to a running container, which can move things about while we read: directories
are walked by descriptor and never through a link.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import tarfile
from collections.abc import Callable, Iterator, Sequence

from ..errors import StorageFull
from ..hooks import Change
from .apply import CAPABILITY, OPAQUE, WHITEOUT, XATTRS

OVERLAY_OPAQUE = "trusted.overlay.opaque"


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
        return stat.S_ISCHR(self.stat.st_mode) and self.stat.st_rdev == 0

    def open(self, flags: int) -> int:
        return os.open(
            self.base, flags | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK, dir_fd=self.dirfd
        )


def open_tree(path: str) -> int:
    return os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)


def walk(root: int, prefix: str = "") -> Iterator[Item]:
    """Everything below a directory, sorted, a directory before what is in it. What vanishes
    meanwhile is passed over."""
    for base in sorted(os.listdir(root), key=os.fsencode):
        try:
            status = os.stat(base, dir_fd=root, follow_symlinks=False)
        except FileNotFoundError:
            continue
        item = Item(root, base, f"{prefix}{base}", status)
        yield item
        if item.is_directory:
            try:
                fd = item.open(os.O_RDONLY | os.O_DIRECTORY)
            except OSError:
                continue
            try:
                yield from walk(fd, f"{prefix}{base}/")
            finally:
                os.close(fd)


class Packer:
    """Writes items to a tar; hard links are kept, sockets left out."""

    def __init__(self, target: str) -> None:
        self._tar = tarfile.open(  # noqa: SIM115 (closed by __exit__)
            target, "w", format=tarfile.PAX_FORMAT, encoding="utf-8", errors="surrogateescape"
        )
        self._links: dict[tuple[int, int], str] = {}

    def __enter__(self) -> Packer:
        return self

    def __exit__(self, *_: object) -> None:
        self._tar.close()

    def add(self, item: Item) -> None:
        status = item.stat
        if stat.S_ISSOCK(status.st_mode):
            return
        info = tarfile.TarInfo(item.path)
        info.mode = stat.S_IMODE(status.st_mode)
        info.uid, info.gid = status.st_uid, status.st_gid
        seconds, part = divmod(status.st_mtime_ns, 1_000_000_000)
        info.mtime = seconds
        if part and seconds >= 0:
            info.pax_headers = {"mtime": f"{seconds}.{part:09d}"}
        if stat.S_ISREG(status.st_mode) and status.st_nlink > 1:
            first = self._links.setdefault((status.st_dev, status.st_ino), item.path)
            if first != item.path:
                info.type, info.linkname = tarfile.LNKTYPE, first
                self._tar.addfile(info)
                return
        if stat.S_ISLNK(status.st_mode):
            info.type = tarfile.SYMTYPE
            info.linkname = os.readlink(item.base, dir_fd=item.dirfd)
            self._tar.addfile(info)
        elif stat.S_ISREG(status.st_mode):
            self._add_file(item, info)
        elif stat.S_ISDIR(status.st_mode):
            info.type = tarfile.DIRTYPE
            fd = item.open(os.O_RDONLY | os.O_DIRECTORY)
            try:
                _put_xattrs(info, fd)
            finally:
                os.close(fd)
            self._tar.addfile(info)
        elif stat.S_ISFIFO(status.st_mode):
            info.type = tarfile.FIFOTYPE
            self._tar.addfile(info)
        else:
            info.type = tarfile.CHRTYPE if stat.S_ISCHR(status.st_mode) else tarfile.BLKTYPE
            info.devmajor = os.major(status.st_rdev)
            info.devminor = os.minor(status.st_rdev)
            self._tar.addfile(info)

    def _add_file(self, item: Item, info: tarfile.TarInfo) -> None:
        fd = item.open(os.O_RDONLY)
        with open(fd, "rb", closefd=True) as file:
            now = os.fstat(fd)
            if not stat.S_ISREG(now.st_mode):
                return
            info.size = now.st_size
            _put_xattrs(info, fd)
            self._tar.addfile(info, _Padded(file.read, now.st_size))  # type: ignore[arg-type]

    def whiteout(self, path: str) -> None:
        above, _, base = path.rpartition("/")
        name = WHITEOUT.decode() + base
        self._empty(f"{above}/{name}" if above else name)

    def opaque(self, path: str) -> None:
        self._empty(f"{path}/{OPAQUE.decode()}" if path else OPAQUE.decode())

    def _empty(self, name: str) -> None:
        info = tarfile.TarInfo(name)
        info.mode = 0
        self._tar.addfile(info)


class _Padded:
    """A file that is `size` bytes long whatever a container does to it while we read."""

    def __init__(self, read: Callable[[int], bytes], size: int) -> None:
        self._read = read
        self._left = size

    def read(self, count: int) -> bytes:
        wanted = min(count, self._left)
        data = self._read(wanted)
        self._left -= wanted
        return data + bytes(wanted - len(data))


def _put_xattrs(info: tarfile.TarInfo, fd: int) -> None:
    with contextlib.suppress(OSError):
        for key in sorted(os.listxattr(fd)):
            if key == CAPABILITY or key.startswith(XATTRS):
                value = os.getxattr(fd, key)
                info.pax_headers = {
                    **info.pax_headers,
                    f"SCHILY.xattr.{key}": value.decode("utf-8", "surrogateescape"),
                }


@contextlib.contextmanager
def _writing(target: str) -> Iterator[Packer]:
    """A packer whose file is gone again when anything fails. Error: StorageFull."""
    try:
        with Packer(target) as packer:
            yield packer
    except BaseException as error:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(target)
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise StorageFull(f"no space left to write {target}") from None
        raise


def write_tree(tree: str, target: str) -> None:
    """The whole tree as a tar."""
    root = open_tree(tree)
    try:
        with _writing(target) as packer:
            for item in walk(root):
                packer.add(item)
    finally:
        os.close(root)


def write_diff(upper: str, target: str) -> None:
    """overlayfs's upper directory as a layer: 0/0 devices and opaque directories as whiteouts."""
    root = open_tree(upper)
    try:
        with _writing(target) as packer:
            if _is_opaque(root):
                packer.opaque("")
            for item in walk(root):
                if item.is_whiteout:
                    packer.whiteout(item.path)
                    continue
                packer.add(item)
                if item.is_directory:
                    with contextlib.suppress(OSError):
                        fd = item.open(os.O_RDONLY | os.O_DIRECTORY)
                        try:
                            if _is_opaque(fd):
                                packer.opaque(item.path)
                        finally:
                            os.close(fd)
    finally:
        os.close(root)


def _is_opaque(fd: int) -> bool:
    try:
        return os.getxattr(fd, OVERLAY_OPAQUE) == b"y"
    except OSError:
        return False


def changes(upper: str, lowers: Sequence[str]) -> list[Change]:
    """What an upper directory changes over `lowers` (lowest first), sorted by path."""
    found = []
    root = open_tree(upper)
    try:
        for item in walk(root):
            path = "/" + item.path
            if item.is_whiteout:
                found.append(Change("D", path))
                continue
            below = any(os.path.lexists(f"{lower}/{item.path}") for lower in reversed(lowers))
            found.append(Change("C" if below else "A", path))
    finally:
        os.close(root)
    return found


def _same(old: os.stat_result, new: os.stat_result) -> bool:
    """Nothing that a layer records differs."""
    if (old.st_mode, old.st_uid, old.st_gid) != (new.st_mode, new.st_uid, new.st_gid):
        return False
    if stat.S_ISDIR(new.st_mode):
        return True
    return (old.st_size, old.st_mtime_ns, old.st_rdev) == (
        new.st_size,
        new.st_mtime_ns,
        new.st_rdev,
    )


def _compare(lower: int, upper: int) -> Iterator[tuple[str, Item | None, str]]:
    """(kind, item of the upper tree, path) of each difference; kind as in hooks.Change."""
    old = {item.path: item.stat for item in walk(lower)}
    seen = set()
    gone_below = ""
    for item in walk(upper):
        seen.add(item.path)
        before = old.get(item.path)
        if before is None:
            yield "A", item, item.path
        elif not _same(before, item.stat):
            yield "C", item, item.path
    for path in sorted(old, key=os.fsencode):
        if path in seen or (gone_below and path.startswith(gone_below)):
            continue
        gone_below = path + "/"
        yield "D", None, path


def tree_changes(lower: str, upper: str) -> list[Change]:
    """What differs between two whole trees, sorted by path."""
    old, new = open_tree(lower), open_tree(upper)
    try:
        found = [Change(kind, "/" + path) for kind, _, path in _compare(old, new)]
    finally:
        os.close(old)
        os.close(new)
    return sorted(found, key=lambda change: os.fsencode(change.path))


def write_tree_diff(lower: str, upper: str, target: str) -> None:
    """The difference of two whole trees as a layer."""
    old, new = open_tree(lower), open_tree(upper)
    try:
        with _writing(target) as packer:
            for kind, item, path in _compare(old, new):
                if kind == "D" or item is None:
                    packer.whiteout(path)
                else:
                    packer.add(item)
    finally:
        os.close(old)
        os.close(new)


def copy_tree(source: str, target: str) -> None:
    """A full copy with owners, modes, times, attributes, links and holes, into an existing,
    empty directory. Shares blocks where the file system can (reflink)."""
    links: dict[tuple[int, int], str] = {}
    times: list[tuple[str, os.stat_result]] = []
    old = open_tree(source)
    new = open_tree(target)
    try:
        _copy_metadata(old, new, os.fstat(old))
        for item in walk(old):
            _copy_item(item, new, links)
            if item.is_directory:
                times.append((item.path, item.stat))
        for path, status in reversed(times):
            os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns), dir_fd=new)
        top = os.fstat(old)
        os.utime(new, ns=(top.st_atime_ns, top.st_mtime_ns))
    finally:
        os.close(old)
        os.close(new)


def _copy_item(item: Item, new: int, links: dict[tuple[int, int], str]) -> None:
    status, path = item.stat, item.path
    mode = status.st_mode
    if status.st_nlink > 1 and not item.is_directory:
        first = links.setdefault((status.st_dev, status.st_ino), path)
        if first != path:
            os.link(first, path, src_dir_fd=new, dst_dir_fd=new, follow_symlinks=False)
            return
    if stat.S_ISDIR(mode):
        os.mkdir(path, 0o700, dir_fd=new)
        copy = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=new)
        original = item.open(os.O_RDONLY | os.O_DIRECTORY)
    elif stat.S_ISREG(mode):
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        original = item.open(os.O_RDONLY)
        copy = os.open(path, flags, 0o600, dir_fd=new)
        _copy_data(original, copy, status.st_size)
    elif stat.S_ISLNK(mode):
        os.symlink(os.readlink(item.base, dir_fd=item.dirfd), path, dir_fd=new)
        os.chown(path, status.st_uid, status.st_gid, dir_fd=new, follow_symlinks=False)
        ns = (status.st_atime_ns, status.st_mtime_ns)
        os.utime(path, ns=ns, dir_fd=new, follow_symlinks=False)
        return
    elif stat.S_ISSOCK(mode):
        return
    else:
        os.mknod(path, mode, status.st_rdev, dir_fd=new)
        os.chown(path, status.st_uid, status.st_gid, dir_fd=new, follow_symlinks=False)
        os.chmod(path, stat.S_IMODE(mode), dir_fd=new)
        return
    try:
        _copy_metadata(original, copy, status)
        if not item.is_directory:
            os.utime(copy, ns=(status.st_atime_ns, status.st_mtime_ns))
    finally:
        os.close(original)
        os.close(copy)


def _copy_metadata(original: int, copy: int, status: os.stat_result) -> None:
    os.fchown(copy, status.st_uid, status.st_gid)
    os.fchmod(copy, stat.S_IMODE(status.st_mode))
    with contextlib.suppress(OSError):
        for key in os.listxattr(original):
            if key == CAPABILITY or key.startswith(XATTRS):
                os.setxattr(copy, key, os.getxattr(original, key))


def _copy_data(original: int, copy: int, size: int) -> None:
    """Data with its holes (lseek(2), SEEK_DATA), by copy_file_range(2)."""
    position = 0
    while position < size:
        try:
            start = os.lseek(original, position, os.SEEK_DATA)
        except OSError as error:
            if error.errno == errno.ENXIO:
                break
            raise
        end = os.lseek(original, start, os.SEEK_HOLE)
        while start < end:
            try:
                done = os.copy_file_range(original, copy, end - start, start, start)
            except OSError as error:
                if error.errno not in (errno.EXDEV, errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP):
                    raise
                done = os.pwrite(copy, os.pread(original, min(end - start, 1 << 20), start), start)
            if not done:
                break
            start += done
        position = end
    os.ftruncate(copy, size)
