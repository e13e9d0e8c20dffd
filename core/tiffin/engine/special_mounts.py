"""Mounts that need more than a line in config.json: trees of images (`--mount type=image`), paths
that a container changes only for itself (`:O`), and those given to its user (`:U`)."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Sequence

import msgspec

from ..errors import UserError
from ..events.mount import ImageMounted
from ..options import ContainerOptions, Mount
from ..spec import idmaps, users
from ..spec.paths import clean
from ..store import queries
from . import image_mounts, images, mapped_mounts, teardown
from .base import Engine
from .hold import Held


def wanted(mounts: Sequence[Mount]) -> bool:
    return any(m.type == "image" or {"O", "U"} & set(m.options) for m in mounts)


def check(options: ContainerOptions) -> None:
    """What can be wrong with `:U` and `:O`, before anything is made. Error: UserError."""
    mapped_mounts.check(options.mounts)
    for mount in options.mounts:
        source = os.path.realpath(mount.source) if mount.type == "bind" else ""
        if "O" in mount.options:
            if idmaps.mode(options):
                raise UserError(
                    f"-v {mount.source}:{mount.target}:O does not go with --userns or --uidmap",
                    hint="mount it with :idmap, or copy it",
                )
            if source and not os.path.isdir(source):
                raise UserError(f"-v {mount.source}:{mount.target}:O: not a directory")
            given = _directories(mount)
            if len(given) == 1:
                raise UserError(
                    f"-v {mount.source}:{mount.target}:O: upperdir and workdir go together"
                )
            for path in given.values():
                if not os.path.isdir(path):
                    raise UserError(f"-v {mount.source}:{mount.target}:O: no directory {path}")


def _directories(mount: Mount) -> dict[str, str]:
    pairs = (option.partition("=")[::2] for option in mount.options)
    return {key: value for key, value in pairs if key in ("upperdir", "workdir")}


async def prepare(held: Held, options: ContainerOptions, owner: users.User) -> ContainerOptions:
    """The options with mounts that the runtime can make, and what they need made."""
    if not wanted(options.mounts):
        return options
    mounts = []
    remove = f"{held.row['directory']}/overlays"
    teardown.remove_directory(remove)
    await mapped_mounts.change_owners(held, options, owner)
    for number, mount in enumerate(options.mounts):
        if mount.type == "image":
            mount = await _image(held, mount)
        if "U" in mount.options:
            kept = tuple(option for option in mount.options if option != "U")
            if mount.type == "tmpfs":
                kept = (*kept, f"uid={owner.uid}", f"gid={owner.gid}")
            mount = msgspec.structs.replace(mount, options=kept)
        if "O" in mount.options:
            mount = _overlay(mount, f"{remove}/{number}")
        mounts.append(mount)
    return msgspec.structs.replace(options, mounts=tuple(mounts))


def _overlay(mount: Mount, directory: str) -> Mount:
    """`:O`: an overlay of the source, which the kernel takes down with the container's own mounts.
    What the container writes is below its directory, and goes when it has ended."""
    places = _directories(mount)
    if not places:
        for name in ("upper", "work"):
            os.makedirs(f"{directory}/{name}", mode=0o700)
        places = {"upperdir": f"{directory}/upper", "workdir": f"{directory}/work"}
        status = os.stat(mount.source)
        os.chown(places["upperdir"], status.st_uid, status.st_gid)
        os.chmod(places["upperdir"], stat.S_IMODE(status.st_mode))
    options = [f"lowerdir={mount.source}", *(f"{key}={path}" for key, path in places.items())]
    for option in options:
        if set(option) & set(",:\\"):
            raise UserError(
                f"-v {mount.source}:{mount.target}:O: a path with a comma, colon or backslash "
                "cannot be overlaid"
            )
    own = ("upperdir", "workdir")
    flags = ("ro", "rw", "exec", "noexec", "suid", "nosuid", "dev", "nodev")
    kept = [o for o in mount.options if o in flags and o.partition("=")[0] not in own]
    # The kernel's file system, which the runtime mounts; no storage driver has a part in it.
    return Mount("overlay", mount.target, "overlay", (*options, *kept))


# --- images ---------------------------------------------------------------------------------------


def _identifier(cid: str, target: str) -> str:
    """Of the mount of an image in a container: found again without looking anything up."""
    return hashlib.sha256(f"{cid} {clean(target)}".encode()).hexdigest()


async def _image(held: Held, mount: Mount) -> Mount:
    """The tree of an image, mounted for this container alone, as a bind mount."""
    engine, journal = held.engine, held.journal
    identifier = _identifier(held.id, mount.target)
    writable = "rw" in mount.options
    async with images.in_use(engine):
        await _take_away(engine, identifier)
        row = await images.need(engine, mount.source)
        layers = tuple(layer["chain_id"] for layer in row["layers"])
        _, path = await image_mounts.begin(
            engine,
            journal,
            row["id"],
            layers,
            identifier=identifier,
            container=held.id,
            userns=engine.layout.userns(held.id) if held.row["id_maps"] else "",
            writable=writable,
        )
        await journal.write(f"mount/{identifier}", ImageMounted())
    flags = ["rw" if writable else "ro"]
    if held.row["id_maps"] and mapped_mounts.mappable(held, path):
        flags.append("idmap")
    return Mount("bind", mount.target, path, tuple(flags))


async def _take_away(engine: Engine, identifier: str) -> None:
    rows = await engine.store.rows("SELECT driver FROM image_mounts WHERE id=?", (identifier,))
    for row in rows:
        await image_mounts.take_away(engine, engine.journal(), identifier, row["driver"])


async def let_go(engine: Engine, row: queries.Row) -> None:
    """What `prepare` made for a container that has ended."""
    for mount in row["options"].get("mounts", ()):
        if mount["type"] == "image":
            await _take_away(engine, _identifier(row["id"], mount["target"]))
    teardown.remove_directory(f"{row['directory']}/overlays")
