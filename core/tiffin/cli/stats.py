"""`stats`: what containers use, once or again and again."""

from __future__ import annotations

import sys
import time

from ..errors import NotFound, UserError
from ..store import queries
from ..units import human_size
from . import reads, table
from .flags import Call, Command, Flag

TYPE_CHECKING = False  # without importing typing
if TYPE_CHECKING:
    from typing import Any

    from ..consumption import Consumption
    from ..store.queries import Row

COLUMNS = (
    "ID", "NAME", "CPU %", "MEM USAGE / LIMIT", "MEM %", "NET IO", "BLOCK IO", "PIDS", "CPU TIME",
    "AVG CPU %",
)  # fmt: skip
FIELDS = (
    "ID", "Name", "CPUPerc", "MemUsage", "MemPerc", "NetIO", "BlockIO", "PIDS", "CPUTime",
    "AvgCPU",
)  # fmt: skip
HEADINGS = {
    "CPUPerc": "CPU %", "MemUsage": "MEM USAGE / LIMIT", "MemPerc": "MEM %", "NetIO": "NET IO",
    "BlockIO": "BLOCK IO", "CPUTime": "CPU TIME", "AvgCPU": "AVG CPU %",
}  # fmt: skip
CLEAR = "\x1b[H\x1b[2J"
LIVE = ("running", "paused")


def _rows(call: Call) -> list[Row]:
    connection = reads.store(call.layout)
    options, names = call.options, call.arguments
    if names and (options["all"] or options["latest"]):
        raise UserError("stats: containers are named, and --all or --latest is given as well")
    if names:
        return [reads.container(connection, name) for name in names]  # nothing, when it has ended
    found = reads.rows(connection, queries.CONTAINERS)
    if options["latest"]:
        if not found:
            raise NotFound("there are no containers")
        return found[-1:]
    return found if options["all"] else [row for row in found if row["state"] in LIVE]


def record(
    row: Row, used: Consumption, before: tuple[float, int] | None, now: float, trunc: bool
) -> dict[str, Any]:
    """The fields of one container; `before`: (time, CPU ns) of the last look. The first look
    counts from the start."""
    from ..process_table import go_duration
    from .gotemplate import Record

    age = max(now - row["started"] / 1e9, 1e-9)
    since, spent = (now - before[0], used.cpu - before[1]) if before else (age, used.cpu)
    share = 100 * spent / 1e9 / max(since, 1e-9)
    memory = 100 * used.memory / used.limit if used.limit else 0.0
    return Record(
        ID=row["id"][: reads.SHORT] if trunc else row["id"],
        Name=row["name"],
        CPUPerc=f"{share:.2f}%",
        MemUsage=f"{human_size(used.memory)} / {human_size(used.limit)}",
        MemPerc=f"{memory:.2f}%",
        NetIO=f"{human_size(used.net_in)} / {human_size(used.net_out)}",
        BlockIO=f"{human_size(used.block_in)} / {human_size(used.block_out)}",
        PIDS=str(used.pids),
        PIDs=str(used.pids),
        Container=row["id"][: reads.SHORT] if trunc else row["id"],
        CPUTime=go_duration(used.cpu / 1e9),
        AvgCPU=f"{100 * used.cpu / 1e9 / age:.2f}%",
    )


def plain(one: dict[str, Any]) -> dict[str, Any]:
    """As podman's `--format json` has it."""
    keys = {
        "id": "ID", "name": "Name", "cpu_time": "CPUTime", "cpu_percent": "CPUPerc",
        "avg_cpu": "AvgCPU", "mem_usage": "MemUsage", "mem_percent": "MemPerc", "net_io": "NetIO",
        "block_io": "BlockIO", "pids": "PIDS",
    }  # fmt: skip
    return {key: one[field] for key, field in keys.items()}


def show(records: list[dict[str, Any]], template: str) -> str:
    if template == "json":
        return table.json_text([plain(one) for one in records], 1)
    if template:
        return table.formatted(template, records, HEADINGS)
    return table.table(COLUMNS, [[str(one[field]) for field in FIELDS] for one in records])


def run(call: Call) -> int:
    from .. import cgroups
    from ..consumption import measure

    options = call.options
    if options["interval"] is not None and options["interval"] < 1:
        raise UserError("--interval is a number of seconds, at least 1")
    before: dict[str, tuple[float, int]] = {}
    while True:
        records = []
        for row in _rows(call):
            now = time.time()
            used = measure(cgroups.places(row["cgroup"]), row["pid"])
            if row["state"] not in LIVE:
                used = used._replace(limit=0)
            last = before.get(row["id"])
            records.append(record(row, used, last, now, not options["no_trunc"]))
            before[row["id"]] = now, used.cpu
        clear = not options["no_reset"] and not options["no_stream"] and sys.stdout.isatty()
        sys.stdout.write((CLEAR if clear else "") + show(records, options["format"]))
        sys.stdout.flush()
        if options["no_stream"]:
            return 0
        time.sleep(options["interval"] or 5)


STATS = Command(
    "stats",
    "[CONTAINER...]",
    "Show what containers use of processors, memory, network and disk, every few seconds",
    (
        Flag("all", "a", help="Also those that do not run"),
        Flag("format", "", "str", "TEMPLATE", "`json`, a Go template, or `table TEMPLATE`"),
        Flag("interval", "i", "int", "SECONDS", "Between two looks (5)"),
        Flag("latest", "l", help="The container that was made last"),
        Flag("no-reset", help="Do not clear the terminal in between"),
        Flag("no-stream", help="Once"),
        Flag("no-trunc", help="Do not shorten ids"),
    ),
    (0, None),
    ("tiffin stats --no-stream", "tiffin stats --format '{{.Name}} {{.MemUsage}}' web"),
    run,
)
