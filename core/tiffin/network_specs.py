"""What may be asked of a new network, checked: pure functions from words to `NetworkConfig`."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from msgspec import Struct

from . import ids, ipam
from .errors import Conflict, UserError
from .hooks import NetworkConfig, StaticRoute, Subnet

INTERFACE = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]{0,14}\Z")
"""What we accept as a link's name: at most 15 bytes (IFNAMSIZ)."""

RESERVED = (
    *("none", "host", "bridge", "private", "default"),
    *("container", "ns", "pasta", "slirp4netns"),
)
"""Words of --network that no network can be called."""

MTU = range(68, 65536)
"""RFC 791 wants 68 at least; IPv6 (RFC 8200) 1280."""


class NetworkRequest(Struct, frozen=True):
    """`network create`, as a front end asks for it."""

    name: str = ""
    driver: str = "bridge"
    subnets: tuple[str, ...] = ()
    gateways: tuple[str, ...] = ()
    """The first belongs to the first subnet, and so on."""
    ip_ranges: tuple[str, ...] = ()
    ipv6: bool = False
    internal: bool = False
    routes: tuple[str, ...] = ()
    """`DESTINATION,GATEWAY[,METRIC]`"""
    interface: str = ""
    options: Mapping[str, str] = {}
    labels: Mapping[str, str] = {}
    disable_dns: bool = False
    dns: tuple[str, ...] = ()
    """Name servers for names outside of the network."""


def check_name(name: str) -> str:
    """Error: UserError."""
    ids.check_name(name, "network")
    if name in RESERVED:
        raise UserError(f"{name!r} cannot be a network's name", hint="--network knows that word")
    return name


def given_subnets(request: NetworkRequest) -> tuple[Subnet, ...]:
    """--subnet with the --gateway and the --ip-range that belong to each, in their order
    (podman-network-create(1)). Error: UserError."""
    for flag, values in (("--gateway", request.gateways), ("--ip-range", request.ip_ranges)):
        if len(values) > len(request.subnets):
            raise UserError(f"{flag} {values[-1]} has no --subnet that it belongs to")
    found: list[Subnet] = []
    for index, text in enumerate(request.subnets):
        gateway = request.gateways[index] if index < len(request.gateways) else ""
        ip_range = request.ip_ranges[index] if index < len(request.ip_ranges) else ""
        subnet = _subnet(text, gateway, ip_range)
        for other in found:
            if overlap(subnet.subnet, other.subnet):
                raise UserError(f"--subnet {text} overlaps {other.subnet}")
        found.append(subnet)
    return tuple(found)


def _subnet(text: str, gateway: str = "", ip_range: str = "") -> Subnet:
    base, prefix, bits = ipam.parse_cidr(text)
    size = 1 << (bits - prefix)
    if "/" not in text or size < 4:
        raise UserError(f"--subnet {text} has no room for containers", hint="10.89.5.0/24")
    if gateway:
        value = address(gateway, "--gateway")
        last = base + size - 1
        if not _inside(gateway, text) or value == base or (bits == 32 and value == last):
            raise UserError(f"--gateway {gateway} is no address of a host in subnet {text}")
    else:
        gateway = ipam.to_text(base + 1, bits)
    if ip_range:
        low, length, _ = ipam.parse_cidr(ip_range)
        if length < prefix or not _inside(ip_range.partition("/")[0], text):
            raise UserError(f"--ip-range {ip_range} is not within subnet {text}")
        ip_range = f"{ipam.to_text(low, bits)}/{length}"
    return Subnet(subnet=f"{ipam.to_text(base, bits)}/{prefix}", gateway=gateway, ip_range=ip_range)


def address(text: str, flag: str) -> int:
    """An IP address as a number. Error: UserError."""
    try:
        return ipam.to_number(text)
    except (OSError, ValueError):
        raise UserError(f"{flag} {text!r} is not an IP address") from None


def name_servers(texts: Sequence[str], flag: str) -> tuple[str, ...]:
    """Addresses, each once. Error: UserError."""
    for text in texts:
        address(text, flag)
    return tuple(dict.fromkeys(texts))


def _inside(text: str, subnet: str) -> bool:
    base, prefix, bits = ipam.parse_cidr(subnet)
    if (":" in text) != (bits == 128):
        return False
    return ipam.to_number(text) >> (bits - prefix) == base >> (bits - prefix)


def overlap(one: str, other: str) -> bool:
    """True when two subnets have an address in common."""
    base, prefix, bits = ipam.parse_cidr(one)
    value, length, size = ipam.parse_cidr(other)
    shift = bits - min(prefix, length)
    return bits == size and base >> shift == value >> shift


