"""Copying one file or tree: from descriptor to descriptor."""

from __future__ import annotations

import contextlib
import errno
import os
import stat

from .. import syscalls
from ..errors import Conflict, NotFound, UserError
from ..hooks import IdMaps
from ..layer.copies import copy_data
from ..layer.remove import remove_tree
from ..layer.walk import MAX_DEPTH, VANISHED
from ..layer.whiteouts import kept
from ..spec import idmaps
from .places import DIRECTORY, Place, blame, is_directory, reopen

DEEPEST = 250
"""Directories within directories; two descriptors are open, and two calls, for each."""
CAPABILITY = "security.capability"
CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


HOST = IdMaps()
OVERFLOW = 65534


class Rules:
    """How things are made at the destination."""

    def __init__(
        self,
        owner: tuple[int, int] | None,
        *,
        overwrite: bool = False,
        devices: bool = False,
        tame: bool = False,
        mode: int | None = None,
        was: IdMaps = HOST,
        becomes: IdMaps = HOST,
    ) -> None:
        self.owner = owner
        """(uid, gid) of all that is made; None: as at the source."""
        self.overwrite = overwrite
        """Whether a directory may take the place of something else, and the other way round."""
        self.devices = devices
        """Whether device nodes are made; they are never brought to this machine."""
        self.tame = tame
        """Whether files lose set-user-id, set-group-id and capabilities: a container's programs
        must not run with the rights of this machine's root."""
        self.mode = mode
        """Permissions of all that is made; None: as at the source."""
        self.was = was
        """The ids of the container that the source is in, when its files are seen from outside."""
        self.becomes = becomes
        """The same for the destination."""

    def owner_of(self, status: os.stat_result) -> tuple[int, int]:
        """(uid, gid) of what is made from that."""
        if self.owner:
            return self.owner
        return self.from_inside(*inside(self.was, status.st_uid, status.st_gid))

    def from_inside(self, uid: int, gid: int) -> tuple[int, int]:
        """What ids of a container are called where the destination is seen."""
        return outside(self.becomes, uid, gid)


def inside(maps: IdMaps, uid: int, gid: int) -> tuple[int, int]:
    """What owners of a container's files, seen from outside, are called in it. Those of nobody
    there are the kernel's "nobody" (user_namespaces(7))."""
    if not maps.uids:
        return uid, gid
    found = idmaps.to_container(maps.uids, uid), idmaps.to_container(maps.gids, gid)
    return OVERFLOW if found[0] is None else found[0], OVERFLOW if found[1] is None else found[1]


def outside(maps: IdMaps, uid: int, gid: int) -> tuple[int, int]:
    """The other way round. Error: UserError for one that the container does not have."""
    if not maps.uids:
        return uid, gid
    found = idmaps.to_host(maps.uids, uid), idmaps.to_host(maps.gids, gid)
    if found[0] is None or found[1] is None:
        raise UserError(
            f"the container's user namespace has no user {uid}:{gid}",
            hint="copy with --archive, or give it more ids",
        )
    return found[0], found[1]


def copy(source: Place, target: Place, rules: Rules) -> None:
    """`cp SOURCE TARGET` as docker-cp(1) and podman-cp(1) define it.

    Errors: NotFound, Conflict (a directory over a file), UserError, StorageFull.
    """
    found, status = source.find()
    try:
        parent, base = _destination(source, found, status, target)
        try:
            TreeCopy(rules).top(found, status, parent, base, source, target)
        except OSError as error:
            raise blame(error, f"cannot copy {source.path} to {target.path}") from error
        finally:
            os.close(parent)
    finally:
        os.close(found)


def _destination(
    source: Place, found: int, status: os.stat_result, target: Place
) -> tuple[int, str]:
    """(directory, name in it) of what is made; the name is "" when the contents of the source go
    into the directory itself."""
    directory = is_directory(status)
    try:
        there, what = target.find()
    except NotFound:
        return target.parent()
    if is_directory(what):
        fd = reopen(there, DIRECTORY)
        os.close(there)
        return fd, "" if directory and source.contents_only else source.base(found)
    path = os.readlink(f"/proc/self/fd/{there}")
    os.close(there)
    if directory:
        raise Conflict(f"cannot copy the directory {source.path} to a file: {target.path}")
    if target.ends_in_slash:
        raise UserError(f"{target.path} {target.where} is no directory")
    if target.root is None:
        above, base = os.path.split(path)
        return os.open(above, DIRECTORY), base
    return followed(target)


