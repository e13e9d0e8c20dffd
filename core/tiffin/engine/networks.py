"""Networks: their definition, and the plan of a container's attachments."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator, Collection, Sequence
from contextlib import asynccontextmanager
from typing import Any, cast

import msgspec
import trio
from msgspec import Struct

from .. import ids, ipam, leases, network_modes
from ..errors import Conflict, DriverError, NotFound, UserError
from ..events.network import NetworkCreated
from ..hooks import Attachment, NetworkConfig, PortMapping, StackDriver
from ..leases import Lease
from ..network_modes import DEFAULT
from ..options import ContainerOptions, NetworkOptions
from ..store import queries
from .base import Engine

HOLDERS = "SELECT address, container FROM addresses WHERE network=?"
LEASES = "SELECT container, mac, addresses FROM leases WHERE network=?"
BY_NAME = "SELECT * FROM networks WHERE name=? OR id=?"
BY_PREFIX = "SELECT * FROM networks WHERE id>=? AND id<? ORDER BY id LIMIT 2"
USERS = "SELECT * FROM containers WHERE instr(','||network||',', ','||?||',') ORDER BY created"


async def find(engine: Engine, name: str) -> NetworkConfig:
    """A network by name; the default one is defined when it is first needed. Error: NotFound."""
    found = await engine.store.rows(BY_NAME, (name, name))
    if not found and name == DEFAULT:
        await _define_default(engine)
        found = await engine.store.rows(BY_NAME, (name, name))
    if not found and queries.is_hex(name):
        found = await engine.store.rows(BY_PREFIX, queries.prefix_range(name))
    if len(found) > 1:
        queries.one(found, name, "network")
    if not found:
        raise NotFound(f"no such network: {name}", hint="tiffin network ls shows those there are")
    return msgspec.convert(found[0]["config"], NetworkConfig)


async def warm_up(engine: Engine, network: str) -> None:
    """Let the drivers of these networks start loading."""
    network = network or network_modes.default(engine.layout.uid)
    if network in network_modes.STACKS:
        engine.network(network).warm_up()
    for name in network_modes.on(network):
        found = [{"driver": name}]
        if name != DEFAULT:
            found = await engine.store.rows(network_modes.DRIVER, (name, name))
        for row in found:
            engine.network(row["driver"]).warm_up()


async def defined(engine: Engine) -> list[NetworkConfig]:
    """All networks, the default one only if it was needed already."""
    rows = await engine.store.rows(queries.NETWORKS)
    return [msgspec.convert(row["config"], NetworkConfig) for row in rows]


async def users(engine: Engine, network: NetworkConfig) -> list[queries.Row]:
    """The containers that are on a network, or will be when they start."""
    return await engine.store.rows(USERS, (network.name,))


def lock(engine: Engine) -> str:
    """Held alone by who defines or removes a network, shared by who makes a container on one."""
    return f"{engine.layout.run}/locks/networks"


@asynccontextmanager
async def in_use(engine: Engine) -> AsyncIterator[None]:
    """While a container is made on networks: `network rm`, which takes the lock alone, waits."""
    async with engine.locks.named(lock(engine), shared=True):
        yield


async def canonical(engine: Engine, options: ContainerOptions) -> tuple[str, ContainerOptions]:
    """(the words of --network, the options), both with each network by its name, and the wishes
    checked as far as they do not depend on others. Errors: NotFound, UserError."""
    if not options.network and engine.layout.uid:
        options = msgspec.structs.replace(options, network=network_modes.default(engine.layout.uid))
    words: dict[str, None] = {}
    wishes = {wish.network: wish for wish in options.joins}
    joins = []
    for name in network_modes.names(options.network):
        if name in network_modes.NO_NETWORK or network_modes.joins(name):
            words[await _mode(engine, name)] = None
            continue
        if name in network_modes.STACKS:
            joins += [wishes[name]] if name in wishes else []
            given = wishes[name].words if name in wishes else ()
            driver = _stack(engine, name)
            await driver.stack("0" * 64, "", given)  # or it says what is wrong
            for port in options.ports:
                if port.protocol not in driver.protocols:
                    raise UserError(f"--network {name} publishes no ports of {port.protocol}")
            words[name] = None
            continue
        network = await find(engine, name)
        if network.name in words:
            raise UserError(f"--network {options.network}: {network.name} is named twice")
        words[network.name] = None
        wish = wishes.get(name)
        if wish is not None:
            leases.check(network, wish)
            if wish.mac and not engine.network(network.driver).has_mac:
                raise UserError(
                    f"network {network.name}: its containers have the MAC address of "
                    f"{network.interface} ({network.driver})"
                )
            joins.append(msgspec.structs.replace(wish, network=network.name))
    interfaces = [join.interface for join in joins if join.interface]
    if len(set(interfaces)) < len(interfaces):
        raise UserError(f"interface_name={interfaces[0]} is given for two networks")
    if tuple(joins) != options.joins:
        options = msgspec.structs.replace(options, joins=tuple(joins))
    return ",".join(words), options


async def _mode(engine: Engine, word: str) -> str:
    if word in network_modes.NO_NETWORK or word.startswith(network_modes.POD):
        return word
    from . import shared

    return await shared.canonical(engine, word)


async def publish(engine: Engine, network: str) -> bool:
    """True when one of these networks can have published ports."""
    if network in network_modes.STACKS:
        return bool(engine.network(network).publishes)
    if engine.layout.uid:
        return any([not (await find(engine, name)).internal for name in network_modes.on(network)])
    drivers = [(await find(engine, name)).driver for name in network_modes.on(network)]
    return any(engine.network(driver).publishes for driver in drivers)


def is_private(engine: Engine) -> bool:
    """Bridges are the machine's: only its own store's is called tiffin0."""
    return engine.layout.root != "/var/lib/tiffin"


async def _define_default(engine: Engine) -> None:
    taken = [subnet.subnet for network in await defined(engine) for subnet in network.subnets]
    private = is_private(engine)
    config = ipam.default_network(ids.new_id(), DEFAULT, private=private, taken=taken)
    event = NetworkCreated(config=msgspec.to_builtins(config))
    try:
        await engine.journal().write(f"network/{config.id}", event)
    except Conflict:
        # Another command may have defined it at the same moment: then it is there now.
        if not await engine.store.rows(BY_NAME, (DEFAULT, DEFAULT)):
            raise


class NetworkPlan(Struct, frozen=True):
    """What a container's network will be."""

    netns: str = ""
    """Path of a namespace of its own, to be made; empty: the runtime makes one, or none."""
    joined: str = ""
    """Path of one that is there already, and not ours to remove."""
    attachments: tuple[Attachment, ...] = ()