def route(text: str) -> StaticRoute:
    """`10.7.0.0/16,10.89.5.9[,100]`. Error: UserError."""
    parts = text.split(",")
    if len(parts) not in (2, 3) or "/" not in parts[0]:
        raise UserError(
            f"--route {text!r} is not a route", hint="write DESTINATION/PREFIX,GATEWAY[,METRIC]"
        )
    base, prefix, bits = ipam.parse_cidr(parts[0])
    address(parts[1], "--route: gateway")
    if (":" in parts[1]) != (bits == 128):
        raise UserError(f"--route {text}: destination and gateway are of different families")
    metric = parts[2] if len(parts) == 3 else "0"
    if not (metric.isascii() and metric.isdecimal() and int(metric) < 1 << 32):
        raise UserError(f"--route {text}: {metric!r} is not a metric")
    return StaticRoute(f"{ipam.to_text(base, bits)}/{prefix}", parts[1], int(metric))


def taken_by(subnet: str, networks: Sequence[NetworkConfig]) -> str:
    """The name of a network that has part of this subnet, or ""."""
    for network in networks:
        if any(overlap(subnet, other.subnet) for other in network.subnets):
            return network.name
    return ""


def define(
    request: NetworkRequest,
    networks: Sequence[NetworkConfig],
    *,
    private: bool,
    routes: Sequence[str] | None = None,
    own_subnets: bool = True,
    serves_names: bool = True,
) -> NetworkConfig:
    """The network that is asked for, beside those that there are. `private`: of a store that is
    not the machine's; `routes`: subnets that the host routes without a gateway; `own_subnets`,
    `serves_names`: see `hooks.NetworkDriver`.

    Errors: UserError; Conflict for a name or a subnet that is taken.
    """
    identifier = ids.new_id()
    names = {network.name for network in networks}
    name = check_name(request.name) if request.name else free_name(names)
    if name in names:
        raise Conflict(f"network {name} exists", hint="choose another name, or remove it")
    direct = ipam.direct_routes() if routes is None else routes
    if not own_subnets:
        direct = ()  # the network outside is usually the host's too
    subnets = given_subnets(request)
    for subnet in subnets:
        other = taken_by(subnet.subnet, networks)
        if other:
            raise Conflict(f"subnet {subnet.subnet} overlaps that of network {other}")
        for routed in direct:
            if ipam.parse_cidr(routed)[1] >= 16 and overlap(subnet.subnet, routed):
                raise Conflict(f"subnet {subnet.subnet} is in use on the host, as {routed}")
    families = {":" in subnet.subnet for subnet in subnets}
    if not own_subnets and (not subnets or (request.ipv6 and True not in families)):
        kind = "IPv6 " if subnets else ""
        raise UserError(
            f"a network of driver {request.driver} needs --subnet, the {kind}subnet that its "
            "parent is on",
            hint="DHCP is not there: the engine chooses addresses (from --ip-range)",
        )
    if not subnets:
        candidates = ipam.user_candidates(identifier, private=private)
        subnets = (_free(candidates, networks, direct),)
        families = {False}
    if request.ipv6 and True not in families:
        subnets = (*subnets, _subnet(ipam.unique_local(identifier)))
    if request.interface and not INTERFACE.match(request.interface):
        raise UserError(
            f"--interface-name {request.interface!r} is not the name of an interface",
            hint="at most 15 letters, digits, '_', '.' and '-'",
        )
    for network in networks:
        if own_subnets and request.interface and network.interface == request.interface:
            raise Conflict(f"interface {request.interface} is that of network {network.name}")
    serves = serves_names and not request.disable_dns
    if request.dns and not serves:
        raise UserError(
            f"--dns {request.dns[0]} is for networks with names",
            hint="leave out --disable-dns" if serves_names else f"driver {request.driver} has none",
        )
    return NetworkConfig(
        id=identifier,
        name=name,
        driver=request.driver,
        interface=request.interface or (f"tfbr{identifier[:10]}" if own_subnets else ""),
        subnets=subnets,
        internal=request.internal,
        mtu=_mtu(request.options.get("mtu", "")),
        options=dict(request.options),
        labels=dict(request.labels),
        routes=tuple(route(text) for text in request.routes),
        dns_enabled=serves,
        dns=name_servers(request.dns, "--dns"),
    )


def free_name(names: set[str]) -> str:
    """`net1`, `net2`, ...: what a network is called when nobody names it."""
    number = 1
    while f"net{number}" in names:
        number += 1
    return f"net{number}"


def _free(
    candidates: Sequence[str], networks: Sequence[NetworkConfig], routes: Sequence[str]
) -> Subnet:
    free = [c for c in candidates if not taken_by(c, networks)]
    if not free:
        raise Conflict("no subnet is left for the network", hint="choose one: --subnet")
    masks = [ipam.as_route(text) for text in routes if ":" not in text]
    return _subnet(ipam.free_subnet([*masks, *ipam.host_routes()], free))


def _mtu(text: str) -> int:
    if not text:
        return 0
    if not (text.isascii() and text.isdecimal() and len(text) < 9 and int(text) in MTU):
        raise UserError(f"--opt mtu={text}: not between {MTU[0]} and {MTU[-1]}")
    return int(text)
