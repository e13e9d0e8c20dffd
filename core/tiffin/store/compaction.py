"""Folding old streams of the log into snapshots: `system compact`.

A stream is folded when what it is about is gone. Of its events stay a line in `snapshots` (what it
was, who, when) and their hashes in `compacted`, run by run: the chain of the events that are kept
still closes, a cursor or a checkpoint on a folded event can still be checked, and the event
`system.compacted` vouches for both tables by their digest. The read tables do not change: that is
tried before anything is deleted.
"""

from __future__ import annotations

import json
from collections.abc import Generator, Iterable, Mapping
from typing import Any

from msgspec import Struct

from ..errors import Conflict, Corrupt
from ..smallhash import sha256
from . import chain, log, past, schema, sync

TYPE_CHECKING = False  # without importing typing
if TYPE_CHECKING:
    from sqlite3 import Connection

HASH = 32
"""Bytes of a hash in `compacted.hashes`."""
OVER = ("exited", "failed", "finished")
"""Last words of what is over with its outcome: execs, transfers, builds."""
SHORT_LIVED = ("exec", "transfer", "build")

STREAMS = """
SELECT e.stream, e.type, e.data, s.first, e.seq, e.version, s.began, e.time, s.bytes, e.actor
FROM (SELECT stream, min(seq) AS first, max(version) AS version, min(time) AS began,
      sum(length(CAST(stream || type || command || actor || data || prev || hash AS BLOB)) + 24)
      AS bytes FROM events GROUP BY stream) AS s
JOIN events AS e ON e.stream=s.stream AND e.version=s.version
WHERE e.time<? AND e.seq<=? ORDER BY s.first
"""
"""(stream, last type, its data, first seq, last seq, last version, began, ended, bytes, actor)"""


class Folded(Struct, frozen=True):
    """What was, or would be, folded."""

    streams: int
    events: int
    lives: int
    """Containers among the streams."""
    bytes_before: int
    bytes_after: int
    life_before: int
    """Bytes of one container's life: its stream and its execs', on average."""
    life_after: int


def gaps(connection: Connection) -> dict[int, chain.Gap]:
    """The runs of events that were folded, by their first seq, for `chain.verify`."""
    if connection.execute("PRAGMA user_version").fetchone()[0] < 2:
        return {}
    found = connection.execute("SELECT first, last, prev, hashes FROM compacted")
    return {first: (last, prev, hashes[-HASH:].hex()) for first, last, prev, hashes in found}


def hash_of(connection: Connection, seq: int) -> str | None:
    """The hash of a folded event; None when it was not folded."""
    if connection.execute("PRAGMA user_version").fetchone()[0] < 2:
        return None
    row = connection.execute(
        "SELECT first, hashes FROM compacted WHERE first<=? AND last>=?", (seq, seq)
    ).fetchone()
    if row is None:
        return None
    at = (seq - row[0]) * HASH
    return bytes(row[1][at : at + HASH]).hex()


def digest(connection: Connection) -> str:
    """SHA-256 over both tables, as `system.compacted` records it."""
    hasher = sha256()
    for query in (
        "SELECT first, last, prev, hashes FROM compacted ORDER BY first",
        "SELECT * FROM snapshots ORDER BY stream",
    ):
        for row in connection.execute(query):
            cells = [cell.hex() if isinstance(cell, bytes) else cell for cell in row]
            hasher.update(json.dumps(cells, separators=(",", ":")).encode() + b"\n")
    return str(hasher.hexdigest())


def problems(connection: Connection) -> list[str]:
    """What is wrong with the tables of what was folded."""
    if not gaps(connection):
        return []
    row = connection.execute(
        "SELECT data FROM events WHERE type='system.compacted' ORDER BY seq DESC LIMIT 1"
    ).fetchone()
    if row is not None and json.loads(row[0]).get("digest") == digest(connection):
        return []
    return ["what is kept of compacted events is not what was recorded when they were compacted"]


def verify(connection: Connection) -> list[str]:
    """All that is wrong with the log: its chain, and what was folded of it."""
    found = [what for _, what in chain.verify(sync.events(connection), gaps(connection))]
    return found + problems(connection)


