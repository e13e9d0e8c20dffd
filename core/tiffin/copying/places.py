"""One end of a copy: a path on this machine, or in a container's root."""

from __future__ import annotations

import os
import stat

from .. import syscalls
from ..errors import NotFound, TiffinError, UserError

DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC | os.O_NONBLOCK


class Place:
    """`root` is a descriptor of the container's root, or None for this machine's."""

    def __init__(self, path: str, *, root: int | None = None, container: str = "") -> None:
        self.path = path
        self.root = root
        self.where = f"in container {container}" if root is not None else "on the host"

    @property
    def ends_in_slash(self) -> bool:
        return self.path.endswith("/")

    @property
    def contents_only(self) -> bool:
        """`DIR/.` (or `.`): what is in the directory, not the directory itself."""
        return self.path == "." or self.path.endswith("/.")

    def open(self, path: str, flags: int) -> int:
        """Follows links, a container's within its root. Error: OSError."""
        if self.root is None:
            return os.open(path or ".", flags | os.O_CLOEXEC)
        return syscalls.open_in_root(self.root, path or "/", flags)

    def find(self) -> tuple[int, os.stat_result]:
        """A descriptor (O_PATH) and what it is. Errors: NotFound, UserError."""
        try:
            fd = self.open(self.path, os.O_PATH)
        except FileNotFoundError:
            raise NotFound(f"no such file or directory {self.where}: {self.path}") from None
        except OSError as error:
            raise UserError(f"{self.path} {self.where}: {error.strerror}") from None
        return fd, os.fstat(fd)

    def base(self, fd: int) -> str:
        """The name that a copy gets: on this machine as it was written, in a container that of
        what a link led to, as with podman."""
        if self.root is not None and os.path.samestat(os.fstat(fd), os.fstat(self.root)):
            return ""
        plain = self.path.rstrip("/") if self.root is None else os.readlink(f"/proc/self/fd/{fd}")
        name = os.path.basename(plain)
        if name in ("", ".", ".."):
            name = os.path.basename(os.path.realpath(plain)) if self.root is None else ""
        return name

    def parent(self) -> tuple[int, str]:
        """A descriptor of the directory in which the path is to be made, and its last component.
        Errors: NotFound when it is not there, UserError."""
        above, _, name = self.path.rstrip("/").rpartition("/")
        if self.ends_in_slash or name in ("", ".", ".."):
            raise NotFound(f"no such directory {self.where}: {self.path}")
        try:
            return self.open(above or ("/" if self.path.startswith("/") else "."), DIRECTORY), name
        except FileNotFoundError:
            raise NotFound(
                f"no such file or directory {self.where}: {self.path}",
                hint="the directory it is to lie in must exist",
            ) from None
        except OSError as error:
            raise UserError(f"{self.path} {self.where}: {error.strerror}") from None


def reopen(fd: int, flags: int) -> int:
    """What an O_PATH descriptor stands for, opened for its contents."""
    return os.open(f"/proc/self/fd/{fd}", flags | os.O_CLOEXEC | os.O_NONBLOCK)


def is_directory(status: os.stat_result) -> bool:
    return stat.S_ISDIR(status.st_mode)


def blame(error: OSError, what: str) -> TiffinError:
    """An error of the file system while copying."""
    from ..errors import StorageFull

    if error.errno in (28, 122):
        return StorageFull(f"{what}: no space left", hint="free some space and try again")
    return UserError(f"{what}: {error.strerror}")
