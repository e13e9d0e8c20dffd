"""A tree, or overlayfs's upper directory, to a tar that is the same each time (image-spec,
layer.md)."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Callable, Iterator

from ..errors import ImageError, StorageFull
from . import tar
from .stream import Limits
from .walk import VANISHED, Item, open_tree, walk
from .whiteouts import OPAQUE, OVERLAY_OPAQUE, WHITEOUT, kept
from .write import TarWriter


class Packer:
    """Writes items to a tar; hard links are kept. Left out are sockets, what vanishes, and 0/0
    devices, which no layer can have. `prefix` goes before every name; with `whiteouts` false the
    tar is no layer, and no name means anything."""

    def __init__(self, target: TarWriter, *, prefix: str = "", whiteouts: bool = True) -> None:
        self._tar = target
        self._prefix = os.fsencode(prefix)
        self._whiteouts = whiteouts
        self.owners: Callable[[int, int], tuple[int, int]] | None = None
        """(uid, gid) to say of a file that has these; None: the same."""
        self._links: dict[tuple[int, int], bytes] = {}
        self._left = Limits().bytes

    def add(self, item: Item) -> None:
        """Error: ImageError for a name that would mean a whiteout to whoever unpacks the layer."""
        if self._whiteouts and item.base.startswith(WHITEOUT.decode()):
            raise ImageError(
                f"{'/' + item.path!a} cannot be stored in a layer: names with .wh. mean deletion",
                hint="rename or delete it",
            )
        status = item.stat
        kind = stat.S_IFMT(status.st_mode)
        name = self._prefix + os.fsencode(item.path)
        if kind == stat.S_IFREG:
            self._add_file(item, name)
        elif kind == stat.S_IFDIR:
            fd = _open(item.open_directory)
            if fd >= 0:
                try:
                    self._add_directory(fd, name, status)
                finally:
                    os.close(fd)
        elif kind == stat.S_IFLNK:
            with contextlib.suppress(OSError):
                link = os.fsencode(os.readlink(item.base, dir_fd=item.dirfd))
                self._entry(name, tar.SYMLINK, status, link=link)
        elif kind == stat.S_IFIFO:
            self._entry(name, tar.FIFO, status)
        elif kind in (stat.S_IFCHR, stat.S_IFBLK) and status.st_rdev:
            self._entry(name, tar.CHAR if kind == stat.S_IFCHR else tar.BLOCKDEV, status)

    def add_root(self, fd: int, name: bytes = b"./") -> None:
        """The root directory itself, for its mode and owner."""
        self._entry(name, tar.DIRECTORY, os.fstat(fd), xattrs=_xattrs(fd))

    def add_open_file(self, fd: int, name: bytes) -> None:
        """A regular file that is open already."""
        status = os.fstat(fd)
        self._take(os.fsdecode(name), status.st_size)
        self._entry(name, tar.REGULAR, status, size=status.st_size, xattrs=_xattrs(fd))
        self._tar.data(fd, status.st_size)

    def _entry(
        self,
        name: bytes,
        kind: bytes,
        status: os.stat_result,
        *,
        size: int = 0,
        link: bytes = b"",
        xattrs: dict[str, bytes] | None = None,
    ) -> None:
        uid, gid = status.st_uid, status.st_gid
        if self.owners is not None:
            uid, gid = self.owners(uid, gid)
        self._tar.entry(
            name,
            kind,
            mode=stat.S_IMODE(status.st_mode),
            uid=uid,
            gid=gid,
            mtime=status.st_mtime_ns,
            size=size,
            link=link,
            device=status.st_rdev if kind in (tar.CHAR, tar.BLOCKDEV) else 0,
            xattrs=xattrs,
        )

    def _add_directory(self, fd: int, name: bytes, status: os.stat_result) -> None:
        self._entry(name + b"/", tar.DIRECTORY, status, xattrs=_xattrs(fd))
        if self._whiteouts and is_opaque(fd):
            self._empty(name + b"/" + OPAQUE)

    def _add_file(self, item: Item, name: bytes) -> None:
        key = (item.stat.st_dev, item.stat.st_ino)
        if key in self._links:
            self._entry(name, tar.HARDLINK, item.stat, link=self._links[key])
            return
        fd = _open(item.open_file)
        if fd < 0:
            return
        try:
            now = os.fstat(fd)
            self._take(item.path, now.st_size)
            self._entry(name, tar.REGULAR, item.stat, size=now.st_size, xattrs=_xattrs(fd))
            self._tar.data(fd, now.st_size)
        finally:
            os.close(fd)
        if item.stat.st_nlink > 1:
            self._links[key] = name

    def _take(self, path: str, size: int) -> None:
        """A container can make a file of exabytes that takes no room, but in a tar it would. What
        is no layer has that bound for each file only. Error: ImageError."""
        if size > self._left:
            raise ImageError(
                f"{'/' + path!a} has {size} bytes: that is more than any layer may have",
                hint="truncate or delete it",
            )
        if self._whiteouts:
            self._left -= size

    def whiteout(self, path: str) -> None:
        above, slash, base = os.fsencode(path).rpartition(b"/")
        self._empty(above + slash + WHITEOUT + base)

    def opaque_root(self) -> None:
        self._empty(OPAQUE)

    def _empty(self, name: bytes) -> None:
        self._tar.entry(name, tar.REGULAR)


def _open(opening: Callable[[], int]) -> int:
    """A descriptor, or -1 when a container was quicker."""
    try:
        return opening()
    except OSError as error:
        if error.errno in VANISHED:
            return -1
        raise


def _xattrs(fd: int) -> dict[str, bytes] | None:
    """What of a file's attributes belongs to an image; not those that a PAX record cannot name."""
    try:
        keys = [key for key in os.listxattr(fd) if kept(key) and "=" not in key]
        return {key: os.getxattr(fd, key) for key in keys} if keys else None
    except OSError:
        return None


def is_opaque(fd: int) -> bool:
    try:
        return os.getxattr(fd, OVERLAY_OPAQUE) == b"y"
    except OSError:
        return False


@contextlib.contextmanager
def writing(target: str) -> Iterator[Packer]:
    """A packer whose file is gone again when anything fails. Error: StorageFull."""
    try:
        writer = TarWriter(target)
        complete = False
        try:
            yield Packer(writer)
            complete = True
        finally:
            writer.close(complete=complete)
    except BaseException as error:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(target)
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise StorageFull(f"no space left to write {target}") from None
        raise


def pack_tree(tree: str, target: str) -> None:
    """The whole tree as a tar, its root directory not included."""
    root = open_tree(tree)
    try:
        with writing(target) as packer:
            for item in walk(root):
                packer.add(item)
    finally:
        os.close(root)


def write_diff(upper: str, target: str, with_root: bool = False) -> None:
    """overlayfs's upper directory as a layer: 0/0 devices and opaque directories as whiteouts.
    `with_root`: the directory itself is in it, too."""
    root = open_tree(upper)
    try:
        with writing(target) as packer:
            if with_root:
                packer.add_root(root)
            if is_opaque(root):
                packer.opaque_root()
            for item in walk(root):
                if item.is_whiteout:
                    packer.whiteout(item.path)
                else:
                    packer.add(item)
    finally:
        os.close(root)
