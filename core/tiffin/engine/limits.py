"""The limits of a container as the runtime takes them, and telling it."""

from __future__ import annotations

from typing import Any

import msgspec

from ..errors import UserError
from ..options import Resources
from ..spec import facts, resources
from ..store import queries
from .base import Engine
from .cgroup_places import NONE


async def apply(engine: Engine, row: queries.Row, wanted: Resources) -> None:
    """Tell the runtime, when there is a process. Errors: UserError, RuntimeFailed."""
    limits = of(wanted)
    if row["cgroup"] == NONE:
        raise UserError(f"container {row['name']} has no cgroup of its own that could be limited")
    if row["pid"]:
        await engine.runtime(row["runtime"]).update(row["id"], limits)


async def finish(engine: Engine, row: queries.Row) -> dict[str, Any]:
    """Carry out the update that a dead process had planned; returns the limits as plain data."""
    found = await engine.store.rows(
        "SELECT data FROM intents WHERE stream=? AND operation='update'",
        (f"container/{row['id']}",),
    )
    plain: dict[str, Any] = found[0]["data"]["resources"]
    await apply(engine, row, msgspec.convert(plain, Resources))
    return plain


def of(wanted: Resources) -> dict[str, Any]:
    """`linux.resources` of the runtime specification. Error: UserError for what cannot be here."""
    host = facts.gather()
    if wanted.memory_swap > 0 and not wanted.memory:
        raise UserError("--memory-swap needs --memory")
    found: dict[str, Any] = {}
    for pointer, value, _ in resources.entries(
        *(wanted, host.cpus),
        swap_counted=host.memory_swap,
        cgroup_v2=host.cgroup_v2,
        controllers=host.controllers,
    ):
        _, kind, name = pointer.split("/")
        found.setdefault(kind, {})[name] = value
    if wanted.pids_limit < 0 and (host.controllers is None or "pids" in host.controllers):
        found["pids"] = {"limit": -1}
    return found