async def plan(engine: Engine, row: queries.Row, netns_path: str) -> NetworkPlan:
    """Addresses are free as far as we can see; the intent that names them reserves them, or fails.

    Errors: Conflict (no address, or the other container of `container:ID` does not run), UserError.
    """
    if not row["network"]:
        return NetworkPlan(netns=netns_path)  # taken off all networks, but it may join others
    names = network_modes.names(row["network"])
    if row["network"] in network_modes.NO_NETWORK:
        return NetworkPlan()
    if network_modes.joins(row["network"]):
        from . import shared

        return NetworkPlan(joined=await shared.namespace(engine, row))
    wishes = {
        join["network"]: msgspec.convert(join, NetworkOptions)
        for join in row["options"].get("joins", ())
    }
    if row["network"] in network_modes.STACKS:
        wish = wishes.get(row["network"], NetworkOptions(row["network"]))
        driver = _stack(engine, row["network"])
        own = await driver.stack(row["id"], netns_path, wish.words)
        return NetworkPlan(netns=netns_path, attachments=roles(engine, [own], row["ports"]))
    configs = [await find(engine, name) for name in names]
    wished = [wishes.get(name, NetworkOptions(name)) for name in names]
    interfaces = _interfaces([wish.interface for wish in wished])
    publisher = await _publisher(engine, row, netns_path, configs)
    found = publisher + [
        await attachment(engine, row, network, wish, netns_path, interface)
        for network, wish, interface in zip(configs, wished, interfaces, strict=True)
    ]
    return NetworkPlan(netns=netns_path, attachments=roles(engine, found, row["ports"]))


async def _publisher(
    engine: Engine, row: queries.Row, netns_path: str, networks: Sequence[NetworkConfig]
) -> list[Attachment]:
    """Where no driver of its networks publishes ports (an ordinary user's bridges do not), a
    container that has some is also on a network of its own, which leads outside, in and out."""
    drivers = [engine.network(n.driver) for n in networks if not n.internal]
    if not (row["ports"] and engine.layout.uid and drivers) or any(d.publishes for d in drivers):
        return []
    own = await _home().stack(engine).stack(row["id"], netns_path, ())
    return [msgspec.structs.replace(own, interface="tap0")]


def _home() -> Any:
    """The module, which only ordinary users' networks need."""
    from . import home

    return home


