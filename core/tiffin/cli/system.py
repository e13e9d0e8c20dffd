"""The store itself: recover, rebuild, cleanup."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .flags import Call, Command, Flag, later

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

    from .session import drive, each

    lock = call.options["round"]
    if lock is None:
        return each(call, call.arguments, work)

    async def round_(engine: Engine) -> int:
        from ..engine.rounds import clean_up_all

        await clean_up_all(engine, call.arguments[0], lock)
        return 0

    return drive(call, round_)


CLEANUP = Command(
    name="container cleanup",
    usage="CONTAINER [CONTAINER...]",
    summary="Take away the mount, the network and the runtime's state of containers that ended",
    flags=(
        Flag("ended", help="called by conmon's exit command: say nothing"),
        Flag("rm", help="and remove them"),
        Flag("round", kind="int", metavar="FD", help="and others of this login: its lock"),
    ),
    arguments=(1, None),
    examples=("tiffin container cleanup job",),
    run=_cleanup,
)


CHECK = Command(
    "system check",
    "",
    "Look for damage in the database, images, layers, containers and what the machine has of them; "
    "exit code 1 when there is any left",
    (
        Flag("repair", "r", help="Mend it; each repair is an event"),
        Flag("force", "f", help="With --repair: also by removing containers"),
        Flag("quick", "q", help="Do not read blobs and layers, nor fold the log again"),
        Flag("format", "", "str", "json", "Print one JSON document"),
    ),
    (0, 0),
    ("tiffin system check", "tiffin system check --repair"),
    later("check", "run"),
)


COMPACT = Command(
    "system compact",
    "",
    "Fold what is gone for long into snapshots: the events of removed containers, ended execs and "
    "transfers, removed images. Nothing that a consumer has not acknowledged; the chain of hashes "
    "stays whole",
    (
        Flag("before", "", "str", "TIME", "What was over by then: 720h (ago), or RFC 3339"),
        Flag("dry-run", "n", help="Say what would be folded"),
        Flag("format", "", "str", "FORMAT", "`json`"),
    ),
    (0, 0),
    ("tiffin system compact --before 720h", "tiffin system compact --before 0s --dry-run"),
    later("compact", "run"),
)
