"""Appending to the log and checking its chain, without doing any input or output itself.

`append` is a generator of SQL statements: it yields `(sql, parameters)` and is sent the rows. The
same few lines so serve the engine (aiosqlite), the exit command (plain sqlite3) and the tests.

The hash of an event is SHA-256 over the hash before it and every field as it is stored, joined by
newlines; no stored field contains one (JSON escapes them, streams and types are checked).
"""

from __future__ import annotations

import time
from collections.abc import Generator, Iterable, Sequence
from typing import Any

from ..smallhash import sha256
from . import projections

GENESIS = "0" * 64
"""What the first event's `prev` is."""

Statement = tuple[str, Sequence[Any]]
Rows = list[tuple[Any, ...]]
Steps = Generator[Statement, Rows, "list[int]"]
Together = Generator[Statement, Rows, "list[list[int]]"]


class Record:
    """An event on its way into the log: stream, type and data (JSON text)."""

    __slots__ = ("data", "stream", "type")

    def __init__(self, stream: str, type_: str, data: str) -> None:
        self.stream = stream
        self.type = type_
        self.data = data


class Request:
    """What one command asks to be appended, in one transaction: see `append`."""

    __slots__ = ("actor", "command", "expect", "records")

    def __init__(
        self, records: Sequence[Record], command: str, actor: str, expect: dict[str, int] | None
    ) -> None:
        self.records = records
        self.command = command
        self.actor = actor
        self.expect = expect


class Stale(Exception):
    """A stream has moved on since it was read (the optimistic lock); read again and decide anew."""


def digest(prev: str, fields: Iterable[Any]) -> str:
    """The chain hash of an event: `fields` are seq to data in the order of the table."""
    text = "\n".join([prev, *(str(field) for field in fields)])
    return str(sha256(text.encode("utf-8", "surrogatepass")).hexdigest())


def append(
    records: Sequence[Record],
    *,
    command: str,
    actor: str,
    expect: dict[str, int] | None = None,
    now: int | None = None,
) -> Steps:
    """Append in one transaction, projections included; returns the new seqs.

    `expect` maps a stream to the version that the caller last saw (0: it must be new); Stale is
    raised when it is another. `actor` is JSON text; `now` UTC ns.
    """
    (added,) = yield from together([Request(records, command, actor, expect)], now)
    return added


def together(requests: Iterable[Request], now: int | None = None) -> Together:
    """Append for several commands in one transaction, which is synced once: all of it, or nothing
    when one fails. Returns the seqs of each."""
    yield "BEGIN IMMEDIATE", ()
    last = yield "SELECT seq, hash FROM events ORDER BY seq DESC LIMIT 1", ()
    seq, prev = last[0] if last else (0, GENESIS)
    versions: dict[str, int] = {}
    now = time.time_ns() if now is None else now
    all_added = []
    for request in requests:
        added = []
        checked = set()
        for record in request.records:
            stream = record.stream
            version = versions.get(stream)
            if version is None:
                rows = yield (
                    "SELECT version FROM events WHERE stream=? ORDER BY version DESC LIMIT 1",
                    (stream,),
                )
                if not rows:  # a stream may have been folded (`compaction`), and then go on
                    rows = yield "SELECT version FROM snapshots WHERE stream=?", (stream,)
                version = rows[0][0] if rows else 0
            if request.expect is not None and stream not in checked:
                if request.expect.get(stream, version) != version:
                    raise Stale(stream)
                checked.add(stream)
            versions[stream] = version = version + 1
            seq += 1
            who = (request.command, request.actor)
            fields = (seq, stream, version, record.type, now, *who, record.data)
            hash_ = digest(prev, fields)
            yield "INSERT INTO events VALUES (?,?,?,?,?,?,?,?,?,?)", (*fields, prev, hash_)
            for statement in projections.project(*fields):  # noqa: UP028 (a list takes no `send`)
                yield statement
            prev = hash_
            added.append(seq)
        all_added.append(added)
    yield "COMMIT", ()
    return all_added


def verify(rows: Iterable[tuple[Any, ...]]) -> list[tuple[int, str]]:
    """Check the chain over rows of `events` in order of seq: [(seq, what is wrong)]."""
    from .chain import verify  # nobody who appends needs it

    return verify(rows)
