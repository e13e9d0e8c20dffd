"""How a transfer goes: one bar on a terminal, a line a layer otherwise. On stderr."""

from __future__ import annotations

import sys
import threading
import time

from ..units import human_size

REDRAW = 0.1
"""Seconds between two drawings of the bar."""


class Lines:
    """A line for each layer when it is there."""

    def __init__(self) -> None:
        self._lock = threading.Lock()

    def started(self, digest: str, size: int) -> None:
        """Nothing to say yet."""

    def advanced(self, digest: str, count: int) -> None:
        """Nothing to say yet."""

    def finished(self, digest: str, what: str) -> None:
        with self._lock:
            print(f"{digest[7:19]} {what}", file=sys.stderr, flush=True)


class Bar:
    """All layers together in one line, drawn over itself."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._sizes: dict[str, int] = {}
        self._done: dict[str, int] = {}
        self._began = time.monotonic()
        self._drawn = 0.0

    def started(self, digest: str, size: int) -> None:
        with self._lock:
            self._sizes[digest] = size
            self._done.setdefault(digest, 0)

    def advanced(self, digest: str, count: int) -> None:
        with self._lock:
            self._done[digest] = self._done.get(digest, 0) + count
            self._draw()

    def finished(self, digest: str, what: str) -> None:
        with self._lock:
            if digest in self._sizes:
                self._done[digest] = self._sizes[digest]
            self._draw(now=self._sizes and self._done == self._sizes)

    def _draw(self, now: object = False) -> None:
        moment = time.monotonic()
        if not now and moment - self._drawn < REDRAW:
            return
        self._drawn = moment
        total, done = sum(self._sizes.values()), sum(self._done.values())
        full = int(30 * done / total) if total else 0
        speed = done / max(moment - self._began, 0.001)
        text = (
            f"\r{'█' * full}{'░' * (30 - full)} {human_size(done)} of {human_size(total)}, "
            f"{human_size(int(speed))}/s, {len(self._sizes)} layers\033[K"
        )
        sys.stderr.write(text + ("\n" if now else ""))
        sys.stderr.flush()


def for_stderr(quiet: bool = False) -> Lines | Bar | None:
    """What suits this process's stderr."""
    if quiet:
        return None
    return Bar() if sys.stderr.isatty() else Lines()
