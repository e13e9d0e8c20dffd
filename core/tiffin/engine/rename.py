"""`rename`: another name for a container, whatever its state."""

from __future__ import annotations

from .. import ids
from ..errors import Conflict
from ..events.container import Renamed
from .base import Engine
from .hold import hold


async def rename(engine: Engine, given: str, name: str) -> None:
    """Errors: NotFound, UserError (no name), Conflict (in use)."""
    ids.check_name(name)
    async with hold(engine, given) as held:
        old = held.row["name"]
        if name == old:
            return
        try:
            await held.journal.write(held.stream, Renamed(name=name, was=old))
        except Conflict as error:
            raise Conflict(
                f"the container name {name!r} is in use", hint="remove that container first"
            ) from error
