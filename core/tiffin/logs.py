"""Reading a container's log, as conmon writes it (k8s-file). Reads only; standard library only.

A line of the file is a record: `TIME STREAM TAG TEXT`, TIME as RFC 3339 with nanoseconds, STREAM
`stdout` or `stderr`, TAG `F` when the text ends a line of output and `P` when the line goes on in
the next record of that stream.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, BinaryIO, NamedTuple

from .errors import DriverError
from .units import SECOND, parse_rfc3339

if TYPE_CHECKING:
    from . import inotify

BLOCK = 65536


class Record(NamedTuple):
    """A piece of output."""

    time: int
    """Nanoseconds since 1970."""
    stream: str
    """`stdout` or `stderr`."""
    partial: bool
    """The line goes on: do not end it."""
    data: bytes
    """Without the newline that ends a record which is not partial. Any bytes."""


class _Clock:
    """Parses times; most records are of the same second as the one before."""

    def __init__(self) -> None:
        self._second = b""
        self._offset = b""
        self._base = 0

    def parse(self, text: bytes) -> int:
        """Nanoseconds. Error: ValueError."""
        second, offset = text[:19], text[29:]
        if len(text) > 29 and text[19:20] == b"." and text[20:29].isdigit():
            if second != self._second or offset != self._offset:
                self._base = parse_rfc3339((second + offset).decode("ascii"))
                self._second, self._offset = second, offset
            return self._base + int(text[20:29])
        return parse_rfc3339(text.decode("ascii"))


_STREAMS = {b"stdout": "stdout", b"stderr": "stderr"}


def parse(line: bytes, clock: _Clock | None = None) -> Record | None:
    """A record without its newline; `None` when it is none (a damaged log)."""
    fields = line.split(b" ", 3)
    if len(fields) != 4 or fields[1] not in _STREAMS or fields[2][:1] not in (b"F", b"P"):
        return None
    try:
        time = (clock or _Clock()).parse(fields[0])
    except ValueError:
        return None
    return Record(time, _STREAMS[fields[1]], fields[2][:1] == b"P", fields[3])


def _tail_offset(file: BinaryIO, lines: int) -> int:
    """Where the last `lines` lines of output begin. Read backwards, in blocks.

    An unfinished line at the end counts. Pieces of a line that are mixed with the end of an
    earlier line of the other stream may be left out.
    """
    position = file.seek(0, os.SEEK_END)
    if lines <= 0:
        return position
    rest = b""
    found = 0
    end = True
    while position:
        size = min(BLOCK, position)
        position -= size
        file.seek(position)
        block = file.read(size) + rest
        starts = block.split(b"\n")
        # The first piece may begin in an earlier block: it is looked at together with that one.
        rest = starts[0]
        offset = position + len(block)
        for piece in reversed(starts[1:]):
            offset -= len(piece)
            if piece:
                fields = piece.split(b" ", 3)
                partial = len(fields) == 4 and fields[2][:1] == b"P"
                if not partial or end:
                    if found == lines:
                        return offset + len(piece) + 1
                    found += 1
                end = False
            offset -= 1
    if rest and found == lines:
        fields = rest.split(b" ", 3)
        if not (len(fields) == 4 and fields[2][:1] == b"P"):
            return len(rest) + 1
    return 0


def _open(path: str) -> BinaryIO | None:
    try:
        return open(path, "rb", buffering=BLOCK)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise DriverError(f"cannot read the log {path}: {error.strerror}") from None


class _Log:
    """An open log file, read record by record, however it is cut or replaced meanwhile."""

    def __init__(self, path: str, tail: int | None) -> None:
        self.path = path
        self.file = _open(path)
        self._clock = _Clock()
        self._rest = b""
        if self.file is not None and tail is not None:
            self.file.seek(_tail_offset(self.file, tail))

    def close(self) -> None:
        if self.file is not None:
            self.file.close()

    def records(self) -> Iterator[Record]:
        """What has been written since the last call. A record that is not finished waits."""
        if self.file is None:
            return
        while block := self.file.read(BLOCK):
            pieces = (self._rest + block).split(b"\n")
            self._rest = pieces.pop()
            for piece in pieces:
                if record := parse(piece, self._clock):
                    yield record

    def last(self) -> Iterator[Record]:
        """The record at the very end that lacks its newline: nobody will finish it."""
        if self._rest and (record := parse(self._rest, self._clock)):
            yield record
        self._rest = b""

    def changed(self) -> bool:
        """True when there is another file of this name, or the file was cut: it is read from its
        beginning from now on."""
        if self.file is not None:
            here = os.fstat(self.file.fileno())
            if here.st_size < self.file.tell():
                self.file.seek(0)
                self._rest = b""
                return True
            with contextlib.suppress(FileNotFoundError):
                there = os.stat(self.path)
                if (here.st_dev, here.st_ino) == (there.st_dev, there.st_ino):
                    return False
        new = _open(self.path)
        if new is None:
            return False
        self.close()
        self.file = new
        self._rest = b""
        return True


def read(
    path: str,
    *,
    tail: int | None = None,
    since: int | None = None,
    until: int | None = None,
    follow: bool = False,
    stop: str | Callable[[], bool] = "",
    wake: str = "",
) -> Iterator[Record]:
    """The records of a log, in order.

    `tail`: only the last lines, found from the end of the file. `since` and `until` are in
    nanoseconds since 1970. With `follow`, wait for more without using the CPU, until `until` has
    passed or `stop` says so: the path of the exit file that conmon leaves, or a function; a
    function is asked whenever the log, or a file in the directory `wake`, has changed. When it is
    so, all that is in the log has been given. A log that does not exist is empty.
    Errors: DriverError.
    """
    log = _Log(path, tail)
    try:
        if follow:
            yield from _follow(log, since, until, stop, wake)
        else:
            yield from chosen(log.records(), since, until)
            yield from chosen(log.last(), since, until)
    finally:
        log.close()


def chosen(records: Iterator[Record], since: int | None, until: int | None) -> Iterator[Record]:
    """Those between two times, in nanoseconds since 1970."""
    for record in records:
        if since is not None and record.time < since:
            continue
        if until is not None and record.time > until:
            continue
        yield record


def _follow(
    log: _Log,
    since: int | None,
    until: int | None,
    stop: str | Callable[[], bool],
    wake: str,
) -> Iterator[Record]:
    from time import time_ns

    from . import inotify  # ctypes

    if isinstance(stop, str):
        exit_file = stop
        wake = wake or os.path.dirname(exit_file)

        def ended() -> bool:
            # A run directory that is gone (a reboot, a clean-up) tells the same as an exit file.
            return bool(exit_file) and (os.path.exists(exit_file) or not os.path.isdir(wake))
    else:
        ended = stop

    # A commit counts a moment after it is written; the writer's end is seen for certain.
    written = inotify.MODIFY | inotify.CLOSE_WRITE
    with inotify.Inotify() as watcher:
        directory = os.path.dirname(log.path) or "."
        for folder, mask in ((directory, 0), (wake, written)):
            with contextlib.suppress(FileNotFoundError):
                if folder:
                    watcher.watch(folder, inotify.ENTRIES | mask)
        watched = _watch(watcher, log, None)
        while True:
            # First whether it is over, then what there is: then nothing can come in between.
            over = ended() or not os.path.isdir(directory)
            over = over or (until is not None and time_ns() > until)
            yield from chosen(log.records(), since, until)
            while log.changed():
                watched = _watch(watcher, log, watched)
                yield from chosen(log.records(), since, until)
            if over:
                yield from chosen(log.last(), since, until)
                return
            left = None if until is None else max(0.0, (until - time_ns()) / SECOND) + 0.001
            watcher.wait(left)
            watcher.events()


def _watch(watcher: inotify.Inotify, log: _Log, before: int | None) -> int | None:
    """Watch the log file that is open now; writes to it are not seen through its directory's watch
    when it is renamed."""
    from . import inotify

    if log.file is None:
        return None
    with contextlib.suppress(OSError):
        number = watcher.watch(f"/proc/self/fd/{log.file.fileno()}", inotify.MODIFY)
        if before is not None and before != number:
            watcher.forget(before)
        return number
    return None
