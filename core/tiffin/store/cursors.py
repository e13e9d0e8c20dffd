"""Durable cursors: how far a named consumer has come in the log, kept beside the store.

One file a consumer, `consumers/NAME.json` under the root, replaced as a whole and synced: after a
power cut it is the old cursor or the new one. It remembers the hash of the event it stands on, so
that a log which is not the one that was read (replaced, restored from a backup, altered) is told
from one that has only grown. Only one process reads for a consumer at a time (`flock`).
"""

from __future__ import annotations

import fcntl
import json
import os
import re
from time import time_ns

from ..errors import Conflict, Corrupt, NotFound, UserError

TYPE_CHECKING = False  # without importing typing
if TYPE_CHECKING:
    import sqlite3
    from types import TracebackType

    from ..layout import Layout

NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]{0,63}\Z")
NOTHING = (0, "")
"""Where a consumer begins: before the first event."""


def folder(layout: Layout) -> str:
    return f"{layout.root}/consumers"


def check_name(name: str) -> str:
    if not NAME.match(name):
        raise UserError(
            f"{name!r} cannot name a consumer", hint="letters, digits, `_`, `.`, `-`; at most 64"
        )
    return name


def read(layout: Layout, name: str) -> tuple[int, str, int] | None:
    """(seq, hash, when it was moved) of a consumer; None when it has none yet. Error: Corrupt."""
    try:
        with open(f"{folder(layout)}/{name}.json", encoding="utf-8") as file:
            kept = json.load(file)
        return int(kept["seq"]), str(kept["hash"]), int(kept["time"])
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError):
        raise Corrupt(
            f"the cursor of consumer {name} cannot be read",
            hint=f"tiffin events ack {name} SEQ sets it again",
        ) from None


def known(layout: Layout) -> list[str]:
    """The names of all consumers, sorted."""
    try:
        names = os.listdir(folder(layout))
    except FileNotFoundError:
        return []
    return sorted(name[:-5] for name in names if name.endswith(".json"))


def lowest(layout: Layout) -> int | None:
    """The seq that every consumer has reached; None without consumers."""
    found = [cursor[0] for name in known(layout) if (cursor := read(layout, name))]
    return min(found, default=None)


class Cursor:
    """The cursor of one consumer, held by this process until it leaves the `with` block.

    Errors on entering: Conflict when another process reads for it, Corrupt.
    """

    def __init__(self, layout: Layout, name: str) -> None:
        self.name = check_name(name)
        self.seq, self.hash = NOTHING
        self.fresh = True
        """True until it was moved for the first time ever."""
        self._layout = layout
        self._lock = -1

    def __enter__(self) -> Cursor:
        os.makedirs(folder(self._layout), mode=0o700, exist_ok=True)
        path = f"{folder(self._layout)}/{self.name}.lock"
        self._lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            kept = read(self._layout, self.name)
        except BlockingIOError:
            os.close(self._lock)
            raise Conflict(
                f"consumer {self.name} is being read by another process",
                hint="every consumer needs a name of its own",
            ) from None
        except BaseException:  # whatever it is; raised again
            os.close(self._lock)
            raise
        if kept is not None:
            self.seq, self.hash, _ = kept
            self.fresh = False
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        os.close(self._lock)

    def check(self, connection: sqlite3.Connection | None) -> None:
        """Error: Corrupt when the event that it stands on is not in the log as it was read."""
        if not self.seq:
            return
        found = None
        if connection is not None:
            row = connection.execute("SELECT hash FROM events WHERE seq=?", (self.seq,)).fetchone()
            if row is None:
                from . import compaction

                found = compaction.hash_of(connection, self.seq)
            else:
                found = row[0]
        if found != self.hash:
            raise Corrupt(
                f"the log is not the one that consumer {self.name} read: event {self.seq} "
                + ("is another" if found else "is missing"),
                hint="see tiffin events verify; tiffin events forget NAME begins anew",
            )

    def move(self, seq: int, hash_: str) -> None:
        """Stand on this event now, durably."""
        directory = folder(self._layout)
        temporary = f"{directory}/{self.name}.new"
        text = json.dumps({"name": self.name, "seq": seq, "hash": hash_, "time": time_ns()})
        with open(temporary, "w", encoding="utf-8") as file:
            file.write(text + "\n")
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, f"{directory}/{self.name}.json")
        fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)
        self.seq, self.hash, self.fresh = seq, hash_, False


def forget(layout: Layout, name: str) -> None:
    """Error: NotFound. The next reader of that name begins anew."""
    check_name(name)
    try:
        os.unlink(f"{folder(layout)}/{name}.json")
    except FileNotFoundError:
        raise NotFound(f"no such consumer: {name}") from None
