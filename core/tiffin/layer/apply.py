"""Entries to a tree (image-spec, layer.md), safe against a hostile tar.

The parent of every entry is opened with the target as root directory (openat2(2),
RESOLVE_IN_ROOT), and the entry itself is made relative to that descriptor without following a
link: neither `..`, nor an absolute name, nor a link that was unpacked before leads outside.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Callable

from .. import syscalls
from ..errors import ImageError, StorageFull, UserError
from . import tar
from .remove import remove_tree
from .stream import LayerStream, Limits
from .whiteouts import (
    AUFS,
    MORE_IDS,
    OPAQUE,
    OVERLAY_OPAQUE,
    ROOT_NAMED,
    WHITEOUT,
    Hidden,
    is_whiteout,
    kept,
    own_ids,
)

MAX_ID = 2**32 - 2
REMEMBERED = 180
"""Bytes that a directory takes in a dictionary, besides its name."""
DIRECTORY_FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC | os.O_NONBLOCK
FILE_FLAGS = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
NODES = {tar.CHAR: stat.S_IFCHR, tar.BLOCKDEV: stat.S_IFBLK, tar.FIFO: stat.S_IFIFO}

REFUSED = frozenset(
    (
        errno.ENAMETOOLONG, errno.ELOOP, errno.EFBIG, errno.EMLINK, errno.E2BIG, errno.ERANGE,
        errno.EINVAL, errno.ENOTDIR, errno.EISDIR, errno.EILSEQ, errno.EEXIST, errno.ENOENT,
    )
)  # fmt: skip
"""Errors that the layer is to blame for: it wants what no file system can hold."""


class Applier:
    """Unpacks one layer into the directory `root` (a descriptor).

    `whiteouts` says what becomes of them: "keep" turns them into the kernel's own form (its
    documentation, overlayfs.rst: a 0/0 device, the opaque attribute), "apply" deletes what lies
    there.
    """

    def __init__(self, root: int, whiteouts: str, limits: Limits | None = None) -> None:
        self.root = root
        self.keeps = whiteouts == "keep"
        self.is_layer = True
        """Whether names with .wh. mean deletion; not so in a tar that is no layer."""
        self.limits = limits or Limits()
        self.size = 0
        self.count = 0
        self._hidden = None if self.keeps else Hidden(root)
        # The directory of the last entry, because most entries lie beside the one before:
        self._raw: bytes | None = None
        """... as the tar has it,"""
        self._above = b""
        """... as a clean name,"""
        self._parent = -1
        """... as a descriptor,"""
        self._inherit = False
        """... and whether what is made there gets its group (set-group-id)."""
        self._times: dict[bytes, int] = {}
        self._memory = self.limits.memory
        self._current = b""
        self._ids = own_ids()

    def run(self, stream: LayerStream) -> tuple[int, int]:
        """Unpack everything; returns (bytes of regular files, entries).
        Errors: ImageError, StorageFull, OSError of the file system."""
        umask = os.umask(0)
        try:
            # Nothing of the store's own directory may rub off on what is made in it.
            with contextlib.suppress(OSError):
                os.removexattr(self.root, "system.posix_acl_default")
            for entry in tar.entries(stream, self.limits):
                self._current = entry.name
                self._one(entry, stream)
            for name in sorted(self._times):
                self._set_directory_time(name, self._times[name])
        except OSError as error:
            raise self._blame(error) from error
        finally:
            os.umask(umask)
            self._leave()
        return self.size, self.count

    def _blame(self, error: OSError) -> Exception:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            return StorageFull("no space left to unpack a layer")
        if error.errno in REFUSED:
            what = f"layer has an entry that cannot be made: {show(self._current)}"
            return ImageError(f"{what}: {error.strerror}")
        return error

    def _one(self, entry: tar.Entry, stream: LayerStream) -> None:
        above, _, base = entry.name.rstrip(b"/").rpartition(b"/")
        if above != self._raw or base in (b"", b".", b".."):
            entered = self._enter(entry)
            if entered is None:
                return
            base = entered
        self.count += 1
        if self.is_layer and base.startswith(WHITEOUT):
            self._whiteout(base)
            return
        if not (0 <= entry.uid <= MAX_ID and 0 <= entry.gid <= MAX_ID):
            raise ImageError(f"layer has an owner that cannot be: {show(entry.name)}")
        if self._ids is not None and not (entry.uid < self._ids[0] and entry.gid < self._ids[1]):
            raise UserError(
                f"layer has an owner, {entry.uid}:{entry.gid}, whom you have no id for: "
                f"{show(entry.name)}",
                hint=MORE_IDS,
            )
        kind = entry.type
        if kind == tar.REGULAR:
            self._regular(base, entry, stream)
        elif kind == tar.DIRECTORY:
            self._directory(base, entry)
        elif kind == tar.SYMLINK:
            self._symlink(base, entry)
        elif kind == tar.HARDLINK:
            self._hardlink(base, entry)
        else:
            self._node(base, entry)

    # --- places -----------------------------------------------------------------------------------

    def _enter(self, entry: tar.Entry) -> bytes | None:
        """Make the parent of an entry the current directory; returns the entry's last component,
        or None when there is nothing more to do for it."""
        parts = self._parts(entry.name)
        if not parts:
            if entry.type == tar.DIRECTORY:
                self._metadata_of_root(entry)
            return None
        if len(parts) > self.limits.depth:
            raise ImageError(f"layer has directories nested too deeply: {show(entry.name[:60])}...")
        for part in parts if self.is_layer else ():
            if part.startswith(AUFS) and part != OPAQUE:
                return None  # left over from aufs (image-spec, layer.md: reserved)
        for part in parts[:-1] if self.is_layer else ():
            if part.startswith(WHITEOUT):
                raise ImageError(f"layer has something beneath a whiteout: {show(entry.name)}")
        above = b"/".join(parts[:-1])
        if self._raw is None or above != self._above:
            fd = self._open_or_make(above)
            self._leave()
            self._parent, self._above = fd, above
            self._inherit = bool(os.fstat(fd).st_mode & stat.S_ISGID)
            if self._hidden is not None:
                self._hidden.spare_parents(above)
        self._raw = entry.name.rstrip(b"/").rpartition(b"/")[0]
        return parts[-1]

    def _leave(self) -> None:
        self._raw = None
        if self._parent >= 0:
            os.close(self._parent)
            self._parent = -1

    @staticmethod
    def _parts(name: bytes) -> list[bytes]:
        parts = [part for part in name.split(b"/") if part and part != b"."]
        if b".." in parts:
            raise ImageError(f"layer has a name that leads out of it: {show(name)}")
        return parts

    def _open_directory(self, name: bytes, flags: int = 0) -> int:
        return syscalls.open_in_root(self.root, name or b".", DIRECTORY_FLAGS | flags)

    def _open_or_make(self, name: bytes) -> int:
        """A descriptor of the directory `name`. What the layer does not name itself is made 0755,
        root's."""
        try:
            return self._open_directory(name)
        except (FileNotFoundError, NotADirectoryError):
            pass
        parts = name.split(b"/")
        fd = os.dup(self.root)
        try:
            for depth in range(1, len(parts) + 1):
                current = b"/".join(parts[:depth])
                try:
                    below = self._open_directory(current)
                except (FileNotFoundError, NotADirectoryError):
                    self._make_directory(fd, parts[depth - 1], current)
                    below = self._open_directory(current)
                os.close(fd)
                fd = below
        except BaseException:  # whatever it is; raised again
            os.close(fd)
            raise
        return fd

    def _make_directory(self, parent: int, base: bytes, name: bytes) -> None:
        try:
            os.mkdir(base, 0o755, dir_fd=parent)
        except FileExistsError:
            # This layer's own whiteout of what lay here: the directory is a new one.
            if not is_whiteout(os.stat(base, dir_fd=parent, follow_symlinks=False)):
                what = "a dangling link or a file where a directory should be"
                raise ImageError(f"layer has {what}: {show(name)}") from None
            os.unlink(base, dir_fd=parent)
            os.mkdir(base, 0o755, dir_fd=parent)
            self._make_opaque(parent, base)
        if os.fstat(parent).st_mode & stat.S_ISGID:
            os.chown(base, 0, 0, dir_fd=parent, follow_symlinks=False)
            os.chmod(base, 0o755, dir_fd=parent)

    def _make(self, base: bytes, create: Callable[[], None]) -> None:
        """Create something that is not a file or directory, in the place of what is there."""
        try:
            create()
        except FileExistsError:
            remove_tree(base, dir_fd=self._parent)
            create()

    # --- kinds ------------------------------------------------------------------------------------

    def _regular(self, base: bytes, entry: tar.Entry, stream: LayerStream) -> None:
        chown = entry.uid or entry.gid or self._inherit
        # Nobody else sees the tree before it is complete, so the mode may be right from the start.
        plain = not chown and entry.mode <= 0o777
        mode = entry.mode if plain else 0o600
        try:
            fd = os.open(base, FILE_FLAGS, mode, dir_fd=self._parent)
        except FileExistsError:
            remove_tree(base, dir_fd=self._parent)
            fd = os.open(base, FILE_FLAGS, mode, dir_fd=self._parent)
        try:
            if entry.sparse is not None:
                for offset, length in entry.sparse:
                    os.lseek(fd, offset, os.SEEK_SET)
                    stream.copy(fd, length)
                self.size += entry.real_size
                if self.size > self.limits.bytes:  # holes cost the tar nothing
                    raise ImageError("layer is larger than any layer may be")
                os.ftruncate(fd, entry.real_size)
            else:
                stream.copy(fd, entry.size)
                self.size += entry.size
            if chown:
                os.fchown(fd, entry.uid, entry.gid)
            if not plain:
                os.fchmod(fd, entry.mode)  # after chown, which clears set-user-id
            if entry.xattrs:
                self._set_xattrs(fd, entry)  # after both, which clear capabilities
            os.utime(fd, ns=times(entry.mtime))
            if self._hidden is not None:
                self._hidden.spare(os.fstat(fd))
        finally:
            os.close(fd)

    def _directory(self, base: bytes, entry: tar.Entry) -> None:
        parent = self._parent
        fresh = True
        opaque = False
        special = entry.uid or entry.gid or self._inherit or entry.xattrs or entry.mode > 0o777
        self._remember(self._above + b"/" + base if self._above else base, entry.mtime)
        try:
            if self.keeps and not special:
                os.mkdir(base, entry.mode, dir_fd=parent)
                return
            os.mkdir(base, 0o700, dir_fd=parent)
        except FileExistsError:
            there = os.stat(base, dir_fd=parent, follow_symlinks=False)
            fresh = False
            if not stat.S_ISDIR(there.st_mode):
                # A whiteout and a directory of one name in one layer: nothing below shows through.
                opaque = self.keeps and is_whiteout(there)
                remove_tree(base, dir_fd=parent)
                os.mkdir(base, 0o700, dir_fd=parent)
        fd = os.open(base, DIRECTORY_FLAGS | os.O_NOFOLLOW, dir_fd=parent)
        try:
            if entry.uid or entry.gid or self._inherit or not fresh:
                os.fchown(fd, entry.uid, entry.gid)
            os.fchmod(fd, entry.mode)
            if not fresh:  # attributes of the directory that a lower layer had here
                for key in os.listxattr(fd):
                    if kept(key):
                        os.removexattr(fd, key)
            if opaque:
                os.setxattr(fd, OVERLAY_OPAQUE, b"y")
            if entry.xattrs:
                self._set_xattrs(fd, entry)
            if self._hidden is not None:
                self._hidden.spare(os.fstat(fd))
        finally:
            os.close(fd)

    def _symlink(self, base: bytes, entry: tar.Entry) -> None:
        if not entry.linkname:
            raise ImageError(f"layer has a link to nowhere: {show(entry.name)}")
        self._make(base, lambda: os.symlink(entry.linkname, base, dir_fd=self._parent))
        self._finish(base, entry)

    def _node(self, base: bytes, entry: tar.Entry) -> None:
        """Devices and pipes. A 0/0 device would be a whiteout to overlayfs: refused."""
        kind = NODES[entry.type]
        device = 0
        if kind != stat.S_IFIFO:
            if (entry.devmajor, entry.devminor) == (0, 0):
                raise ImageError(f"layer has a device 0/0: {show(entry.name)}")
            if not (0 <= entry.devmajor < 1 << 12 and 0 <= entry.devminor < 1 << 20):
                raise ImageError(f"layer has a device number that cannot be: {show(entry.name)}")
            device = os.makedev(entry.devmajor, entry.devminor)
            if self._ids is not None:
                return  # mknod(2) is root's: an ordinary user's containers get the host's devices
        self._make(base, lambda: os.mknod(base, kind | 0o600, device, dir_fd=self._parent))
        self._finish(base, entry)

    def _finish(self, base: bytes, entry: tar.Entry) -> None:
        parent = self._parent
        os.chown(base, entry.uid, entry.gid, dir_fd=parent, follow_symlinks=False)
        if entry.type != tar.SYMLINK:
            # The node was made just now, where nobody else can put a link in its place.
            os.chmod(base, entry.mode, dir_fd=parent)
        os.utime(base, ns=times(entry.mtime), dir_fd=parent, follow_symlinks=False)
        if self._hidden is not None:
            self._hidden.spare(os.stat(base, dir_fd=parent, follow_symlinks=False))

    def _hardlink(self, base: bytes, entry: tar.Entry) -> None:
        parts = self._parts(entry.linkname)
        nothing = ImageError(f"layer has a hard link to nothing: {show(entry.name)}")
        if not parts:
            raise nothing
        try:
            above = self._open_directory(b"/".join(parts[:-1]))
        except (FileNotFoundError, NotADirectoryError):
            raise nothing from None
        try:
            target, parent = parts[-1], self._parent
            what = os.stat(target, dir_fd=above, follow_symlinks=False)
            if stat.S_ISDIR(what.st_mode):
                raise ImageError(f"layer has a hard link to a directory: {show(entry.name)}")
            if is_whiteout(what):
                raise nothing
            with contextlib.suppress(FileNotFoundError):
                own = os.stat(base, dir_fd=parent, follow_symlinks=False)
                if (own.st_dev, own.st_ino) == (what.st_dev, what.st_ino):
                    return
            self._make(
                base,
                lambda: os.link(
                    target, base, src_dir_fd=above, dst_dir_fd=parent, follow_symlinks=False
                ),
            )
            if self._hidden is not None:
                self._hidden.spare(what)
        except FileNotFoundError:
            raise nothing from None
        finally:
            os.close(above)

    # --- whiteouts --------------------------------------------------------------------------------

    def _whiteout(self, base: bytes) -> None:
        if base.startswith(AUFS) and base != OPAQUE:
            return
        if base == OPAQUE:
            if self._hidden is None:
                os.setxattr(self._parent, OVERLAY_OPAQUE, b"y")
            else:
                self._hidden.empty(self._parent)
            return
        name = base[len(WHITEOUT) :]
        if name in (b"", b".", b".."):
            raise ImageError(f"layer has a whiteout of {show(name)}")
        if self._hidden is not None:
            self._hidden.hide(self._parent, name)
            return
        try:
            os.mknod(name, stat.S_IFCHR, os.makedev(0, 0), dir_fd=self._parent)
        except FileExistsError:
            # What this layer itself has here stays: a whiteout is for the layers below.
            there = os.stat(name, dir_fd=self._parent, follow_symlinks=False)
            if stat.S_ISDIR(there.st_mode):
                self._make_opaque(self._parent, name)

    def _make_opaque(self, parent: int, base: bytes) -> None:
        if self.keeps:
            fd = os.open(base, DIRECTORY_FLAGS | os.O_NOFOLLOW, dir_fd=parent)
            try:
                os.setxattr(fd, OVERLAY_OPAQUE, b"y")
            finally:
                os.close(fd)

    # --- metadata ---------------------------------------------------------------------------------

    def _metadata_of_root(self, entry: tar.Entry) -> None:
        if not (0 <= entry.uid <= MAX_ID and 0 <= entry.gid <= MAX_ID):
            raise ImageError("layer has an owner that cannot be: '/'")
        os.fchown(self.root, entry.uid, entry.gid)
        os.fchmod(self.root, entry.mode)
        if entry.xattrs:
            self._set_xattrs(self.root, entry)
        if self.keeps:
            with contextlib.suppress(OSError):  # only root may, and only root needs it
                os.setxattr(self.root, ROOT_NAMED, b"y")
        self._times[b""] = entry.mtime
        self._leave()

    def _set_xattrs(self, fd: int, entry: tar.Entry) -> None:
        for key, value in (entry.xattrs or {}).items():
            if kept(key):
                try:
                    os.setxattr(fd, key, value)
                except OSError as error:
                    if error.errno != errno.ENOTSUP:
                        raise

    def _remember(self, name: bytes, mtime: int) -> None:
        if name not in self._times:
            self._memory -= len(name) + REMEMBERED
            if self._memory < 0:
                raise ImageError("layer has more directories than any layer may have")
        self._times[name] = mtime

    def _set_directory_time(self, name: bytes, mtime: int) -> None:
        """At the end, because making a file in a directory changes its time."""
        try:
            fd = self._open_directory(name, os.O_NOFOLLOW)
        except OSError:
            return  # replaced by something else further on in the layer
        try:
            os.utime(fd, ns=times(mtime))
        finally:
            os.close(fd)


def times(mtime: int) -> tuple[int, int]:
    """(access, modification) in ns, kept within what file systems take."""
    if abs(mtime) >= 1_000_000_000 << 33:
        mtime = 0
    return mtime, mtime


def show(name: bytes) -> str:
    """A name from a layer, for a message."""
    return ascii(name.decode("utf-8", "replace"))
