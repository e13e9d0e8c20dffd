"""Reading a container's log from systemd's journal, where conmon writes it with `--log-driver
journald`. Reads only, through journalctl; standard library only.

An entry is a record: MESSAGE is the text, PRIORITY says which stream (conmon: 6 stdout, 3 stderr),
CONTAINER_PARTIAL_MESSAGE that the line goes on.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from .errors import DriverError
from .logs import Record, chosen

if TYPE_CHECKING:
    from typing import IO

SOCKET = "/run/systemd/journal/socket"
STDERR = b"3"
FIELDS = "MESSAGE,PRIORITY,CONTAINER_PARTIAL_MESSAGE,CONTAINER_ID_FULL,TIFFIN_SEQ"
BLOCK = 65536

Entry = dict[str, bytes]


def there() -> bool:
    """Whether a systemd-journald listens on this machine."""
    return os.path.exists(SOCKET)


class Entries:
    """Parses journal entries in the export format (systemd.io/JOURNAL_EXPORT_FORMATS) in pieces, as
    they come."""

    def __init__(self) -> None:
        self._rest = b""
        self._entry: Entry = {}

    def feed(self, data: bytes) -> list[Entry]:
        """The entries that are complete now."""
        text = self._rest + data
        position = 0
        found = []
        while (end := text.find(b"\n", position)) >= 0:
            line = text[position:end]
            after = end + 1
            if not line:
                if self._entry:
                    found.append(self._entry)
                self._entry = {}
                position = after
                continue
            name, equals, value = line.partition(b"=")
            if not equals:  # what may have any bytes: its length, then itself
                size = int.from_bytes(text[after : after + 8], "little")
                value = text[after + 8 : after + 8 + size]
                if len(text) < after + 8 + size + 1:
                    break
                after += 8 + size + 1
            self._entry[name.decode("ascii", "replace")] = value
            position = after
        self._rest = text[position:]
        return found


def _record(entry: Entry) -> Record | None:
    """None for what is no output: events that a consumer carries to the journal."""
    if "MESSAGE" not in entry or "TIFFIN_SEQ" in entry:
        return None
    stream = "stderr" if entry.get("PRIORITY") == STDERR else "stdout"
    partial = "CONTAINER_PARTIAL_MESSAGE" in entry
    time = int(entry.get("__REALTIME_TIMESTAMP", b"0")) * 1000
    text = entry["MESSAGE"]  # with the newline that ended the line, if there was one
    return Record(time, stream, partial, text if partial else text.removesuffix(b"\n"))


def _argv(cid: str, *words: str) -> list[str]:
    # _UID is journald's own word: others cannot put lines into a log of ours.
    match = (f"CONTAINER_ID_FULL={cid}", f"_UID={os.geteuid()}")
    return ["journalctl", "--quiet", "--no-pager", "-o", "export", f"--output-fields={FIELDS}",
            *words, *match]  # fmt: skip


@contextlib.contextmanager
def _journalctl(argv: list[str]) -> Iterator[IO[bytes]]:
    """Its output. Error: DriverError when there is no journalctl."""
    try:
        process = subprocess.Popen(
            argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, bufsize=0
        )
    except OSError as error:
        raise DriverError(
            f"cannot read the journal: journalctl: {error.strerror}",
            hint="install it: apt install systemd",
        ) from None
    try:
        assert process.stdout is not None
        yield process.stdout
    finally:
        process.kill()
        process.wait()
        assert process.stdout is not None
        process.stdout.close()


def _entries(argv: list[str]) -> Iterator[Entry]:
    parser = Entries()
    with _journalctl(argv) as output:
        while data := output.read(BLOCK):
            yield from parser.feed(data)


def _last(cid: str, lines: int) -> list[Entry]:
    """The entries of the last lines, the oldest first: read from the end."""
    found: list[Entry] = []
    count = 0
    for entry in _entries(_argv(cid, "--reverse")):
        record = _record(entry)
        if record is None:
            continue
        count += not found or not record.partial
        if count > lines:
            break
        found.append(entry)
    return found[::-1]


def _sync() -> None:
    """Have journald write what it has been sent; only root may ask it to."""
    with contextlib.suppress(OSError):
        argv = ["journalctl", "--sync"]
        subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, check=False)


def read(
    cid: str,
    *,
    tail: int | None = None,
    since: int | None = None,
    until: int | None = None,
    follow: bool = False,
    stop: Callable[[], bool] | None = None,
    wake: str = "",
) -> Iterator[Record]:
    """The records of a container's log, as `logs.read`. Error: DriverError."""
    _sync()
    cursor = b""
    before = _entries(_argv(cid)) if tail is None else iter(_last(cid, tail))
    for entry in before:
        cursor = entry["__CURSOR"]
        if record := _record(entry):
            yield from chosen(iter((record,)), since, until)
    if follow and stop is not None:
        for record in _following(cid, cursor.decode(), until, stop, wake):
            yield from chosen(iter((record,)), since, until)


def _following(
    cid: str, cursor: str, until: int | None, stop: Callable[[], bool], wake: str
) -> Iterator[Record]:
    from select import POLLIN, poll
    from time import time_ns

    from . import inotify

    def after() -> str:
        return f"--after-cursor={cursor}" if cursor else "--no-tail"

    parser = Entries()
    with _journalctl(_argv(cid, "--follow", after())) as output, inotify.Inotify() as watcher:
        watcher.watch(wake, inotify.ENTRIES | inotify.MODIFY | inotify.CLOSE_WRITE)
        poller = poll()
        for fd in (output.fileno(), watcher.fd):
            poller.register(fd, POLLIN)
        while not stop() and (until is None or time_ns() < until):
            left = None if until is None else max(0, (until - time_ns()) // 1_000_000) + 1
            ready = [fd for fd, _ in poller.poll(left)]
            watcher.events()
            if output.fileno() not in ready:
                continue
            data = output.read(BLOCK)
            if not data:
                break
            for entry in parser.feed(data):
                cursor = entry["__CURSOR"].decode()
                if record := _record(entry):
                    yield record
    _sync()  # what came between our last look and the end
    for entry in _entries(_argv(cid, *([after()] if cursor else []))):
        if record := _record(entry):
            yield record
