"""`logs`: what containers wrote, as they wrote it: bytes go through unchanged."""

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
    from collections.abc import Callable, Iterable, Iterator

    from ..logs import Record
    from ..store.queries import Row

LONGEST = 1 << 20
"""Bytes of a line that wait for its end, where lines of several containers must not mix."""


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


class Writer:
    """Writes stdout's records to our stdout, stderr's to our stderr, each line with its prefix."""

    def __init__(self, timestamps: bool, prefix: str = "") -> None:
        self._timestamps = timestamps
        self._prefix = prefix
        self._streams = {"stdout": sys.stdout.buffer, "stderr": sys.stderr.buffer}
        self._middle = {"stdout": False, "stderr": False}  # inside of a line
        self._begun: dict[str, list[Record]] = {"stdout": [], "stderr": []}

    def write(self, record: Record) -> None:
        """At once, a line that goes on as well."""
        out = self._streams[record.stream]
        if not self._middle[record.stream]:
            stamp = f"{reads.rfc3339(record.time)} " if self._timestamps else ""
            if self._prefix or stamp:
                out.write(f"{self._prefix}{stamp}".encode())
        out.write(record.data if record.partial else record.data + b"\n")
        self._middle[record.stream] = record.partial
        out.flush()

    def write_line(self, record: Record) -> None:
        """Only whole lines: others write to the same places."""
        begun = self._begun[record.stream]
        begun.append(record)
        if record.partial and sum(len(piece.data) for piece in begun) < LONGEST:
            return
        self._begun[record.stream] = []
        for piece in begun:
            self.write(piece)
        if record.partial:
            self._end(record.stream)

    def finish(self) -> None:
        """End what is left of a line that never ended."""
        for stream, begun in self._begun.items():
            for piece in begun:
                self.write(piece)
            if self._middle[stream]:
                self._end(stream)
            self._begun[stream] = []

    def _end(self, stream: str) -> None:
        self._streams[stream].write(b"\n")
        self._streams[stream].flush()
        self._middle[stream] = False


def _chosen(call: Call) -> list[Row]:
    connection = reads.store(call.layout)
    names = call.arguments
    try:
        if call.options["latest"]:
            if names:
                raise UserError("logs: --latest takes no container")
            found = reads.rows(connection, queries.CONTAINERS)
            if not found:
                raise NotFound("there are no containers")
            return found[-1:]
        if not names:
            raise UserError("logs: needs a container", hint="or --latest")
        number = names[0] if call.options["names"] and len(names) > 1 else ""
        if number.isdecimal() and not reads.rows(
            connection, queries.CONTAINER_BY_NAME, (number,)
        ):  # `-n 5 web`: podman's -n is --names, docker's is --tail
            call.options.update(names=False, tail=number)
            names = names[1:]
        return [reads.container(connection, name) for name in names]
    finally:
        if connection is not None:
            connection.close()


def show(call: Call, rows: list[Row]) -> int:
    """The logs of these containers; followed side by side."""
    options = call.options
    now = time_ns()
    since = units.parse_time(options["since"], now, "--since") if options["since"] else None
    until = units.parse_time(options["until"], now, "--until") if options["until"] else None
    last = tail(options["tail"])
    from .. import logs

    def records(row: Row) -> Iterator[Record]:
        follow = options["follow"] and row["state"] not in ("exited", "removing")
        if row["options"].get("log_driver") == "journald":
            from .. import journal

            return journal.read(
                row["id"],
                tail=last,
                since=since,
                until=until,
                follow=follow,
                stop=_ended(call, row["id"]),
                wake=call.layout.root,
            )
        return logs.read(
            row["options"].get("log_path") or f"{row['directory']}/ctr.log",
            tail=last,
            since=since,
            until=until,
            follow=follow,
            stop=_ended(call, row["id"]) if follow else "",
            wake=call.layout.root if follow else "",
        )

    writers = []
    for number, row in enumerate(rows):
        driver = row["options"].get("log_driver")
        if driver in ("none", "passthrough"):
            raise UserError(
                f"{row['name']} keeps no log", hint=f"it was made with --log-driver {driver}"
            )
        prefix = f"{row['name']} " if options["names"] else ""
        if len(rows) > 1 and not prefix:
            prefix = f"{row['id'][: reads.SHORT]} "
        if options["color"] and prefix:
            prefix = f"\x1b[{31 + number % 6}m{prefix}\x1b[0m"
        writers.append(Writer(options["timestamps"], prefix))
    if options["follow"] and len(rows) > 1:
        from . import side_by_side

        for number, record in side_by_side.merge([records(row) for row in rows]):
            if record is None:
                writers[number].finish()
            else:
                writers[number].write_line(record)
        return 0
    for row, writer in zip(rows, writers, strict=True):
        _write(records(row), writer)
    return 0


def _write(records: Iterable[Record], writer: Writer) -> None:
    for record in records:
        writer.write(record)


def run(call: Call) -> int:
    return show(call, _chosen(call))


LOGS = Command(
    "logs",
    "CONTAINER [CONTAINER...]",
    "Show what containers wrote",
    (
        Flag("follow", "f", help="Wait for more until the containers end"),
        Flag("tail", "", "str", "LINES", "Only the last lines", "all"),
        Flag("since", "", "str", "TIME", "Only from this time on: 10m, or RFC 3339"),
        Flag("until", "", "str", "TIME", "Only up to this time"),
        Flag("timestamps", "t", help="Begin each line with its time"),
        Flag("names", "n", help="Begin each line with the container's name"),
        Flag("color", help="Names, or the ids of several containers, in colours"),
        Flag("latest", "l", help="The container that was made last"),
    ),
    (0, None),
    ("tiffin logs web", "tiffin logs -f --names --color web db", "tiffin logs --since 10m -t web"),
    run,
)
