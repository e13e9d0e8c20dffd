"""Cleaning up after many containers that ended by themselves, in one engine (`tiffin.exited`)."""

from __future__ import annotations

import os

import trio

from .. import actor
from ..errors import TiffinError
from ..store import queries
from .base import Engine
from .locks import try_lock
from .system import clean_up

AT_ONCE = 8
"""Containers that are cleaned up after at the same time."""
GLANCE = 1.0
"""Seconds between looks for more, while nothing else happens."""

PENDING = """
SELECT c.id, e.seq FROM containers c JOIN events e ON e.stream='container/' || c.id
WHERE c.state='exited' AND (c.remove OR c.bundle<>'' AND (c.netns<>'' OR c.mounted<>''))
AND coalesce(json_extract(c.options, '$.restart'), '')='' AND e.type='container.exited'
AND e.version=(SELECT max(version) FROM events WHERE stream=e.stream AND type='container.exited')
AND json_extract(e.actor, '$.front_end')='exit' AND json_extract(e.actor, '$.loginuid')=?
AND json_extract(e.actor, '$.session')=? ORDER BY e.seq
"""
"""Ends that exit commands of a login have recorded, with what they have left still there. What a
command ended, it cleans up after; what is to be started again has an engine of its own."""


async def clean_up_all(engine: Engine, first: str, lock: int) -> None:
    """After `first`, and after all others of this login that end until there are no more. `lock`
    is the descriptor that holds the lock; it is closed."""
    os.set_inheritable(lock, False)
    login = actor.who()[1:]
    tried: set[int] = set()
    while True:
        await _Round(engine, login, tried).work(first)
        os.close(lock)
        # Who recorded an end before that found the lock taken, and has gone.
        late = [row for row in await engine.store.rows(PENDING, login) if row["seq"] not in tried]
        again = try_lock(engine.layout.round(*login)) if late else None
        if again is None:
            return
        first, lock = late[0]["id"], again


class _Round:
    def __init__(self, engine: Engine, login: tuple[int, int], tried: set[int]) -> None:
        self._engine = engine
        self._login = login
        self._tried = tried
        """Seqs of the ends that were seen to, or could not be."""
        self._limit = trio.CapacityLimiter(AT_ONCE)
        self._at_work = 0
        self._progress = trio.Event()

    async def work(self, first: str) -> None:
        """Until nothing is left. One that another command holds for long keeps no other from it."""
        async with trio.open_nursery() as nursery:
            mine = await self._pending()
            self._start(nursery, first)
            for row in mine:
                if row["id"] != first:
                    self._start(nursery, row["id"])
            while self._at_work:
                for row in await self._pending():
                    self._start(nursery, row["id"])
                if self._at_work > 1:
                    self._engine.store.expect_many()
                with trio.move_on_after(GLANCE):
                    await self._work_is_short()

    async def _work_is_short(self) -> None:
        """Wait for one to be done, and until there are no more at work than may be at once."""
        while True:
            self._progress = trio.Event()
            await self._progress.wait()
            if self._at_work <= AT_ONCE:
                return

    async def _pending(self) -> list[queries.Row]:
        """Those that have ended since the last look."""
        rows = await self._engine.store.rows(PENDING, self._login)
        found = [row for row in rows if row["seq"] not in self._tried]
        self._tried.update(row["seq"] for row in found)
        return found

    def _start(self, nursery: trio.Nursery, cid: str) -> None:
        self._at_work += 1
        nursery.start_soon(self._one, cid)

    async def _one(self, cid: str) -> None:
        """One that cannot be cleaned up after: its intent stays open, and the next command that
        touches it goes on with it."""
        try:
            async with self._limit:
                await clean_up(self._engine, cid, ended=True)
        except* TiffinError:
            pass  # told in the log
        finally:
            self._at_work -= 1
            self._progress.set()
