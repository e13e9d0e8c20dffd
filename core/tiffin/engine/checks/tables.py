"""The read tables beside the log that they are folded from, which must have been verified: one that
was altered would be folded into them."""

from __future__ import annotations

import os

import trio

from ..base import Engine
from .damage import Damage


async def look(engine: Engine, quick: bool) -> list[Damage]:
    if quick:
        return []
    return await trio.to_thread.run_sync(_look, engine.layout.database)


def _look(database: str) -> list[Damage]:
    from ...store import past, sync

    connection = sync.open_read_only(database)
    if connection is None:
        return []
    try:
        connection.execute("BEGIN")  # one moment, whatever others write meanwhile
        return [
            Damage("table", f"table {table}", f"{what} is not what the log says", table)
            for table, what in past.differences(connection)
        ]
    finally:
        connection.close()


async def mend(engine: Engine, damage: Damage, force: bool) -> str:
    """Fold them again. The log itself is never written over: nobody could tell a repair of it from
    a forgery."""
    await trio.to_thread.run_sync(_rebuild, engine.layout.database, engine.actor)
    return "folded again from the log"


def _rebuild(database: str, actor: str) -> None:
    from ...store import log, sync

    connection = sync.open_for_append(database)
    try:
        count = sync.rebuild(connection)
        record = log.Record("system", "system.projections_rebuilt", f'{{"events":{count}}}')
        sync.run(connection, log.append([record], command=os.urandom(8).hex(), actor=actor))
    finally:
        connection.close()
