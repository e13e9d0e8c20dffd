"""Pid and UTS namespaces that are there already: another container's (`--pid container:ID`), or one
at a path (`ns:PATH`). What a container shares with another it requires as well (`dependencies`)."""

from __future__ import annotations

import msgspec

from .. import netns
from ..errors import Conflict, NotFound, UserError
from ..network_modes import CONTAINER, NAMESPACE
from ..options import ContainerOptions
from ..store import queries
from .base import Engine

KINDS = {"pid": 0x20000000, "uts": 0x04000000}
"""Kind -> CLONE_NEW... (clone(2))."""


def asked(options: ContainerOptions) -> dict[str, str]:
    """{kind: word} of those that are another's."""
    words = {kind: getattr(options, kind) for kind in KINDS}
    return {kind: word for kind, word in words.items() if ":" in word}


async def settle(engine: Engine, options: ContainerOptions) -> ContainerOptions:
    """The options with full ids, and what is required by that. Errors: NotFound, UserError."""
    changed: dict[str, str] = {}
    requires = list(options.requires)
    for kind, word in asked(options).items():
        if word.startswith(NAMESPACE):
            need(kind, word.removeprefix(NAMESPACE))
            continue
        try:
            cid = (await engine.container(word.removeprefix(CONTAINER)))["id"]
        except NotFound as error:
            raise NotFound(f"--{kind} {word}: {error.what}") from None
        changed[kind] = CONTAINER + cid
        requires.append(cid)
    return msgspec.structs.replace(options, requires=tuple(dict.fromkeys(requires)), **changed)


def need(kind: str, path: str) -> None:
    """Error: UserError when that is no namespace of the kind."""
    if netns.kind(path, kind) != KINDS[kind]:
        raise UserError(f"--{kind} ns:{path}: that is not a {kind} namespace")


async def paths(engine: Engine, row: queries.Row, options: ContainerOptions) -> dict[str, str]:
    """{kind: path} of what a container is to enter. Errors: Conflict, UserError."""
    found = {}
    for kind, word in asked(options).items():
        if word.startswith(NAMESPACE):
            found[kind] = word.removeprefix(NAMESPACE)
            need(kind, found[kind])
            continue
        other = await engine.container_now(word.removeprefix(CONTAINER))
        if not other["pid"]:
            whose = f"whose {kind} namespace {row['name']} uses"
            raise Conflict(
                f"container {other['name']}, {whose}, does not run",
                hint=f"tiffin start {other['name']}",
            )
        found[kind] = f"/proc/{other['pid']}/ns/{kind}"
    return found
