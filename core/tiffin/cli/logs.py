"""`logs`: what a container wrote, as it wrote it: bytes go through unchanged."""

from __future__ import annotations

import sys
from time import time_ns

from .. import units
from ..errors import NotFound, UserError
from ..store import queries
from . import reads
from .flags import Call, Command, Flag

TYPE_CHECKING = False  # without importing typing
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from ..logs import Record


def tail(value: str) -> int | None:
    """`--tail`: a number of lines; `all` or less than zero: all of them (None)."""
    if value in ("", "all"):
        return None
    digits = value.removeprefix("-")
    if not (digits.isascii() and digits.isdecimal() and len(digits) < 16):
        raise UserError(f"--tail {value!r} is not a number of lines", hint="a number or all")
    return None if value.startswith("-") else int(value)


def _ended(call: Call, cid: str) -> Callable[[], bool]:
    """A function that tells whether the container has no process any more."""

    def ended() -> bool:
        connection = reads.store(call.layout)
        if connection is None:
            return True
        try:
            found = queries.rows(connection, "SELECT state FROM containers WHERE id=?", (cid,))
        finally:
            connection.close()
        return not found or found[0]["state"] in ("exited", "removing")

    return ended


def write(records: Iterable[Record], timestamps: bool, prefix: str = "") -> None:
    """stdout's records to our stdout, stderr's to our stderr."""
    streams = {"stdout": sys.stdout.buffer, "stderr": sys.stderr.buffer}
    middle = {"stdout": False, "stderr": False}  # inside of a line
    for record in records:
        out = streams[record.stream]
        if not middle[record.stream]:
            stamp = f"{reads.rfc3339(record.time)} " if timestamps else ""
            if prefix or stamp:
                out.write(f"{prefix}{stamp}".encode())
        out.write(record.data if record.partial else record.data + b"\n")
        middle[record.stream] = record.partial
        out.flush()


def run(call: Call) -> int:
    options = call.options
    connection = reads.store(call.layout)
    names = call.arguments
    if options["latest"]:
        if names:
            raise UserError("logs: --latest takes no container")
        found = reads.rows(connection, queries.CONTAINERS)
        if not found:
            raise NotFound("there are no containers")
        rows = found[-1:]
    elif not names:
        raise UserError("logs: needs a container", hint="or --latest")
    else:
        rows = [reads.container(connection, name) for name in names]
    if options["follow"] and len(rows) > 1:
        raise UserError("logs: --follow takes one container")
    now = time_ns()
    since = units.parse_time(options["since"], now, "--since") if options["since"] else None
    until = units.parse_time(options["until"], now, "--until") if options["until"] else None
    last = tail(options["tail"])
    if connection is not None:
        connection.close()
    from .. import logs

    for number, row in enumerate(rows):
        if row["options"].get("log_driver") == "none":
            raise UserError(
                f"{row['name']} keeps no log", hint="it was made with --log-driver none"
            )
        follow = options["follow"] and row["state"] not in ("exited", "removing")
        records = logs.read(
            row["options"].get("log_path") or f"{row['directory']}/ctr.log",
            tail=last,
            since=since,
            until=until,
            follow=follow,
            stop=_ended(call, row["id"]) if follow else "",
            wake=call.layout.root if follow else "",
        )
        prefix = f"{row['name']} " if options["names"] else ""
        if len(rows) > 1 and not prefix:
            prefix = f"{row['id'][: reads.SHORT]} "
        if options["color"] and prefix:
            prefix = f"\x1b[{31 + number % 6}m{prefix}\x1b[0m"
        write(records, options["timestamps"], prefix)
    return 0


LOGS = Command(
    "logs",
    "CONTAINER [CONTAINER...]",
    "Show what a container wrote",
    (
        Flag("follow", "f", help="Wait for more until the container ends"),
        Flag("tail", "n", "str", "LINES", "Only the last lines", "all"),
        Flag("since", "", "str", "TIME", "Only from this time on: 10m, or RFC 3339"),
        Flag("until", "", "str", "TIME", "Only up to this time"),
        Flag("timestamps", "t", help="Begin each line with its time"),
        Flag("names", help="Begin each line with the container's name"),
        Flag("color", help="Names, or the ids of several containers, in colours"),
        Flag("latest", "l", help="The container that was made last"),
    ),
    (0, None),
    ("tiffin logs web", "tiffin logs -f --tail 20 web", "tiffin logs --since 10m -t web"),
    run,
)
