"""Where the worker that one command has started is found by others: a socket in its directory.

Starting a worker costs more than ten attachments do. So it works for all commands that are there at
the same moment and see the same namespaces, and ends with the last of them: nobody's process waits
for a command that may come. Whoever finds no worker, or loses one, starts another; so a door that
is missing, or leads nowhere, costs time and nothing else.
"""

from __future__ import annotations

import contextlib
import os
import socket
import zlib

from tiffin import __version__  # of the code that a worker runs, which need not load `tiffin.hooks`

NAMESPACES = ("net", "mnt", "pid", "user")


def name() -> str:
    """Of the door to a worker with our view of the machine and our code."""
    numbers = [str(os.stat(f"/proc/self/ns/{kind}").st_ino) for kind in NAMESPACES]
    code = zlib.crc32(f"{__version__} {os.path.abspath(__file__)}".encode())
    return f"worker-{'-'.join(numbers)}-{code:08x}"


def find(run: str) -> socket.socket | None:
    """A connection to a worker that is there."""
    try:
        directory = os.open(run, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError:
        return None
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    connection.setblocking(False)  # nor do we queue where many do
    try:
        connection.connect(address(directory))
    except OSError:
        connection.close()
        return None
    finally:
        os.close(directory)
    return connection


def address(directory: int) -> str:
    """unix(7) takes 107 bytes, and a run directory may have more."""
    return f"/proc/self/fd/{directory}/{name()}"


class Door:
    """The worker's side."""

    def __init__(self, run: str) -> None:
        self.socket: socket.socket | None = None
        self._directory = os.open(run, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        with contextlib.suppress(OSError):
            self._open(run)

    def _open(self, run: str) -> None:
        other = find(run)
        if other is not None:
            other.close()
            return
        with contextlib.suppress(FileNotFoundError):  # of a worker that was killed
            os.unlink(name(), dir_fd=self._directory)
        listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        listening.setblocking(False)
        listening.bind(address(self._directory))
        listening.listen(64)
        self._file = self._stat()
        self.socket = listening

    def _stat(self) -> tuple[int, int]:
        found = os.stat(name(), dir_fd=self._directory)
        return found.st_dev, found.st_ino

    def accept(self) -> socket.socket | None:
        if self.socket is None:
            return None
        try:
            connection, _ = self.socket.accept()
        except BlockingIOError:
            return None
        except OSError:  # too many files: whoever was not let in starts another worker
            self.remove()
            self.close()
            return None
        connection.setblocking(False)
        return connection

    def remove(self) -> None:
        """Nobody is to come any more; `accept` may still have somebody."""
        with contextlib.suppress(OSError):
            if self.socket is not None and self._stat() == self._file:
                os.unlink(name(), dir_fd=self._directory)

    def close(self) -> None:
        if self.socket is not None:
            self.socket.close()
            self.socket = None
