"""The steps of a build that change files, in a container of their own: RUN, COPY, ADD, WORKDIR."""

from __future__ import annotations

import os
import posixpath
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import ExitStack, asynccontextmanager
from typing import TYPE_CHECKING

import trio

from .. import syscalls
from ..build import context, copier
from ..build.context import Item, Tree
from ..copying.tree import Rules
from ..errors import StepFailed, TiffinError
from ..options import ContainerOptions, Mount
from ..spec import users
from ..transfer import Layer
from . import create, files, images, remove, run
from .build_images import Tip, add_layer
from .hold import Held, hold

if TYPE_CHECKING:
    from .build import Build
    from .run import Attach

LABEL = "io.tiffin.build"
NEVER = images.Pull(policy="never")
MOUNTED_BY_ENGINE = (
    "/etc/hosts", "/etc/hostname", "/etc/resolv.conf", "/run/.containerenv", "/dev", "/dev/pts",
    "/dev/shm", "/dev/mqueue", "/dev/console", "/proc", "/sys", "/sys/fs/cgroup",
)  # fmt: skip
"""Places that a runtime makes where they are missing, only to mount something there."""


def options(build: Build, tip: Tip, name: str) -> ContainerOptions:
    """Of a step's container: the image so far, nothing of its own."""
    return ContainerOptions(
        image=tip.id,
        name=name,
        entrypoint=(),
        command=("true",),
        labels=((LABEL, build.id),),
        network="none",
        image_volumes="ignore",
        log_driver="none",
        storage_driver=build.driver,
        runtime=build.runtime,
    )


@asynccontextmanager
async def removed(build: Build, cid: Callable[[], str]) -> AsyncIterator[None]:
    """Whatever happens inside, the container is gone afterwards: at once when it fails, else while
    the build goes on."""
    try:
        yield
    except BaseException:  # a cancellation as well; raised again
        if cid():
            await remove_container(build, cid())
        raise
    build.behind.start_soon(remove_container, build, cid())


