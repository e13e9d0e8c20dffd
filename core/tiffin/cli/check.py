"""`system check`: whether the store is whole; with --repair also mending what is not."""

from __future__ import annotations

import sys

from ..errors import UserError
from ..store import compaction
from . import printable, reads
from .flags import Call

TYPE_CHECKING = False  # without importing typing
if TYPE_CHECKING:
    import sqlite3
    from typing import Any

    from ..engine.base import Engine
    from ..engine.checks import Finding


def problems(connection: sqlite3.Connection) -> list[str]:
    """One line each: what SQLite finds damaged, else where the chain of events is broken."""
    from sqlite3 import DatabaseError

    try:
        found = [str(row[0]) for row in connection.execute("PRAGMA integrity_check")]
    except DatabaseError as error:
        found = [str(error)]
    if found != ["ok"]:
        return [f"tiffin.db: {' '.join(text.split())}" for text in found]
    return compaction.verify(connection)


def _lower(call: Call) -> list[dict[str, Any]] | None:
    """What is wrong with the database itself, on which all else rests; None without a store."""
    connection = reads.store(call.layout)
    if connection is None:
        return None
    found = problems(connection)
    how = "the database and its log are not repaired: keep this store, restore a copy"
    kinds = [("database" if text.startswith("tiffin.db: ") else "log", text) for text in found]
    return [
        {
            "kind": kind,
            "subject": "tiffin.db",
            "problem": text.removeprefix("tiffin.db: "),
            "mended": False,
            "how": how if call.options["repair"] else "",
        }
        for kind, text in kinds
    ]


def _upper(call: Call) -> list[dict[str, Any]]:
    """What is wrong with everything else."""
    from .session import drive

    options = call.options

    async def work(engine: Engine) -> list[Finding]:
        from ..engine import checks

        if options["repair"]:
            return await checks.repair(engine, quick=options["quick"], force=options["force"])
        return [
            checks.Finding(found) for found in await checks.look(engine, quick=options["quick"])
        ]

    return [
        {
            "kind": finding.damage.kind,
            "subject": finding.damage.subject,
            "problem": finding.damage.problem,
            "mended": finding.mended,
            "how": finding.how,
        }
        for finding in drive(call, work)
    ]


def _line(found: dict[str, Any]) -> str:
    subject = "" if found["kind"] == "log" else f"{found['subject']}: "
    text = f"{subject}{found['problem']}"
    if found["mended"]:
        return f"mended: {text}: {found['how']}"
    return f"{text}; not mended: {found['how']}" if found["how"] else text


def run(call: Call) -> int:
    options = call.options
    if options["force"] and not options["repair"]:
        raise UserError("--force needs --repair")
    if options["format"] not in ("", "json"):
        raise UserError(f"--format {options['format']}", hint="there is json")
    found = _lower(call)
    stored = found is not None
    found = found or (_upper(call) if stored else [])
    code = 0 if all(one["mended"] for one in found) else 1
    if options["format"]:
        import json

        sys.stdout.write(json.dumps({"whole": not code, "damage": found}, indent=2) + "\n")
        return code
    sys.stdout.write("".join(f"{printable.line(_line(one))}\n" for one in found))
    if code or not stored:
        if not stored:
            sys.stdout.write(f"OK: nothing is stored in {printable.line(call.layout.root)}\n")
        return code
    connection = reads.store(call.layout)
    assert connection is not None
    count = connection.execute("SELECT count(*) FROM events").fetchone()[0]
    sys.stdout.write(f"OK: the database is whole, and so is the chain of {count} events\n")
    what = "images, layers and containers" if not options["quick"] else "containers, at a glance,"
    sys.stdout.write(f"OK: {what} are as the log says\n")
    return 0
