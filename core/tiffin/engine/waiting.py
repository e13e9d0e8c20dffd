"""`wait --condition`: until a container is in one of some states, or says that it is healthy."""

from __future__ import annotations

from collections.abc import Iterable

import trio

from ..errors import NotFound, UserError
from ..processes import alive
from ..store import follow, queries
from .base import Engine
from .recover import LIVE
from .stop import hold_or_gone, last_exit_code

CONDITIONS = (
    *("configured", "created", "exited", "healthy", "initialized", "paused", "removing"),
    *("running", "stopped", "stopping", "unhealthy", "unknown"),
)
"""podman-wait(1)."""
LONGEST = 5.0
"""Seconds between looks whether it ended with nobody there to record it."""


def conditions(words: Iterable[str]) -> frozenset[str]:
    """Error: UserError for one that is not known."""
    found = frozenset(word.lower() for word in words)
    for word in found:
        if word not in CONDITIONS:
            hint = ", ".join(CONDITIONS)
            raise UserError(f"--condition {word!r} is no state of a container", hint=hint)
    return found


def fulfilled(row: queries.Row, wanted: frozenset[str]) -> bool:
    """podman's words: what was created is `configured` to it, what is initialized `created`."""
    state = row["state"]
    words = {state}
    if state in ("creating", "created"):
        words |= {"configured", "created"}
    if state == "initialized":
        words.add("created")
    if state not in LIVE:
        words |= {"stopped", "exited"}  # also one that never ran
    if state == "running" and row["health"]:
        words.add(row["health"])
    return not wanted.isdisjoint(words)


async def wait_for(engine: Engine, given: str, wanted: frozenset[str]) -> int:
    """Returns the exit code, -1 for a container that has not ended. Error: NotFound, also when it
    is removed before (but for what holds of a removed one: `removing`, `exited`, `stopped`)."""
    row = await engine.container(given)
    cid = row["id"]
    with follow.Watch(engine.layout) as watch:
        while not fulfilled(row, wanted):
            if row["pid"] and not alive(row["pid"]):
                async with hold_or_gone(engine, cid):
                    pass  # who holds a container records its end
            happened = False
            with trio.move_on_after(min(watch.pause, LONGEST)):
                await trio.lowlevel.wait_readable(watch.fd)
                happened = True
            watch.woken(happened)
            try:
                row = await engine.container_now(cid)
            except NotFound:
                if wanted.isdisjoint(("removing", "exited", "stopped")):
                    raise
                return await last_exit_code(engine, cid)
    return -1 if row["state"] in LIVE else int(row["exit_code"])