def _stack(engine: Engine, name: str) -> StackDriver:
    driver = engine.network(name)
    if not hasattr(driver, "stack"):
        raise DriverError(f"--network {name}: the plugin network.{name} makes no network by itself")
    return cast("StackDriver", driver)


async def attachment(
    engine: Engine,
    row: queries.Row,
    network: NetworkConfig,
    wish: NetworkOptions,
    netns_path: str,
    interface: str,
) -> Attachment:
    """A container on one of its networks; `roles` says what it is to that container."""
    held = await engine.store.rows(HOLDERS, (network.id,))
    holders = {r["address"]: r["container"] for r in held}
    known = [
        Lease(r["container"], r["mac"], tuple(r["addresses"].split()))
        for r in await engine.store.rows(LEASES, (network.id,))
    ]
    addresses = leases.addresses(network, wish, row["id"], holders, known)
    mac = leases.mac(network, wish, row["id"], addresses, holders, known)
    driver = engine.network(network.driver)
    where = getattr(driver, "home", "")
    servers = upstream(row) if network.dns_enabled else ()
    if where and network.dns_enabled and not servers:
        servers = await _home().forwarder(engine, where)
    return Attachment(
        container=row["id"],
        network=network,
        netns=netns_path,
        interface=interface,
        host_interface=ipam.host_interface(row["id"], network.id),
        mac=mac if driver.has_mac else "",
        addresses=addresses,
        default_route=False,
        names=called(row, wish) if network.dns_enabled else (),
        dns=servers,
        host_netns=where,
    )


SPARE = 2000
"""Metrics of spare routes begin above it: the kernel's default is 0 (IPv4) or 1024 (IPv6)."""


def roles(
    engine: Engine, attachments: Sequence[Attachment], ports: Sequence[Any]
) -> tuple[Attachment, ...]:
    """Published ports and the default route go to the first network that is not internal (and can
    have ports); the others like it get spare routes. Those that there are stay: they are in use."""
    outward = [at for at in attachments if not at.network.internal]
    able = [at for at in outward or attachments if engine.network(at.network.driver).publishes]
    carrier = next((at for at in able if at.ports), None) or next(iter(able), None)
    routed = any(at.default_route or at.spare_route for at in attachments)
    spare = max([SPARE, *(at.spare_route for at in attachments)])
    published = tuple(msgspec.convert(port, PortMapping) for port in ports)
    found = []
    for at in attachments:
        default = at.default_route
        metric = at.spare_route
        if not at.network.internal and not default and not metric:
            default, routed = not routed, True
            if not default:
                spare += 1
                metric = spare
        found.append(
            msgspec.structs.replace(
                at,
                ports=published if at is carrier else (),
                default_route=default,
                spare_route=metric,
                outward=bool(outward),
            )
        )
    return tuple(found)


def free_interface(taken: Collection[str]) -> str:
    """The first of eth0, eth1, ... that a container does not have."""
    return next(name for number in itertools.count() if (name := f"eth{number}") not in taken)


def called(row: queries.Row, wish: NetworkOptions) -> tuple[str, ...]:
    """What a container is called on a network."""
    return (row["name"], ids.short(row["id"]), *wish.aliases)


def upstream(row: queries.Row) -> tuple[str, ...]:
    """The name servers that a container asks for names outside of its networks (--dns)."""
    servers = tuple(row["options"].get("dns", ()))
    return () if servers == ("none",) else servers


def _interfaces(wished: Sequence[str]) -> list[str]:
    """Names inside the container: those asked for, and eth0, eth1, ... for the others."""
    free = (name for number in itertools.count() if (name := f"eth{number}") not in wished)
    return [wish or next(free) for wish in wished]


async def attach(engine: Engine, attachments: tuple[Attachment, ...], processes: list[Any]) -> None:
    """Make them all; when one fails, the others are taken back. `processes` gets those that stay,
    as plain data. Errors: DriverError, Conflict."""
    made: list[Attachment] = []
    try:
        for attachment in attachments:
            made.append(attachment)
            if attachment.host_netns:
                started = await _home().attach(engine, attachment)
            else:
                started = await engine.network(attachment.network.driver).attach(attachment)
            processes += [msgspec.to_builtins(process) for process in started or ()]
    except BaseException:  # a cancellation as well; raised again
        with trio.CancelScope(shield=True):
            for attachment in made:
                try:
                    if attachment.host_netns:
                        await _home().detach(engine, attachment)
                        continue
                    await engine.network(attachment.network.driver).detach(attachment)
                except DriverError:
                    continue  # the first error is the one to tell; the intent stays open for more
        raise
