"""A tree, or overlayfs's upper directory, to a tar that is the same each time (image-spec,
layer.md)."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import tarfile
from collections.abc import Callable, Iterator

from ..errors import ImageError, StorageFull
from .walk import Item, open_tree, walk
from .whiteouts import OPAQUE, OVERLAY_OPAQUE, WHITEOUT, kept

VANISHED = (FileNotFoundError, NotADirectoryError)


class Packer:
    """Writes items to a tar; hard links are kept. Left out are sockets, what vanishes, and 0/0
    devices, which no layer can have."""

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
        """Error: ImageError for a name that would mean a whiteout to whoever unpacks the layer."""
        if item.base.startswith(WHITEOUT.decode()):
            raise ImageError(
                f"{'/' + item.path!a} cannot be stored in a layer: names with .wh. mean deletion",
                hint="rename or delete it",
            )
        status = item.stat
        info = tarfile.TarInfo(item.path)
        info.mode = stat.S_IMODE(status.st_mode)
        info.uid, info.gid = status.st_uid, status.st_gid
        seconds, part = divmod(status.st_mtime_ns, 1_000_000_000)
        info.mtime = seconds
        if part and seconds >= 0:
            info.pax_headers = {"mtime": f"{seconds}.{part:09d}"}
        if stat.S_ISREG(status.st_mode):
            self._add_file(item, info)
        elif stat.S_ISDIR(status.st_mode):
            self._add_directory(item, info)
        elif stat.S_ISLNK(status.st_mode):
            with contextlib.suppress(OSError):
                info.type = tarfile.SYMTYPE
                info.linkname = os.readlink(item.base, dir_fd=item.dirfd)
                self._tar.addfile(info)
        elif stat.S_ISFIFO(status.st_mode):
            info.type = tarfile.FIFOTYPE
            self._tar.addfile(info)
        elif not (stat.S_ISSOCK(status.st_mode) or item.is_whiteout):
            info.type = tarfile.CHRTYPE if stat.S_ISCHR(status.st_mode) else tarfile.BLKTYPE
            info.devmajor = os.major(status.st_rdev)
            info.devminor = os.minor(status.st_rdev)
            self._tar.addfile(info)

    def add_root(self, fd: int) -> None:
        """The root directory itself, for its mode and owner."""
        status = os.fstat(fd)
        info = tarfile.TarInfo("./")
        info.type = tarfile.DIRTYPE
        info.mode = stat.S_IMODE(status.st_mode)
        info.uid, info.gid = status.st_uid, status.st_gid
        info.mtime = int(status.st_mtime)
        _put_xattrs(info, fd)
        self._tar.addfile(info)

    def _add_directory(self, item: Item, info: tarfile.TarInfo) -> None:
        info.type = tarfile.DIRTYPE
        try:
            fd = item.open(os.O_RDONLY | os.O_DIRECTORY)
        except VANISHED:
            return
        try:
            _put_xattrs(info, fd)
            opaque = is_opaque(fd)
        finally:
            os.close(fd)
        self._tar.addfile(info)
        if opaque:
            self.opaque(item.path)

    def _add_file(self, item: Item, info: tarfile.TarInfo) -> None:
        key = (item.stat.st_dev, item.stat.st_ino)
        if key in self._links:
            info.type, info.linkname = tarfile.LNKTYPE, self._links[key]
            self._tar.addfile(info)
            return
        try:
            fd = item.open(os.O_RDONLY)
        except OSError as error:
            if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENXIO):
                return  # gone, or something else by now
            raise
        with open(fd, "rb", buffering=0) as file:
            now = os.fstat(fd)
            if not stat.S_ISREG(now.st_mode):
                return
            info.size = now.st_size
            _put_xattrs(info, fd)
            self._tar.addfile(info, _Padded(file.read, now.st_size))  # type: ignore[arg-type]
        if item.stat.st_nlink > 1:
            self._links[key] = item.path

    def whiteout(self, path: str) -> None:
        above, slash, base = path.rpartition("/")
        self._empty(f"{above}{slash}{WHITEOUT.decode()}{base}")

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
        parts = []
        self._left -= wanted
        while wanted and (data := self._read(wanted)):
            parts.append(data)
            wanted -= len(data)
        return b"".join(parts) + bytes(wanted)


def _put_xattrs(info: tarfile.TarInfo, fd: int) -> None:
    with contextlib.suppress(OSError):
        for key in sorted(os.listxattr(fd)):
            if kept(key):
                value = os.getxattr(fd, key).decode("utf-8", "surrogateescape")
                info.pax_headers = {**info.pax_headers, f"SCHILY.xattr.{key}": value}


def is_opaque(fd: int) -> bool:
    try:
        return os.getxattr(fd, OVERLAY_OPAQUE) == b"y"
    except OSError:
        return False


@contextlib.contextmanager
def writing(target: str) -> Iterator[Packer]:
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
                packer.opaque("")
            for item in walk(root):
                if item.is_whiteout:
                    packer.whiteout(item.path)
                else:
                    packer.add(item)
    finally:
        os.close(root)
