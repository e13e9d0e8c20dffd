"""Waiting for files to change without polling: inotify(7), standard library only.

ctypes is imported by this module, so import it only where something is going to be waited for.
"""

from __future__ import annotations

import ctypes
import os
import struct
from types import TracebackType

MODIFY = 0x2
CLOSE_WRITE = 0x8
MOVED_FROM = 0x40
MOVED_TO = 0x80
CREATE = 0x100
DELETE = 0x200
DELETE_SELF = 0x400
MOVE_SELF = 0x800
IGNORED = 0x8000
ONLYDIR = 0x0100_0000

ENTRIES = CREATE | MOVED_TO | MOVED_FROM | DELETE | DELETE_SELF | MOVE_SELF
"""What happens to the names in a directory, and to itself."""

_HEADER = struct.Struct("iIII")
_libc = ctypes.CDLL(None, use_errno=True)


class Inotify:
    """A set of watches; a context manager. `fd` becomes readable when something happened."""

    def __init__(self) -> None:
        self.fd = _libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
        if self.fd < 0:
            number = ctypes.get_errno()
            raise OSError(number, f"inotify: {os.strerror(number)}")

    def __enter__(self) -> Inotify:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        os.close(self.fd)

    def watch(self, path: str, mask: int) -> int:
        """Add a watch and return its number. Errors: FileNotFoundError and other OSErrors."""
        number: int = _libc.inotify_add_watch(self.fd, os.fsencode(path), mask)
        if number < 0:
            code = ctypes.get_errno()
            raise OSError(code, os.strerror(code), path)
        return number

    def forget(self, number: int) -> None:
        """Remove a watch; one that the kernel removed already is no error."""
        _libc.inotify_rm_watch(self.fd, number)

    def events(self) -> list[tuple[int, int, str]]:
        """What has happened since the last call, without waiting: (watch, mask, name)."""
        try:
            data = os.read(self.fd, 65536)
        except BlockingIOError:
            return []
        found = []
        position = 0
        while position < len(data):
            number, mask, _, length = _HEADER.unpack_from(data, position)
            position += _HEADER.size
            name = data[position : position + length].rstrip(b"\0")
            position += length
            found.append((number, mask, os.fsdecode(name)))
        return found

    def wait(self, timeout: float | None = None) -> bool:
        """Sleep until something happened (True) or `timeout` seconds have passed (False)."""
        from select import POLLIN, poll

        poller = poll()
        poller.register(self.fd, POLLIN)
        return bool(poller.poll(None if timeout is None else timeout * 1000))
