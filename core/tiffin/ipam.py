"""Addresses, decided here and recorded by the engine; nothing is looked up but the host's routes.

Integer arithmetic on addresses is enough; the `ipaddress` module costs every command 3 ms.
"""

from __future__ import annotations

import socket
import sys
from collections.abc import Collection, Iterator, Sequence

from .errors import Conflict, UserError
from .hooks import NetworkConfig, Subnet

DEFAULT_BRIDGE = "tiffin0"
CANDIDATES = (
    *(f"10.{second}.0.0/16" for second in range(89, 128)),
    *(f"172.{second}.0.0/16" for second in range(29, 32)),
    *(f"192.168.{third}.0/24" for third in range(160, 192)),
)
"""Where the default network of the machine's own store looks for a subnet that is free."""


def parse_cidr(text: str) -> tuple[int, int, int]:
    """(network as an integer, prefix length, bits). Error: UserError."""
    address, slash, length = text.partition("/")
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    bits = 128 if family == socket.AF_INET6 else 32
    try:
        value = int.from_bytes(socket.inet_pton(family, address), "big")
        if slash and not (length.isascii() and length.isdecimal()):
            raise ValueError(length)
        prefix = int(length) if slash else bits
    except (OSError, ValueError):
        raise UserError(f"{text!r} is not a subnet", hint="for example 10.89.0.0/24") from None
    if not 0 <= prefix <= bits:
        raise UserError(f"{text!r} is not a subnet: the prefix is at most {bits}")
    return value >> (bits - prefix) << (bits - prefix), prefix, bits