def _is_over(stream: str, type_: str, data: str) -> bool:
    """Whether nothing will be left of a stream in the read tables."""
    _, _, action = type_.rpartition(".")
    if action == "removed":
        return True
    if stream.partition("/")[0] in SHORT_LIVED and action in OVER:
        return True
    if type_ in ("layer.unpack_failed",):
        return True
    return type_ == "container.failed" and json.loads(data).get("operation") == "create"


def choose(connection: Connection, before: int, upto: int) -> list[tuple[Any, ...]]:
    """Rows of STREAMS that can be folded: over before that time (ns), and read up to that seq by
    all consumers. Error: Conflict when the read tables are not what the log says."""
    # The last event stays: the next one gets its seq and `prev` from it.
    last = connection.execute("SELECT max(seq) FROM events").fetchone()[0] or 0
    rows = connection.execute(STREAMS, (before, min(upto, last - 1)))
    found = [row for row in rows if _is_over(row[0], *row[1:3])]
    # A name that went from one image to another and then away would come back: such images stay.
    without_images = [row for row in found if not row[0].startswith("image/")]
    for chosen in (found, without_images):
        if _same_tables(connection, {row[0] for row in chosen}):
            return chosen
    raise Conflict(
        "the read tables are not what the log says", hint="tiffin system rebuild, and try again"
    )


def _same_tables(connection: Connection, without: set[str]) -> bool:
    """Whether the log without these streams folds to the read tables as they are."""
    memory = past.empty()
    memory.execute("BEGIN")
    past.apply(memory, (row for row in sync.events(connection) if row[1] not in without))
    return all(
        set(memory.execute(f"SELECT * FROM {table}"))  # noqa: S608
        == set(connection.execute(f"SELECT * FROM {table}"))  # noqa: S608
        for table in schema.TABLES
    )


def _summary(connection: Connection, stream: str) -> dict[str, Any]:
    """What is remembered of a stream: its first and last type and who did it; of a container what
    it was called, what it ran and how it ended."""
    rows = connection.execute(
        "SELECT type, time, actor, data FROM events WHERE stream=? ORDER BY version", (stream,)
    ).fetchall()
    found: dict[str, Any] = {"types": [rows[0][0], rows[-1][0]]}
    found["uids"] = [json.loads(row[2]).get("uid") for row in (rows[0], rows[-1])]
    first = json.loads(rows[0][3])
    for name in ("name", "image_name", "image_id", "labels", "container", "reference"):
        if first.get(name):
            found[name] = first[name]
    for type_, time, _, data in rows:
        if type_ == "container.started":
            found["started"] = time
        elif type_ == "container.exited":
            found["exited"], found["exit_code"] = time, json.loads(data)["exit_code"]
    return found


def _runs(
    kept: Iterable[tuple[int, str, bytes]], more: Iterable[tuple[int, str, bytes]]
) -> list[tuple[int, int, str, bytes]]:
    """(first, last, prev, hashes) of runs without a hole, from (first, prev, hashes)."""
    runs: list[tuple[int, int, str, bytes]] = []
    for first, prev, hashes in sorted([*kept, *more]):
        last = first + len(hashes) // HASH - 1
        if runs and runs[-1][1] + 1 == first:
            begin, _, begin_prev, before = runs.pop()
            runs.append((begin, last, begin_prev, before + hashes))
        else:
            runs.append((first, last, prev, hashes))
    return runs


class Plan(Struct, frozen=True):
    """What is to be folded, computed before the transaction that does it."""

    streams: dict[str, int]
    """Stream to its last version: it must still be that."""
    snapshots: list[tuple[Any, ...]]
    runs: list[tuple[int, int, str, bytes]]
    seqs: list[int]
    folded: Folded


