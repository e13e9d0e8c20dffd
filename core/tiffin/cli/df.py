"""`system df`: how much room images, containers and volumes take."""

from __future__ import annotations

import sys
from time import time_ns
from typing import TYPE_CHECKING, Any

from ..errors import UserError
from ..units import human_duration, human_size
from . import images, ps, reads, table
from .flags import Call, Command, Flag

if TYPE_CHECKING:
    from ..engine.base import Engine
    from ..engine.usage import Usage

COLUMNS = ("TYPE", "TOTAL", "ACTIVE", "SIZE", "RECLAIMABLE")


def lines(used: Usage) -> list[dict[str, Any]]:
    """A record for each kind of thing, with the fields that a template may name."""
    running = ("running", "paused")
    idle = [one for one in used.images if not one.containers]
    ended = [one for one in used.containers if one.row["state"] not in running]
    return [
        _line(
            "Images",
            len(used.images),
            len(used.images) - len(idle),
            used.layers,
            sum(one.unique for one in idle),
        ),
        _line(
            "Containers",
            len(used.containers),
            len(used.containers) - len(ended),
            sum(one.size for one in used.containers),
            sum(one.size for one in ended),
        ),
        _line(
            "Local Volumes",
            len(used.volumes),
            sum(bool(one.containers) for one in used.volumes),
            sum(one.size for one in used.volumes),
            sum(one.size for one in used.volumes if not one.containers),
        ),
    ]


def _line(kind: str, total: int, active: int, size: int, free: int) -> dict[str, Any]:
    share = round(100 * free / size) if size else 0
    return {
        "Type": kind,
        "Total": total,
        "Active": active,
        "RawSize": size,
        "RawReclaimable": free,
        "TotalCount": total,
        "Size": human_size(size),
        "Reclaimable": f"{human_size(free)} ({share}%)",
    }


def verbose(used: Usage, now: int) -> str:
    """`-v`: a line for each thing."""
    image_rows = []
    for one in used.images:
        for name in one.names or (f"{images.NONE}:{images.NONE}",):
            image_rows.append(
                (
                    *images.split(name),
                    one.row["id"].removeprefix("sha256:")[: reads.SHORT],
                    human_duration(now - one.row["created"]) if one.row["created"] else "N/A",
                    human_size(one.shared + one.unique),
                    human_size(one.shared),
                    human_size(one.unique),
                    str(one.containers),
                )
            )
    container_rows = [
        (
            one.row["id"][: reads.SHORT],
            one.row["image_name"],
            ps.shorten(one.row["command"], True),
            human_size(one.size),
            human_duration(now - one.row["created"]),
            one.row["state"],
            one.row["name"],
        )
        for one in used.containers
    ]
    parts = (
        "Images space usage:\n\n",
        table.table(
            ("REPOSITORY", "TAG", "IMAGE ID", "CREATED", "SIZE", "SHARED SIZE", "UNIQUE SIZE",
             "CONTAINERS"),
            image_rows,
        ),
        "\nContainers space usage:\n\n",
        table.table(
            ("CONTAINER ID", "IMAGE", "COMMAND", "SIZE", "CREATED", "STATUS", "NAMES"),
            container_rows,
        ),
        "\nLocal Volumes space usage:\n\n",
        table.table(
            ("VOLUME NAME", "LINKS", "SIZE"),
            [(one.name, str(one.containers), human_size(one.size)) for one in used.volumes],
        ),
    )  # fmt: skip
    return "".join(parts)


def run(call: Call) -> int:
    template = call.options["format"]
    if call.options["verbose"] and template:
        raise UserError("system df: --verbose and --format cannot be used together")
    from .session import drive

    async def work(engine: Engine) -> Usage:
        from ..engine import usage

        return await usage.measure(engine)

    used = drive(call, work)
    if call.options["verbose"]:
        sys.stdout.write(verbose(used, time_ns()))
        return 0
    records = lines(used)
    if template:
        sys.stdout.write(table.formatted(template, records, {}))
        return 0
    rows = [[str(record[name.capitalize()]) for name in COLUMNS] for record in records]
    sys.stdout.write(table.table(COLUMNS, rows))
    return 0


DF = Command(
    "system df",
    "",
    "Show how much room images, containers and volumes take, and how much of it could be free",
    (
        Flag("verbose", "v", help="A line for each image and container"),
        Flag("format", "", "str", "TEMPLATE", "`json`, a Go template, or `table TEMPLATE`"),
    ),
    (0, 0),
    ("tiffin system df", "tiffin system df -v"),
    run,
)