def to_text(value: int, bits: int) -> str:
    family = socket.AF_INET6 if bits == 128 else socket.AF_INET
    return socket.inet_ntop(family, value.to_bytes(bits // 8, "big"))


def to_number(address: str) -> int:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    return int.from_bytes(socket.inet_pton(family, address), "big")


def choose(network: NetworkConfig, used: Collection[str], last: str = "") -> Iterator[str]:
    """One free address of each subnet, with prefix length.

    The one after `last` is tried first, so that an address is not used again at once (neighbours
    remember whom it belonged to). Error: Conflict when a subnet is full.
    """
    for subnet in network.subnets:
        yield choose_one(network.name, subnet, used, last)


def lease_range(subnet: str, ip_range: str) -> tuple[int, int]:
    """The first of the addresses that containers get, and the one after the last."""
    base, prefix, bits = parse_cidr(subnet)
    size = 1 << (bits - prefix)
    first, end = base + 1, base + size - (1 if bits == 32 and size > 2 else 0)
    if ip_range:
        low, length, _ = parse_cidr(ip_range)
        first, end = max(first, low), min(end, low + (1 << (bits - length)))
    return first, end


def choose_one(name: str, subnet: Subnet, used: Collection[str], last: str = "") -> str:
    """One address of a subnet of network `name`; see `choose`."""
    base, prefix, bits = parse_cidr(subnet.subnet)
    first, end = lease_range(subnet.subnet, subnet.ip_range)
    taken = {to_number(address) for address in used if (":" in address) == (bits == 128)}
    taken.add(to_number(subnet.gateway) if subnet.gateway else base + 1)
    start = first
    if last and (":" in last) == (bits == 128) and first <= to_number(last) < end - 1:
        start = to_number(last) + 1
    # A full subnet is noticed without counting through it: there are at most len(taken) others.
    tries = min(end - first, len(taken) + 2)
    value = start
    for _ in range(2 * tries + 2):
        if value >= end:
            value = first
        if value not in taken and first <= value < end:
            return f"{to_text(value, bits)}/{prefix}"
        value += 1
    raise Conflict(
        f"network {name} has no free address in {subnet.ip_range or subnet.subnet}",
        hint="remove containers, or make a larger network",
    )


def mac_address(addresses: Sequence[str]) -> str:
    """Of the container's first address, so that an address always has the same one and no
    neighbour's cache is ever wrong, even when another container has the address by now. Locally
    administered, unicast (IEEE 802); unique on a bridge, as the addresses are."""
    value = to_number(addresses[0].partition("/")[0])
    return "02:74:" + ":".join(f"{value >> shift & 0xFF:02x}" for shift in (24, 16, 8, 0))


def mac_of_container(container: str, network: str) -> str:
    """Of container and network, for a container whose address's MAC is another's."""
    value = int(container[:8], 16) ^ int(network[:8], 16)
    return "02:75:" + ":".join(f"{value >> shift & 0xFF:02x}" for shift in (24, 16, 8, 0))


def host_interface(container: str, network: str) -> str:
    """Name of the host's end: at most 15 bytes (IFNAMSIZ)."""
    return f"tf{int(container[:12], 16) ^ int(network[-12:], 16):012x}"


Route = tuple[int, int]
"""(network, mask), IPv4."""


def host_routes(*, without: int = 0) -> list[Route]:
    """The host's IPv4 routes, as /proc/net/route has them; not the default route, nor one that has
    any of these flags."""
    found = []
    try:
        with open("/proc/net/route", encoding="ascii") as file:
            lines = file.readlines()[1:]
    except FileNotFoundError:  # a kernel without IPv4
        return []
    for line in lines:
        fields = line.split()
        value = int.from_bytes(bytes.fromhex(fields[1]), sys.byteorder)
        mask = int.from_bytes(bytes.fromhex(fields[7]), sys.byteorder)
        if mask and not int(fields[3], 16) & without:
            found.append((value, mask))
    return found


def free_subnet(routes: Collection[Route], candidates: Sequence[str] = CANDIDATES) -> str:
    """The first candidate that overlaps no route, else the first that is not part of a network as
    small as itself (a VPN that routes all of 10.0.0.0/8 is no reason to give up).
    Error: Conflict when there is none either."""
    for ignored in (0, 16):
        for candidate in candidates:
            base, prefix, bits = parse_cidr(candidate)
            own = ((1 << prefix) - 1) << (bits - prefix)
            if not any(
                base & mask & own == value & own & mask
                for value, mask in routes
                if mask.bit_count() >= ignored
            ):
                return candidate
    raise Conflict("no subnet is left for the default network", hint="the host routes all of them")


def private_candidates(identifier: str) -> tuple[str, ...]:
    """Where the default network of another store looks: somewhere in 10.128.0.0/9 by its id, so
    that stores which know nothing of each other rarely meet."""
    start = int(identifier[:8], 16)
    numbers = ((start + step * 8191) % 32768 for step in range(64))
    return tuple(f"10.{128 + (n >> 8)}.{n & 0xFF}.0/24" for n in numbers)


def user_candidates(identifier: str, *, private: bool) -> tuple[str, ...]:
    """Where a user's network looks for a subnet; beside the default network's first choice."""
    if private:
        return private_candidates(identifier)
    return (
        *(f"10.{second}.{third}.0/24" for second in range(90, 92) for third in range(256)),
        *CANDIDATES[1:],
    )


def unique_local(identifier: str) -> str:
    """A /64 of IPv6, random by the network's id (RFC 4193, 3.2)."""
    digits = f"fd{identifier[:14]}"
    words = ":".join(digits[at : at + 4] for at in range(0, 16, 4))
    value, _, bits = parse_cidr(f"{words}::/64")
    return f"{to_text(value, bits)}/64"


def as_route(subnet: str) -> Route:
    base, prefix, bits = parse_cidr(subnet)
    return base, ((1 << prefix) - 1) << (bits - prefix)


def direct_routes() -> list[str]:
    """Subnets of both families that the host reaches without a gateway (proc(5), net/route;
    net/ipv6_route has flags in its ninth field), but neither its default nor link-local ones."""
    gateway = 0x2  # RTF_GATEWAY
    found = []
    for value, mask in host_routes(without=gateway):
        found.append(f"{to_text(value, 32)}/{mask.bit_count()}")
    try:
        with open("/proc/net/ipv6_route", encoding="ascii") as file:
            lines = file.readlines()
    except FileNotFoundError:  # a kernel without IPv6
        return found
    for line in lines:
        fields = line.split()
        value, prefix = int(fields[0], 16), int(fields[1], 16)
        local = value >> 118 == 0x3FA or value >> 120 == 0xFF  # fe80::/10, ff00::/8
        if prefix and not local and fields[9] != "lo" and not int(fields[8], 16) & gateway:
            found.append(f"{to_text(value, 128)}/{prefix}")
    return found


def default_network(
    identifier: str, name: str, *, private: bool = False, taken: Sequence[str] = ()
) -> NetworkConfig:
    """The network that containers are on when nobody says otherwise. `private`: of a store that is
    not the machine's (`--root`), which has bridge and subnet to itself. `taken`: subnets of other
    networks, whose bridges may not be up."""
    candidates = private_candidates(identifier) if private else CANDIDATES
    others = [as_route(subnet) for subnet in taken if ":" not in subnet]
    subnet = free_subnet([*others, *host_routes()], candidates)
    base, _, bits = parse_cidr(subnet)
    return NetworkConfig(
        id=identifier,
        name=name,
        driver="bridge",
        interface=f"tfbr{identifier[:10]}" if private else DEFAULT_BRIDGE,
        subnets=(Subnet(subnet=subnet, gateway=to_text(base + 1, bits)),),
    )
