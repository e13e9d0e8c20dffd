"""`network explain`: what a network and the containers on it should have by the log, beside what
the kernel has. Pure: rows, the kernel's state and the driver's rules in, a story out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from msgspec import Struct

from .hooks import Attachment, NetworkConfig, Rule
from .netstate import Interface, Namespace, Route


class Plug(Struct, frozen=True):
    """A container on a network."""

    container: str
    name: str
    state: str
    network: str
    interface: str
    """Inside the container."""
    host_interface: str
    """At the other end of its cable, or below it: as the kernel has it, else as it should be."""
    addresses: tuple[str, ...]
    mac: str
    ports: tuple[str, ...]
    routes: tuple[Route, ...]
    found: Interface | None
    """As the kernel has it."""
    differences: tuple[str, ...]


class Holder(Struct, frozen=True):
    address: str
    who: str
    """A container's name, or `gateway`."""
    use: str
    """`in use`, `kept` for a container that does not run, or `host`."""


class NetworkStory(Struct, frozen=True):
    id: str
    name: str
    driver: str
    subnets: tuple[Mapping[str, str], ...]
    internal: bool
    options: Mapping[str, str]
    interface: str
    found: Interface | None
    """The host's interface as the kernel has it."""
    plugs: tuple[Plug, ...]
    holders: tuple[Holder, ...]
    rules: tuple[Rule, ...]
    differences: tuple[str, ...]
    """Between the log and the kernel; those of the plugs as well."""
    obstacles: tuple[Rule, ...]
    """Other people's rules that seem to be in the way."""


class ContainerStory(Struct, frozen=True):
    id: str
    name: str
    state: str
    network: str
    """The words of --network."""
    netns: str
    plugs: tuple[Plug, ...]
    found: Namespace | None
    """All that the kernel has in its namespace; None while it does not run."""
    rules: tuple[Rule, ...]
    shared_with: tuple[str, ...]
    """Containers in the same namespace, by `--network container:`."""
    differences: tuple[str, ...]
    obstacles: tuple[Rule, ...]


def plug(
    row: Mapping[str, Any], attachment: Attachment, host: Namespace, inside: Namespace | None
) -> Plug:
    """`inside` is None when the namespace is gone."""
    link = inside.named(attachment.interface) if inside else None
    other = host.numbered(link.lower) if link else None
    routes = (
        tuple(r for r in inside.routes if r.interface == attachment.interface) if inside else ()
    )
    return Plug(
        container=row["id"],
        name=row["name"],
        state=row["state"],
        network=attachment.network.name,
        interface=attachment.interface,
        host_interface=other.name if other else attachment.host_interface,
        addresses=attachment.addresses,
        mac=attachment.mac,
        ports=tuple(
            f"{f'[{p.host_ip}]' if ':' in p.host_ip else p.host_ip or '*'}:{p.host_port}"
            f"/{p.protocol} -> {p.container_port}"
            for p in attachment.ports
        ),
        routes=routes,
        found=link,
        differences=tuple(_plug_differences(row["name"], attachment, host, inside, link)),
    )


def _plug_differences(
    name: str,
    attachment: Attachment,
    host: Namespace,
    inside: Namespace | None,
    link: Interface | None,
) -> list[str]:
    called = f"{name}: {attachment.interface}"
    if inside is None:
        return [f"{name}: its network namespace {attachment.netns} is gone"]
    if link is None:
        return [f"{called} is missing"]
    found = []
    if not link.up:
        found.append(f"{called} is down")
    if attachment.mac and link.mac != attachment.mac:
        found.append(f"{called} has MAC {link.mac}, not {attachment.mac}")
    for address in attachment.addresses:
        if address not in link.addresses:
            found.append(f"{called} lacks address {address}")
    for address in link.addresses:
        if address not in attachment.addresses:
            found.append(f"{called} has address {address}, which tiffin did not give it")
    found += _cable(called, attachment, host, link)
    network = attachment.network
    if (attachment.default_route or attachment.spare_route) and not network.internal:
        ways = {r.gateway for r in inside.routes if r.destination == "default"}
        for subnet in network.subnets:
            if subnet.gateway and subnet.gateway not in ways:
                found.append(f"{name}: no default route by {subnet.gateway}")
    for wanted in network.routes:
        if not any(
            (r.destination, r.gateway) == (wanted.destination, wanted.gateway)
            for r in inside.routes
        ):
            found.append(f"{name}: no route to {wanted.destination} by {wanted.gateway}")
    return found


