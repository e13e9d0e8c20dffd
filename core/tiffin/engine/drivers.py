"""Which driver: the flag, the environment, tiffin.toml, and else the best that works here.

The choice by trial is made once a store and recorded, so that later commands need not try again.
"""

from __future__ import annotations

from typing import Any

from ..errors import DriverError
from ..events.system import DriverChosen
from .base import Engine


async def storage_name(engine: Engine, asked: str = "") -> str:
    """Name of the storage driver for a new container or image."""
    return asked or engine.settings.storage_driver or await _default(engine, "storage")


async def mapping_storage(engine: Engine, driver: str, asked: str) -> str:
    """The storage driver for a container with ids of its own: `driver`, unless nobody asked for it
    and it cannot show other owners here. Error: DriverError when it was asked for, or none can."""
    why = _cannot_map(engine, driver)
    if why is None:
        return driver
    if not (asked or engine.settings.storage_driver):
        made = [(name, engine.storage(name)) for name in engine.plugins.names("storage")]
        for name, other in sorted(made, key=lambda pair: -pair[1].preference):
            if _cannot_map(engine, name) is None:
                if (refused := await other.probe()) is None:
                    return name
                why += f"; {name}: {refused}"
    able = [name for name in engine.plugins.names("storage") if _cannot_map(engine, name) is None]
    hint = f"use --storage-driver {' or '.join(able)} for containers with --userns or --uidmap"
    raise DriverError(f"the storage driver {driver} cannot do that here: {why}", hint=hint)


def _cannot_map(engine: Engine, name: str) -> str | None:
    driver: Any = engine.storage(name)
    if engine.layout.uid and not getattr(driver, "maps_ids", False):
        return "an ordinary user cannot be shown other owners of files than are stored"
    reason: str | None = driver.cannot_map() if hasattr(driver, "cannot_map") else None
    return reason


async def runtime_name(engine: Engine, asked: str = "") -> str:
    """Name (or absolute path) of the runtime for a new container."""
    return asked or engine.settings.runtime or await _default(engine, "runtime")


async def _default(engine: Engine, kind: str) -> str:
    found = await engine.store.rows("SELECT name FROM defaults WHERE kind=?", (kind,))
    if found and f"{kind}.{found[0]['name']}" in engine.plugins.installed:
        return str(found[0]["name"])
    refused = sorted(engine.plugins.index.refused.items())
    passed_over = [f"{full}: {why}" for full, why in refused if full.startswith(f"{kind}.")]
    made = []
    for name in engine.plugins.names(kind):
        try:
            made.append((name, engine.driver(kind, name)))
        except DriverError as error:
            passed_over.append(f"{name}: {error}")
    for name, driver in sorted(made, key=lambda pair: -pair[1].preference):
        why = await _why_not(kind, driver)
        if why is None:
            reason = "; ".join(passed_over)
            event = DriverChosen(kind=kind, name=name, reason=reason)
            await engine.journal().write("system", event)
            return name
        passed_over.append(f"{name}: {why}")
    raise DriverError(f"no {kind} driver works here: {'; '.join(passed_over) or 'none installed'}")


async def _why_not(kind: str, driver: Any) -> str | None:
    if kind == "storage":
        why: str | None = await driver.probe()
        return why
    try:
        driver.program()
    except DriverError as error:
        return str(error)
    return None
