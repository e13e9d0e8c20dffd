"""What a build says. Stages run side by side, and their lines come in the order of the file: one
stage speaks, what the others say meanwhile is kept until it is their turn."""

from __future__ import annotations

import os
import sys
import tempfile
from types import TracebackType
from typing import IO, TYPE_CHECKING

from ..engine.base import Engine
from ..engine.run import Attach
from ..store.queries import Row
from . import printable
from .session import attacher

if TYPE_CHECKING:  # in a function, so that the engine is first, which loads it lean (`..lean`)
    import trio


class BuildConsole:
    """Lines and the output of RUN to standard output, its errors to standard error."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self._front = 1
        """The stage that speaks."""
        self._kept: dict[int, list[tuple[int, IO[bytes]]]] = {}
        self._over: set[int] = set()
        self._busy: set[int] = set()
        """Stages with a RUN that writes to what is kept."""

    def __enter__(self) -> BuildConsole:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        where: TracebackType | None,
    ) -> None:
        """Whatever is left to be said is said: a failure is in it."""
        for stage in sorted(self._kept):
            self._release(stage)

    def begin(self, stages: int) -> None:
        self._front = 1

    def warn(self, text: str) -> None:
        print(printable.line(text), file=sys.stderr, flush=True)

    def say(self, stage: int, text: str) -> None:
        self._write(stage, f"{printable.line(text)}\n".encode("utf-8", "backslashreplace"))

    def _write(self, stage: int, data: bytes) -> None:
        if stage == self._front and stage not in self._busy:
            _all(1, data)
            return
        self._file(stage, 1).write(data)

    def _file(self, stage: int, fd: int) -> IO[bytes]:
        """Where a stage's output waits for its turn; a new one when it was another stream's."""
        kept = self._kept.setdefault(stage, [])
        if not kept or kept[-1][0] != fd:
            kept.append((fd, tempfile.TemporaryFile(buffering=0)))  # noqa: SIM115
        return kept[-1][1]

    def attach(self, stage: int) -> Attach:
        import trio

        if stage == self._front:
            sys.stdout.flush()
            return attacher(self.engine, terminal=False, stdin=False, proxy=False)
        # Both streams go on where they are, even if the stage's turn comes meanwhile.
        inner = attacher(
            self.engine, terminal=False, stdin=False, proxy=False, outputs=self._outputs(stage)
        )

        async def carry(
            row: Row, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
        ) -> bool:
            self._busy.add(stage)
            try:
                return await inner(row, task_status=task_status)
            finally:
                self._busy.discard(stage)
                if stage == self._front:
                    self._release(stage)

        return carry

    def _outputs(self, stage: int) -> tuple[int, int]:
        out, err = (self._file(stage, fd) for fd in (1, 2))
        return out.fileno(), err.fileno()

    def done(self, stage: int) -> None:
        self._over.add(stage)
        while self._front in self._over:
            self._release(self._front)
            self._front += 1
        self._release(self._front)

    def _release(self, stage: int) -> None:
        if stage in self._busy:
            return
        for fd, file in self._kept.pop(stage, ()):
            file.seek(0)
            while data := file.read(1 << 16):
                _all(fd, data)
            file.close()


class QuietConsole(BuildConsole):
    """Says nothing."""

    def say(self, stage: int, text: str) -> None:
        return None

    def warn(self, text: str) -> None:
        return None

    def attach(self, stage: int) -> Attach:
        return attacher(
            self.engine, terminal=False, stdin=False, stdout=False, stderr=False, proxy=False
        )


def _all(fd: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]
