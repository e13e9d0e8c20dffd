"""The ids of a new container: decided when it is made, recorded in its first event, and its own
until it is removed."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import msgspec

from .. import userns
from ..errors import Conflict, NotFound, UserError
from ..hooks import IdMaps, IdRange
from ..options import ContainerOptions
from ..spec import idmaps
from .base import Engine
from .hold import Held
from .recover import LIVE

CONTAINER, NAMESPACE = "container:", "ns:"
TAKEN = "SELECT id_maps FROM containers WHERE id_maps!='{}'"
FILES = {"uid": "/etc/subuid", "gid": "/etc/subgid"}


@asynccontextmanager
async def settled(
    engine: Engine, options: ContainerOptions
) -> AsyncIterator[tuple[ContainerOptions, IdMaps]]:
    """The options with another container by its full id, and the ids (none: the host's). Nobody
    else is given ids meanwhile. Errors: UserError, NotFound, Conflict (none are left)."""
    word = idmaps.mode(options)
    if engine.layout.uid:
        from . import own_idmaps

        async with own_idmaps.settled(engine, options, word) as found:
            yield found
        return
    if word in ("keep-id", "nomap"):
        raise UserError(
            f"--userns {word} is for ordinary users: root's own id would be the host's",
            hint="--userns auto",
        )
    if word == "auto":
        async with engine.locks.named(f"{engine.layout.run}/locks/idmaps"):
            yield options, await _auto(engine, options)
        return
    if word == "maps":
        yield options, _named(options) if _names(options) else idmaps.given(options)
    else:
        yield await another(engine, options, word)


async def another(
    engine: Engine, options: ContainerOptions, word: str
) -> tuple[ContainerOptions, IdMaps]:
    """Those of a namespace that is there, or none."""
    if word == "ns":
        maps = userns.maps_of(options.userns.removeprefix(NAMESPACE))
        return options, idmaps.check(maps, f"--userns {options.userns}")
    if word == "container":
        try:
            other = await engine.container(options.userns.removeprefix(CONTAINER))
        except NotFound as error:
            raise NotFound(f"--userns {options.userns}: {error.what}") from None
        options = msgspec.structs.replace(options, userns=CONTAINER + other["id"])
        return options, msgspec.convert(other["id_maps"], IdMaps)
    return options, IdMaps()


def of(row: dict[str, object]) -> IdMaps:
    """A container's ids; empty ranges: the host's."""
    return msgspec.convert(row["id_maps"], IdMaps)


async def pin(held: Held, *, start: bool = False) -> str:
    """Pin the container's user namespace; its path. With `start` that of another container, or at
    a path, must be there. Errors: Conflict, UserError, DriverError."""
    engine, row = held.engine, held.row
    path = engine.layout.userns(held.id)
    word: str = row["options"].get("userns", "")
    source = ""
    if word.startswith(NAMESPACE):
        source = word.removeprefix(NAMESPACE)
        if start:
            userns.need(source)
    elif word.startswith(CONTAINER):
        source = await _others(engine, row, word.removeprefix(CONTAINER), must=start)
    if source and os.path.exists(source):
        if userns.exists(path) and not os.path.samefile(path, source):
            userns.remove(path)
        userns.pin(path, source)
    else:
        userns.create(path, of(row))
    return path


async def _others(engine: Engine, row: dict[str, object], cid: str, *, must: bool) -> str:
    """Path of another container's namespace; empty when it does not run."""
    try:
        other = await engine.container_now(cid)
    except NotFound:
        if not must:
            return ""
        raise Conflict(
            f"the container whose user namespace {row['name']} uses is gone",
            hint="make a new one, with another --userns",
        ) from None
    if other["state"] in LIVE:
        return engine.layout.userns(cid)
    if must:
        raise Conflict(
            f"container {other['name']}, whose user namespace {row['name']} uses, does not run",
            hint=f"tiffin start {other['name']}",
        )
    return ""


# --- ranges ---------------------------------------------------------------------------------------


def _names(options: ContainerOptions) -> tuple[str, str] | None:
    names = options.subuid_name or options.subgid_name, options.subgid_name or options.subuid_name
    return names if all(names) else None


def ranges(kind: str, name: str, uid: int = -1) -> list[IdRange]:
    """What /etc/subuid or /etc/subgid gives a user; nothing where the file is missing."""
    try:
        with open(FILES[kind], encoding="utf-8", errors="replace") as file:
            return idmaps.subordinate(file.read(), name, uid)
    except OSError:
        return []


def _named(options: ContainerOptions) -> IdMaps:
    """--subuidname and --subgidname; one of them alone is for both. Error: UserError."""
    found = []
    names = _names(options) or ("", "")
    for kind, name in zip(FILES, names, strict=True):
        line = ranges(kind, name)
        if not line:
            raise UserError(
                f"--sub{kind}name {name}: {FILES[kind]} has no ids for {name}",
                hint=f"add a line {name}:START:SIZE",
            )
        found.append(idmaps.joined(line))
    return idmaps.check(IdMaps(*found), f"--subuidname {names[0]}")


async def _auto(engine: Engine, options: ContainerOptions) -> IdMaps:
    """A range of its own for each container of the store."""
    wish = idmaps.wanted(options.userns)
    size = wish.size or idmaps.AUTO_SIZE
    others = await taken_by_others(engine)
    found = []
    for kind, fixed in (("uid", wish.uids), ("gid", wish.gids)):
        pool = ranges(kind, idmaps.AUTO_USER) or [idmaps.AUTO_DEFAULT]
        taken = [*(r for each in others for r in getattr(each, f"{kind}s")), *fixed]
        start = _free(kind, pool, taken, size)
        found.append(idmaps.around(fixed, start, size))
    return idmaps.check(IdMaps(*found), f"--userns {options.userns}")


async def taken_by_others(engine: Engine) -> list[IdMaps]:
    return [msgspec.convert(row["id_maps"], IdMaps) for row in await engine.store.rows(TAKEN)]


def _free(kind: str, pool: Sequence[IdRange], taken: Sequence[IdRange], size: int) -> int:
    start = idmaps.free(pool, taken, size)
    if start is None:
        raise Conflict(
            f"--userns auto: no {size} {kind}s are left of those that {FILES[kind]} has for "
            f"{idmaps.AUTO_USER}",
            hint="remove containers, ask for fewer with auto:size=N, or add a line there",
        )
    return start
