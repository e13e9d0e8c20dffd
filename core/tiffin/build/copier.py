"""COPY and ADD: what was selected, into a container's root.

Every directory is reached with the container's root as root directory (openat2(2),
RESOLVE_IN_ROOT), or from descriptor to descriptor: whatever links the image has, nothing is made
outside.
"""

from __future__ import annotations

import contextlib
import os
import posixpath
import stat
from collections.abc import Iterator, Sequence
from io import BufferedReader

from .. import decompress, syscalls
from ..copying.places import Place, is_directory
from ..copying.streams import Unpacker
from ..copying.tree import Rules, TreeCopy, followed
from ..dockerfile.ignore import Ignore
from ..errors import ImageError, TiffinError, UserError
from ..layer.stream import LayerStream, Limits
from ..layer.tar import entries
from .context import DIRECTORY, Item, chosen

LOOP = 40


class ContextCopy(TreeCopy):
    """Leaves out what is ignored, and follows a link of the image to a directory where the source
    has a directory: `lib` of a merged `/usr` stays a link."""

    def __init__(self, rules: Rules, root: int, item: Item, excludes: Ignore) -> None:
        super().__init__(rules)
        self.root = root
        self.item = item
        self.excludes = excludes
        self.below: list[str] = []
        """Names that lead from the source to where we are."""
        self.target: list[str] = []

    def names(self, source: int) -> list[str]:
        top = [] if self.item.path in ("", ".") else [self.item.path]
        return chosen(self.item.tree, source, "/".join([*top, *self.below]), self.excludes)

    def directory(
        self, source: int, status: os.stat_result, parent: int, base: str, depth: int
    ) -> None:
        self.below.append(base)
        self.target.append(base)
        try:
            linked = self._linked(parent, base)
            if linked < 0:
                super().directory(source, status, parent, base, depth)
                return
            try:
                self.contents(source, linked, depth)
            finally:
                os.close(linked)
        finally:
            self.below.pop()
            self.target.pop()

    def _linked(self, parent: int, base: str) -> int:
        """The directory that a link in the image's place leads to, or -1."""
        try:
            there = os.stat(base, dir_fd=parent, follow_symlinks=False)
            if stat.S_ISLNK(there.st_mode):
                return syscalls.open_in_root(self.root, "/".join(self.target), DIRECTORY)
        except OSError:
            return -1
        return -1


def make_directories(root: int, path: str, owner: tuple[int, int] = (0, 0)) -> int:
    """A descriptor of a directory in a container, with what is missing above it made, 0755.
    Error: UserError where there is something else."""
    current = "/"
    fd = os.open(f"/proc/self/fd/{root}", DIRECTORY)
    for part in filter(None, posixpath.normpath(path).split("/")):
        current = posixpath.join(current, part)
        try:
            try:
                below = syscalls.open_in_root(root, current, DIRECTORY)
            except FileNotFoundError:
                _make(root, fd, part, current, owner)
                below = syscalls.open_in_root(root, current, DIRECTORY)
        except OSError as error:
            raise UserError(f"{current} in the image: {error.strerror}") from None
        finally:
            os.close(fd)
        fd = below
    return fd


def _make(root: int, parent: int, base: str, path: str, owner: tuple[int, int]) -> None:
    try:
        os.mkdir(base, 0o755, dir_fd=parent)
    except FileExistsError:
        # A link to nowhere: what it means is made, within the root.
        link = os.readlink(base, dir_fd=parent)
        meant = posixpath.normpath(posixpath.join(posixpath.dirname(path), link))
        if meant == path:
            raise
        os.close(make_directories(root, meant, owner))
        return
    fd = os.open(base, DIRECTORY | os.O_NOFOLLOW, dir_fd=parent)
    try:
        os.fchown(fd, *owner)
        os.fchmod(fd, 0o755)
    finally:
        os.close(fd)


def copy(
    root: int,
    items: Sequence[Item],
    target: str,
    rules: Rules,
    *,
    excludes: Sequence[str] = (),
) -> None:
    """Bring all items to `target`, an absolute path that ends in `/` when it must be a directory.
    Errors: UserError, Conflict, StorageFull."""
    owner = rules.owner or (0, 0)
    several = len(items) > 1 or target.endswith("/")
    for item in items:
        if item.is_directory:
            with _open(make_directories(root, target, owner)) as directory:
                copier = ContextCopy(rules, root, item, Ignore(excludes))
                copier.target = [part for part in target.split("/") if part]
                copier.contents(item.fd, directory, 0)
        elif item.unpack and (how := archive(item.fd)):
            with _open(make_directories(root, target, owner)) as directory:
                _unpack(item, how, directory, rules)
        else:
            parent, base = _place(root, item, target, several, owner)
            with _open(parent):
                TreeCopy(rules).file(item.fd, item.status, parent, base)


@contextlib.contextmanager
def _open(fd: int) -> Iterator[int]:
    try:
        yield fd
    finally:
        os.close(fd)


def _place(
    root: int, item: Item, target: str, into: bool, owner: tuple[int, int]
) -> tuple[int, str]:
    """(directory, name) of a file that is copied."""
    if not into:
        try:
            fd = syscalls.open_in_root(root, target, os.O_PATH)
        except FileNotFoundError:
            above, base = posixpath.split(target)
            return make_directories(root, above, owner), base
        except OSError as error:
            raise UserError(f"{target} in the image: {error.strerror}") from None
        with _open(fd):
            if not is_directory(os.fstat(fd)):
                return followed(Place(target, root=root))
    return make_directories(root, target, owner), item.name


def archive(fd: int) -> str:
    """How a file is compressed that holds a tar (`none`, `gzip`, ...); empty for any other."""
    with open(os.dup(fd), "rb") as file:
        try:
            how = decompress.peek(file)
            stream = LayerStream(decompress.unpack(file, how))
            first = next(entries(stream, Limits()), None) if not stream.at_end() else None
        except TiffinError:
            first = None
        finally:
            os.lseek(fd, 0, os.SEEK_SET)
    return how if first is not None else ""


def _unpack(item: Item, how: str, directory: int, rules: Rules) -> None:
    with open(os.dup(item.fd), "rb") as file:
        unpack_stream(file, how, directory, rules, item.path)


def unpack_stream(file: BufferedReader, how: str, directory: int, rules: Rules, what: str) -> None:
    """A tar into a directory; links in it end within that directory."""
    try:
        stream = LayerStream(decompress.unpack(file, how))
        Unpacker(directory, rules).run(stream)
        stream.drain()
    except ImageError as error:
        why = error.what.removeprefix("layer ").removeprefix("archive ")
        raise UserError(f"{what} is no good archive: it {why}") from None
