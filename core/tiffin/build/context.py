"""Trees that COPY, ADD and RUN --mount take files from: the build's context, or an image's root.

A context is refused where it leads out of itself: each look-up is by openat2(2), beneath the
context's directory. In an image absolute links and `..` end within its root, as for its processes.
"""

from __future__ import annotations

import errno
import hashlib
import os
import posixpath
import re
import stat
from collections.abc import Iterator, Sequence

from .. import syscalls
from ..content import PIECE, canceller
from ..dockerfile.ignore import Ignore, clean, translate
from ..errors import NotFound, UserError
from ..layer.walk import MAX_DEPTH
from ..layer.whiteouts import kept

DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC | os.O_NONBLOCK
FILE = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY
WILD = re.compile(r"[*?\[\\]")


class Tree:
    """A directory by descriptor. `what` names it in messages."""

    def __init__(
        self, path: str, what: str, *, image: bool = False, ignore: Ignore | None = None
    ) -> None:
        self.path = path
        self.what = what
        self.image = image
        self.ignore = ignore or Ignore(())
        self.root = os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)

    def close(self) -> None:
        os.close(self.root)

    def open(self, path: str, flags: int) -> int:
        """Errors: NotFound, UserError when it leads out of the context."""
        resolve = syscalls.RESOLVE_IN_ROOT if self.image else syscalls.RESOLVE_BENEATH
        try:
            return syscalls.openat2(
                self.root, path or ".", flags, 0, resolve | syscalls.RESOLVE_NO_MAGICLINKS
            )
        except OSError as error:
            if error.errno in (errno.EXDEV, errno.ELOOP) and not self.image:
                raise UserError(f"{path} leads out of {self.what}") from None
            if error.errno in (errno.ENOENT, errno.ENOTDIR):
                raise NotFound(f"{path} is not in {self.what}") from None
            raise UserError(f"{path} in {self.what}: {error.strerror}") from None

    def status(self, path: str) -> os.stat_result:
        fd = self.open(path, os.O_PATH)
        try:
            return os.fstat(fd)
        finally:
            os.close(fd)

    def names(self, path: str) -> list[str]:
        fd = self.open(path, DIRECTORY)
        try:
            return sorted(os.listdir(fd))
        finally:
            os.close(fd)

    def real(self, path: str) -> str:
        """Where it lies on this machine, every link followed."""
        fd = self.open(path, os.O_PATH)
        try:
            return os.readlink(f"/proc/self/fd/{fd}")
        finally:
            os.close(fd)

    def takes_part(self, path: str) -> bool:
        """Whether a path counts; a directory that is left out does where something in it counts."""
        if not self.ignore.ignored(path):
            return True
        if self.ignore.skips(path):
            return False
        try:
            fd = self.open(path, DIRECTORY)
        except (NotFound, UserError):
            return False
        try:
            return any(self.takes_part(f"{path}/{name}") for name in os.listdir(fd))
        finally:
            os.close(fd)


class Item:
    """One source, found: `fd` is open for reading."""

    __slots__ = ("fd", "name", "path", "status", "tree", "unpack")

    def __init__(self, tree: Tree, path: str, *, unpack: bool = False) -> None:
        self.unpack = unpack
        """Whether ADD unpacks it when it is an archive: not what it has downloaded."""
        probe = tree.open(path, os.O_PATH)
        try:
            self.status = os.fstat(probe)
            if not (stat.S_ISREG(self.status.st_mode) or stat.S_ISDIR(self.status.st_mode)):
                raise UserError(f"{path} in {tree.what} is neither a file nor a directory")
            flags = DIRECTORY if stat.S_ISDIR(self.status.st_mode) else FILE
            self.fd = os.open(f"/proc/self/fd/{probe}", flags)
        finally:
            os.close(probe)
        self.tree = tree
        self.path = path
        self.name = posixpath.basename(path)

    @property
    def is_directory(self) -> bool:
        return stat.S_ISDIR(self.status.st_mode)

    def close(self) -> None:
        os.close(self.fd)


def select(tree: Tree, pattern: str, excludes: Sequence[str] = ()) -> list[str]:
    """The paths in a tree that a source of COPY or ADD means, relative to its root; a pattern may
    match nothing.

    Errors: NotFound when what is no pattern is not there, UserError for one that leads out of the
    context.
    """
    if not tree.image and posixpath.normpath(pattern.lstrip("/") or ".").split("/")[0] == "..":
        raise UserError(f"{pattern} leads out of {tree.what}")
    path = clean(pattern)
    if path == ".":
        return ["."]
    if not WILD.search(path):
        if not tree.takes_part(path):
            raise NotFound(f"{pattern} is not in {tree.what}: it is ignored")
        tree.status(path)
        return [path]
    out = Ignore(excludes)
    found = [p for p in _expand(tree, "", path.split("/")) if tree.takes_part(p)]
    return [p for p in dict.fromkeys(found) if not out.ignored(p)]


