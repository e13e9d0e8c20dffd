"""How much room images, containers and volumes take on the disk."""

from __future__ import annotations

import os
from collections.abc import Sequence

from msgspec import Struct

from ..layer.usage import tree_size
from ..store import queries
from . import volume_mounts, volumes
from .base import Engine

LIVE = ("initialized", "running", "paused", "stopping")


class ImageUsage(Struct, frozen=True):
    row: queries.Row
    names: tuple[str, ...]
    shared: int
    """Bytes of layers that other images have as well."""
    unique: int
    containers: int


class ContainerUsage(Struct, frozen=True):
    row: queries.Row
    size: int
    """Bytes of its own layer."""


class VolumeUsage(Struct, frozen=True):
    name: str
    size: int
    containers: int


class Usage(Struct, frozen=True):
    images: tuple[ImageUsage, ...]
    containers: tuple[ContainerUsage, ...]
    volumes: tuple[VolumeUsage, ...]
    layers: int
    """Bytes of all layers, each counted once."""


async def measure(engine: Engine) -> Usage:
    """Sizes are of unpacked layers, the largest of a layer's copies when two storage drivers have
    it."""
    images = await engine.store.rows(queries.IMAGES)
    tags = await engine.store.rows(queries.TAGS)
    rows = await engine.store.rows(queries.CONTAINERS)
    sizes: dict[str, int] = {}
    for layer in await engine.store.rows("SELECT chain_id, size FROM layers"):
        sizes[layer["chain_id"]] = max(layer["size"], sizes.get(layer["chain_id"], 0))
    users: dict[str, int] = {}
    for image in images:
        for chain in {layer["chain_id"] for layer in image["layers"]}:
            users[chain] = users.get(chain, 0) + 1
    found = []
    for image in images:
        chains = {layer["chain_id"] for layer in image["layers"]}
        shared = sum(sizes.get(chain, 0) for chain in chains if users[chain] > 1)
        found.append(
            ImageUsage(
                row=image,
                names=tuple(tag["name"] for tag in tags if tag["image"] == image["id"]),
                shared=shared,
                unique=sum(sizes.get(chain, 0) for chain in chains) - shared,
                containers=sum(row["image_id"] == image["id"] for row in rows),
            )
        )
    containers = []
    for row in rows:
        containers.append(ContainerUsage(row=row, size=await container_size(engine, row)))
    kept = []
    for row in await engine.store.rows("SELECT * FROM volumes ORDER BY name"):
        number = sum(row["name"] in volumes.of(one) for one in rows)
        own = os.path.isdir(row["path"]) and not volume_mounts.is_mount(row)
        size = tree_size(row["path"]) if own else 0
        kept.append(VolumeUsage(name=row["name"], size=size, containers=number))
    return Usage(
        volumes=tuple(kept),
        images=tuple(found),
        containers=tuple(containers),
        layers=sum(sizes[chain] for chain in users if chain in sizes),
    )


async def container_size(engine: Engine, row: queries.Row) -> int:
    """Bytes of a container's own layer; 0 while it has none."""
    size: int = await engine.storage(row["storage_driver"]).usage(row["id"])
    return size


async def of_containers(engine: Engine, rows: Sequence[queries.Row]) -> dict[str, tuple[int, int]]:
    """{id: (bytes of its own layer, bytes of those below)}."""
    sizes: dict[str, int] = {}
    for layer in await engine.store.rows("SELECT chain_id, size FROM layers"):
        sizes[layer["chain_id"]] = max(layer["size"], sizes.get(layer["chain_id"], 0))
    found = {}
    for row in rows:
        below = sum(sizes.get(chain, 0) for chain in row["layers"])
        found[row["id"]] = await container_size(engine, row), below
    return found
