"""`create`: metadata only. A row, an id, a directory; no mount, no config.json, no process."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING, Any

import msgspec
import trio

from .. import ids, names, network_modes
from ..errors import Conflict, NotFound, TiffinError, UserError
from ..events.container import Created, CreationPlanned, Failed
from ..options import ContainerOptions, Health, Port
from ..spec import asked, init_system
from . import bundle, drivers, images, labels, networks, remove
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
    ports = await choose_ports(engine, options, image.config)
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
            for attempt in (1, 2):
                try:
                    async with AsyncExitStack() as stack:
                        await stack.enter_async_context(images.in_use(engine))
                        await stack.enter_async_context(networks.in_use(engine))
                        if created or _has_volumes(options):
                            await stack.enter_async_context(volumes.in_use(engine, options.mounts))
                            await volumes.need(engine, options, created)
                        if options.pod:
                            await stack.enter_async_context(pods.in_use(engine, options.pod))
                        if options.requires:
                            needed = dependencies.in_use(engine, options.requires)
                            await stack.enter_async_context(needed)
                        await images.need(engine, image.id)
                        network, options = await networks.canonical(engine, options)
                        if ports and not await networks.publish(engine, network):
                            ports = []  # left out, as podman and docker do
                        maps = None
                        if _has_own_ids(options):
                            from . import idmaps

                            options, maps = await stack.enter_async_context(
                                idmaps.settled(engine, options)
                            )
                        await _plan(
                            *(
                                engine,
                                journal,
                                cid,
                                options,
                                image,
                                driver,
                                runtime,
                                ports,
                                network,
                            ),
                            *(created, maps),
                        )
                    break
                except NameInUse:
                    # Not before our locks on volumes and pods are gone: what a killed command has
                    # left of a container may have to be undone with the same.
                    if attempt == 2 or not await _resolved(engine, options.name):
                        raise
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


async def _plan(
    engine: Engine,
    journal: Journal,
    cid: str,
    options: ContainerOptions,
    image: Usable,
    driver: str,
    runtime: str,
    ports: Sequence[Port],
    network: str,
    created: Mapping[str, VolumeCreated],
    maps: IdMaps | None,
) -> None:
    """Write the intent, under the name that was asked for or the first random one that is free."""
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
            storage_driver=driver,
            runtime=runtime,
            network=network,
            layers=image.layers,
            ports=tuple(msgspec.to_builtins(port) for port in ports),
            labels=told,
            directory=engine.layout.container(cid),
            stop_signal=_stop_signal(options, image_config),
            stop_timeout=10 if options.stop_timeout < 0 else options.stop_timeout,
            remove=options.remove,
            security_labels=await labels.allocate(engine, cid, options),
            id_maps=msgspec.to_builtins(maps) if maps else {},
        )
        for volume, made in created.items():
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


PUBLISHED = (
    "SELECT ports FROM containers WHERE ports<>'[]' UNION ALL "
    "SELECT ports FROM pods WHERE ports<>'[]'"
)


async def choose_ports(
    engine: Engine, options: ContainerOptions, image_config: dict[str, Any]
) -> list[Port]:
    """Published ports, free host ports chosen; `-P` publishes what the image and
    --expose expose and -p does not publish.

    Error: UserError for the same host port twice, and for one that is not for ordinary users, where
    the caller is one.
    """
    ports = list(options.ports)
    if options.publish_all:
        given = {(port.container_port, port.protocol) for port in ports}
        for exposed in (*options.expose, *(image_config.get("ExposedPorts") or {})):
            number, _, protocol = exposed.partition("/")
            if number.isdecimal() and 0 < int(number) < 65536:
                port = Port(container_port=int(number), protocol=protocol or "tcp")
                if (port.container_port, port.protocol) not in given:
                    given.add((port.container_port, port.protocol))
                    ports.append(port)
    if network_modes.without_ports(options.network):
        return []
    taken = {(port.host_port, port.protocol) for port in ports}
    if any(not port.host_port for port in ports):
        for row in await engine.store.rows(PUBLISHED):
            taken |= {(p["host_port"], p.get("protocol", "tcp")) for p in row["ports"]}
    seen = set()
    said: set[Port] = set()
    chosen = []
    for port in ports:
        if port.host_port and port in said:
            continue  # twice
        said.add(port)
        host_port = port.host_port or free_port(port.protocol, port.host_ip, taken)
        key = (port.host_ip, host_port, port.protocol)
        if key in seen:
            raise UserError(f"host port {host_port}/{port.protocol} is published twice")
        seen.add(key)
        taken.add((host_port, port.protocol))
        if engine.layout.uid:
            from .. import host_ports

            host_ports.need_free(port.host_ip, host_port, port.protocol)
        chosen.append(msgspec.structs.replace(port, host_port=host_port))
    return chosen


def free_port(protocol: str, host_ip: str, taken: Collection[tuple[int, str]]) -> int:
    """A port of the ephemeral range that no program has bound now, and no container publishes:
    those are bound by nobody, and with hundreds of them the kernel often offers one."""
    for _ in range(TRIES):
        port = _bound(protocol, host_ip, 0)
        if (port, protocol) not in taken:
            return port
    with open(EPHEMERAL, encoding="ascii") as file:  # the kernel offers every other one (ip(7))
        first, last = map(int, file.read().split())
    for number in range(first, last + 1):
        if (number, protocol) not in taken:
            with contextlib.suppress(TiffinError):
                return _bound(protocol, host_ip, number)
    raise TiffinError(f"no free port on {host_ip or 'this host'}: containers publish them")


EPHEMERAL = "/proc/sys/net/ipv4/ip_local_port_range"


def _bound(protocol: str, host_ip: str, port: int) -> int:
    """This port, or one that the kernel chooses, bound for a moment. Error: TiffinError."""
    kind = socket.SOCK_DGRAM if protocol == "udp" else socket.SOCK_STREAM
    family = socket.AF_INET6 if ":" in host_ip else socket.AF_INET
    with socket.socket(family, kind) as probe:
        try:
            probe.bind((host_ip, port))
        except OSError as error:
            raise TiffinError(f"no free port on {host_ip or 'this host'}: {error}") from None
        return int(probe.getsockname()[1])
