"""Unpacked layers, beside the blobs that they were unpacked from."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec

from ...content import ContentStore
from ...errors import Conflict, NotFound, TiffinError
from ...hooks import LayerBlob
from ...store import queries
from ...transfer import Layer
from ...transfer import look as seen
from .. import garbage
from .. import layers as unpacked
from ..base import Engine
from ..recover import LIVE
from .damage import Busy, Damage
from .images import problem_of

MANY = 3
"""Files that are named; of more there is a number."""


async def look(engine: Engine, quick: bool) -> list[Damage]:
    found: list[Damage] = []
    chains = await _chains(engine)
    bad: set[tuple[str, str]] = set()
    for row in await engine.store.rows("SELECT driver, chain_id FROM layers ORDER BY rowid"):
        name, chain_id = row["driver"], row["chain_id"]
        subject = f"layer {chain_id} ({name})"
        try:
            driver = engine.storage(name)
            there = await driver.has_layer(chain_id)
        except TiffinError as error:
            found.append(Damage("driver", subject, str(error)))
            continue
        if not there:
            if await _is_known(engine, name, chain_id):
                bad.add((name, chain_id))
                found.append(Damage("layer", subject, "it is missing", chain_id, name))
            continue
        if quick or chain_id not in chains or not hasattr(driver, "verify_layer"):
            continue
        layer, parents = chains[chain_id]
        if any((name, parent) in bad for parent in parents):
            continue  # unpacked over a damaged one, it would differ as well
        different = await _different(engine, driver, layer, parents)
        if different:
            bad.add((name, chain_id))
            more = f" and {len(different) - MANY} more" if len(different) > MANY else ""
            problem = f"altered: {', '.join(different[:MANY])}{more}"
            found.append(Damage("layer", subject, problem, chain_id, name))
    return found + await _strays(engine)


async def _different(
    engine: Engine, driver: Any, layer: Layer, parents: tuple[str, ...]
) -> list[str]:
    """Paths in which a layer differs from its blob, when that is whole."""
    content = ContentStore(engine.layout.blobs)
    if problem_of(content, layer.digest, layer.size, True):
        return []  # reported as a blob
    layer = seen(layer, content)
    blob = LayerBlob(content.path(layer.digest), layer.compression, layer.diff_id)
    try:
        return list(await driver.verify_layer(layer.chain_id, parents, blob))
    except TiffinError:
        return []  # its blob is damaged: reported as such


async def _strays(engine: Engine) -> list[Damage]:
    """Directories of layers that the log does not know."""
    names = {row["driver"] for row in await engine.store.rows("SELECT driver FROM layers")}
    names |= {r["storage_driver"] for r in await engine.store.rows("SELECT * FROM containers")}
    found: list[Damage] = []
    with Busy(garbage.lock(engine)) as busy:
        if busy:
            return []  # it may be on its way
        for name in sorted(names):
            try:
                driver = engine.storage(name)
            except TiffinError:
                continue
            if not hasattr(driver, "kept_layers"):
                continue
            there = await driver.kept_layers()
            for chain_id in there:
                if not await _is_known(engine, name, chain_id):
                    subject = f"layer {chain_id} ({name})"
                    found.append(Damage("stray-layer", subject, "no image has it", chain_id, name))
    return found


async def _is_known(engine: Engine, driver: str, chain_id: str) -> bool:
    sql = "SELECT 1 AS one FROM layers WHERE driver=? AND chain_id=?"
    return bool(await engine.store.rows(sql, (driver, chain_id)))


def _of(image: queries.Row) -> Iterator[tuple[str, Layer, tuple[str, ...]]]:
    described = [msgspec.convert(layer, Layer) for layer in image["layers"]]
    for position, layer in enumerate(described):
        yield layer.chain_id, layer, tuple(below.chain_id for below in described[:position])


async def _chains(engine: Engine) -> dict[str, tuple[Layer, tuple[str, ...]]]:
    """chain id -> (the layer, the chain ids below it), of all images."""
    return {
        chain_id: (layer, parents)
        for image in await engine.store.rows("SELECT * FROM images")
        for chain_id, layer, parents in _of(image)
    }


async def mend(engine: Engine, damage: Damage, force: bool) -> str:
    """Unpack it again. Errors: Conflict while a container runs on it, NotFound without its image,
    those of unpacking."""
    chain_id, driver = damage.key, damage.detail
    if damage.kind == "driver":
        raise NotFound("its driver is needed for that", hint="see tiffin plugin ls")
    if damage.kind == "stray-layer":
        await engine.storage(driver).remove_layer(chain_id)
        return "deleted"
    async with engine.locks.named(garbage.lock(engine)):  # nobody starts a container meanwhile
        for row in await engine.store.rows("SELECT * FROM containers"):
            uses = row["storage_driver"] == driver and chain_id in row["layers"]
            if uses and (row["state"] in LIVE or row["mounted"]):
                verb = "stop" if row["state"] in LIVE else "unmount"
                raise Conflict(
                    f"container {row['name']} uses it at this moment",
                    hint=f"tiffin {verb} {row['name']}, then repair again",
                )
        journal = engine.journal()
        for image in await engine.store.rows("SELECT * FROM images"):
            found = [layer for known, layer, _ in _of(image) if known == chain_id]
            if not found:
                continue
            await unpacked.remove(engine, journal, driver, chain_id)
            described = tuple(layer for _, layer, _ in _of(image))
            await unpacked.ensure(engine, journal, driver, described)
            return f"unpacked again from {found[0].digest}"
    raise NotFound("the image that it is of is gone", hint="remove the containers that use it")
