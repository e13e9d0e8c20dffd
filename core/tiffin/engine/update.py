"""`update`: other limits for a container, at once when it runs, and for its next starts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
import trio

from ..errors import UserError
from ..events.container import Failed, RestartPolicyChanged, Updated, UpdatePlanned
from ..options import Resources
from . import limits
from .base import Engine
from .hold import hold


async def update(engine: Engine, given: str, changes: Mapping[str, Any]) -> str:
    """Change some of the limits (fields of `options.Resources`); returns the id.

    Errors: NotFound, UserError (a limit that makes no sense here), RuntimeFailed.
    """
    async with hold(engine, given) as held:
        held.need("update", "created", "initialized", "running", "paused", "exited")
        before: dict[str, Any] = held.row["options"].get("resources") or {}
        wanted = msgspec.convert({**before, **changes}, Resources)
        limits.of(wanted)  # refuses what cannot be, before anything is written
        plain = msgspec.to_builtins(wanted)
        await held.journal.write(held.stream, UpdatePlanned(resources=plain))
        try:
            await limits.apply(engine, held.row, wanted)
        except BaseException as error:
            with trio.CancelScope(shield=True):
                why = str(error) or type(error).__name__
                failed = Failed(operation="update", error=why, state=held.state)
                await held.journal.write(held.stream, failed)
            raise
        await held.journal.write(held.stream, Updated(resources=plain))
        return held.id


async def change_restart(engine: Engine, given: str, policy: str, limit: int) -> str:
    """Another restart policy; returns the id. Errors: NotFound, UserError for one with --rm."""
    async with hold(engine, given) as held:
        if policy and held.row["remove"]:
            raise UserError(f"container {held.row['name']} is removed when it ends (--rm)")
        previous = held.row["options"].get("restart", "")
        event = RestartPolicyChanged(restart=policy, restart_limit=limit, previous=previous)
        await held.journal.write(held.stream, event)
        return held.id
