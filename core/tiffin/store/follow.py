"""Reading the log in batches, and waiting for more of it without using the processor.

SQLite publishes a commit in shared memory, after it has written and synced the WAL, and no inotify
tells of that. So a write is followed by a few more looks, further and further apart; and when the
writer leaves, its closing of the files wakes us for certain.
"""

from __future__ import annotations

import os

from . import sync

TYPE_CHECKING = False  # without importing typing
if TYPE_CHECKING:
    from collections.abc import Iterator
    from sqlite3 import Connection
    from types import TracebackType
    from typing import Any

    from ..layout import Layout

BATCH = 1000
"""Events of one query."""
FIRST_LOOK, LAST_LOOK = 0.001, 4.0
"""Seconds after a write."""
LONGEST_SLEEP = 86400.0
FOREVER = (1 << 63) - 1


def batch(
    connection: Connection, after: int, limit: int = BATCH, since: int = 0, until: int = FOREVER
) -> list[tuple[Any, ...]]:
    """Rows of the log with a higher seq in that span of time (ns)."""
    return connection.execute(
        "SELECT * FROM events WHERE seq>? AND time BETWEEN ? AND ? ORDER BY seq LIMIT ?",
        (after, since, until, limit),
    ).fetchall()


def stored(
    connection: Connection | None, after: int, since: int = 0, until: int = FOREVER
) -> Iterator[tuple[Any, ...]]:
    """All those rows, in batches, so that no reader keeps the WAL from being checkpointed for
    long."""
    if connection is not None and since:
        # By the index: the events before it are not even looked at.
        first = "SELECT min(seq) FROM events INDEXED BY events_time WHERE time>=?"
        after = max(after, (connection.execute(first, (since,)).fetchone()[0] or FOREVER) - 1)
    while connection is not None:
        rows = batch(connection, after, BATCH, since, until)
        if not rows:
            return
        yield from rows
        after = rows[-1][0]


class Watch:
    """Waits for the log to grow; a context manager. `fd` becomes readable when something happened,
    `pause` says how long to sleep on it at most, and `woken` must be called after that."""

    def __init__(self, layout: Layout) -> None:
        from .. import inotify

        self._layout = layout
        self._inotify = inotify.Inotify()
        self._mask = inotify.ENTRIES | inotify.MODIFY | inotify.CLOSE_WRITE
        self._watched = ""
        self._again = 0.0  # seconds to the next look; 0: only when something happens

    def __enter__(self) -> Watch:
        self._inotify.__enter__()
        folder = self._layout.root
        while not os.path.isdir(folder):  # nothing was ever made: wait for its first directory
            folder = os.path.dirname(folder)
        self._inotify.watch(folder, self._mask)
        self._watched = folder
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._inotify.__exit__(kind, error, trace)

    @property
    def fd(self) -> int:
        number: int = self._inotify.fd
        return number

    @property
    def pause(self) -> float:
        return self._again or LONGEST_SLEEP

    def opened(self) -> Connection | None:
        """The store, once its tables are there."""
        if self._watched != self._layout.root and os.path.isdir(self._layout.root):
            self._inotify.watch(self._layout.root, self._mask)
            self._watched = self._layout.root
        connection = sync.open_read_only(self._layout.database)
        if connection is not None and not connection.execute("PRAGMA user_version").fetchone()[0]:
            connection.close()
            return None
        return connection

    def wait(self, seconds: float) -> None:
        """Sleep until something happened, it is time for another look, or so long."""
        self.woken(self._inotify.wait(min(seconds, self.pause)))

    def woken(self, happened: bool) -> None:
        if happened:
            self._inotify.events()
            self._again = FIRST_LOOK
        elif self._again:
            self._again = self._again * 2 if self._again < LAST_LOOK else 0.0
