"""What is wrong with one thing."""

from __future__ import annotations

import os

from msgspec import Struct

from ..base import Engine
from ..locks import try_lock


class Damage(Struct, frozen=True):
    kind: str
    """One word for programs, which also says to the module that found it how to mend it."""
    subject: str
    """What is damaged: `container web`, `blob sha256:...`."""
    problem: str
    key: str = ""
    """Id of the subject, for who mends it."""
    detail: str = ""
    passing: bool = False
    """It may be seen for a moment where nothing is wrong: at an end, conmon is the last to go."""

    @property
    def identity(self) -> tuple[str, str, str]:
        return self.kind, self.subject, self.problem


class Busy:
    """A lock that is only taken when nobody has it: `with Busy(...) as busy`, True when somebody
    is at work."""

    def __init__(self, path: str) -> None:
        self.path = path
        self._fd: int | None = None

    def __enter__(self) -> bool:
        self._fd = try_lock(self.path)
        return self._fd is None

    def __exit__(self, *_: object) -> None:
        if self._fd is not None:
            os.close(self._fd)


def is_busy(engine: Engine, cid: str) -> bool:
    """Whether a command is at work on the container at this moment."""
    with Busy(engine.layout.lock(cid)) as busy:
        return busy
