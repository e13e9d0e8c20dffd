"""What the log says of each container beside what there is of it: directory, own layer, mount,
config.json, volumes."""

from __future__ import annotations

import os
from typing import Any

from ...errors import Conflict, NotFound, TiffinError
from ...events.container import ConfigRewritten
from ...images import digest
from ...store import queries
from .. import rootfs
from ..base import Engine
from ..hold import Held, hold
from ..recover import LIVE
from .damage import Damage, is_busy

ALL = "SELECT * FROM containers WHERE state NOT IN ('creating','removing') ORDER BY created"
MOUNTED_ONCE = "SELECT 1 AS one FROM events WHERE stream=? AND type='container.mounted' LIMIT 1"


async def look(engine: Engine, quick: bool) -> list[Damage]:
    found: list[Damage] = []
    for row in await engine.store.rows(ALL):
        if is_busy(engine, row["id"]):
            continue
        again = await engine.store.rows(f"{ALL.partition(' ORDER')[0]} AND id=?", (row["id"],))
        if again and again[0]["state"] == row["state"]:
            found += await _look_at(engine, again[0])
    for volume in await engine.store.rows("SELECT * FROM volumes"):
        # Before the first container that mounts it there is none.
        if volume["populated"] and not os.path.isdir(volume["path"]):
            name = volume["name"]
            found.append(
                Damage("volume", f"volume {name}", "its directory is missing", name, volume["path"])
            )
    return found


async def _look_at(engine: Engine, row: queries.Row) -> list[Damage]:
    subject, cid = f"container {row['name']}", row["id"]
    found: list[Damage] = []

    def add(kind: str, problem: str) -> None:
        found.append(Damage(kind, subject, problem, cid))

    if not os.path.isdir(row["directory"]):
        add("directory", "its directory is missing")
    if row["spec"] and (problem := _config(row)):
        add("config", problem)
    try:
        driver = engine.storage(row["storage_driver"])
    except TiffinError as error:
        add("driver", str(error))
        return found
    there = not hasattr(driver, "has_own_layer") or await driver.has_own_layer(cid)
    if not there and await engine.store.rows(MOUNTED_ONCE, (f"container/{cid}",)):
        add("own-layer", "its own layer (the upper directory) is missing")
        return found
    if row["state"] not in LIVE and row["mounted"] and not await rootfs.is_mounted(engine, row):
        add("unmounted", "it is mounted in the log, but not here")
    return found


def _config(row: queries.Row) -> str:
    """What is wrong with config.json, which the last `init` wrote; or ""."""
    try:
        with open(f"{row['directory']}/config.json", "rb") as file:
            data = file.read()
    except FileNotFoundError:
        return "config.json is missing"
    except OSError as error:
        return f"config.json cannot be read: {error.strerror}"
    if digest.of(data) != row["spec"]:
        return "config.json is not the one that was written"
    return ""


async def mend(engine: Engine, damage: Damage, force: bool) -> str:
    if damage.kind == "volume":
        os.makedirs(damage.detail, mode=0o755)
        return "made again, without what was in it"
    if damage.kind == "driver":
        raise NotFound("its driver is needed for that", hint="see tiffin plugin ls")
    async with hold(engine, damage.key) as held:
        how: str = await MENDERS[damage.kind](held)
    return how


async def _directory(held: Held) -> str:
    os.makedirs(held.row["directory"], mode=0o700, exist_ok=True)
    return "made again; its log is lost"


async def _own_layer(held: Held) -> str:
    row = held.row
    if held.state in LIVE:
        raise Conflict(
            f"container {row['name']} is {held.state}",
            hint=f"tiffin stop {row['name']}, then repair again",
        )
    driver = held.engine.storage(row["storage_driver"])
    await rootfs.unmount(held.engine, row)
    await driver.prepare(held.id, row["layers"])
    return "made again, as the image has it: what the container had changed is lost"


async def _unmounted(held: Held) -> str:
    """Holding it has told the log."""
    return "the log says so now"


async def _config_again(held: Held) -> str:
    from .. import bundle, files

    async with files.rooted(held) as (path, _):
        spec = await bundle.rewrite(held, path)
    if spec == held.row["spec"]:
        return "written again"
    await held.journal.write(held.stream, ConfigRewritten(spec=spec))
    return "written again, as it would be made now"


MENDERS: dict[str, Any] = {
    "directory": _directory,
    "own-layer": _own_layer,
    "unmounted": _unmounted,
    "config": _config_again,
}
