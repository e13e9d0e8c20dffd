"""What a dead process left open, and ends that nobody recorded: `system recover` sees to both."""

from __future__ import annotations

from ... import processes
from ...errors import Conflict
from .. import garbage, networks
from ..base import Engine
from ..recover import LIVE
from .damage import Busy, Damage, is_busy


async def look(engine: Engine, quick: bool) -> list[Damage]:
    found = []
    names = {row["id"]: row["name"] for row in await engine.store.rows("SELECT * FROM containers")}
    for intent in await engine.store.rows("SELECT * FROM intents ORDER BY seq"):
        noun, _, key = intent["stream"].partition("/")
        if noun == "container":
            lock = engine.layout.lock(key)
        elif noun == "network":
            lock = networks.lock(engine)
        elif noun in ("image", "layer", "transfer", "mount"):
            lock = garbage.lock(engine)
        else:
            continue
        with Busy(lock) as busy:
            if busy or not await _still(engine, intent["seq"]):
                continue
        subject = f"{noun} {names.get(key, key)}"
        found.append(Damage("unfinished", subject, f"{intent['operation']} was not finished", key))
    for row in await engine.store.rows("SELECT * FROM containers"):
        if row["state"] not in LIVE or is_busy(engine, row["id"]):
            continue
        row = (await engine.store.rows("SELECT * FROM containers WHERE id=?", (row["id"],)))[0]
        ended = processes.observe(engine.layout, row["id"], row["pid"], row["conmon_pid"])
        if row["state"] in LIVE and ended is not None:
            problem = f"it is {row['state']} in the log, but has ended"
            found.append(Damage("ended", f"container {row['name']}", problem, row["id"]))
    return found


async def _still(engine: Engine, seq: int) -> bool:
    return bool(await engine.store.rows("SELECT seq FROM intents WHERE seq=?", (seq,)))


async def mend(engine: Engine, damage: Damage, force: bool) -> str:
    from ..system import recover

    mended = await recover(engine)
    if any(found.identity == damage.identity for found in await look(engine, True)):
        raise Conflict("it could not be finished or undone", hint="see tiffin system recover")
    return "; ".join(line for line in mended if damage.key and damage.key[:12] in line) or "closed"
