"""The files of a container, whatever its state: for `cp` and `export`."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager

import msgspec
import trio
from msgspec import Struct

from .. import syscalls
from ..copying.places import Place
from ..copying.tree import HOST, Rules, outside
from ..events.container import FilesCopied, Unmounted, UnmountPlanned
from ..hooks import IdMaps
from ..spec import users
from ..store import queries
from . import images, mount, rootfs, volumes
from .base import Engine
from .hold import Held, hold

ROOT = os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC


class View(Struct, frozen=True):
    """Where the file system of a container can be seen."""

    held: Held
    path: str
    maps: IdMaps = IdMaps()
    """Ids of the container whose files are seen from outside; empty: owners are as it sees them."""
    binds: tuple[tuple[str, str], ...] = ()
    """(path on this machine, target) of what a start would mount; empty when it is there."""


@asynccontextmanager
async def seen(engine: Engine, given: str) -> AsyncIterator[View]:
    """The file system of a container: as its processes see it while it has any; else, or where the
    runtime keeps them from us, its layers, mounted for as long as this lasts.
    Errors: NotFound, Conflict, DriverError."""
    async with hold(engine, given) as held:
        held.need("use the files of", "created", "initialized", "running", "paused", "exited")
        row = held.row
        if row["pid"] and getattr(engine.runtime(row["runtime"]), "shows_files", True):
            yield View(held, f"/proc/{row['pid']}/root", _maps(row))
            return
        binds = tuple(
            (
                volumes.directory(engine, one["source"])
                if one["type"] == "volume"
                else one.get("source", ""),
                one["target"],
            )
            for one in row["options"].get("mounts", ())
            if one["type"] in ("bind", "volume")
        )
        async with volumes.in_place(held), rooted(held) as (path, maps):
            yield View(held, path, maps, binds)


def _maps(row: queries.Row) -> IdMaps:
    return msgspec.convert(row["id_maps"], IdMaps)


def owner(engine: Engine, view: View) -> tuple[int, int]:
    """The user of the container: whose the files become that are brought to it."""
    row = view.held.row
    given = row["options"].get("user", "")
    if not given:
        given = images.read_config(engine, row["image_id"]).config.get("User") or ""
    user = users.in_container(view.path, str(given))
    return outside(view.maps, user.uid, user.gid)


async def with_roots(
    views: Sequence[View], work: Callable[[list[int]], None], maker: IdMaps = HOST
) -> None:
    """Call `work` with descriptors of the containers' roots, in a thread of its own: one whose
    mount namespace (unshare(2)) has the bind mounts in place that a stopped container lacks, and
    that makes files as the root user of the ids `maker`: where owners are mapped, root itself is
    nobody."""
    failure: list[BaseException] = []

    def run() -> None:
        with contextlib.ExitStack() as stack:
            try:
                if any(view.binds for view in views):
                    syscalls.unshare(syscalls.CLONE_NEWNS)
                    syscalls.mount(None, "/", None, syscalls.MS_REC | syscalls.MS_PRIVATE)
                roots = []
                for view in views:
                    root = os.open(view.path, ROOT)
                    stack.callback(os.close, root)
                    _bind(root, view.binds)
                    roots.append(root)
                if maker.uids:
                    syscalls.become_on_files(*outside(maker, 0, 0))
                work(roots)
            except BaseException as error:  # raised again in the task that waits
                failure.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    await trio.to_thread.run_sync(thread.join, abandon_on_cancel=True)
    if failure:
        raise failure[0]


def _bind(root: int, binds: Sequence[tuple[str, str]]) -> None:
    for source, target in sorted(binds, key=lambda pair: pair[1].count("/")):
        try:
            there = _mount_point(root, target, os.path.isdir(source))
        except OSError:
            continue
        try:
            flags = syscalls.MS_BIND | syscalls.MS_REC
            syscalls.mount(source, f"/proc/self/fd/{there}", None, flags)
        except OSError:
            continue  # a file over a directory, or a source that is gone
        finally:
            os.close(there)


def _mount_point(root: int, target: str, directory: bool) -> int:
    """Made where it is missing, as the runtime would at start. A directory only: a file that is
    not there yet is mounted nowhere."""
    if not directory:
        return syscalls.open_in_root(root, target, os.O_PATH)
    current = ""
    for part in filter(None, target.split("/")):
        above = syscalls.open_in_root(root, current or "/", os.O_PATH | os.O_DIRECTORY)
        try:
            with contextlib.suppress(FileExistsError):
                os.mkdir(part, 0o755, dir_fd=above)
        finally:
            os.close(above)
        current += f"/{part}"
    return syscalls.open_in_root(root, current, os.O_PATH | os.O_DIRECTORY)


async def export(engine: Engine, given: str, out: int) -> None:
    """The container's file system as a tar to a descriptor, which is closed. Mounts are left out.

    Errors: NotFound, StorageFull.
    """
    from ..copying.streams import export as write
    from ..layer.walk import open_tree

    async with hold(engine, given) as held:
        async with contextlib.AsyncExitStack() as stack:
            path, maps = await stack.enter_async_context(rooted(held))
            root = open_tree(path)
            stack.callback(os.close, root)
            await trio.to_thread.run_sync(write, root, out, maps, abandon_on_cancel=True)


@asynccontextmanager
async def rooted(held: Held) -> AsyncIterator[tuple[str, IdMaps]]:
    """The layers of a container that we hold, mounted for as long as this lasts: (path, ids of the
    container when the owners there are not those that it sees)."""
    path = held.row["mounted"]
    if path and path == rootfs.path(held.engine, held.row):
        yield path, _maps(held.row)
        return
    async with mounted(held) as path:
        yield path, HOST


@asynccontextmanager
async def mounted(held: Held) -> AsyncIterator[str]:
    """Mounted for as long as this lasts, with the owners that the container sees; the path."""
    ids, held.row["id_maps"] = held.row["id_maps"], {}  # for us: no other ids
    try:
        await mount.plan(held)
        path = await mount.carry_out(held)
    finally:
        held.row["id_maps"] = ids
    await held.journal.flush()
    try:
        yield path
    finally:
        with trio.CancelScope(shield=True):
            await held.journal.write(held.stream, UnmountPlanned(path=path))
            await held.engine.storage(held.row["storage_driver"]).unmount(held.id)
            await held.journal.write(held.stream, Unmounted())


class End(Struct, frozen=True):
    """SOURCE or DESTINATION of `cp`."""

    path: str
    """`-`: a stream of tar."""
    container: str = ""
    """Empty: this machine."""


async def copy(
    engine: Engine,
    source: End,
    target: End,
    *,
    archive: bool = True,
    overwrite: bool = False,
    stdin: int = 0,
    stdout: int = 1,
) -> None:
    """`cp`. With `archive` what comes to a container belongs to its user, and what comes here to
    us. Errors: NotFound, Conflict, UserError, StorageFull."""
    from ..copying import streams, tree

    async with contextlib.AsyncExitStack() as stack:
        ids = {
            end.container: str((await engine.container(end.container))["id"])
            for end in (source, target)
            if end.container
        }
        held = sorted(set(ids.values()))  # locked in one order, whichever way others copy
        views = [await stack.enter_async_context(seen(engine, cid)) for cid in held]
        which = {given: held.index(cid) for given, cid in ids.items()}
        inside = bool(target.container)
        rules = Rules(None, overwrite=overwrite, devices=inside, tame=not inside)
        if source.container:
            rules.was = views[which[source.container]].maps
        if target.container:
            rules.becomes = views[which[target.container]].maps
        if archive:
            into = views[which[target.container]] if target.container else None
            rules.owner = owner(engine, into) if into else (os.geteuid(), os.getegid())

        def work(roots: list[int]) -> None:
            def place(end: End) -> Place:
                if not end.container:
                    return Place(end.path)
                path = end.path if end.path.startswith("/") else f"/{end.path}"
                root = roots[which[end.container]]
                return Place(path, root=root, container=end.container)

            if source.path == "-" and not source.container:
                streams.receive(place(target), stdin, rules)
            elif target.path == "-" and not target.container:
                streams.send(place(source), stdout, rules.was)
            else:
                tree.copy(place(source), place(target), rules)

        await with_roots(views, work, rules.becomes)
        if target.container:
            view = views[which[target.container]]
            event = FilesCopied(path=target.path)
            view.held.journal.note(view.held.stream, event)
            await view.held.journal.flush()
