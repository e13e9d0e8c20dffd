"""`update`: other limits for a container, at once when it runs, and for its next starts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
import trio

from ..events.container import Failed, Updated, UpdatePlanned
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
