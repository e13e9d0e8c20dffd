"""Advisory locks (flock(2)) between processes: one a container, held while effects run.

A lock file is never deleted while its container exists; a killed process lets go by itself.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

import trio

from ..layout import Layout
from ..lock_file import open_lock


def try_lock(path: str) -> int | None:
    """A descriptor that holds the lock, or None when another process has it. Close to let go."""
    fd = open_lock(path)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(fd)
        return None
    return fd


class Locks:
    """The locks of one store."""

    def __init__(self, layout: Layout) -> None:
        self.layout = layout

    @asynccontextmanager
    async def container(self, cid: str) -> AsyncIterator[None]:
        """Hold the container's lock; waits for another command to finish, without polling."""
        async with self.named(self.layout.lock(cid)):
            yield

    @asynccontextmanager
    async def named(self, path: str, *, shared: bool = False) -> AsyncIterator[None]:
        """Hold any lock file, alone or (`shared`) with others who share it."""
        mode = fcntl.LOCK_SH if shared else fcntl.LOCK_EX
        while True:
            fd = open_lock(path)
            try:
                try:
                    fcntl.flock(fd, mode | fcntl.LOCK_NB)
                except BlockingIOError:
                    await trio.to_thread.run_sync(fcntl.flock, fd, mode, abandon_on_cancel=True)
                # The file may have been removed with its container while we waited.
                if self._is_current(fd, path):
                    yield
                    return
            finally:
                os.close(fd)

    @staticmethod
    def _is_current(fd: int, path: str) -> bool:
        try:
            named = os.stat(path)
        except FileNotFoundError:
            return False
        held = os.fstat(fd)
        return (named.st_dev, named.st_ino) == (held.st_dev, held.st_ino)

    def forget(self, cid: str) -> None:
        """Remove the lock file of a removed container; called while holding it."""
        try:
            os.unlink(self.layout.lock(cid))
        except FileNotFoundError:
            return

    @contextmanager
    def ending(self, cid: str) -> Iterator[None]:
        """While we make a running container end, and record it: the exit command waits, and finds
        it done when its run directory is gone."""
        path = self.layout.ending(cid)
        if not os.path.isdir(os.path.dirname(path)):  # a reboot took it
            yield
            return
        fd = open_lock(path)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX)
            yield
        finally:
            os.close(fd)

    def attend(self, cid: str) -> int:
        """Tell the exit command that a foreground `run` looks after this container's end. Returns
        the descriptor for `let_go`."""
        fd = open_lock(f"{self.layout.container_run(cid)}/attended")
        fcntl.flock(fd, fcntl.LOCK_EX)
        return fd

    @staticmethod
    def let_go(fd: int) -> None:
        os.close(fd)
