"""Where the worker that one command has started is found by others: a socket in its directory.

Starting a worker costs more than ten attachments do. So it works for all commands that are there at
the same moment and see the same namespaces, and ends with the last of them: nobody's process waits
for a command that may come. Whoever finds no worker, or loses one, starts another; so a door that
is missing, or leads nowhere, costs time and nothing else.
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import zlib
from collections.abc import Iterator

from tiffin import __version__  # of the code that a worker runs, which need not load `tiffin.hooks`

NAMESPACES = ("mnt", "pid", "user")
HOME = "home"
"""In the directory, the network namespace that is the host to the worker, where it is not ours."""


def name(directory: int) -> str:
    """Of the door to a worker with our view of the machine and our code."""
    numbers = [str(os.stat(f"/proc/self/ns/{kind}").st_ino) for kind in NAMESPACES]
    try:
        network = os.stat(HOME, dir_fd=directory).st_ino
    except FileNotFoundError:
        network = os.stat("/proc/self/ns/net").st_ino
    numbers.insert(0, str(network))
    code = zlib.crc32(f"{__version__} {os.path.abspath(__file__)}".encode())
    return f"worker-{'-'.join(numbers)}-{code:08x}"


def find(run: str) -> socket.socket | None:
    """A connection to a worker that is there, or is being started."""
    try:
        with _opened(run) as directory:
            return _connect(directory)
    except OSError:
        return None


def build(run: str) -> socket.socket | None:
    """A door to a worker that we are about to start: whoever comes from now on waits for it, and
    starts no other. None when there is one already, or none can be made."""
    try:
        with _opened(run) as directory:
            return _build(directory)
    except OSError:
        return None


def _build(directory: int) -> socket.socket | None:
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        listening.setblocking(False)
        try:
            listening.bind(address(directory))
        except OSError as error:
            if error.errno != errno.EADDRINUSE or not _leads_nowhere(directory):
                raise
            with contextlib.suppress(FileNotFoundError):
                os.unlink(name(directory), dir_fd=directory)
            listening.bind(address(directory))
        listening.listen(64)
    except OSError:
        listening.close()
        return None
    return listening


def _leads_nowhere(directory: int) -> bool:
    """True when the worker behind a door was killed."""
    try:
        _connect(directory).close()
    except ConnectionRefusedError:
        return True
    return False


def _connect(directory: int) -> socket.socket:
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    connection.setblocking(False)  # nor do we queue where many do
    try:
        connection.connect(address(directory))
    except OSError:
        connection.close()
        raise
    return connection


@contextlib.contextmanager
def _opened(run: str) -> Iterator[int]:
    directory = os.open(run, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield directory
    finally:
        os.close(directory)


def address(directory: int) -> str:
    """unix(7) takes 107 bytes, and a run directory may have more."""
    return f"/proc/self/fd/{directory}/{name(directory)}"


class Door:
    """The worker's side of what `build` has made, if it has."""

    def __init__(self, run: str, listening: socket.socket | None) -> None:
        self.socket = listening
        self._directory = os.open(run, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        self._file = self._stat()

    def _stat(self) -> tuple[int, int]:
        try:
            found = os.stat(name(self._directory), dir_fd=self._directory)
        except FileNotFoundError:
            return 0, 0
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
                os.unlink(name(self._directory), dir_fd=self._directory)

    def close(self) -> None:
        if self.socket is not None:
            self.socket.close()
            self.socket = None
