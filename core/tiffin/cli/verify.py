"""`events verify` and `events seal`: whether the log is what was written, and proof for later."""

from __future__ import annotations

import os
import sys
from time import time_ns

from ..errors import Corrupt, NotFound, UserError
from . import printable, reads
from .flags import Call, Command, Flag

TYPE_CHECKING = False  # without importing typing
if TYPE_CHECKING:
    import sqlite3
    from typing import Any

HASH = "SELECT hash FROM events WHERE seq=?"


def problems(connection: sqlite3.Connection) -> list[str]:
    """What is wrong with the chain, in order."""
    from ..store import compaction

    return compaction.verify(connection)


def _hash(connection: sqlite3.Connection, seq: int) -> str | None:
    """The hash that the log has for an event."""
    row = connection.execute(HASH, (seq,)).fetchone()
    if row is None:
        from ..store import compaction

        return compaction.hash_of(connection, seq)
    return str(row[0])


def _compacted(connection: sqlite3.Connection | None) -> int:
    """How many events were folded into snapshots."""
    from ..store import compaction

    found = compaction.gaps(connection) if connection is not None else {}
    return sum(last - first + 1 for first, (last, _, _) in found.items())


def against(connection: sqlite3.Connection, checkpoint: dict[str, Any]) -> str:
    """What contradicts a genuine checkpoint; "" when the log still holds what was sealed."""
    seq, sealed = checkpoint["seq"], checkpoint["time"]
    found = _hash(connection, seq)
    if found == checkpoint["hash"]:
        return ""
    if found is not None:
        return f"event {seq} or one before it is not what was sealed at {sealed}"
    last = connection.execute("SELECT max(seq) FROM events").fetchone()[0] or 0
    if last < seq:
        return f"events {last + 1}..{seq}, sealed at {sealed}, were removed"
    return f"event {seq}, sealed at {sealed}, was removed"


def _checkpoints(
    connection: sqlite3.Connection | None, path: str, key: str
) -> tuple[list[str], list[str]]:
    """(problems, what is right) of all checkpoints in a file."""
    from ..store import seal

    trusted = seal.public_key(key) if key else None
    wrong, right = [], []
    for checkpoint in seal.read(path):
        about = f"checkpoint of event {checkpoint['seq']}"
        if not seal.genuine(checkpoint, trusted):
            by = f" by {key}" if key else ""
            wrong.append(f"{about}: not signed{by}, or altered")
        elif connection is None:
            wrong.append(f"{about}: there is no log")
        elif contradiction := against(connection, checkpoint):
            wrong.append(contradiction)
        else:
            by = key or seal.fingerprint(checkpoint["key"])
            right.append(f"OK: {about} ({checkpoint['time']}), signed by {by}")
    return wrong, right


def _verify(call: Call) -> int:
    options = call.options
    if options["public_key"] and not options["checkpoint"]:
        raise UserError("--public-key needs --checkpoint")
    connection = reads.store(call.layout)
    count, wrong, right = 0, [], []
    if connection is not None:
        count = connection.execute("SELECT count(*) FROM events").fetchone()[0]
        wrong = problems(connection)
    for path in options["checkpoint"]:
        bad, good = _checkpoints(connection, path, options["public_key"])
        wrong += bad
        right += good
    if not wrong:
        gone = _compacted(connection)
        right.insert(
            0, f"OK: {count} events" + (f", and {gone} that were compacted" if gone else "")
        )
    sys.stdout.write("".join(f"{printable.line(line)}\n" for line in wrong + right))
    return 1 if wrong else 0


VERIFY = Command(
    "events verify",
    "",
    "Check the chain of hashes over all events; exit code 1 when one was altered, removed or "
    "inserted",
    (
        Flag("checkpoint", "", "list", "FILE", "Check also what was sealed (tiffin events seal)"),
        Flag("public-key", "", "str", "FILE", "With --checkpoint: trust this key only (PEM)"),
    ),
    (0, 0),
    (
        "tiffin events verify",
        "tiffin events verify --checkpoint /mnt/safe/log.seal --public-key seal.pub",
    ),
    _verify,
)


def _seal(call: Call) -> int:
    """Not an event: sealing must not change what is sealed."""
    from ..store import seal

    options = call.options
    if not options["key"]:
        raise UserError("--key FILE is needed", hint=seal.MAKE_KEY)
    key = seal.private_key(options["key"])
    connection = reads.store(call.layout)
    last = None
    if connection is not None:
        last = connection.execute("SELECT seq, hash FROM events ORDER BY seq DESC").fetchone()
    if connection is None or last is None:
        raise NotFound("there are no events to seal")
    wrong = problems(connection)
    output = options["output"]
    if output and os.path.exists(output) and os.path.getsize(output):
        wrong += _checkpoints(connection, output, options["key"])[0]
    if wrong:
        raise Corrupt(f"not sealed: {wrong[0]}", hint="see tiffin events verify")
    now = reads.rfc3339(time_ns(), fraction=False)
    line = seal.make(key, seq=last[0], hash_=last[1], time=now, root=call.layout.root)
    if not output:
        sys.stdout.write(line + "\n")
        return 0
    with open(output, "a", encoding="utf-8") as file:
        file.write(line + "\n")
        file.flush()
        os.fsync(file.fileno())
    return 0


SEAL = Command(
    "events seal",
    "",
    "Write a signed checkpoint of the log, to be kept elsewhere",
    (
        Flag("key", "", "str", "FILE", "Ed25519 private key in PEM"),
        Flag("output", "o", "str", "FILE", "Append it to this file instead of printing it"),
    ),
    (0, 0),
    (
        "openssl genpkey -algorithm ed25519 -out seal.pem",
        "tiffin events seal --key seal.pem --output /mnt/safe/log.seal",
        "tiffin events verify --checkpoint /mnt/safe/log.seal",
    ),
    _seal,
)