def _expand(tree: Tree, prefix: str, parts: Sequence[str]) -> Iterator[str]:
    if not parts:
        yield prefix
        return
    part, rest = parts[0], parts[1:]
    here = f"{prefix}/" if prefix else ""
    if part == "**":
        yield from _expand(tree, prefix, rest or ["*"])
        for name in _subdirectories(tree, prefix):
            yield from _expand(tree, here + name, parts)
        return
    if not WILD.search(part):
        if _exists(tree, here + part):
            yield from _expand(tree, here + part, rest)
        return
    wanted = re.compile(translate(part))
    for name in _names(tree, prefix):
        if wanted.match(name):
            yield from _expand(tree, here + name, rest)


def _names(tree: Tree, path: str) -> list[str]:
    try:
        return tree.names(path)
    except (NotFound, UserError):
        return []


def _subdirectories(tree: Tree, path: str) -> list[str]:
    here = f"{path}/" if path else ""
    return [name for name in _names(tree, path) if _is_directory(tree, here + name)]


def _is_directory(tree: Tree, path: str) -> bool:
    """A directory itself, not a link to one: `**` would never end."""
    try:
        fd = tree.open(path, os.O_PATH | os.O_NOFOLLOW)
    except (NotFound, UserError):
        return False
    try:
        return stat.S_ISDIR(os.fstat(fd).st_mode)
    finally:
        os.close(fd)


def _exists(tree: Tree, path: str) -> bool:
    try:
        tree.status(path)
    except NotFound:
        return False
    return True


# --- digest ---------------------------------------------------------------------------------------


def digest(items: Sequence[Item], *, owners: bool, excludes: Sequence[str] = ()) -> str:
    """Of all that a copy would make: names, kinds, modes, contents; owners where they are kept.
    Times do not count, as with docker."""
    hasher = _Digest(owners, Ignore(excludes))
    for item in items:
        name = "" if item.is_directory else item.name
        hasher.add(item.tree, item.fd, item.status, item.path, name, 0)
    return hasher.hash.hexdigest()


class _Digest:
    def __init__(self, owners: bool, excludes: Ignore) -> None:
        self.hash = hashlib.sha256()
        self.owners = owners
        self.excludes = excludes
        self.check_cancelled = canceller()

    def _tell(self, *fields: object) -> None:
        for field in fields:
            data = field if isinstance(field, bytes) else os.fsencode(str(field))
            self.hash.update(b"%d:" % len(data) + data)

    def _head(self, status: os.stat_result, name: str) -> None:
        self._tell(name, stat.S_IFMT(status.st_mode), stat.S_IMODE(status.st_mode))
        if self.owners:
            self._tell(status.st_uid, status.st_gid)

    def add(
        self, tree: Tree, fd: int, status: os.stat_result, path: str, name: str, depth: int
    ) -> None:
        """What is open, and all in it; `name` is relative to the destination."""
        self.check_cancelled()
        if depth > MAX_DEPTH:
            raise UserError(f"directories are nested more than {MAX_DEPTH} deep in {tree.what}")
        self._head(status, name)
        self._attributes(fd)
        if not stat.S_ISDIR(status.st_mode):
            self._tell(status.st_size)
            while piece := os.read(fd, PIECE):
                self.check_cancelled()
                self.hash.update(piece)
            os.lseek(fd, 0, os.SEEK_SET)
            return
        for base in chosen(tree, fd, path, self.excludes):
            inner = f"{path}/{base}" if path not in ("", ".") else base
            self._one(tree, fd, base, inner, f"{name}/{base}", depth)

    def _one(self, tree: Tree, fd: int, base: str, inner: str, name: str, depth: int) -> None:
        status = os.stat(base, dir_fd=fd, follow_symlinks=False)
        kind = stat.S_IFMT(status.st_mode)
        if kind in (stat.S_IFREG, stat.S_IFDIR):
            flags = (DIRECTORY if kind == stat.S_IFDIR else FILE) | os.O_NOFOLLOW
            below = os.open(base, flags, dir_fd=fd)
            try:
                self.add(tree, below, os.fstat(below), inner, name, depth + 1)
            finally:
                os.close(below)
            return
        self._head(status, name)
        if kind == stat.S_IFLNK:
            self._tell(os.readlink(base, dir_fd=fd))
        else:
            self._tell(status.st_rdev)

    def _attributes(self, fd: int) -> None:
        try:
            keys = sorted(key for key in os.listxattr(fd) if kept(key))
        except OSError:
            return
        for key in keys:
            self._tell(key, os.getxattr(fd, key))


def chosen(tree: Tree, fd: int, path: str, excludes: Ignore) -> list[str]:
    """What of a directory takes part, sorted."""
    names = sorted(os.listdir(fd))
    if not tree.ignore.patterns and not excludes.patterns:
        return names
    here = f"{path}/" if path not in ("", ".") else ""
    return [
        name for name in names if tree.takes_part(here + name) and not excludes.ignored(here + name)
    ]
