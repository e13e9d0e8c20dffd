"""`system check`: what is stored, and what the machine has of it, beside what the log says.

Looking changes nothing and waits for nobody: what another command is at work on is passed over.
Mending goes from the bottom up (tables, blobs, layers, containers, the machine), because each rests
on what is below it, and then looks again: what is still there was not mended.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from msgspec import Struct

from ...errors import TiffinError
from ...events.system import DamageRepaired
from ..base import Engine
from .damage import Damage

ROUNDS = 3
"""Mending may bring more to light: a layer is only compared when its blob is whole."""


class Finding(Struct, frozen=True):
    """A damage, and what became of it."""

    damage: Damage
    mended: bool = False
    how: str = ""
    """What was done, or why nothing could be."""


Look = Callable[[Engine, bool], Awaitable[list[Damage]]]
Mend = Callable[[Engine, Damage, bool], Awaitable[str]]


def _steps() -> tuple[tuple[Look, Mend], ...]:
    from . import containers, images, layers, machine, tables, unfinished

    modules = (tables, unfinished, images, layers, containers, machine)
    return tuple((module.look, module.mend) for module in modules)


async def look(engine: Engine, *, quick: bool = False) -> list[Damage]:
    """All damage there is; `quick`: without reading blobs, layers and the whole log again."""
    found: list[Damage] = []
    for looking, _ in _steps():
        found += await looking(engine, quick)
    return found


async def repair(engine: Engine, *, quick: bool = False, force: bool = False) -> list[Finding]:
    """Mend what can be; with `force` also by removing containers. What is not mended says why."""
    findings: dict[tuple[str, str, str], Finding] = {}
    for _ in range(ROUNDS):
        left = set()
        fresh = 0
        for looking, mending in _steps():
            for damage in await looking(engine, quick):
                left.add(damage.identity)
                if damage.identity not in findings:
                    fresh += 1
                    findings[damage.identity] = await _mend(engine, mending, damage, force)
        if not fresh:
            break
    else:
        left = {damage.identity for damage in await look(engine, quick=quick)}
    return [
        Finding(found.damage, False, "it is there again")
        if found.mended and found.damage.identity in left
        else found
        for found in findings.values()
    ]


async def _mend(engine: Engine, mending: Mend, damage: Damage, force: bool) -> Finding:
    try:
        how = await mending(engine, damage, force)
    except* TiffinError as group:
        error: BaseException = group
        while isinstance(error, BaseExceptionGroup):
            error = error.exceptions[0]
        finding = Finding(damage, False, str(error))
    else:
        event = DamageRepaired(
            kind=damage.kind, subject=damage.subject, problem=damage.problem, how=how
        )
        await engine.journal().write("system", event)
        finding = Finding(damage, True, how)
    return finding
