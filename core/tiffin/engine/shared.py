"""Network namespaces that are there already: another container's (`--network container:ID`), or one
at a path (`ns:PATH`)."""

from __future__ import annotations

import os
from collections.abc import Sequence

from .. import netns
from ..errors import Conflict, NotFound
from ..network_modes import CONTAINER, NAMESPACE, POD
from ..store import queries
from .base import Engine
from .hold import Held
from .recover import LIVE

DEPENDENTS = "SELECT id, name FROM containers WHERE network=? ORDER BY created"
DEEPEST = 64
"""Containers in a chain, each in the network of the next."""


async def canonical(engine: Engine, word: str) -> str:
    """`container:` with the full id; a path that is a namespace. Errors: NotFound, UserError."""
    if word.startswith(NAMESPACE):
        netns.need(word.removeprefix(NAMESPACE))
    if not word.startswith(CONTAINER):
        return word
    try:
        return CONTAINER + str((await engine.container(word.removeprefix(CONTAINER)))["id"])
    except NotFound as error:
        raise NotFound(f"--network {word}: {error.what}") from None


async def namespace(engine: Engine, row: queries.Row) -> str:
    """Path of the namespace that a container joins. Errors: Conflict, UserError."""
    word: str = row["network"]
    if word.startswith(POD):
        from . import pods

        pod = await pods.up(engine, word.removeprefix(POD), row["name"])
        return str(pod["netns"])
    if word.startswith(NAMESPACE):
        path = word.removeprefix(NAMESPACE)
        netns.need(path)
        return path
    other = await _other(engine, row)
    path = other["netns"] or f"/proc/{other['pid']}/ns/net"
    if other["state"] not in LIVE or not os.path.exists(path):
        raise Conflict(
            f"container {other['name']}, whose network {row['name']} uses, does not run",
            hint=f"tiffin start {other['name']}",
        )
    return path


async def _other(engine: Engine, row: queries.Row) -> queries.Row:
    try:
        return await engine.container_now(row["network"].removeprefix(CONTAINER))
    except NotFound:
        raise Conflict(
            f"the container whose network {row['name']} uses is gone",
            hint="make a new one, on another network",
        ) from None


async def files(held: Held, own: dict[str, str]) -> tuple[tuple[str, str], ...]:
    """`own` (place in the container: file here) with hosts and resolv.conf of the container whose
    network this one uses; its names are added there, as podman does."""
    row = held.row
    for _ in range(DEEPEST):
        if not row["network"].startswith(CONTAINER):
            break
        row = await _other(held.engine, row)
    with open(own["/etc/hostname"], encoding="utf-8") as file:
        line = f"127.0.0.1\t{file.read().strip()} {held.row['name']}\n"
    found = {"/etc/hostname": own["/etc/hostname"]}
    for name in ("hosts", "resolv.conf"):
        path = f"{row['directory']}/{name}"
        if os.path.exists(path):  # else its --no-hosts, or --dns none
            found[f"/etc/{name}"] = path
    if "/etc/hosts" not in own:
        found.pop("/etc/hosts", None)
    elif "/etc/hosts" in found:
        with open(found["/etc/hosts"], "r+", encoding="utf-8", errors="surrogateescape") as file:
            if line not in file.readlines():
                file.write(line)
    return tuple(found.items())


async def dependents(engine: Engine, cid: str) -> list[queries.Row]:
    """The containers in the network of this one."""
    return await engine.store.rows(DEPENDENTS, (CONTAINER + cid,))


async def with_dependents(engine: Engine, rows: Sequence[queries.Row]) -> list[queries.Row]:
    """These containers, and before each those in its network."""
    found: list[queries.Row] = []
    for row in rows:
        found += await with_dependents(engine, await dependents(engine, row["id"]))
        found.append(row)
    return found
