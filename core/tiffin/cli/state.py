"""`pause`, `unpause` and `rename`: what changes of a container without ending it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .flags import Call, Command
from .selection import ALL, CIDFILE, FILTER, LATEST, many

if TYPE_CHECKING:
    from ..engine.base import Engine


def _pause(call: Call) -> int:
    async def work(engine: Engine, name: str) -> str:
        from ..engine.pause import pause

        await pause(engine, name)
        return name

    return many(call, work, states=("running",))


PAUSE = Command(
    name="pause",
    usage="CONTAINER [CONTAINER...]",
    summary="Freeze all processes of running containers",
    flags=(ALL, CIDFILE, FILTER, LATEST),
    arguments=(0, None),
    examples=("tiffin pause web", "tiffin pause --all"),
    run=_pause,
)


def _unpause(call: Call) -> int:
    async def work(engine: Engine, name: str) -> str:
        from ..engine.pause import unpause

        await unpause(engine, name)
        return name

    return many(call, work, states=("paused",))


UNPAUSE = Command(
    name="unpause",
    usage="CONTAINER [CONTAINER...]",
    summary="Let paused containers go on",
    flags=(ALL, CIDFILE, FILTER, LATEST),
    arguments=(0, None),
    examples=("tiffin unpause web", "tiffin unpause --all"),
    run=_unpause,
)


def _rename(call: Call) -> int:
    from .session import drive

    async def work(engine: Engine) -> None:
        from ..engine.rename import rename

        await rename(engine, call.arguments[0], call.arguments[1])

    drive(call, work)
    return 0


RENAME = Command(
    name="rename",
    usage="CONTAINER NAME",
    summary="Give a container another name",
    flags=(),
    arguments=(2, 2),
    examples=("tiffin rename web web-old",),
    run=_rename,
)
