"""Volumes: directories that outlive containers. Named ones are made by a user or with the first
container that names them; anonymous ones belong to a container."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, nullcontext
from typing import Any

import msgspec
import trio

from .. import ids, syscalls
from ..errors import Conflict, NotFound, UserError
from ..events.volume import (
    VolumeCreated,
    VolumeImported,
    VolumePopulated,
    VolumeRemovalPlanned,
    VolumeRemoved,
)
from ..hooks import IdMaps
from ..options import ContainerOptions, Mount
from ..spec.paths import clean
from ..store import queries
from . import labels, volume_mounts
from .base import Engine, Journal
from .hold import Held

NEW = ".new"
"""Beside a volume's directory: what is copied into it, until it is whole."""
BY_NAME = "SELECT * FROM volumes WHERE name=?"


def directory(engine: Engine, name: str) -> str:
    """What is mounted into containers, as podman lays it out."""
    return f"{engine.layout.root}/volumes/{name}/_data"


def lock(engine: Engine) -> str:
    """Held alone by who removes a volume, shared by who makes a container with one."""
    return f"{engine.layout.run}/locks/volumes"


@asynccontextmanager
async def in_use(engine: Engine, mounts: Sequence[Mount]) -> AsyncIterator[None]:
    """While a container with these mounts is made; costs nothing without a volume among them."""
    wanted = any(mount.type == "volume" for mount in mounts)
    shared = engine.locks.named(lock(engine), shared=True) if wanted else nullcontext()
    async with shared:
        yield


async def find(engine: Engine, given: str) -> queries.Row:
    """By name, or by the beginning of one that is unique. Errors: NotFound, UserError."""
    found = await engine.store.rows(BY_NAME, (given,))
    if not found and given:
        found = await engine.store.rows(
            "SELECT * FROM volumes WHERE substr(name, 1, ?)=? LIMIT 2", (len(given), given)
        )
    return queries.one(found, given, "volume")


async def users(engine: Engine, name: str) -> list[queries.Row]:
    """The containers that have the volume."""
    return [row for row in await engine.store.rows(queries.CONTAINERS) if name in of(row)]


def of(row: queries.Row) -> list[str]:
    """The names of a container's volumes."""
    mounts = row["options"].get("mounts", ())
    return [mount["source"] for mount in mounts if mount["type"] == "volume"]


# --- with containers ------------------------------------------------------------------------------


async def settle(
    engine: Engine, options: ContainerOptions, image_config: Mapping[str, Any]
) -> tuple[ContainerOptions, dict[str, VolumeCreated]]:
    """The options with --volumes-from and the image's volumes among the mounts and with a name for
    each volume; and, by name, the volumes that must be made. Errors: NotFound, UserError."""
    mounts = list(options.mounts)
    taken = {clean(mount.target) for mount in mounts}
    for text in options.volumes_from:
        for mount in await _from(engine, text):
            if clean(mount.target) not in taken:
                taken.add(clean(mount.target))
                mounts.append(mount)
    declared = image_config.get("Volumes") or {}
    if options.image_volumes == "ignore":
        declared = {}
    kind = options.image_volumes or "volume"
    for target in declared:
        place = str(target)
        if place.startswith("/") and clean(place) not in taken and clean(place) != "/":
            taken.add(clean(place))
            mounts.append(Mount(kind, place))
    made: dict[str, VolumeCreated] = {}
    for number, mount in enumerate(mounts):
        if mount.type != "volume":
            continue
        name = mount.source or ids.new_id()
        if not mount.source or not await engine.store.rows(BY_NAME, (name,)):
            path = directory(engine, name)
            made[name] = VolumeCreated(path=path, anonymous=not mount.source)
        mounts[number] = msgspec.structs.replace(mount, source=name)
    return msgspec.structs.replace(options, mounts=tuple(mounts)), made


async def need(engine: Engine, options: ContainerOptions, made: dict[str, VolumeCreated]) -> None:
    """Those that were there when `settle` looked, and are gone by now, are to be made as well. The
    caller holds the lock (`in_use`)."""
    for mount in options.mounts:
        if mount.type == "volume" and mount.source not in made:
            name = mount.source
            if not await engine.store.rows(BY_NAME, (name,)):
                made[name] = VolumeCreated(path=directory(engine, name))


