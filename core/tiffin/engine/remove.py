"""`rm`: metadata, config.json and copy-on-write layer go; the log keeps the history."""

from __future__ import annotations

from ..errors import Conflict, NotFound
from ..events.container import Exited, RemovalPlanned, Removed
from ..store import queries
from . import teardown
from .base import Engine, Journal
from .hold import Held, hold
from .recover import LIVE
from .stop import end_process


async def remove(
    engine: Engine,
    given: str,
    *,
    force: bool = False,
    timeout: int | None = None,
    ignore_missing: bool = False,
    journal: Journal | None = None,
    volumes: bool = False,
) -> str | None:
    """Remove a container; with `force` a running one is killed first (after `timeout` seconds of
    SIGTERM, when given). Returns its id, or None when it is not there and that is ignored.

    Errors: NotFound, Conflict when it runs and `force` is not given, or others are in its network.
    """
    try:
        async with hold(engine, given, journal) as held:
            from . import shared

            await shared.need_none(engine, held.row)
            await remove_held(held, force=force, timeout=timeout, volumes=volumes)
            return held.id
    except NotFound:
        if ignore_missing or force:
            return None
        raise


async def remove_held(
    held: Held, *, force: bool = False, timeout: int | None = None, volumes: bool = False
) -> None:
    """`remove` for a container whose lock we have. With `volumes`, and always for one that was
    made with --rm, its anonymous volumes go as well."""
    if held.state in LIVE and held.state != "initialized":
        if not force:
            raise Conflict(
                f"container {held.row['name']} is {held.state}",
                hint="stop it first, or use rm --force",
            )
        await end_process(held, timeout=0 if timeout is None else timeout)
        await held.again()
    if held.state == "initialized":
        held.journal.note(held.stream, Exited(exit_code=0, reason="removed before it ran"))
    volumes = volumes or bool(held.row["remove"])
    await held.journal.write(held.stream, RemovalPlanned(force=force, volumes=volumes))
    await take_away(held.engine, held.journal, held.row, volumes=volumes)
    await held.journal.write(held.stream, Removed())


async def take_away(engine: Engine, journal: Journal, row: queries.Row, *, volumes: bool) -> None:
    """All that the intent to remove a container covers; may be repeated."""
    await teardown.everything(engine, row)
    mounts = row["options"].get("mounts", ())
    if volumes and any(mount["type"] == "volume" for mount in mounts):
        from . import volumes as kept  # which removes containers as well, through this module

        await kept.remove_anonymous(engine, journal, row)