def plan(connection: Connection, before: int, upto: int) -> Plan:
    """Errors: Corrupt when the log does not verify (it would be hidden), Conflict."""
    if wrong := verify(connection):
        raise Corrupt(f"not compacted: {wrong[0]}", hint="see tiffin events verify")
    chosen = choose(connection, before, upto)
    snapshots, entries = [], []
    lives = life_before = life_after = bytes_before = 0
    for stream, _, _, first, last, version, began, ended, size, _ in chosen:
        summary = json.dumps(_summary(connection, stream), sort_keys=True, separators=(",", ":"))
        earlier = connection.execute(
            "SELECT first, began FROM snapshots WHERE stream=?", (stream,)
        ).fetchone()
        first, began = earlier or (first, began)
        snapshots.append((stream, version, first, last, began, ended, summary))
        rows = connection.execute(
            "SELECT seq, prev, hash FROM events WHERE stream=?", (stream,)
        ).fetchall()
        entries += [(seq, prev, bytes.fromhex(hash_)) for seq, prev, hash_ in rows]
        bytes_before += size
        if stream.startswith(("container/", "exec/")):
            lives += stream.startswith("container/")
            life_before += size
            life_after += len(summary) + len(stream) + 48 + HASH * len(rows)
    kept = connection.execute("SELECT first, prev, hashes FROM compacted").fetchall()
    after = sum(len(s[0]) + len(s[6]) + 48 for s in snapshots) + HASH * len(entries)
    folded = Folded(
        streams=len(chosen),
        events=len(entries),
        lives=lives,
        bytes_before=bytes_before,
        bytes_after=after,
        life_before=life_before // max(lives, 1),
        life_after=life_after // max(lives, 1),
    )
    return Plan(
        streams={row[0]: row[5] for row in chosen},
        snapshots=snapshots,
        runs=_runs(kept, entries),
        seqs=[entry[0] for entry in entries],
        folded=folded,
    )


def _steps(connection: Connection, work: Plan, before: int, command: str, actor: str) -> log.Steps:
    """One transaction: check, delete, remember, and the event that says so."""
    yield "BEGIN IMMEDIATE", ()
    for stream, version in work.streams.items():
        rows = yield "SELECT max(version) FROM events WHERE stream=?", (stream,)
        if rows[0][0] != version:
            raise Conflict("another command was at work", hint="try again")
    for seq in work.seqs:
        yield "DELETE FROM events WHERE seq=?", (seq,)
    yield "DELETE FROM compacted", ()
    for run in work.runs:
        yield "INSERT INTO compacted VALUES (?,?,?,?)", run
    for snapshot in work.snapshots:
        yield "INSERT OR REPLACE INTO snapshots VALUES (?,?,?,?,?,?,?)", snapshot
    data = {
        "before": before,
        "streams": work.folded.streams,
        "events": work.folded.events,
        "digest": digest(connection),
    }
    text = json.dumps(data, sort_keys=True, separators=(",", ":"))
    event = log.append(
        [log.Record("system", "system.compacted", text)], command=command, actor=actor
    )
    next(event)  # its BEGIN
    return (yield from _rest(event))


def _rest(steps: log.Steps) -> Generator[log.Statement, log.Rows, list[int]]:
    rows: log.Rows = []
    try:
        while True:
            rows = yield steps.send(rows)
    except StopIteration as end:
        return list(end.value)


def compact(connection: Connection, before: int, upto: int, *, command: str, actor: str) -> Folded:
    """Fold what is over before a time (ns), of the events up to `upto`.
    Errors: Corrupt, Conflict."""
    connection.execute("BEGIN")
    try:
        work = plan(connection, before, upto)
    finally:
        connection.execute("ROLLBACK")
    if work.seqs:
        sync.run(connection, _steps(connection, work, before, command, actor))
        connection.execute("VACUUM")
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    return work.folded


def find_life(connection: Connection, given: str) -> Mapping[str, Any] | None:
    """What is remembered of a folded container: by its name or the beginning of its id."""
    rows = connection.execute(
        "SELECT stream, began, ended, data FROM snapshots WHERE stream LIKE 'container/%' "
        "ORDER BY ended DESC"
    )
    for stream, began, ended, data in rows:
        summary = json.loads(data)
        if summary.get("name") == given or stream[10:].startswith(given):
            return {"id": stream[10:], "began": began, "ended": ended, **summary}
    return None
