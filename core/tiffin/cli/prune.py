"""`container prune`, `image prune` and `system prune`."""

from __future__ import annotations

import sys
from time import time_ns
from typing import TYPE_CHECKING, Any

from .. import units
from ..store import queries
from . import images, reads, table
from .confirm import confirmed
from .flags import Call, Command, Flag

if TYPE_CHECKING:
    from ..engine.base import Engine
    from ..engine.prune import Pruned
    from ..store.queries import Row

FILTERS = ("label", "label!", "until")
FORCE = Flag("force", "f", help="do not ask")
FILTER = Flag("filter", "", "list", "KEY=VALUE", f"only what matches: {', '.join(FILTERS)}")


def _matching(found: list[Row], given: dict[str, list[str]]) -> list[Row]:
    """By labels, and by when they were made; podman's `until`: before that time."""
    limits = [
        units.parse_time(text, time_ns(), "--filter until") for text in given.get("until", ())
    ]
    return [
        row
        for row in found
        if table.has_labels(row["labels"], given.get("label", ()))
        and not any(table.has_labels(row["labels"], (text,)) for text in given.get("label!", ()))
        and all(row["created"] < limit for limit in limits)
    ]


def _stopped(call: Call, given: dict[str, list[str]]) -> list[str]:
    found = reads.rows(reads.store(call.layout), queries.CONTAINERS)
    return [r["id"] for r in _matching(found, given) if r["state"] in ("created", "exited")]


def _unused(
    call: Call, given: dict[str, list[str]], every: bool, leaving: tuple[str, ...] = ()
) -> list[str]:
    """Images that no container uses but those that are `leaving`; unless `every`, nameless ones."""
    connection = reads.store(call.layout)
    used = {
        row["image_id"]
        for row in reads.rows(connection, queries.CONTAINERS)
        if row["id"] not in leaving
    }
    found = [row for row in images.gather(connection) if row["id"] not in used]
    return [row["id"] for row in _matching(found, given) if every or not row["names"]]


def _containers(call: Call) -> int:
    given = table.filters(call.options["filter"], FILTERS)
    warning = "WARNING! This will remove all non running containers."
    if not call.options["force"] and not confirmed(warning):
        return 0
    ids = _stopped(call, given)
    if ids:
        from .session import drive

        async def work(engine: Engine) -> Pruned:
            from ..engine import prune

            return await prune.containers(engine, ids)

        sys.stdout.writelines(f"{cid}\n" for cid in drive(call, work).removed)
    return 0


CONTAINERS = Command(
    "container prune",
    "",
    "Remove all containers that do not run",
    (FILTER, FORCE),
    (0, 0),
    ("tiffin container prune -f", "tiffin container prune --filter until=24h"),
    _containers,
)


def _images(call: Call) -> int:
    given = table.filters(call.options["filter"], FILTERS)
    every = bool(call.options["all"])
    what = "all images without at least one container" if every else "all dangling images"
    if not call.options["force"] and not confirmed(f"WARNING! This command removes {what}."):
        return 0
    ids = _unused(call, given, every)
    if ids:
        from .session import drive

        async def work(engine: Engine) -> Pruned:
            from ..engine import prune

            return await prune.images(engine, ids)

        sys.stdout.writelines(f"{image}\n" for image in drive(call, work).removed)
    return 0


IMAGES = Command(
    "image prune",
    "",
    "Remove images that have no name and that no container uses",
    (
        Flag("all", "a", help="those that have names as well"),
        Flag("external", help="Taken for podman's sake: there are no containers of other tools"),
        FILTER,
        FORCE,
    ),
    (0, 0),
    ("tiffin image prune -f", "tiffin image prune -af --filter until=720h"),
    _images,
)

WARNING = """WARNING! This command removes:
\t- all stopped containers
\t- all networks not used by at least one container
{volumes}\t- all {images}
"""


def _system(call: Call) -> int:
    options = call.options
    given = table.filters(options["filter"], FILTERS)
    every = bool(options["all"])
    kind = (
        "images without at least one container associated with them"
        if every
        else ("dangling images")
    )
    more = "\t- all volumes not used by at least one container\n" if options["volumes"] else ""
    if not options["force"] and not confirmed(WARNING.format(volumes=more, images=kind)):
        return 0
    if reads.store(call.layout) is None:
        print("Total reclaimed space: 0B")
        return 0
    from .session import drive

    async def work(engine: Engine) -> list[tuple[str, Any]]:
        from ..engine import network, prune, volumes
        from . import networks, volume

        ended = await prune.containers(engine, _stopped(call, given))
        connection = reads.store(call.layout)
        rows = reads.rows(connection, "SELECT * FROM networks WHERE name<>'bridge' ORDER BY name")
        unused = networks.choose(connection, rows, given | {"dangling": ["true"]})
        nets = await network.prune(engine, [row["id"] for row in unused])
        gone: tuple[list[str], int] = ([], 0)
        if options["volumes"]:
            connection = reads.store(call.layout)
            kept = reads.rows(connection, volume.VOLUMES)
            idle = volume.choose(connection, kept, given | {"dangling": ["true"]})
            gone = await volumes.prune(engine, [row["name"] for row in idle])
        pruned = await prune.images(engine, _unused(call, given, every))
        return [
            ("Containers", ended),
            ("Volumes", prune.Pruned(tuple(gone[0]), gone[1])),
            ("Networks", prune.Pruned(tuple(nets))),
            ("Images", pruned),
        ]

    total = 0
    for noun, pruned in drive(call, work):
        if pruned.removed:
            print(f"Deleted {noun}", *pruned.removed, sep="\n")
        total += pruned.reclaimed
    print(f"Total reclaimed space: {units.human_size(total)}")
    return 0


SYSTEM = Command(
    "system prune",
    "",
    "Remove what nobody uses: containers that do not run, networks, images without a name",
    (
        Flag("all", "a", help="images that have names as well"),
        Flag("volumes", help="volumes that no container has as well, with all files in them"),
        FILTER,
        FORCE,
    ),
    (0, 0),
    ("tiffin system prune -f", "tiffin system prune -af --filter label=ci"),
    _system,
)