def followed(target: Place) -> tuple[int, str]:
    """The directory and the name of an existing file, a link at the end of the path followed.
    Each step is looked up in the container's root."""
    path = target.path
    for _ in range(40):
        parent, base = Place(path, root=target.root).parent()
        try:
            link = os.readlink(base, dir_fd=parent)
        except OSError:
            return parent, base
        os.close(parent)
        path = link if link.startswith("/") else f"{os.path.dirname(path)}/{link}"
    raise UserError(f"{target.path} {target.where}: too many links")


class TreeCopy:
    def __init__(self, rules: Rules) -> None:
        self.rules = rules

    def top(
        self,
        found: int,
        status: os.stat_result,
        parent: int,
        base: str,
        source: Place,
        target: Place,
    ) -> None:
        if is_directory(status):
            opened = reopen(found, DIRECTORY)
            try:
                if self._inside(opened, parent):
                    raise UserError(f"cannot copy {source.path} into itself: {target.path}")
                if base:
                    self.directory(opened, status, parent, base, 0)
                else:
                    self.contents(opened, parent, 0)
            finally:
                os.close(opened)
        elif stat.S_ISREG(status.st_mode):
            opened = reopen(found, os.O_RDONLY)
            try:
                self.file(opened, status, parent, base)
            finally:
                os.close(opened)
        else:
            self.special(None, "", status, parent, base)

    @staticmethod
    def _inside(directory: int, below: int) -> bool:
        """Whether `below` is `directory` or lies in it."""
        wanted = os.fstat(directory)
        fd = os.dup(below)
        try:
            for _ in range(MAX_DEPTH):
                here = os.fstat(fd)
                if (here.st_dev, here.st_ino) == (wanted.st_dev, wanted.st_ino):
                    return True
                above = os.open("..", os.O_PATH | os.O_DIRECTORY, dir_fd=fd)
                os.close(fd)
                fd = above
                if os.path.samestat(here, os.fstat(fd)):
                    return False
            return False
        finally:
            os.close(fd)

    def names(self, source: int) -> list[str]:
        """What of a directory is copied."""
        return sorted(os.listdir(source))

    def contents(self, source: int, target: int, depth: int) -> None:
        """Everything that is in a directory, into another."""
        if depth > DEEPEST:
            raise UserError(f"directories are nested more than {DEEPEST} deep")
        for base in self.names(source):
            try:
                status = os.stat(base, dir_fd=source, follow_symlinks=False)
                if is_directory(status):
                    fd = os.open(base, DIRECTORY | os.O_NOFOLLOW, dir_fd=source)
                elif stat.S_ISREG(status.st_mode):
                    fd = syscalls.open_file(base, source)
                else:
                    self.special(source, base, status, target, base)
                    continue
            except OSError as error:
                if error.errno in VANISHED:
                    continue
                raise
            try:
                # What was opened counts: it may have been replaced since we looked.
                status = os.fstat(fd)
                if is_directory(status):
                    self.directory(fd, status, target, base, depth + 1)
                elif stat.S_ISREG(status.st_mode):
                    self.file(fd, status, target, base)
            finally:
                os.close(fd)

    def directory(
        self, source: int, status: os.stat_result, parent: int, base: str, depth: int
    ) -> None:
        """One that is there already stays, and gets what the source has."""
        try:
            os.mkdir(base, 0o700, dir_fd=parent)
        except FileExistsError:
            there = os.stat(base, dir_fd=parent, follow_symlinks=False)
            if not is_directory(there):
                self._make_room(parent, base, there, directory=True)
                os.mkdir(base, 0o700, dir_fd=parent)
        fd = os.open(base, DIRECTORY | os.O_NOFOLLOW, dir_fd=parent)
        try:
            if os.path.samestat(os.fstat(fd), status):
                return  # onto itself
            self.contents(source, fd, depth)
            self._metadata(source, fd, status)
        finally:
            os.close(fd)

    def file(self, source: int, status: os.stat_result, parent: int, base: str) -> None:
        with contextlib.suppress(FileNotFoundError):
            there = os.stat(base, dir_fd=parent, follow_symlinks=False)
            if os.path.samestat(there, status):
                return  # onto itself
            try:
                self._make_room(parent, base, there, directory=False)
            except OSError as error:
                if error.errno != errno.EBUSY or not stat.S_ISREG(there.st_mode):
                    raise
                self._in_place(source, status, parent, base)
                return
        fd = os.open(base, CREATE, 0o600, dir_fd=parent)
        try:
            copy_data(source, fd, status.st_size)
            self._metadata(source, fd, status)
        except BaseException:  # a cancellation as well; raised again
            with contextlib.suppress(OSError):
                os.unlink(base, dir_fd=parent)
            raise
        finally:
            os.close(fd)

    def _in_place(self, source: int, status: os.stat_result, parent: int, base: str) -> None:
        """Something is mounted on the file (a bind mount): only its contents can be replaced."""
        fd = syscalls.open_file(base, parent, os.O_WRONLY | os.O_TRUNC)
        try:
            copy_data(source, fd, status.st_size)
        finally:
            os.close(fd)

    def special(
        self, source: int | None, name: str, status: os.stat_result, parent: int, base: str
    ) -> None:
        """Links, pipes and devices. Sockets are left out."""
        mode = status.st_mode
        device = stat.S_ISCHR(mode) or stat.S_ISBLK(mode)
        if stat.S_ISSOCK(mode) or (device and not self.rules.devices):
            return
        try:
            link = os.readlink(name, dir_fd=source) if stat.S_ISLNK(mode) else ""
        except OSError:
            return  # something else by now
        with contextlib.suppress(FileNotFoundError):
            there = os.stat(base, dir_fd=parent, follow_symlinks=False)
            if os.path.samestat(there, status):
                return  # onto itself
            self._make_room(parent, base, there, directory=False)
        if link:
            os.symlink(link, base, dir_fd=parent)
        else:
            number = status.st_rdev if device else 0
            os.mknod(base, stat.S_IFMT(mode) | stat.S_IMODE(mode), number, dir_fd=parent)
        uid, gid = self.rules.owner_of(status)
        os.chown(base, uid, gid, dir_fd=parent, follow_symlinks=False)
        times = (status.st_mtime_ns, status.st_mtime_ns)
        os.utime(base, ns=times, dir_fd=parent, follow_symlinks=False)

    def _make_room(self, parent: int, base: str, there: os.stat_result, *, directory: bool) -> None:
        """Take away what lies where something of the other or the same kind is to be made."""
        if is_directory(there) != directory and not self.rules.overwrite:
            kinds = ("a directory", "something that is none")
            new, old = kinds if directory else kinds[::-1]
            raise Conflict(
                f"cannot put {new} in the place of {old}: {base}", hint="--overwrite allows it"
            )
        remove_tree(base, dir_fd=parent)

    def _metadata(self, source: int, fd: int, status: os.stat_result) -> None:
        uid, gid = self.rules.owner_of(status)
        os.fchown(fd, uid, gid)
        mode = stat.S_IMODE(status.st_mode) if self.rules.mode is None else self.rules.mode
        if self.rules.tame:
            mode &= ~(stat.S_ISUID | (0 if is_directory(status) else stat.S_ISGID))
        os.fchmod(fd, mode)  # after chown, which clears set-user-id
        with contextlib.suppress(OSError):  # not every file system has attributes
            for key in os.listxattr(source):
                if kept(key) and not (self.rules.tame and key == CAPABILITY):
                    os.setxattr(fd, key, os.getxattr(source, key))
        os.utime(fd, ns=(status.st_mtime_ns, status.st_mtime_ns))
