"""The caller's stdin, stdout and stderr on trio, without side effects on whoever shares them.

O_NONBLOCK belongs to the open file, which a shell and its other children share: setting it on a
terminal breaks them. So a pipe or terminal is opened a second time (/proc/self/fd), a socket is
used with MSG_DONTWAIT, a file is read as it is, and only what resists all that goes to a thread.
"""

from __future__ import annotations

import errno
import os
import socket
import stat
from types import TracebackType

import trio
from trio.lowlevel import wait_readable, wait_writable

CHUNK = 65536


def _reopen(fd: int, mode: int, flags: int) -> int | None:
    """A non-blocking file description of the same pipe or terminal, or None."""
    if not stat.S_ISFIFO(mode) and not os.isatty(fd):
        return None
    before = os.fstat(fd)
    try:
        again = os.open(f"/proc/self/fd/{fd}", flags | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    except OSError:  # a terminal of another mount namespace or user, a pipe without a reader
        return None
    after = os.fstat(again)
    if (before.st_dev, before.st_ino) != (after.st_dev, after.st_ino) or _is_ptmx(after):
        os.close(again)
        return None
    return again


def _is_ptmx(status: os.stat_result) -> bool:
    """The master side of a pseudo terminal: each open makes a new terminal."""
    return stat.S_ISCHR(status.st_mode) and status.st_rdev == os.makedev(5, 2)


class Stdio:
    """One standard stream; a context manager. One task may read, or one may write."""

    def __init__(self, fd: int, *, write: bool = False) -> None:
        self.fd = fd
        self._own: int | None = None
        self._socket: socket.socket | None = None
        try:
            mode = os.fstat(fd).st_mode
        except OSError:  # closed (`<&-`): reading ends at once, writing fails
            mode = stat.S_IFREG
        if stat.S_ISSOCK(mode):
            self._socket = socket.socket(fileno=os.dup(fd))
        else:
            self._own = _reopen(fd, mode, os.O_WRONLY if write else os.O_RDONLY)
        self._instant = stat.S_ISREG(mode)

    def __enter__(self) -> Stdio:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._own is not None:
            os.close(self._own)
        if self._socket is not None:
            self._socket.close()

    async def read(self, size: int = CHUNK) -> bytes:
        """What there is, at least one byte; empty at the end (also of a terminal that hung up)."""
        try:
            if self._own is not None:
                while True:
                    try:
                        return os.read(self._own, size)
                    except BlockingIOError:
                        await wait_readable(self._own)
            if self._socket is not None:
                while True:
                    try:
                        return self._socket.recv(size, socket.MSG_DONTWAIT)
                    except BlockingIOError:
                        await wait_readable(self._socket)
            if self._instant:
                return os.read(self.fd, size)
            return await trio.to_thread.run_sync(os.read, self.fd, size, abandon_on_cancel=True)
        except OSError as error:
            if error.errno in (errno.EIO, errno.EBADF, errno.ECONNRESET):
                return b""
            raise

    async def write(self, data: bytes | memoryview) -> None:
        """Write all. Errors: BrokenPipeError (nobody reads any more) and other OSErrors."""
        rest = memoryview(data)
        while rest:
            try:
                if self._own is not None:
                    done = os.write(self._own, rest)
                elif self._socket is not None:
                    flags = socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL
                    done = self._socket.send(rest, flags)
                elif self._instant:
                    done = os.write(self.fd, rest)
                else:
                    done = await trio.to_thread.run_sync(
                        os.write, self.fd, rest, abandon_on_cancel=True
                    )
            except BlockingIOError:
                await wait_writable(self._own if self._own is not None else self.fd)
            else:
                rest = rest[done:]
