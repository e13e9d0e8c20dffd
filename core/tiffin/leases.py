"""Which addresses and which MAC address a container has on a network: pure functions.

A container keeps both across restarts: they are its lease, which ends with the container. A stopped
container's addresses are given to others only when no address is left.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from msgspec import Struct

from . import ipam
from .errors import Conflict, UserError
from .hooks import NetworkConfig, Subnet
from .options import NetworkOptions


class Lease(Struct, frozen=True):
    """What a container has on a network, or had when it ran last, or has asked for."""

    container: str
    mac: str = ""
    addresses: tuple[str, ...] = ()
    """Without prefix length."""


def check(network: NetworkConfig, wish: NetworkOptions) -> None:
    """What can be wrong with a wish whoever else is there. Error: UserError."""
    seen: dict[str, str] = {}
    for address in wish.addresses:
        subnet = containing(network, address)
        if subnet is None:
            raise UserError(
                f"address {address} is in no subnet of network {network.name}",
                hint=f"it has {', '.join(s.subnet for s in network.subnets)}",
            )
        if subnet.subnet in seen:
            raise UserError(
                f"addresses {seen[subnet.subnet]} and {address} are both in subnet {subnet.subnet}",
                hint="a container has one address in each subnet",
            )
        seen[subnet.subnet] = address
        if address == subnet.gateway:
            raise UserError(f"address {address} is the gateway of network {network.name}")
        base, prefix, bits = ipam.parse_cidr(subnet.subnet)
        value = ipam.to_number(address)
        if value == base or (bits == 32 and value == base + (1 << (bits - prefix)) - 1):
            raise UserError(f"address {address} is that of subnet {subnet.subnet} itself")


def containing(network: NetworkConfig, address: str) -> Subnet | None:
    """The subnet that has this address."""
    value = ipam.to_number(address)
    for subnet in network.subnets:
        base, prefix, bits = ipam.parse_cidr(subnet.subnet)
        if (":" in address) == (bits == 128) and value >> (bits - prefix) == base >> (
            bits - prefix
        ):
            return subnet
    return None


def addresses(
    network: NetworkConfig,
    wish: NetworkOptions | None,
    container: str,
    holders: Mapping[str, str],
    leases: Sequence[Lease],
) -> tuple[str, ...]:
    """One of each subnet, with prefix length: what was asked for, else what the container had
    before, else a free one.

    `holders` are the addresses in use, with the containers that use them. Error: Conflict when an
    address is taken, or none is free.
    """
    own = next((lease.addresses for lease in leases if lease.container == container), ())
    others = {a for lease in leases if lease.container != container for a in lease.addresses}
    found = []
    for subnet in network.subnets:
        asked = _of(network, subnet, wish.addresses if wish else ())
        before = _of(network, subnet, own)
        if asked and holders.get(asked, container) != container:
            raise Conflict(
                f"address {asked} of network {network.name} is taken by container "
                f"{holders[asked][:12]}",
                hint="choose another, or stop that container",
            )
        chosen = asked or (before if before not in holders else "")
        if not chosen:
            found.append(_free(network.name, subnet, holders, others))
            continue
        found.append(f"{chosen}/{subnet.subnet.partition('/')[2]}")
    return tuple(found)


def _of(network: NetworkConfig, subnet: Subnet, given: Sequence[str]) -> str:
    return next((a for a in given if containing(network, a) == subnet), "")


def _free(name: str, subnet: Subnet, holders: Mapping[str, str], leased: set[str]) -> str:
    try:
        return ipam.choose_one(name, subnet, leased | holders.keys())
    except Conflict:
        return ipam.choose_one(name, subnet, holders.keys())


def mac(
    network: NetworkConfig,
    wish: NetworkOptions | None,
    container: str,
    chosen: Sequence[str],
    holders: Mapping[str, str],
    leases: Sequence[Lease],
) -> str:
    """What was asked for, else what the container had before, else that of its first address
    (unless another container had that address, and keeps the MAC).

    Error: Conflict when the one asked for is in use.
    """
    others = {lease.mac: lease.container for lease in leases if lease.container != container}
    if wish and wish.mac:
        holder = others.get(wish.mac, "")
        if holder in holders.values():
            raise Conflict(
                f"MAC address {wish.mac} is in use on network {network.name}, "
                f"by container {holder[:12]}",
                hint="choose another",
            )
        return wish.mac
    own = next((lease.mac for lease in leases if lease.container == container), "")
    if own and own not in others:
        return own
    of_address = ipam.mac_address(chosen)
    return of_address if of_address not in others else ipam.mac_of_container(container, network.id)
