"""`plugin enable` and `plugin disable`: decisions about plugins, as events."""

from __future__ import annotations

from .. import plugin_index
from ..errors import Conflict, NotFound, UserError
from ..events.plugin import PluginDisabled, PluginEnabled
from .base import Engine

USES = {
    "storage": (
        "SELECT 'container ' || name FROM containers WHERE storage_driver=?1 UNION ALL "
        "SELECT 'layer ' || substr(chain_id, 8, 12) FROM layers WHERE driver=?1"
    ),
    "runtime": "SELECT 'container ' || name FROM containers WHERE runtime=?1",
    "network": (
        "SELECT 'network ' || name FROM networks WHERE driver=?1 UNION ALL "
        "SELECT 'container ' || c.name FROM containers AS c, json_each(c.attachments) AS a "
        "WHERE json_extract(a.value, '$.network.driver')=?1"
    ),
    "label": (
        "SELECT 'container ' || c.name FROM containers AS c, json_each(c.security_labels) AS l "
        "WHERE l.key=?1"
    ),
}
"""What depends on a driver of each kind, by name."""


def full_name(given: str, known: set[str]) -> str:
    """KIND.NAME of what was given; NAME alone will do when one kind has it.
    Errors: NotFound, UserError."""
    if given in known:
        return given
    found = sorted(name for name in known if name.partition(".")[2] == given)
    if not found:
        raise NotFound(f"no such plugin: {given}", hint="tiffin plugin ls lists those there are")
    if len(found) > 1:
        raise UserError(f"{given!r} is the name of several plugins", hint=", ".join(found))
    return found[0]


async def users(engine: Engine, name: str) -> list[str]:
    """What depends on a plugin now: `container web`, `layer 0a1b...`."""
    kind, _, plain = name.partition(".")
    query = USES.get(kind)
    rows = await engine.store.rows(query, (plain,)) if query else []
    return [str(next(iter(row.values()))) for row in rows]


async def enable(engine: Engine, given: str, *, package: str = "") -> str:
    """Let a plugin be used again, and choose whose it is. Returns its full name.

    Errors: NotFound; Conflict when several packages have it and none is chosen.
    """
    decided = plugin_index.decisions(engine.layout)
    found = plugin_index.entries()
    name = full_name(given, {entry.name for entry in found} | set(decided))
    packages = [entry.package for entry in found if entry.name == name]
    before = decided.get(name)
    if package and package not in packages:
        raise NotFound(f"package {package} has no plugin {name}", hint=", ".join(packages))
    chosen = package or (before.package if before else "")
    if len(packages) > 1 and chosen not in packages:
        raise Conflict(
            f"several packages have a plugin {name}: {', '.join(packages)}",
            hint="choose with --package",
        )
    refused = name in plugin_index.judge(found, decided).refused
    if refused or chosen != (before.package if before else ""):
        await _decide(engine, name, PluginEnabled(package=chosen if len(packages) > 1 else ""))
    return name


async def disable(engine: Engine, given: str, *, force: bool = False) -> str:
    """Let nothing use a plugin; returns its full name.

    Errors: NotFound; Conflict when something depends on it, unless `force`.
    """
    decided = plugin_index.decisions(engine.layout)
    found = {entry.name for entry in plugin_index.entries()}
    name = full_name(given, found | set(decided))
    before = decided.get(name)
    if before and not before.enabled:
        return name
    used = await users(engine, name)
    if used and not force:
        more = f" and {len(used) - 1} more" if len(used) > 1 else ""
        raise Conflict(
            f"plugin {name} is used by {used[0]}{more}",
            hint="remove or migrate them, or use --force",
        )
    await _decide(engine, name, PluginDisabled(forced=bool(used)))
    return name


async def _decide(engine: Engine, name: str, event: PluginEnabled | PluginDisabled) -> None:
    plugin_index.touch(engine.layout)
    await engine.journal().write(f"plugin/{name}", event)
    plugin_index.touch(engine.layout)
