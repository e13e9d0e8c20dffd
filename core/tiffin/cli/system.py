"""The store itself: recover, rebuild, cleanup."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .flags import Call, Command, Flag

if TYPE_CHECKING:
    from ..engine.base import Engine


def _recover(call: Call) -> int:
    from .session import drive

    async def work(engine: Engine) -> list[str]:
        from ..engine.system import recover

        return await recover(engine)

    for line in drive(call, work):
        print(line)
    return 0


RECOVER = Command(
    name="system recover",
    usage="",
    summary="Finish or undo what dead processes left open, in all containers and images",
    flags=(),
    arguments=(0, 0),
    examples=("tiffin system recover",),
    run=_recover,
)


def _rebuild(call: Call) -> int:
    import contextlib
    import os

    from .. import actor
    from ..errors import NotFound
    from ..store import log, sync

    try:
        connection = sync.open_for_append(call.layout.database)
    except Exception as error:
        raise NotFound(f"there is no store at {call.layout.root}") from error
    with contextlib.closing(connection):
        count = sync.rebuild(connection)
        sync.run(
            connection,
            log.append(
                [log.Record("system", "system.projections_rebuilt", f'{{"events":{count}}}')],
                command=os.urandom(8).hex(),
                actor=actor.current("cli"),
            ),
        )
    print(f"{count} events folded")
    return 0


REBUILD = Command(
    name="system rebuild",
    usage="",
    summary="Throw the read tables away and fold the log of events into them again",
    flags=(),
    arguments=(0, 0),
    examples=("tiffin system rebuild",),
    run=_rebuild,
)


def _cleanup(call: Call) -> int:
    async def work(engine: Engine, name: str) -> str | None:
        from ..engine.system import clean_up

        ended = bool(call.options["ended"])
        await clean_up(engine, name, remove=bool(call.options["rm"]), ended=ended)
        return None if ended else name

    from .session import each

    return each(call, call.arguments, work)


CLEANUP = Command(
    name="container cleanup",
    usage="CONTAINER [CONTAINER...]",
    summary="Take away the mount, the network and the runtime's state of containers that ended",
    flags=(
        Flag("ended", help="called by conmon's exit command: say nothing"),
        Flag("rm", help="and remove them"),
    ),
    arguments=(1, None),
    examples=("tiffin container cleanup job",),
    run=_cleanup,
)
