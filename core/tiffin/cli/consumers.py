"""Durable consumers on the command line: `events --consumer`, and how their cursors are kept."""

from __future__ import annotations

import contextlib
import signal
import sys
from time import time_ns

from ..errors import NotFound, UserError
from ..store import cursors
from ..units import human_ago
from . import reads, table
from .events import FILTERS
from .flags import Call, Command, Flag, later

TYPE_CHECKING = False  # without importing typing
if TYPE_CHECKING:
    from typing import Any

AT_ONCE = 256
"""Lines after which a consumer is acknowledged even if there is more to write."""
ENDINGS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Acknowledged:
    """Moves a cursor over what was written, and over what was passed by.

    From the first line until the cursor has moved past it the signals that end us wait: stopped in
    any of these ways, the next reader gets the event after the last that was written. A SIGKILL or
    a power cut in between has the last lines written again, never skipped.
    """

    def __init__(self, cursor: cursors.Cursor) -> None:
        self._cursor = cursor
        self._at = cursors.NOTHING
        self._lines = 0
        self._held = False

    def before(self) -> None:
        """A line is about to be written."""
        if not self._held:
            signal.pthread_sigmask(signal.SIG_BLOCK, ENDINGS)
            self._held = True

    def passed(self, row: tuple[Any, ...]) -> None:
        """An event was written, or is none of the consumer's."""
        self._at = (row[0], row[9])
        self._lines += 1
        if self._lines >= AT_ONCE:
            self.settle()

    def settle(self) -> None:
        """What was written reaches its reader, then the cursor moves."""
        if self._at != cursors.NOTHING:
            sys.stdout.flush()
            self._cursor.move(*self._at)
        self._at, self._lines = cursors.NOTHING, 0
        if self._held:
            self._held = False
            signal.pthread_sigmask(signal.SIG_UNBLOCK, ENDINGS)


CONSUMER_COLUMNS = "table {{.Consumer}}\t{{.Seq}}\t{{.Behind}}\t{{.Acknowledged}}"


def _list(call: Call) -> int:
    connection = reads.store(call.layout)
    last = 0
    if connection is not None:
        last = connection.execute("SELECT max(seq) FROM events").fetchone()[0] or 0
    options, now = call.options, time_ns()
    wanted = table.filters(options["filter"], ("name",)).get("name", [""])
    found: list[dict[str, Any]] = []
    for name in cursors.known(call.layout):
        kept = cursors.read(call.layout, name)
        if kept is not None and any(text in name for text in wanted):
            seq, _, moved = kept
            found.append(
                {"Consumer": name, "Seq": seq, "Behind": last - seq, "Acknowledged": moved}
            )
    template = options["format"]
    if options["quiet"]:
        if template:
            raise UserError("--quiet and --format cannot be used together")
        sys.stdout.write("".join(f"{one['Consumer']}\n" for one in found))
    elif template == "json":
        times = [one | {"Acknowledged": reads.rfc3339(one["Acknowledged"])} for one in found]
        sys.stdout.write(table.json_text(times))
    else:
        from .gotemplate import Record

        shown = [
            Record(**(one | {"Acknowledged": human_ago(one["Acknowledged"], now)})) for one in found
        ]
        heading = not options["noheading"]
        sys.stdout.write(table.formatted(template or CONSUMER_COLUMNS, shown, {}, heading=heading))
    return 0


CONSUMERS = Command(
    "events consumers",
    "",
    "List the durable consumers of the log, and how far each has come",
    (
        Flag("filter", "f", "list", "KEY=VALUE", "Show only what matches: name"),
        Flag("format", "", "str", "TEMPLATE", "`json`, a Go template, or `table TEMPLATE`"),
        Flag("noheading", "n", help="Leave out the line of headings"),
        Flag("quiet", "q", help="Print names only"),
    ),
    (0, 0),
    (
        "tiffin events consumers",
        "tiffin events consumers --format '{{.Consumer}} {{.Behind}}'",
    ),
    _list,
)


def _ack(call: Call) -> int:
    name, text = call.arguments
    if not (text.isascii() and text.isdecimal() and len(text) <= 18):
        raise UserError(f"{text!r} is not the seq of an event")
    seq = int(text)
    connection = reads.store(call.layout)
    if connection is None:
        raise NotFound(f"no such event: {seq}")
    found = connection.execute("SELECT hash FROM events WHERE seq=?", (seq,)).fetchone()
    if found is None and seq:
        raise NotFound(f"no such event: {seq}")
    cursors.check_name(name)
    if call.options["force"]:
        # What cannot be read cannot be compared: begin with a cursor that is new.
        with contextlib.suppress(NotFound):
            cursors.forget(call.layout, name)
    with cursors.Cursor(call.layout, name) as cursor:
        if seq < cursor.seq:
            raise UserError(
                f"consumer {name} has acknowledged event {cursor.seq} already",
                hint="--force goes back",
            )
        cursor.move(seq, found[0] if found else "")
    return 0


ACK = Command(
    "events ack",
    "CONSUMER SEQ",
    "Acknowledge all events up to SEQ: the consumer gets those after it",
    (Flag("force", help="Also go back, or set a cursor that cannot be read"),),
    (2, 2),
    ("tiffin events ack audit 120",),
    _ack,
)


def _forget(call: Call) -> int:
    for name in call.arguments:
        cursors.forget(call.layout, name)
    return 0


FORGET = Command(
    "events forget",
    "CONSUMER [CONSUMER...]",
    "Forget how far consumers have come: the next reader of that name begins anew",
    (),
    (1, None),
    ("tiffin events forget audit",),
    _forget,
)


EXPORT = Command(
    "events export",
    "CONSUMER [CONSUMER...]",
    "Carry the log to consumers: plugins (journald, syslog, webhook, otlp, ...) and programs that "
    "tiffin.toml names. Each goes on where it was, and gets every event at least once",
    (
        Flag("all", "a", help="All consumers that tiffin.toml has a table for"),
        Flag("filter", "f", "list", "KEY=VALUE", f"Only what matches: {', '.join(FILTERS)}"),
        Flag("follow", help="Wait for more, and try again for ever"),
        Flag("tries", "", "int", "NUMBER", "Give up after so many failures in a row (3)"),
    ),
    (0, None),
    (
        "tiffin events export --follow journald",
        "tiffin events export webhook --filter type=container",
        "tiffin events export --all --follow",
    ),
    later("export", "run"),
)