def _cable(called: str, attachment: Attachment, host: Namespace, link: Interface) -> list[str]:
    """The other end must be the network's interface (macvlan), or a port of it (bridge)."""
    if link.kind == "tun":
        return []  # its other end is a process, which the driver tells of as a rule
    wanted = attachment.network.interface
    other = host.numbered(link.lower)
    if other is None:
        return [f"{called} leads nowhere: its other end is gone"]
    master = host.numbered(other.master) if other.master else None
    if other.name != wanted and (master is None or master.name != wanted):
        return [f"{called} leads to {other.name}, which is not on {wanted}"]
    return [] if other.up else [f"{called}: its other end {other.name} is down"]


def network(
    config: NetworkConfig,
    plugs: Sequence[Plug],
    host: Namespace,
    rules: Sequence[Rule],
    held: Mapping[str, str],
    kept: Mapping[str, str],
    *,
    gateway_here: bool,
) -> NetworkStory:
    """`held` and `kept`: addresses and the names of the containers that use them, or will when they
    start again. `gateway_here`: the gateways are addresses of the host's interface."""
    link = host.named(config.interface)
    differences = [text for p in plugs for text in p.differences]
    if plugs and link is None:
        differences.append(f"interface {config.interface} is missing on the host")
    elif plugs and link is not None:
        if not link.up:
            differences.append(f"interface {link.name} is down")
        for subnet in config.subnets if gateway_here else ():
            wanted = f"{subnet.gateway}/{subnet.subnet.partition('/')[2]}"
            if subnet.gateway and wanted not in link.addresses:
                differences.append(f"interface {link.name} lacks address {wanted}")
    holders = [Holder(s.gateway, "gateway", "host") for s in config.subnets if s.gateway]
    holders += [Holder(address, who, "in use") for address, who in held.items()]
    holders += [
        Holder(address, who, "kept") for address, who in kept.items() if address not in held
    ]
    return NetworkStory(
        id=config.id,
        name=config.name,
        driver=config.driver,
        subnets=tuple(
            {"subnet": s.subnet, "gateway": s.gateway, "ip_range": s.ip_range}
            for s in config.subnets
        ),
        internal=config.internal,
        options=config.options,
        interface=config.interface,
        found=link,
        plugs=tuple(plugs),
        holders=tuple(sorted(holders, key=_order)),
        rules=tuple(rule for rule in rules if not rule.remedy),
        differences=(*differences, *wrong(rules)),
        obstacles=tuple(rule for rule in rules if rule.remedy),
    )


def _order(holder: Holder) -> tuple[bool, int, str]:
    from . import ipam

    return ":" in holder.address, ipam.to_number(holder.address), holder.who


def wrong(rules: Sequence[Rule]) -> list[str]:
    """The rules that the kernel lacks, and those that nobody needs."""
    found = [f"rule is missing: {rule.text}" for rule in rules if rule.expected and not rule.there]
    found += [f"rule of nobody's: {rule.text}" for rule in rules if not rule.expected]
    return found


def container(
    row: Mapping[str, Any],
    plugs: Sequence[Plug],
    inside: Namespace | None,
    rules: Sequence[Rule],
    shared_with: Sequence[str],
) -> ContainerStory:
    own = [rule for rule in rules if rule.expected]
    differences = [text for p in plugs for text in p.differences]
    return ContainerStory(
        id=row["id"],
        name=row["name"],
        state=row["state"],
        network=row["network"],
        netns=row["netns"],
        plugs=tuple(plugs),
        found=inside,
        rules=tuple(rule for rule in own if not rule.remedy),
        shared_with=tuple(shared_with),
        differences=(*differences, *wrong(own)),
        obstacles=tuple(rule for rule in own if rule.remedy),
    )
