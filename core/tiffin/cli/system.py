"""The store and the engine: recover, rebuild, info, version."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from .. import __version__
from .flags import Call, Command, Flag

if TYPE_CHECKING:
    from ..engine.base import Engine

FORMAT = Flag("format", "f", kind="str", metavar="TEMPLATE", help="json, or a Go template")


def _show(call: Call, document: dict[str, Any]) -> None:
    wanted = call.options["format"]
    if wanted and wanted != "json":
        from .gotemplate import render

        print(render(wanted, document))
        return
    if wanted == "json":
        print(json.dumps(document, indent=2))
        return
    _print_tree(document, "")


def _print_tree(node: Any, indent: str) -> None:
    for key, value in node.items():
        if isinstance(value, dict):
            print(f"{indent}{key}:")
            _print_tree(value, indent + "  ")
        elif isinstance(value, list):
            print(f"{indent}{key}: {', '.join(map(str, value))}")
        else:
            print(f"{indent}{key}: {value}")


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


def _info(call: Call) -> int:
    import os

    from ..store import queries, sync
    from ..version import versions

    layout = call.layout
    counts: dict[str, int] = {}
    defaults: dict[str, str] = {}
    connection = sync.open_read_only(layout.database)
    events = images = 0
    if connection is not None:
        for row in queries.rows(
            connection, "SELECT state, count(*) AS n FROM containers GROUP BY state"
        ):
            counts[row["state"]] = row["n"]
        images = connection.execute("SELECT count(*) FROM images").fetchone()[0]
        events = connection.execute("SELECT max(seq) FROM events").fetchone()[0] or 0
        defaults = dict(connection.execute("SELECT kind, name FROM defaults").fetchall())
    names = os.uname()
    v2 = os.path.exists("/sys/fs/cgroup/cgroup.controllers")
    _show(
        call,
        {
            "host": {
                "arch": names.machine,
                "kernel": names.release,
                "hostname": names.nodename,
                "cgroupVersion": "v2" if v2 else "v1",
                "cpus": os.cpu_count(),
                "rootless": layout.uid != 0,
            },
            "store": {
                "root": layout.root,
                "runRoot": layout.run,
                "database": layout.database,
                "graphDriverName": call.storage_driver or defaults.get("storage", "not chosen yet"),
                "ociRuntime": call.runtime or defaults.get("runtime", "not chosen yet"),
                "events": events,
                "images": images,
                "containers": {"total": sum(counts.values()), **counts},
            },
            "version": versions(),
        },
    )
    return 0


INFO = Command(
    name="info",
    usage="",
    summary="Show the engine's drivers, paths and counts",
    flags=(FORMAT,),
    arguments=(0, 0),
    examples=("tiffin info", "tiffin info -f '{{.store.graphDriverName}}'"),
    run=_info,
)


def _version(call: Call) -> int:
    from ..version import versions

    if call.options["format"]:
        _show(call, {"Client": {"Version": __version__}, **versions()})
    else:
        for name, value in versions().items():
            print(f"{name + ':':<12}{value}")
    return 0


VERSION = Command(
    name="version",
    usage="",
    summary="Show the versions of tiffin and of Python",
    flags=(FORMAT,),
    arguments=(0, 0),
    examples=("tiffin version",),
    run=_version,
)