async def _from(engine: Engine, text: str) -> list[Mount]:
    """`CONTAINER[:ro|rw]`: its volumes and bind mounts."""
    given, _, option = text.partition(":")
    if option not in ("", "ro", "rw", "z"):
        raise UserError(f"--volumes-from {text!r}: option {option!r} is not known", hint="ro or rw")
    row = await engine.container(given)
    found = []
    for plain in row["options"].get("mounts", ()):
        mount = msgspec.convert(plain, Mount)
        if mount.type in ("volume", "bind"):
            if option in ("ro", "rw"):
                kept = tuple(one for one in mount.options if one not in ("ro", "rw"))
                mount = msgspec.structs.replace(mount, options=(*kept, option))
            found.append(mount)
    return found


async def mounted(held: Held, options: ContainerOptions, rootfs: str) -> ContainerOptions:
    """The options with every volume as a bind mount of its directory, which is made, and filled
    from the image if this is its first container; labelled for all containers. Errors: NotFound,
    StorageFull."""
    engine = held.engine
    mounts = list(options.mounts)
    for number, mount in enumerate(mounts):
        if mount.type == "volume":
            row = await find(engine, mount.source)
            os.makedirs(row["path"], mode=0o755, exist_ok=True)
            is_mount = volume_mounts.is_mount(row)
            if is_mount:
                async with engine.locks.named(lock(engine)):
                    now = (await engine.store.rows(BY_NAME, (row["name"],)))[0]
                    await volume_mounts.mount(engine, held.journal, now, held.id)
            maps, mapped = _mapped(held, row)
            # A tmpfs is empty again whenever it was unmounted.
            empty = not row["populated"] or row["options"].get("type") == "tmpfs"
            if empty and "nocopy" not in mount.options and volume_mounts.copies(row):
                fill = _fill if is_mount else _copy_up
                async with engine.locks.named(lock(engine)):  # two containers may be its first
                    await trio.to_thread.run_sync(fill, rootfs, mount.target, row["path"], maps)
                if not row["populated"]:
                    held.journal.note(f"volume/{row['name']}", VolumePopulated(container=held.id))
            # Each time, as for `:z`: files have the label of the container that made them.
            await labels.relabel(held, row["path"], shared=True)
            options_of = volume_mounts.inherited(row, mount.options)
            mounts[number] = Mount("bind", mount.target, row["path"], (*options_of, *mapped))
    return msgspec.structs.replace(options, mounts=tuple(mounts))


def _mapped(held: Held, row: queries.Row) -> tuple[IdMaps, tuple[str, ...]]:
    """With a user namespace: (ids that a volume's files have in the container, the mount option
    that shows them so). The volume keeps the owners that containers see, whatever their ids are
    outside; where the file system cannot do that, the first container's become its owners."""
    if not held.row["id_maps"]:
        return IdMaps(), ()
    from . import idmaps, mapped_mounts, rootfs

    maps = idmaps.of(held.row)
    if mapped_mounts.mappable(held, row["path"]):
        return maps, ("idmap",)
    tmpfs = row["options"].get("type") == "tmpfs"
    new = tmpfs if volume_mounts.is_mount(row) else not row["populated"]
    if new and not os.listdir(row["path"]):
        os.chown(row["path"], *rootfs.owner(maps))
    return IdMaps(), ()


