"""Addresses, decided here and recorded by the engine; nothing is looked up but the host's routes.

Integer arithmetic on addresses is enough; the `ipaddress` module costs every command 3 ms.
"""

from __future__ import annotations

import socket
from collections.abc import Collection, Iterator

from .errors import Conflict, UserError
from .hooks import NetworkConfig, Subnet

DEFAULT_BRIDGE = "tiffin0"
CANDIDATES = tuple(f"10.{89 + n}.0.0/16" for n in range(60))
"""Where the default network looks for a subnet that the host does not use."""


def parse_cidr(text: str) -> tuple[int, int, int]:
    """(network as an integer, prefix length, bits). Error: UserError."""
    address, slash, length = text.partition("/")
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    bits = 128 if family == socket.AF_INET6 else 32
    try:
        value = int.from_bytes(socket.inet_pton(family, address), "big")
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
        yield _choose_one(network.name, subnet, used, last)


def _choose_one(name: str, subnet: Subnet, used: Collection[str], last: str) -> str:
    base, prefix, bits = parse_cidr(subnet.subnet)
    size = 1 << (bits - prefix)
    first, end = base + 1, base + size - (1 if bits == 32 and size > 2 else 0)
    taken = {to_number(address) for address in used if (":" in address) == (bits == 128)}
    taken.add(to_number(subnet.gateway) if subnet.gateway else first)
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
    raise Conflict(f"network {name} has no free address in {subnet.subnet}")


def mac_address(container: str, network: str) -> str:
    """Stable for a container on a network, so that neighbours' caches stay true over a restart;
    locally administered, unicast (IEEE 802)."""
    mixed = int(container[:12], 16) ^ int(network[:12], 16)
    digits = [(mixed >> shift) & 0xFF for shift in range(32, -8, -8)]
    return "02:" + ":".join(f"{digit:02x}" for digit in digits)


def host_interface(container: str, network: str) -> str:
    """Name of the host's end: at most 15 bytes (IFNAMSIZ)."""
    return f"tf{int(container[:12], 16) ^ int(network[-12:], 16):012x}"


def host_routes() -> list[tuple[int, int]]:
    """(network, mask) of the host's IPv4 routes, as /proc/net/route has them."""
    found = []
    with open("/proc/net/route", encoding="ascii") as file:
        for line in file.readlines()[1:]:
            fields = line.split()
            value = int.from_bytes(bytes.fromhex(fields[1]), "little")
            mask = int.from_bytes(bytes.fromhex(fields[7]), "little")
            if mask:
                found.append((value, mask))
    return found


def free_subnet(routes: Collection[tuple[int, int]]) -> str:
    """The first candidate that overlaps no route. Error: Conflict."""
    for candidate in CANDIDATES:
        base, prefix, bits = parse_cidr(candidate)
        own = ((1 << prefix) - 1) << (bits - prefix)
        if all(base & mask & own != value & own & mask for value, mask in routes):
            return candidate
    raise Conflict("no subnet is left for the default network", hint="the host routes all of them")


def default_network(identifier: str, name: str, bridge: str = DEFAULT_BRIDGE) -> NetworkConfig:
    """The network that containers are on when nobody says otherwise."""
    subnet = free_subnet(host_routes())
    base, _, bits = parse_cidr(subnet)
    return NetworkConfig(
        id=identifier,
        name=name,
        driver="bridge",
        interface=bridge,
        subnets=(Subnet(subnet=subnet, gateway=to_text(base + 1, bits)),),
    )
