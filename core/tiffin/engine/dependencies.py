"""`--requires`: containers that run before another is started, and stay as long as it does."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import msgspec

from ..errors import Conflict, NotFound, TiffinError
from ..network_modes import CONTAINER
from ..options import ContainerOptions
from ..store import queries
from .base import Engine

DEPENDENTS = (
    "SELECT id, name FROM containers WHERE network=?1 OR EXISTS (SELECT 1 FROM "
    "json_each(options, '$.requires') WHERE value=?2) ORDER BY created"
)


def of(row: queries.Row) -> list[str]:
    """Ids of the containers that this one needs; also whose network it uses."""
    found: list[str] = list(row["options"].get("requires", ()))
    if row["network"].startswith(CONTAINER):
        found.append(row["network"].removeprefix(CONTAINER))
    return found


async def settle(engine: Engine, options: ContainerOptions) -> ContainerOptions:
    """The options with the ids of what is required. Error: NotFound."""
    found: list[str] = []
    for name in options.requires:
        try:
            found.append((await engine.container(name))["id"])
        except NotFound:
            raise NotFound(f"--requires {name}: no such container") from None
    return msgspec.structs.replace(options, requires=tuple(dict.fromkeys(found)))


@asynccontextmanager
async def in_use(engine: Engine, ids: Sequence[str]) -> AsyncIterator[None]:
    """Hold what is required until that is written down, so that nobody removes it meanwhile. The
    newest first: as whoever starts a container holds it, and then what it requires.
    Error: NotFound when somebody removed one before."""
    rows = await engine.store.rows("SELECT id FROM containers ORDER BY created DESC")
    order = {row["id"]: place for place, row in enumerate(rows)}
    async with AsyncExitStack() as stack:
        for cid in sorted(ids, key=lambda cid: order.get(cid, -1)):
            await stack.enter_async_context(engine.locks.container(cid))
            try:
                await engine.container_now(cid)
            except NotFound:
                engine.locks.forget(cid)
                raise
        yield


async def up(engine: Engine, row: queries.Row) -> None:
    """Start what a container requires, and before that what those require, unless it runs.
    Error: that of the start, with both names."""
    from .start import start

    for cid in row["options"].get("requires", ()):
        try:
            other = await engine.container_now(cid)
        except NotFound:
            raise Conflict(
                f"a container that {row['name']} requires is gone: {cid[:12]}",
                hint="make this one anew",
            ) from None
        if other["state"] in ("running", "paused"):
            continue
        try:
            await start(engine, cid)
        except* TiffinError as group:
            error: BaseException = group
            while isinstance(error, BaseExceptionGroup):
                error = error.exceptions[0]
            what = error.what if isinstance(error, TiffinError) else error
            raise Conflict(
                f"cannot start {other['name']}, which {row['name']} requires: {what}"
            ) from error


async def dependents(engine: Engine, cid: str) -> list[dict[str, Any]]:
    """The containers that need this one."""
    return await engine.store.rows(DEPENDENTS, (CONTAINER + cid, cid))


async def need_none(engine: Engine, row: queries.Row) -> None:
    """Error: Conflict while others need this container."""
    others = await dependents(engine, row["id"])
    if others:
        names = ", ".join(other["name"] for other in others)
        raise Conflict(
            f"container {row['name']} has dependent containers which must be removed before it: "
            f"{names}",
            hint="rm --depend removes them as well",
        )
