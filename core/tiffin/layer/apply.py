"""Entries to a tree (image-spec, layer.md), safe against a hostile tar.

The parent of every entry is opened with the target as root directory (openat2(2),
RESOLVE_IN_ROOT), and the entry itself is made relative to that descriptor without following a
link: neither `..`, nor an absolute name, nor a link that was unpacked before leads outside.
"""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import stat
from collections.abc import Callable

from .. import syscalls
from ..errors import ImageError, StorageFull
from ..hooks import LayerUsage
from . import tar
from .stream import LayerStream

WHITEOUT = b".wh."
OPAQUE = b".wh..wh..opq"
XATTRS = ("user.",)
CAPABILITY = "security.capability"
"""File capabilities; everything else below security., trusted. and system. is the host's business
(an image must not set overlayfs's or SELinux's attributes)."""

MAX_ID = 2**32 - 2
DIRECTORY_FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC | os.O_NONBLOCK


class Applier:
    """Unpacks one layer into the directory `root` (a descriptor).

    `style` says what a whiteout becomes: "overlay" makes overlayfs's own (kernel documentation,
    overlayfs.rst: a 0/0 device, the opaque attribute), "apply" deletes what lies there.
    """

    def __init__(self, root: int, style: str) -> None:
        self.root = root
        self.overlay = style == "overlay"
        self.size = 0
        self.count = 0
        self._parent_name: bytes | None = None
        self._parent = -1
        self._times: list[tuple[bytes, int]] = []
        self._made: set[bytes] = set()
        """Names of this layer, so that an opaque whiteout spares them."""

    def run(self, stream: LayerStream) -> LayerUsage:
        """Unpack everything. Errors: ImageError, StorageFull, OSError of the file system."""
        try:
            for entry in tar.entries(stream):
                self._one(entry, stream)
            for name, mtime in reversed(self._times):
                self._set_directory_time(name, mtime)
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise StorageFull("no space left to unpack a layer") from None
            raise
        finally:
            if self._parent >= 0:
                os.close(self._parent)
                self._parent = -1
        return LayerUsage(size=self.size, entries=self.count)

    def _one(self, entry: tar.Entry, stream: LayerStream) -> None:
        parts = [part for part in entry.name.split(b"/") if part and part != b"."]
        if b".." in parts:
            raise ImageError(f"layer has a name that leads out of it: {show(entry.name)}")
        if not parts:
            if entry.type == tar.DIRECTORY:
                self._metadata_of_root(entry)
            return
        self.count += 1
        *above, base = parts
        if len(base) > 255:
            raise ImageError(f"layer has a name that is too long: {show(base[:40])}...")
        parent = self._open_parent(b"/".join(above))
        if base.startswith(WHITEOUT):
            self._whiteout(parent, b"/".join(above), base)
            return
        name = b"/".join(parts)
        if not self.overlay:
            self._made.add(name)
            for depth in range(1, len(parts)):
                self._made.add(b"/".join(parts[:depth]))
        if entry.uid < 0 or entry.gid < 0 or entry.uid > MAX_ID or entry.gid > MAX_ID:
            raise ImageError(f"layer has an owner that cannot be: {show(entry.name)}")
        make = {
            tar.REGULAR: self._regular,
            tar.DIRECTORY: self._directory,
            tar.SYMLINK: self._symlink,
            tar.HARDLINK: self._hardlink,
        }.get(entry.type, self._node)
        make(parent, name, base, entry, stream)

    # --- places -----------------------------------------------------------------------------------

    def _open_parent(self, name: bytes) -> int:
        """A descriptor of the directory `name`, made with what is above it when it is not there."""
        if name == self._parent_name:
            return self._parent
        try:
            fd = self._open_directory(name)
        except FileNotFoundError:
            fd = self._make_directories(name)
        except NotADirectoryError:
            raise ImageError(f"layer has a file and a directory at {show(name)}") from None
        except OSError as error:
            if error.errno != errno.ELOOP:
                raise
            raise ImageError(f"layer has links in a circle at {show(name)}") from None
        if self._parent >= 0:
            os.close(self._parent)
        self._parent_name, self._parent = name, fd
        return fd

    def _open_directory(self, name: bytes) -> int:
        return syscalls.open_in_root(self.root, name or b".", DIRECTORY_FLAGS)

    def _make_directories(self, name: bytes) -> int:
        """Parents that the layer does not name: 0755, root's."""
        current = b""
        fd = os.dup(self.root)
        for part in name.split(b"/"):
            current = current + b"/" + part if current else part
            try:
                below = self._open_directory(current)
            except FileNotFoundError:
                try:
                    os.mkdir(part, 0o755, dir_fd=fd)
                except FileExistsError:  # a dangling link: what it points to is made instead
                    os.close(fd)
                    raise ImageError(f"layer has a dangling link at {show(current)}") from None
                below = self._open_directory(current)
            except OSError:
                os.close(fd)
                raise
            os.close(fd)
            fd = below
        return fd

    def _forget_parent(self) -> None:
        """A tree was removed: the cached directory may have been in it."""
        self._parent_name = None

    def _clear(self, parent: int, base: bytes) -> None:
        """Remove what is at a place, so that something else can be made there."""
        try:
            os.unlink(base, dir_fd=parent)
        except FileNotFoundError:
            return
        except (IsADirectoryError, PermissionError):
            shutil.rmtree(base, dir_fd=parent)
            self._forget_parent()

    def _make(self, parent: int, base: bytes, create: Callable[[], None]) -> None:
        try:
            create()
        except FileExistsError:
            self._clear(parent, base)
            create()

    # --- kinds ------------------------------------------------------------------------------------

    def _regular(
        self, parent: int, name: bytes, base: bytes, entry: tar.Entry, stream: LayerStream
    ) -> None:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        try:
            fd = os.open(base, flags, 0o600, dir_fd=parent)
        except FileExistsError:
            self._clear(parent, base)
            fd = os.open(base, flags, 0o600, dir_fd=parent)
        try:
            if entry.sparse is not None:
                for offset, length in entry.sparse:
                    os.lseek(fd, offset, os.SEEK_SET)
                    stream.copy(fd, length)
                os.ftruncate(fd, entry.real_size)
                self.size += entry.real_size
            else:
                stream.copy(fd, entry.size)
                self.size += entry.size
            if entry.uid or entry.gid:
                os.fchown(fd, entry.uid, entry.gid)
            os.fchmod(fd, entry.mode)  # after chown, which clears set-uid
            if entry.xattrs:
                self._set_xattrs(fd, entry, name)
            os.utime(fd, ns=times(entry.mtime))
        finally:
            os.close(fd)

    def _directory(
        self, parent: int, name: bytes, base: bytes, entry: tar.Entry, stream: LayerStream
    ) -> None:
        try:
            os.mkdir(base, 0o700, dir_fd=parent)
        except FileExistsError:
            if not stat.S_ISDIR(os.stat(base, dir_fd=parent, follow_symlinks=False).st_mode):
                self._clear(parent, base)
                os.mkdir(base, 0o700, dir_fd=parent)
        fd = os.open(base, DIRECTORY_FLAGS | os.O_NOFOLLOW, dir_fd=parent)
        try:
            os.fchown(fd, entry.uid, entry.gid)
            os.fchmod(fd, entry.mode)
            if entry.xattrs:
                self._set_xattrs(fd, entry, name)
        finally:
            os.close(fd)
        self._times.append((name, entry.mtime))

    def _symlink(
        self, parent: int, name: bytes, base: bytes, entry: tar.Entry, stream: LayerStream
    ) -> None:
        if not entry.linkname:
            raise ImageError(f"layer has a link to nowhere: {show(name)}")
        self._make(parent, base, lambda: os.symlink(entry.linkname, base, dir_fd=parent))
        os.chown(base, entry.uid, entry.gid, dir_fd=parent, follow_symlinks=False)
        os.utime(base, ns=times(entry.mtime), dir_fd=parent, follow_symlinks=False)

    def _hardlink(
        self, parent: int, name: bytes, base: bytes, entry: tar.Entry, stream: LayerStream
    ) -> None:
        parts = [part for part in entry.linkname.split(b"/") if part and part != b"."]
        if b".." in parts or not parts:
            raise ImageError(f"layer has a hard link that leads out of it: {show(name)}")
        try:
            above = self._open_directory(b"/".join(parts[:-1]))
        except OSError:
            raise ImageError(f"layer has a hard link to nothing: {show(name)}") from None
        try:
            target = parts[-1]
            what = os.stat(target, dir_fd=above, follow_symlinks=False)
            if stat.S_ISDIR(what.st_mode):
                raise ImageError(f"layer has a hard link to a directory: {show(name)}")
            with contextlib.suppress(FileNotFoundError):
                own = os.stat(base, dir_fd=parent, follow_symlinks=False)
                if (own.st_dev, own.st_ino) == (what.st_dev, what.st_ino):
                    return
            self._make(
                parent,
                base,
                lambda: os.link(
                    target, base, src_dir_fd=above, dst_dir_fd=parent, follow_symlinks=False
                ),
            )
        except FileNotFoundError:
            raise ImageError(f"layer has a hard link to nothing: {show(name)}") from None
        finally:
            os.close(above)

    def _node(
        self, parent: int, name: bytes, base: bytes, entry: tar.Entry, stream: LayerStream
    ) -> None:
        """Devices and pipes. A 0/0 device would be a whiteout to overlayfs: refused."""
        kind = {tar.CHAR: stat.S_IFCHR, tar.BLOCKDEV: stat.S_IFBLK, tar.FIFO: stat.S_IFIFO}[
            entry.type
        ]
        if kind != stat.S_IFIFO and (entry.devmajor, entry.devminor) == (0, 0):
            raise ImageError(f"layer has a device 0/0: {show(name)}")
        device = 0
        if kind != stat.S_IFIFO:
            if not (0 <= entry.devmajor < 1 << 12 and 0 <= entry.devminor < 1 << 20):
                raise ImageError(f"layer has a device number that cannot be: {show(name)}")
            device = os.makedev(entry.devmajor, entry.devminor)
        self._make(parent, base, lambda: os.mknod(base, kind | 0o600, device, dir_fd=parent))
        os.chown(base, entry.uid, entry.gid, dir_fd=parent, follow_symlinks=False)
        # The node was made just now in a directory that nobody else sees: no link to follow.
        os.chmod(base, entry.mode, dir_fd=parent)
        os.utime(base, ns=times(entry.mtime), dir_fd=parent, follow_symlinks=False)

    # --- whiteouts --------------------------------------------------------------------------------

    def _whiteout(self, parent: int, above: bytes, base: bytes) -> None:
        if base == OPAQUE:
            if self.overlay:
                os.setxattr(parent, "trusted.overlay.opaque", b"y")
            else:
                self._empty(parent, above)
            return
        if base.startswith(b".wh..wh."):
            return  # left over from aufs (image-spec, layer.md: reserved)
        hidden = base[len(WHITEOUT) :]
        if hidden in (b"", b".", b".."):
            raise ImageError(f"layer has a whiteout of {show(hidden)}")
        if self.overlay:
            # What this layer itself has at the place stays: a whiteout is for layers below.
            with contextlib.suppress(FileExistsError):
                os.mknod(hidden, stat.S_IFCHR, os.makedev(0, 0), dir_fd=parent)
        elif (above + b"/" + hidden if above else hidden) not in self._made:
            self._clear(parent, hidden)

    def _empty(self, parent: int, above: bytes) -> None:
        """An opaque whiteout where layers are copies: what was below goes, ours stays."""
        for name in os.listdir(parent):
            base = os.fsencode(name)
            if (above + b"/" + base if above else base) not in self._made:
                self._clear(parent, base)

    # --- metadata ---------------------------------------------------------------------------------

    def _metadata_of_root(self, entry: tar.Entry) -> None:
        os.fchown(self.root, entry.uid, entry.gid)
        os.fchmod(self.root, entry.mode)
        if entry.xattrs:
            self._set_xattrs(self.root, entry, b"/")
        self._times.append((b"", entry.mtime))

    def _set_xattrs(self, fd: int, entry: tar.Entry, name: bytes) -> None:
        for key, value in (entry.xattrs or {}).items():
            if key == CAPABILITY or key.startswith(XATTRS):
                try:
                    os.setxattr(fd, key, value)
                except OSError as error:
                    if error.errno == errno.EINVAL:
                        raise ImageError(f"layer has a broken {key} at {show(name)}") from None
                    if error.errno != errno.ENOTSUP:
                        raise

    def _set_directory_time(self, name: bytes, mtime: int) -> None:
        """At the end, because making a file in a directory changes its time."""
        *above, base = name.split(b"/") if name else [b"."]
        try:
            parent = self._open_directory(b"/".join(above))
        except OSError:
            return  # replaced by something else further on in the layer
        try:
            with contextlib.suppress(OSError):
                os.utime(base, ns=times(mtime), dir_fd=parent, follow_symlinks=False)
        finally:
            os.close(parent)


def times(mtime: int) -> tuple[int, int]:
    """(access, modification) in ns, kept within what file systems take."""
    if abs(mtime) >= 1_000_000_000 << 33:
        mtime = 0
    return mtime, mtime


def show(name: bytes) -> str:
    """A name from a layer, for a message."""
    return ascii(name.decode("utf-8", "replace"))
