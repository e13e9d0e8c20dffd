"""`rm`: metadata, config.json and copy-on-write layer go; the log keeps the history."""

from __future__ import annotations

from contextlib import suppress

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

    Errors: NotFound, Conflict when it runs and `force` is not given, or others need it.
    """
    try:
        async with hold(engine, given, journal) as held:
            from . import dependencies

            await dependencies.need_none(engine, held.row)
            await remove_held(held, force=force, timeout=timeout, volumes=volumes)
            return held.id
    except NotFound:
        if ignore_missing or force:
            return None
        raise


async def remove_with_dependents(
    engine: Engine, given: str, *, force: bool = False, timeout: int | None = None, volumes: bool
) -> list[str]:
    """Remove a container and before it those that need it. Returns their ids. Errors: as
    `remove`."""
    from . import dependencies

    row = await engine.container(given)
    gone: list[str] = []
    for other in await dependencies.dependents(engine, row["id"]):
        with suppress(NotFound):  # it needed another one as well, and went with that
            gone += await remove_with_dependents(
                engine, other["id"], force=force, timeout=timeout, volumes=volumes
            )
    cid = await remove(engine, row["id"], force=force, timeout=timeout, volumes=volumes)
    return [*gone, *([cid] if cid else [])]


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