def _copy_up(rootfs: str, target: str, path: str, maps: IdMaps) -> None:
    """What the image has at `target`, with its owner and mode, in the place of the still empty
    directory `path`: in one step, so that no half of it is ever taken for the whole. Owners are
    those that `maps` has for them inside the container."""
    from ..copying.places import Place
    from ..copying.tree import Rules, copy
    from ..layer.remove import remove_tree

    if os.listdir(path):
        return  # somebody's files are in it already
    try:
        source = syscalls.open_in_root(rootfs, target, os.O_PATH | os.O_DIRECTORY)
    except OSError:
        return  # the image has nothing there
    new = f"{path}{NEW}"
    root = os.open(rootfs, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        remove_tree(new)
        os.mkdir(new, 0o700)
        place = Place(f"{target.rstrip('/')}/.", root=root)
        rules = Rules(None, devices=True, was=maps)
        copy(place, Place(new), rules)
        status = os.fstat(source)
        os.chown(new, *rules.owner_of(status))
        os.chmod(new, stat.S_IMODE(status.st_mode))
        _sync(new)  # it is told once, and never filled again
        os.rename(new, path)
        _sync(os.path.dirname(path))
    finally:
        remove_tree(new)
        os.close(source)
        os.close(root)


def _fill(rootfs: str, target: str, path: str, maps: IdMaps) -> None:
    """As `_copy_up`, into what is mounted at `path`: that cannot be done in one step."""
    from ..copying.places import Place
    from ..copying.tree import Rules, copy

    if os.listdir(path):
        return
    try:
        source = syscalls.open_in_root(rootfs, target, os.O_PATH | os.O_DIRECTORY)
    except OSError:
        return
    root = os.open(rootfs, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        status = os.fstat(source)
        rules = Rules(None, devices=True, was=maps)
        os.chown(path, *rules.owner_of(status))
        os.chmod(path, stat.S_IMODE(status.st_mode))
        copy(Place(f"{target.rstrip('/')}/.", root=root), Place(path), rules)
    except OSError as error:
        if error.errno != errno.EROFS:
            raise
    finally:
        os.close(source)
        os.close(root)


@asynccontextmanager
async def in_place(held: Held) -> AsyncIterator[None]:
    """While this lasts, the volumes of a container that does not run are mounted."""
    engine = held.engine
    for name in of(held.row):
        rows = await engine.store.rows(BY_NAME, (name,))
        if rows and volume_mounts.is_mount(rows[0]):
            async with engine.locks.named(lock(engine)):
                await volume_mounts.mount(engine, held.journal, await find(engine, name), held.id)
    try:
        yield
    finally:
        with trio.CancelScope(shield=True):
            await volume_mounts.let_go(engine, held.row)


def _sync(directory: str) -> None:
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        syscalls.syncfs(fd)
    finally:
        os.close(fd)


async def remove_anonymous(engine: Engine, journal: Journal, row: queries.Row) -> None:
    """Those volumes of a container, which is being removed, that were made for it and that nobody
    else has."""
    for name in of(row):
        rows = await engine.store.rows(BY_NAME, (name,))
        if rows and rows[0]["anonymous"]:
            async with engine.locks.named(lock(engine)):
                if all(user["id"] == row["id"] for user in await users(engine, name)):
                    await _take_away(journal, name, rows[0]["path"])


async def recover(engine: Engine) -> list[str]:
    """Finish the removals that dead processes left open, and delete what they left of copies. The
    lock, taken alone, says that nobody is at work with volumes. Returns a line for each removal."""
    from ..layer.remove import remove_tree

    mended = []
    async with engine.locks.named(lock(engine)):
        intents = (
            "SELECT * FROM intents WHERE stream LIKE 'volume/%' AND operation='remove' ORDER BY seq"
        )
        for intent in await engine.store.rows(intents):
            delete(intent["data"]["path"])
            await engine.journal().write(intent["stream"], VolumeRemoved())
            mended.append(f"{intent['stream'].replace('/', ' ', 1)}: removed")
        for row in await engine.store.rows("SELECT path FROM volumes WHERE NOT populated"):
            remove_tree(f"{row['path']}{NEW}")
        mended += await volume_mounts.recover(engine)
    return mended


# --- by themselves --------------------------------------------------------------------------------


async def create(
    engine: Engine,
    name: str,
    labels: Mapping[str, str],
    *,
    ignore: bool = False,
    options: Sequence[str] = (),
) -> str:
    """`options`: KEY=VALUE of the driver. Returns the name. Errors: UserError, Conflict when the
    name is taken."""
    asked = volume_mounts.parse(options)
    if name:
        ids.check_name(name, "volume")
    anonymous = not name
    name = name or ids.new_id()
    async with engine.locks.named(lock(engine)):
        if await engine.store.rows(BY_NAME, (name,)):
            if ignore:
                return name
            raise Conflict(
                f"the volume name {name!r} is in use", hint="choose another, or --ignore"
            )
        path = directory(engine, name)
        event = VolumeCreated(path=path, labels=labels, options=asked, anonymous=anonymous)
        await engine.journal().write(f"volume/{name}", event)
        os.makedirs(path, mode=0o755, exist_ok=True)
        volume_mounts.own(await find(engine, name))
    return name


async def remove(engine: Engine, given: str, *, force: bool = False) -> str:
    """With `force` the containers that have it go as well. Errors: NotFound, Conflict."""
    from . import remove as removal  # which removes volumes as well, through this module

    row = await find(engine, given)
    name: str = row["name"]
    if force:
        for user in await users(engine, name):
            await removal.remove(engine, user["id"], force=True, ignore_missing=True)
    async with engine.locks.named(lock(engine)):
        await find(engine, name)
        used = await users(engine, name)
        if used:
            raise Conflict(
                f"volume {name} is in use by {', '.join(user['name'] for user in used[:5])}",
                hint="remove those containers, or use --force",
            )
        await _take_away(engine.journal(), name, row["path"])
    return name


async def _take_away(journal: Journal, name: str, path: str) -> None:
    stream = f"volume/{name}"
    await journal.write(stream, VolumeRemovalPlanned(path=path))
    await trio.to_thread.run_sync(delete, path)
    await journal.write(stream, VolumeRemoved())


def delete(path: str) -> None:
    """The directory of a volume and the one above it, which is the volume's own. What is mounted
    there is nobody's to delete."""
    from ..layer.remove import remove_tree

    volume_mounts.unmount_now(path)
    remove_tree(os.path.dirname(path))


async def prune(engine: Engine, names: Sequence[str]) -> tuple[list[str], int]:
    """Remove those that nobody has: (names, bytes)."""
    from ..layer.usage import tree_size

    gone, reclaimed = [], 0
    for name in names:
        try:
            row = await find(engine, name)
            own = os.path.isdir(row["path"]) and not volume_mounts.is_mount(row)
            size = tree_size(row["path"]) if own else 0
            await remove(engine, name)
        except (NotFound, Conflict):
            continue  # gone, or in use by now
        gone.append(name)
        reclaimed += size
    return gone, reclaimed


# --- as tars --------------------------------------------------------------------------------------


@asynccontextmanager
async def _there(engine: Engine, given: str) -> AsyncIterator[tuple[queries.Row, int]]:
    """A volume, and a descriptor of its directory, with what is to be mounted there."""
    journal = engine.journal()
    async with engine.locks.named(lock(engine)):
        row = await find(engine, given)
        os.makedirs(row["path"], mode=0o755, exist_ok=True)
        if volume_mounts.is_mount(row):
            await volume_mounts.mount(engine, journal, row)
            row = await find(engine, row["name"])
        fd = os.open(row["path"], os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            yield row, fd
        finally:
            os.close(fd)
            with trio.CancelScope(shield=True):
                await volume_mounts.release(engine, journal, row, await users(engine, row["name"]))


async def export(engine: Engine, given: str, out: int) -> None:
    """All files of a volume as a tar to a descriptor, which is closed. Error: NotFound."""
    from ..copying import streams

    async with _there(engine, given) as (_, fd):
        await trio.to_thread.run_sync(streams.export, fd, out)


async def fill(engine: Engine, given: str, source: int, path: str) -> None:
    """Unpack a tar (plain or gzip) into a volume, over what is in it. Errors: NotFound, UserError,
    StorageFull."""
    from ..copying import streams
    from ..copying.places import Place
    from ..copying.tree import Rules

    async with _there(engine, given) as (row, fd):
        place = Place("/", root=fd)
        rules = Rules(None, overwrite=True, devices=True)
        await trio.to_thread.run_sync(streams.receive, place, source, rules)
        await engine.journal().write(f"volume/{row['name']}", VolumeImported(source=path))
