"""The ids of an ordinary user's new container: of those that their namespace has."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import msgspec

from ..errors import Conflict, UserError
from ..hooks import IdMaps, IdRange
from ..options import ContainerOptions
from ..spec import idmaps
from . import idmaps as engine_idmaps
from .base import Engine

KINDS = ("uid", "gid")
MORE = "an administrator gives more: usermod --add-subuids FIRST-LAST --add-subgids FIRST-LAST"


@asynccontextmanager
async def settled(
    engine: Engine, options: ContainerOptions, word: str
) -> AsyncIterator[tuple[ContainerOptions, IdMaps]]:
    """As `idmaps.settled`. Errors: UserError, Conflict (none are left)."""
    own = [_own(kind) for kind in KINDS]
    counts = [sum(one.size for one in ranges) for ranges in own]
    if word in ("keep-id", "nomap", "auto") and min(counts) < 2:
        raise UserError(f"--userns {options.userns}: you have no ids but your own", hint=MORE)
    if word == "keep-id":
        wish = idmaps.wanted(options.userns)
        found = tuple(
            idmaps.kept(ranges[0].outside, count, inside)
            for ranges, count, inside in zip(own, counts, (wish.uid, wish.gid), strict=True)
        )
        if not options.user:  # as podman: who calls is who runs in there
            ids = (next(r.inside for r in ranges if r.outside == 0) for ranges in found)
            options = msgspec.structs.replace(options, user=":".join(map(str, ids)))
        yield options, IdMaps(*found)
    elif word == "nomap":
        yield options, IdMaps(*map(idmaps.unmapped, counts))
    elif word == "auto":
        async with engine.locks.named(f"{engine.layout.run}/locks/idmaps"):
            yield options, await _auto(engine, options, counts)
    elif word == "maps":
        maps = _named(options, own) if options.subuid_name or options.subgid_name else None
        yield options, _within(maps or idmaps.given(options), counts)
    else:
        yield await engine_idmaps.another(engine, options, word)


def _own(kind: str) -> list[IdRange]:
    with open(f"/proc/self/{kind}_map", encoding="ascii") as file:
        return [IdRange(*map(int, line.split())) for line in file]


def _within(maps: IdMaps, counts: Sequence[int]) -> IdMaps:
    """Error: UserError for an id that the user does not have."""
    for kind, ranges, count in zip(KINDS, (maps.uids, maps.gids), counts, strict=True):
        for one in ranges:
            if one.outside + one.size > count:
                raise UserError(
                    f"--{kind}map {one.inside}:{one.outside}:{one.size}: you have {count} {kind}s, "
                    f"0 to {count - 1} in your namespace",
                    hint=MORE,
                )
    return maps


def _named(options: ContainerOptions, own: Sequence[Sequence[IdRange]]) -> IdMaps:
    """Ranges of /etc/subuid by name: only those of the user are in their namespace."""
    names = options.subuid_name or options.subgid_name, options.subgid_name or options.subuid_name
    found = []
    for kind, name, ranges in zip(KINDS, names, own, strict=True):
        given = idmaps.joined(engine_idmaps.ranges(kind, name))
        there = idmaps.relative(given, ranges) if given else None
        if there is None:
            raise UserError(f"--sub{kind}name {name}: {name} has no ids that are yours", hint=MORE)
        found.append(there)
    return idmaps.check(IdMaps(*found), f"--subuidname {names[0]}")


async def _auto(engine: Engine, options: ContainerOptions, counts: Sequence[int]) -> IdMaps:
    """A range of its own for each container, of those besides the user's own id."""
    wish = idmaps.wanted(options.userns)
    others = await engine_idmaps.taken_by_others(engine)
    found = []
    for kind, fixed, count in zip(KINDS, (wish.uids, wish.gids), counts, strict=True):
        size = wish.size or min(idmaps.AUTO_SIZE_OF_USER, count - 1)
        taken = [*(r for each in others for r in getattr(each, f"{kind}s")), *fixed]
        start = idmaps.free([IdRange(0, 1, count - 1)], taken, size)
        if start is None:
            raise Conflict(
                f"--userns auto: no {size} {kind}s are left of your {count}",
                hint="remove containers, or ask for fewer with auto:size=N",
            )
        found.append(idmaps.around(fixed, start, size))
    return idmaps.check(IdMaps(*found), f"--userns {options.userns}")