def first(error: BaseException) -> BaseException:
    """What a nursery has wrapped."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


async def remove_container(build: Build, cid: str) -> None:
    with trio.CancelScope(shield=True):
        await remove.remove(build.engine, cid, force=True, ignore_missing=True)


async def take_layer(
    build: Build, tip: Tip, held: Held, mounts: Sequence[str] = (), *, ran: bool = False
) -> Layer:
    """The container's own layer, in the content store. Left out are empty places that were made
    only to mount something there (`mounts`, or what a runtime needs)."""
    from ..layer.rewrite import rewrite

    engine, row = build.engine, held.row
    storage = engine.storage(row["storage_driver"])
    with build.temporary("layer") as temporary:
        tar = f"{temporary}/layer.tar"
        await storage.diff(held.id, row["layers"], tar)
        without: frozenset[bytes] = frozenset()
        if ran:
            changed = {one.path: one.kind for one in await storage.changes(held.id, row["layers"])}
            without = mount_points(changed, [*mounts, *MOUNTED_BY_ENGINE])
        if without or build.fixed_time is not None:
            again = f"{temporary}/again.tar"

            def work() -> None:
                rewrite(tar, again, mtime=build.fixed_time, without=without)

            await trio.to_thread.run_sync(work)
            tar = again
        async with images.in_use(engine):
            return await add_layer(engine, tip, tar)


def mount_points(changed: Mapping[str, str], places: Sequence[str]) -> frozenset[bytes]:
    """Which of these places are new and empty, and the new directories above that hold nothing
    else: as names in a tar. `changed`: path -> A, C or D."""
    left = dict(changed)
    gone = set()
    for place in sorted(places, key=lambda path: -path.count("/")):
        path = posixpath.normpath(place)
        while path != "/" and left.get(path) == "A":
            if any(other.startswith(f"{path}/") for other in left):
                break
            del left[path]
            gone.add(os.fsencode(path.lstrip("/")))
            path = posixpath.dirname(path)
    return frozenset(gone)


# --- files ----------------------------------------------------------------------------------------


async def in_layer(
    build: Build, tip: Tip, name: str, work: Callable[[int, str], bool]
) -> Layer | None:
    """Call `work` with the root of a new container on `tip`, as descriptor and path, in a thread.
    The layer that it wrote, or None when it returns False."""
    engine = build.engine
    cid = ""
    async with removed(build, lambda: cid):
        async with create.creating(engine, options(build, tip, name), pull=NEVER) as held:
            cid = held.id
            async with files.mounted(held) as path:
                root = os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
                try:
                    made = await trio.to_thread.run_sync(work, root, path)
                finally:
                    os.close(root)
            await held.again()
            return await take_layer(build, tip, held) if made else None


async def copy(
    build: Build,
    tip: Tip,
    name: str,
    items: Sequence[Item],
    target: str,
    *,
    chown: str = "",
    mode: int | None = None,
    keep_owner: bool = False,
    excludes: Sequence[str] = (),
) -> Layer:
    """COPY and ADD. Errors: UserError, Conflict, StorageFull."""

    def work(root: int, path: str) -> bool:
        owner: tuple[int, int] | None = None if keep_owner else (0, 0)
        if chown:
            user = users.in_container(path, chown)
            owner = user.uid, user.gid
        rules = Rules(owner, devices=keep_owner, mode=mode)
        archives = Rules(owner if chown else None, overwrite=True, devices=True, mode=mode)
        for item in items:
            archived = item.unpack and not item.is_directory and copier.archive(item.fd)
            several = target if len(items) == 1 else target.rstrip("/") + "/"
            chosen = archives if archived else rules
            copier.copy(root, [item], several, chosen, excludes=excludes)
        return True

    layer = await in_layer(build, tip, name, work)
    assert layer is not None
    return layer


async def make_directories(
    build: Build, tip: Tip, name: str, paths: Sequence[str], user: str
) -> Layer | None:
    """WORKDIR and VOLUME: directories, where they are not there yet, of this user."""

    def work(root: int, where: str) -> bool:
        made = False
        for path in paths:
            try:
                os.close(syscalls.open_in_root(root, path, os.O_PATH | os.O_DIRECTORY))
            except OSError:
                owner = users.in_container(where, user)
                os.close(copier.make_directories(root, path, (owner.uid, owner.gid)))
                made = True
        return made

    return await in_layer(build, tip, name, work)


def opened(
    stack: ExitStack, tree: Tree, paths: Sequence[str], *, unpack: bool = False
) -> list[Item]:
    """The sources, open until the stack is left."""
    found = []
    for path in paths:
        item = Item(tree, path, unpack=unpack)
        stack.callback(item.close)
        found.append(item)
    return found


async def digest(items: Sequence[Item], *, owners: bool, excludes: Sequence[str] = ()) -> str:
    def work() -> str:
        return context.digest(items, owners=owners, excludes=excludes)

    return await trio.to_thread.run_sync(work)


# --- processes ------------------------------------------------------------------------------------


async def run_command(
    build: Build,
    tip: Tip,
    name: str,
    command: Sequence[str],
    *,
    env: Sequence[tuple[str, str]],
    mounts: Sequence[Mount],
    network: str,
    attach: Attach | None,
    what: str,
) -> Layer:
    """RUN. Errors: StepFailed with the command's exit code; as `run`."""
    wanted = ContainerOptions(
        image=tip.id,
        name=name,
        entrypoint=(),
        command=tuple(command),
        env=tuple(env),
        labels=((LABEL, build.id),),
        mounts=(*build.options.mounts, *mounts),
        network=network or build.options.network,
        add_hosts=build.options.add_hosts,
        dns=build.options.dns,
        image_volumes="ignore",
        log_driver="none",
        cap_add=build.options.cap_add,
        cap_drop=build.options.cap_drop,
        devices=build.options.devices,
        security_opt=build.options.security_opt,
        resources=build.options.resources,
        ulimits=build.options.ulimits,
        shm_size=build.options.shm_size,
        storage_driver=build.driver,
        runtime=build.runtime,
    )
    cid = ""

    def created(made: str) -> None:
        nonlocal cid
        cid = made

    async with removed(build, lambda: cid):
        try:
            _, code = await run.run(
                build.engine, wanted, pull=NEVER, attach=attach, created=created
            )
        except Exception as error:
            told = first(error)
            if isinstance(told, TiffinError):
                raise StepFailed(f"{what}: {told}", exit_code=told.exit_code) from error
            raise
        if code:
            raise StepFailed(f"{what}: while running runtime: exit status {code}", exit_code=code)
        async with hold(build.engine, cid) as held:
            held.need("build from", "exited")  # unless nobody reads our output any more
            targets = [mount.target for mount in wanted.mounts]
            return await take_layer(build, tip, held, targets, ran=True)
