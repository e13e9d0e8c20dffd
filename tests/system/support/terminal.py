"""A person at a terminal: a command on a pseudo terminal, typed into and read."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import select
import struct
import subprocess
import termios
import time
from collections.abc import Iterator, Sequence
from signal import SIGWINCH

from .cli import PATIENCE


class Terminal:
    def __init__(self, argv: Sequence[str], env: dict[str, str], rows: int, columns: int) -> None:
        self.fd, theirs = pty.openpty()
        self.seen = b""
        self._size(rows, columns)
        self.process = subprocess.Popen(
            argv, stdin=theirs, stdout=theirs, stderr=theirs, env=env, start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
        )  # fmt: skip
        self._theirs = theirs

    def _size(self, rows: int, columns: int) -> None:
        fcntl.ioctl(self.fd, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def resize(self, rows: int, columns: int) -> None:
        self._size(rows, columns)
        self.process.send_signal(SIGWINCH)

    def type(self, text: str | bytes) -> None:
        os.write(self.fd, text.encode() if isinstance(text, str) else text)

    def _readable(self, seconds: float) -> bool:
        poll = select.poll()  # select(2) takes no descriptor above 1023
        poll.register(self.fd, select.POLLIN)
        return bool(poll.poll(seconds * 1000))

    def expect(self, text: str, seconds: float = 15) -> str:
        """Read until `text` has been seen since the last call; returns what came before it."""
        wanted = text.encode()
        end = time.monotonic() + seconds * PATIENCE
        while wanted not in self.seen:
            left = end - time.monotonic()
            assert left > 0, f"{text!r} did not come, but {self.seen!r}"
            if self._readable(left):
                self.seen += os.read(self.fd, 65536)
        before, _, self.seen = self.seen.partition(wanted)
        return before.decode(errors="replace")

    def rest(self) -> str:
        """All that comes until the command has ended."""
        while True:
            ended = self.process.poll() is not None
            if self._readable(0.1):
                self.seen += os.read(self.fd, 65536)
            elif ended:
                break
        seen, self.seen = self.seen, b""
        return seen.decode(errors="replace")

    def wait(self, seconds: float = 15) -> int:
        return self.process.wait(seconds * PATIENCE)

    def unread(self) -> bool:
        """Whether something typed waits for whoever reads the terminal next."""
        poll = select.poll()
        poll.register(self._theirs, select.POLLIN)
        return bool(poll.poll(0))

    def is_raw(self) -> bool:
        local: int = termios.tcgetattr(self._theirs)[3]
        return not local & (termios.ECHO | termios.ICANON)


@contextlib.contextmanager
def terminal(
    argv: Sequence[str], env: dict[str, str], rows: int = 33, columns: int = 99
) -> Iterator[Terminal]:
    made = Terminal(argv, env, rows, columns)
    try:
        yield made
    finally:
        if made.process.poll() is None:
            made.process.kill()
            made.process.wait()
        os.close(made.fd)
        os.close(made._theirs)
