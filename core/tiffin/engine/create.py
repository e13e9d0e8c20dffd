"""`create`: metadata only. A row, an id, a directory; no mount, no config.json, no process."""

from __future__ import annotations

import os
import signal
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING, Any

import msgspec
import trio
from msgspec import Struct

from .. import ids, names
from ..errors import Conflict, NotFound, UserError
from ..events.container import Created, CreationPlanned, Failed
from ..options import ContainerOptions, Health, Port
from ..spec import asked, init_system
from . import bundle, drivers, images, labels, networks, published, remove
from .base import Engine, Journal, LabelTaken, command
from .hold import Held, hold
from .images import Usable

if TYPE_CHECKING:
    from ..events.volume import VolumeCreated
    from ..hooks import IdMaps

TRIES = 20
"""How often a random name is drawn again when it is taken."""


@command
async def create(
    engine: Engine, options: ContainerOptions, *, pull: images.Pull, replace: bool = False
) -> str:
    """Make a container; returns its id.

    Errors: UserError, NotFound (image), Conflict (name in use), RegistryError, StorageFull, ...
    """
    async with creating(engine, options, pull=pull, replace=replace) as held:
        await held.journal.flush()
        return held.id


class NameInUse(Conflict):
    """A container has the name that was asked for."""


@asynccontextmanager
async def creating(
    engine: Engine, options: ContainerOptions, *, pull: images.Pull, replace: bool = False
) -> AsyncIterator[Held]:
    """A new container whose lock is held; `Created` is noted, and written with what comes next."""
    journal = engine.journal()
    driver = await drivers.storage_name(engine, options.storage_driver)
    if _asks_for_ids(options):
        driver = await drivers.mapping_storage(engine, driver, options.storage_driver)
    runtime = await drivers.runtime_name(engine, options.runtime)
    engine.runtime(runtime).program()  # a missing runtime is an error before anything is made
    if options.name:
        ids.check_name(options.name)
    if options.pod:
        from . import pods

        options = await pods.join(engine, options)
    if ":" in options.pid or ":" in options.uts:
        from . import other_namespaces

        options = await other_namespaces.settle(engine, options)
    if options.requires:
        from . import dependencies

        options = await dependencies.settle(engine, options)
    image = await images.obtain(engine, options.image, driver=driver, pull=pull)
    if options.health != Health() or image.config.get("Healthcheck"):
        from . import health

        options = health.settle(options, image.config)
    if options.secrets:
        from . import secrets

        options = await secrets.settle(engine, options)
    others = labels.names(engine, options)
    asked.check(options, image.config, others)
    bundle.check(options)
    if replace and options.name:
        await remove.remove(engine, options.name, force=True, timeout=None, ignore_missing=True)
    ports = await published.choose(engine, options, image.config)
    created: dict[str, VolumeCreated] = {}
    if options.volumes_from or image.config.get("Volumes") or _has_volumes(options):
        from . import volumes

        options, created = await volumes.settle(engine, options, image.config)
        asked.check(options, image.config, others)
    if any(m.type == "image" or {"O", "U"} & set(m.options) for m in options.mounts):
        from . import special_mounts

        special_mounts.check(options)
        options = await _with_images(engine, options, driver, pull)
    cid = ids.new_id()
    async with engine.locks.container(cid):
        try:
            wanted = _Wanted(cid, options, image, driver, runtime, ports, created)
            try:
                await _claim(engine, journal, wanted)
            except NameInUse:
                # Not before our locks on volumes and pods are gone: what a killed command has left
                # of a container may have to be undone with the same.
                if not await _resolved(engine, options.name):
                    raise
                await _claim(engine, journal, wanted)
        except BaseException:  # a cancellation as well; raised again
            engine.locks.forget(cid)
            raise
        held = Held(engine, journal, await engine.container_now(cid))
        try:
            os.makedirs(held.row["directory"], mode=0o700)
            os.makedirs(engine.layout.container_run(cid), mode=0o700, exist_ok=True)
        except BaseException as error:
            with trio.CancelScope(shield=True):
                from . import teardown

                await teardown.everything(engine, held.row)
                why = str(error)
                event = Failed(operation="create", error=why, state="removed")
                await journal.write(held.stream, event)
            raise
        journal.note(held.stream, Created())
        held.row["state"] = "created"
        yield held


class _Wanted(Struct, frozen=True):
    """A container as it is about to be claimed."""

    id: str
    options: ContainerOptions
    image: Usable
    driver: str
    runtime: str
    ports: Sequence[Port]
    created: dict[str, VolumeCreated]
    """Volumes that are made with it."""


