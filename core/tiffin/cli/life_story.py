"""`history CONTAINER`: a container's life as a table, as JSON, or as a page with a timeline."""

from __future__ import annotations

import sys
from contextlib import suppress
from time import time_ns

from .. import lives
from ..errors import NotFound, UserError
from ..store import queries
from . import reads, table
from .flags import Call
from .printable import for_terminal, line

TYPE_CHECKING = False  # without importing typing
if TYPE_CHECKING:
    import sqlite3
    from typing import Any

COLUMNS = ("SEQ", "TIME", "TOOK", "EVENT", "WHO", "DETAILS")
BORN = "container.creation_planned"
BY_NAME = (
    "SELECT stream FROM events WHERE version=1 AND type=? AND json_extract(data, '$.name')=? "
    "ORDER BY seq DESC"
)
BY_NEW_NAME = (
    "SELECT stream FROM events WHERE type='container.renamed' AND json_extract(data, '$.name')=? "
    "ORDER BY seq DESC"
)
BY_PREFIX = "SELECT DISTINCT stream FROM events WHERE stream>=? AND stream<? AND version=1 LIMIT 2"
EXECS = (
    "SELECT stream FROM events WHERE version=1 AND type='exec.planned' "
    "AND json_extract(data, '$.container')=?"
)


def find(connection: sqlite3.Connection, given: str, *, removed: bool) -> str:
    """The id of a container that is there or, with `removed`, that was: by name (of several, the
    one that was made last), id or unique prefix; "" when there is none. A whole name goes before
    the beginning of an id (`c2` is both). Error: UserError."""
    there = ""
    with suppress(NotFound):
        row = queries.find_container(connection, given)
        there = str(row["id"])
        if not removed or given in (row["name"], there):
            return there
    if not removed:
        return ""
    found = connection.execute(BY_NAME, (BORN, given)).fetchall()
    if not found:
        found = connection.execute(BY_NEW_NAME, (given,)).fetchall()
    if found or there:
        return str(found[0][0]).partition("/")[2] if found else there
    if queries.is_hex(given):
        low, high = queries.prefix_range(f"container/{given}")
        found = connection.execute(BY_PREFIX, (low, high)).fetchall()
        if len(found) > 1:
            raise UserError(f"{given!r} is the beginning of several container ids")
    return str(found[0][0]).partition("/")[2] if found else ""


def compacted(connection: sqlite3.Connection, given: str) -> None:
    """Error: NotFound that tells what is still known, when a container's story was compacted."""
    from ..store import compaction

    known = compaction.find_life(connection, given)
    if known is not None:
        began, ended = (reads.rfc3339(known[k], fraction=False) for k in ("began", "ended"))
        code = f", exit code {known['exit_code']}" if "exit_code" in known else ""
        raise NotFound(
            f"the story of container {given} was compacted",
            hint=f"{known.get('image_name', '')}, {began} to {ended}{code}",
        )


def life(connection: sqlite3.Connection, cid: str) -> lives.Life:
    """Errors: NotFound, Corrupt."""
    streams = [f"container/{cid}"]
    streams += [row[0] for row in connection.execute(EXECS, (cid,))]
    rows: list[tuple[Any, ...]] = []
    for stream in streams:
        rows += connection.execute("SELECT * FROM events WHERE stream=?", (stream,)).fetchall()
    if not rows:
        raise NotFound(f"no such container: {cid[: reads.SHORT]}")
    return lives.tell(cid, sorted(rows))


def who(actor: dict[str, Any]) -> str:
    """`alice as root (cli, pid 77)`: the person who logged in, and whom the process ran as."""
    uid, login = actor.get("uid", -1), actor.get("loginuid", 4294967295)
    name = _user(uid)
    if login not in (4294967295, uid):
        name = f"{_user(login)} as {name}"
    return f"{name} ({actor.get('front_end', '?')}, pid {actor.get('pid', '?')})"


def _user(uid: int) -> str:
    import pwd

    try:
        return pwd.getpwuid(uid).pw_name
    except (KeyError, OverflowError, TypeError):
        return f"uid {uid}"


def shown(life: lives.Life) -> list[lives.Moment]:
    """Without the plans that have an outcome: that one says how long it took."""
    return [moment for moment in life.moments if not (moment.opens and moment.closed)]


def title(life: lives.Life) -> str:
    command = " ".join(life.command)
    return line(f"{life.name} ({life.id[: reads.SHORT]}), {life.image}: {command}")


def states(life: lives.Life, now: int) -> list[tuple[str, str]]:
    """(state, how long it lasted)."""
    return [
        (
            span.state,
            "" if span.state == lives.GONE else lives.exact((span.until or now) - span.since),
        )
        for span in life.spans
    ]


def text(life: lives.Life, now: int, *, heading: bool = True) -> str:
    cells = [
        (
            str(moment.seq),
            reads.rfc3339(moment.time),
            "" if moment.took is None else lives.exact(moment.took),
            f"{moment.type} (open)" if moment.opens else moment.type,
            who(moment.actor),
            moment.details,
        )
        for moment in shown(life)
    ]
    told = table.table(COLUMNS if heading else (), cells)
    if not heading:
        return told
    spans = ", ".join(" ".join(filter(None, pair)) for pair in states(life, now))
    return f"{title(life)}\n\n{told}\n{spans}\n"


def plain(life: lives.Life, now: int) -> dict[str, Any]:
    """As `--format json` prints it; times in ns since 1970, durations in ns."""
    return {
        "id": life.id,
        "name": life.name,
        "image": life.image,
        "command": list(life.command),
        "state": life.state,
        "since": life.since,
        "until": life.until or None,
        "states": [
            {
                "state": span.state,
                "since": span.since,
                "until": span.until or None,
                "duration": (span.until or now) - span.since if span.state != lives.GONE else None,
            }
            for span in life.spans
        ],
        "events": [
            {
                "seq": moment.seq,
                "time": reads.rfc3339(moment.time),
                "timeNano": moment.time,
                "type": moment.type,
                "stream": moment.stream,
                "command": moment.command,
                "who": who(moment.actor),
                "actor": moment.actor,
                "took": moment.took,
                "details": moment.details,
                "data": moment.data,
            }
            for moment in life.moments
        ],
    }


def write(connection: sqlite3.Connection, cid: str, options: dict[str, Any]) -> int:
    """Print the life of a container as the flags of `history` ask for it."""
    told, now = life(connection, cid), time_ns()
    wanted = options["format"]
    if wanted == "json":
        sys.stdout.write(table.json_text(plain(told, now)))
    elif wanted == "html":
        from .timeline import page

        sys.stdout.write(page(told, now))
    elif wanted:
        from . import gotemplate

        for event in plain(told, now)["events"]:
            made = gotemplate.render(wanted, gotemplate.Record(event))
            sys.stdout.write(for_terminal(made) + "\n")
    elif options["quiet"]:
        sys.stdout.write("".join(f"{moment.type}\n" for moment in shown(told)))
    else:
        sys.stdout.write(text(told, now, heading=not options["noheading"]))
    return 0


def run(call: Call) -> int:
    given = call.arguments[0]
    connection = reads.store(call.layout)
    cid = find(connection, given, removed=True) if connection is not None else ""
    if connection is None or not cid:
        if connection is not None:
            compacted(connection, given)
        raise NotFound(f"no such container: {given}", hint="nor was there ever one")
    return write(connection, cid, call.options)
