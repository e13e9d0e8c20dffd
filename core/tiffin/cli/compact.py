"""`system compact`: the log kept in bounds."""

from __future__ import annotations

import contextlib
import os
import sys
from time import time_ns

from ..errors import NotFound, UserError
from ..store import compaction, cursors, sync
from ..units import human_size, parse_time
from . import table
from .flags import Call


def _size(path: str) -> int:
    found = 0
    for name in (path, f"{path}-wal"):
        with contextlib.suppress(FileNotFoundError):
            found += os.stat(name).st_size
    return found


def run(call: Call) -> int:
    import msgspec

    from .. import actor

    options = call.options
    if not options["before"]:
        raise UserError("--before TIME is needed", hint="720h (ago), or RFC 3339")
    if options["format"] not in ("", "json"):
        raise UserError(f"--format {options['format']!r} is not known", hint="json")
    before = parse_time(options["before"], time_ns(), "--before")
    path = call.layout.database
    if not os.path.exists(path):
        raise NotFound(f"there is no store at {call.layout.root}")
    lowest = cursors.lowest(call.layout)
    upto = (1 << 62) if lowest is None else lowest
    size = _size(path)
    connection, _ = sync.open_or_create(path)
    with contextlib.closing(connection):
        if options["dry_run"]:
            folded = compaction.plan(connection, before, upto).folded
        else:
            folded = compaction.compact(
                connection, before, upto, command=os.urandom(8).hex(), actor=actor.current("cli")
            )
    if options["format"] == "json":
        sizes = {"database_before": size, "database_after": _size(path)}
        sys.stdout.write(table.json_text({**msgspec.to_builtins(folded), **sizes}))
        return 0
    verb = "would be folded" if options["dry_run"] else "folded"
    lines = [f"{folded.events} events of {folded.streams} streams {verb}"]
    if folded.lives:
        lines.append(
            f"a container's life: {human_size(folded.life_before)} before, "
            f"{human_size(folded.life_after)} after (of {folded.lives})"
        )
    if not options["dry_run"]:
        lines.append(f"the database: {human_size(size)} before, {human_size(_size(path))} after")
    if lowest is not None:
        lines.append(f"events after {lowest} stay: a consumer has not acknowledged them")
    sys.stdout.write("".join(f"{line}\n" for line in lines))
    return 0