async def _claim(engine: Engine, journal: Journal, wanted: _Wanted) -> None:
    """Write the intent, while nobody can take away what the container is made of.
    Errors: NotFound for what was taken before; NameInUse, and other Conflicts; UserError."""
    options = wanted.options
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(images.in_use(engine))
        await stack.enter_async_context(networks.in_use(engine))
        if wanted.created or _has_volumes(options):
            from . import volumes

            await stack.enter_async_context(volumes.in_use(engine, options.mounts))
            await volumes.need(engine, options, wanted.created)
        if options.pod:
            from . import pods

            await stack.enter_async_context(pods.in_use(engine, options.pod))
        if options.requires:
            from . import dependencies

            await stack.enter_async_context(dependencies.in_use(engine, options.requires))
        await images.need(engine, wanted.image.id)
        network, options = await networks.canonical(engine, options)
        ports = wanted.ports
        if ports and not await networks.publish(engine, network):
            ports = ()  # left out, as podman and docker do
        maps = None
        if _has_own_ids(options):
            from . import idmaps

            options, maps = await stack.enter_async_context(idmaps.settled(engine, options))
        settled = msgspec.structs.replace(wanted, options=options, ports=ports)
        await _plan(engine, journal, settled, network, maps)


async def _plan(
    engine: Engine, journal: Journal, wanted: _Wanted, network: str, maps: IdMaps | None
) -> None:
    """Write the intent, under the name that was asked for or the first random one that is free."""
    cid, options, image = wanted.id, wanted.options, wanted.image
    image_config = image.config
    told = {**(image_config.get("Labels") or {}), **dict(options.labels)}
    plain: dict[str, Any] = msgspec.to_builtins(options)
    for attempt in range(TRIES):
        name = options.name or names.random_name()
        event = CreationPlanned(
            name=name,
            image=options.image,
            image_id=image.id,
            image_name=image.name,
            command=asked.command(options, image_config),
            options=plain,
            storage_driver=wanted.driver,
            runtime=wanted.runtime,
            network=network,
            layers=image.layers,
            ports=tuple(msgspec.to_builtins(port) for port in wanted.ports),
            labels=told,
            directory=engine.layout.container(cid),
            stop_signal=_stop_signal(options, image_config),
            stop_timeout=10 if options.stop_timeout < 0 else options.stop_timeout,
            remove=options.remove,
            security_labels=await labels.allocate(engine, cid, options),
            id_maps=msgspec.to_builtins(maps) if maps else {},
        )
        for volume, made in wanted.created.items():
            journal.note(f"volume/{volume}", made)
        try:
            await journal.write(f"container/{cid}", event)
            return
        except LabelTaken:
            if attempt + 1 == TRIES:
                raise
        except Conflict as error:
            if not options.name and attempt + 1 < TRIES:
                continue
            raise NameInUse(
                f"the container name {name!r} is in use", hint="remove that container or --replace"
            ) from error


async def _with_images(
    engine: Engine, options: ContainerOptions, driver: str, pull: images.Pull
) -> ContainerOptions:
    """The options with the id of each image that is to be mounted, whatever its name comes to
    mean. Errors: those of a pull."""
    mounts = list(options.mounts)
    for number, mount in enumerate(mounts):
        if mount.type == "image":
            image = await images.obtain(engine, mount.source, driver=driver, pull=pull)
            mounts[number] = msgspec.structs.replace(mount, source=image.id)
    return msgspec.structs.replace(options, mounts=tuple(mounts))


def _has_volumes(options: ContainerOptions) -> bool:
    return any(mount.type == "volume" for mount in options.mounts)


def _has_own_ids(options: ContainerOptions) -> bool:
    """True when the user says whose ids the container is to have."""
    asked = options.uid_maps or options.gid_maps or options.subuid_name or options.subgid_name
    return bool(asked or options.userns)


def _asks_for_ids(options: ContainerOptions) -> bool:
    """True when those are not the host's."""
    if not _has_own_ids(options):
        return False
    from ..spec.idmaps import mode

    return bool(mode(options))


async def _resolved(engine: Engine, name: str) -> bool:
    """The holder of the name may be the half-made container of a dead process: holding it makes
    that one finished or undone. True when the name is free now."""
    try:
        async with hold(engine, name):
            return False
    except NotFound:
        return True


def _stop_signal(options: ContainerOptions, image_config: Mapping[str, Any]) -> int:
    given = options.stop_signal or image_config.get("StopSignal") or ""
    if not given and asked.runs_systemd(options, image_config):
        given = init_system.STOP_SIGNAL
    return stop_signal(given)


def stop_signal(text: str) -> int:
    """Number of a signal by name or number. Error: UserError."""
    if not text:
        return int(signal.SIGTERM)
    return parse_signal(text)


def parse_signal(text: str) -> int:
    """`KILL`, `SIGKILL`, `sigkill`, `9`, `RTMIN+3` -> 9. Error: UserError that names it."""
    wanted = text.upper().removeprefix("SIG")
    if wanted.isdecimal() and len(wanted) < 9 and 0 < int(wanted) <= 64:
        return int(wanted)
    base, sign, offset = wanted.partition("+" if "+" in wanted else "-")
    number = getattr(signal, f"SIG{base}", None)
    if isinstance(number, signal.Signals) and not base.startswith("_"):
        if not sign:
            return int(number)
        if base in ("RTMIN", "RTMAX") and offset.isdecimal() and len(offset) < 9:
            moved = int(number) + (int(offset) if sign == "+" else -int(offset))
            if signal.SIGRTMIN <= moved <= signal.SIGRTMAX:
                return moved
    raise UserError(f"{text!r} is not a signal", hint="for example KILL, SIGTERM or 15")
