"""What a container has changed: from overlayfs's upper directory, or by comparing two trees."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Sequence

from .. import syscalls
from ..hooks import Change
from .pack import is_opaque, writing
from .walk import Item, open_tree, walk
from .whiteouts import is_whiteout, kept

Owners = Callable[[int, int], tuple[int, int]]


def _order(path: str) -> list[bytes]:
    """Sorts as `walk` does: a directory directly before what is in it."""
    return os.fsencode(path).split(b"/")


def _result(found: dict[str, str]) -> list[Change]:
    return [Change(found[path], f"/{path}") for path in sorted(found, key=_order)]


# --- overlayfs ------------------------------------------------------------------------------------


def changes(upper: str, lowers: Sequence[str]) -> list[Change]:
    """What an upper directory changes over `lowers` (lowest first), sorted by path."""
    found: dict[str, str] = {}
    root = open_tree(upper)
    layers: list[int] = []
    try:
        for lower in reversed(lowers):
            layers.append(open_tree(lower))
        below: dict[str, Sequence[int]] = {"": layers}
        """For each directory of `upper`: the layers that have it too, highest first."""
        hidden: set[str] = set()
        """Directories through which they do not show: opaque ones, and all in those."""
        for item in walk(root):
            above = item.path.rpartition("/")[0]
            if item.is_whiteout:
                found[item.path] = "D"
                continue
            exists, through = _look(below.get(above, ()), item.path)
            found[item.path] = "C" if exists else "A"
            if item.is_directory:
                below[item.path] = through
                if above in hidden or _is_opaque(item):
                    hidden.add(item.path)
                    own = set(_names(item.dirfd, item.base))
                    for name in _merged(through, item.path) - own:
                        found[f"{item.path}/{name}"] = "D"
    finally:
        os.close(root)
        for fd in layers:
            os.close(fd)
    return _result(found)


def _look(layers: Sequence[int], path: str) -> tuple[bool, list[int]]:
    """Whether `path` shows through from these layers, and from which of them if it is a directory
    (overlayfs.rst: a whiteout, a file or an opaque directory hides what is below it)."""
    through: list[int] = []
    for layer in layers:
        try:
            fd = syscalls.open_in_root(layer, path, os.O_PATH | os.O_NOFOLLOW)
        except OSError:
            continue
        try:
            status = os.fstat(fd)
        finally:
            os.close(fd)
        if is_whiteout(status):
            break
        if not stat.S_ISDIR(status.st_mode):
            return True, through
        through.append(layer)
        fd = syscalls.open_in_root(layer, path, os.O_RDONLY | os.O_DIRECTORY)
        try:
            if is_opaque(fd):
                break
        finally:
            os.close(fd)
    return bool(through), through


def _merged(layers: Sequence[int], path: str) -> set[str]:
    """Names in a directory as the layers together show it."""
    names: set[str] = set()
    for layer in reversed(layers):
        fd = syscalls.open_in_root(layer, path, os.O_RDONLY | os.O_DIRECTORY)
        try:
            for name in os.listdir(fd):
                if is_whiteout(os.stat(name, dir_fd=fd, follow_symlinks=False)):
                    names.discard(name)
                else:
                    names.add(name)
        finally:
            os.close(fd)
    return names


def _is_opaque(item: Item) -> bool:
    try:
        fd = item.open_directory()
    except OSError:
        return False
    try:
        return is_opaque(fd)
    finally:
        os.close(fd)


def _names(dirfd: int, base: str) -> list[str]:
    try:
        fd = os.open(base, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=dirfd)
    except OSError:
        return []
    try:
        return os.listdir(fd)
    finally:
        os.close(fd)


# --- two trees ------------------------------------------------------------------------------------


def _compare(
    lower: int, upper: int, since: int | None, owners: tuple[Owners, Owners] | None = None
) -> dict[str, str]:
    """Path to kind (as in hooks.Change) of each difference. The directories that a change is in
    count as changed, as they do with overlayfs: a layer must name them, or whoever unpacks it has
    to guess their mode."""
    found = _different(lower, upper, since, owners)
    for path in list(found):
        while path := path.rpartition("/")[0]:
            found.setdefault(path, "C")
    return found


def _different(
    lower: int, upper: int, since: int | None, owners: tuple[Owners, Owners] | None = None
) -> dict[str, str]:
    """The same without those directories."""
    old = {item.path: item.stat for item in walk(lower)}
    found: dict[str, str] = {}
    kept_directories = {""}
    """Directories in both trees: only in them can a deletion be named."""
    seen: set[str] = set()
    for item in walk(upper):
        seen.add(item.path)
        before = old.get(item.path)
        if before is None:
            if not stat.S_ISSOCK(item.stat.st_mode):
                found[item.path] = "A"
            continue
        if item.is_directory and stat.S_ISDIR(before.st_mode):
            kept_directories.add(item.path)
        if not _same(lower, before, item, since, owners):
            found[item.path] = "C"
    for path in old:
        if path not in seen and path.rpartition("/")[0] in kept_directories:
            found[path] = "D"
    return found


def _same(
    lower: int,
    old: os.stat_result,
    item: Item,
    since: int | None,
    owners: tuple[Owners, Owners] | None,
) -> bool:
    """Nothing that a layer records differs. What has not been touched `since` (ns; None: always)
    is judged by its metadata alone; else contents and attributes are read."""
    new = item.stat
    was, now = (old.st_uid, old.st_gid), (new.st_uid, new.st_gid)
    if owners is not None:
        was, now = owners[0](*was), owners[1](*now)
    if (old.st_mode, *was) != (new.st_mode, *now):
        return False
    directory = stat.S_ISDIR(new.st_mode)
    if not directory:
        before = (old.st_size, old.st_mtime_ns, old.st_rdev)
        if before != (new.st_size, new.st_mtime_ns, new.st_rdev):
            return False
    if since is not None and new.st_ctime_ns < since:
        return True
    if stat.S_ISLNK(new.st_mode):
        above, _, base = item.path.rpartition("/")
        fd = syscalls.open_in_root(lower, above or ".", os.O_RDONLY | os.O_DIRECTORY)
        try:
            return os.readlink(base, dir_fd=fd) == os.readlink(item.base, dir_fd=item.dirfd)
        finally:
            os.close(fd)
    if not (directory or stat.S_ISREG(new.st_mode)):
        return True
    return _same_inside(lower, item)


def _same_inside(lower: int, item: Item) -> bool:
    one = syscalls.open_in_root(lower, item.path, os.O_RDONLY | os.O_NOFOLLOW)
    try:
        try:
            other = item.open_directory() if item.is_directory else item.open_file()
        except OSError:
            return False
        try:
            if _attributes(one) != _attributes(other):
                return False
            if item.is_directory:
                return True
            while True:
                left, right = os.read(one, 1 << 20), os.read(other, 1 << 20)
                if left != right:
                    return False
                if not left:
                    return True
        finally:
            os.close(other)
    finally:
        os.close(one)


def _attributes(fd: int) -> dict[str, bytes]:
    try:
        return {key: os.getxattr(fd, key) for key in os.listxattr(fd) if kept(key)}
    except OSError:
        return {}


def tree_changes(
    lower: str, upper: str, since: int | None = None, owners: tuple[Owners, Owners] | None = None
) -> list[Change]:
    """What differs between two whole trees, sorted by path. `since`: the time (ns) at which
    `upper` was a faithful copy of `lower`; files not touched later need not be read. `owners`: what
    the owners of files in the two are called, where it is not what they are here."""
    old, new = open_tree(lower), open_tree(upper)
    try:
        return _result(_compare(old, new, since, owners))
    finally:
        os.close(old)
        os.close(new)


def differences(fresh: str, kept: str) -> list[str]:
    """Absolute paths of all in which an unpacked layer differs from the same one unpacked again
    (but for whiteouts' times, which no layer records)."""
    one, other = open_tree(fresh), open_tree(kept)
    try:
        found = _different(one, other, None)
        hidden = [{item.path for item in walk(fd) if item.is_whiteout} for fd in (one, other)]
    finally:
        os.close(one)
        os.close(other)
    alike = {path for path in hidden[0] & hidden[1] if found.get(path) == "C"}
    return [f"/{path}" for path in sorted(found.keys() - alike, key=_order)]


def write_tree_diff(lower: str, upper: str, target: str, since: int | None = None) -> None:
    """The difference of two whole trees as a layer; `since` as in `tree_changes`."""
    old, new = open_tree(lower), open_tree(upper)
    try:
        found = _compare(old, new, since)
        gone: dict[str, list[str]] = {}
        for path in sorted(found, key=_order):
            if found[path] == "D":
                gone.setdefault(path.rpartition("/")[0], []).append(path)
        before, after = os.fstat(old), os.fstat(new)
        with writing(target) as packer:
            if (before.st_mode, before.st_uid, before.st_gid) != (
                after.st_mode,
                after.st_uid,
                after.st_gid,
            ):
                packer.add_root(new)
            for path in gone.get("", ()):
                packer.whiteout(path)
            for item in walk(new):
                if found.get(item.path, "D") == "D":
                    continue
                packer.add(item)
                for path in gone.get(item.path, ()):
                    packer.whiteout(path)
    finally:
        os.close(old)
        os.close(new)
