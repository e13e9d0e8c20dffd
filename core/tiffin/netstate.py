"""What the kernel has of networks: links, addresses and routes of a network namespace, read by
rtnetlink(7). Reads only."""

from __future__ import annotations

from msgspec import Struct

from . import rtnetlink
from .rtnetlink import Netlink

EVERYWHERE = 0
"""Scope of addresses that are not only this link's or host's."""


class Interface(Struct, frozen=True):
    number: int
    name: str
    kind: str
    """`bridge`, `veth`, `macvlan`, ...; empty for hardware and the loopback."""
    up: bool
    mac: str
    mtu: int
    master: int
    """Number of the bridge that it is a port of, or 0."""
    lower: int
    """Number of the link below or at the other end, mostly in another namespace."""
    alias: str
    addresses: tuple[str, ...]
    """With prefix length; not those of the link alone (fe80::)."""


class Route(Struct, frozen=True):
    destination: str
    """CIDR, or `default`."""
    gateway: str
    interface: str
    metric: int


class Namespace(Struct, frozen=True):
    interfaces: tuple[Interface, ...] = ()
    routes: tuple[Route, ...] = ()

    def named(self, name: str) -> Interface | None:
        return next((link for link in self.interfaces if link.name == name), None)

    def numbered(self, number: int) -> Interface | None:
        return next((link for link in self.interfaces if link.number == number), None)


def read(path: str = "") -> Namespace:
    """The namespace at a path, or ours. Error: OSError when there is none."""
    rtnetlink.load()
    with rtnetlink.inside(path) if path else Netlink() as netlink:
        links = netlink.all_links()
        addresses = netlink.all_addresses()
        routes = netlink.all_routes()
    names = {link.number: link.name for link in links}
    interfaces = [
        Interface(
            number=link.number,
            name=link.name,
            kind=link.kind,
            up=link.up,
            mac=link.mac,
            mtu=link.mtu,
            master=link.master,
            lower=link.lower,
            alias=link.alias,
            addresses=tuple(
                a.text for a in addresses if a.link == link.number and a.scope == EVERYWHERE
            ),
        )
        for link in links
    ]
    return Namespace(
        tuple(interfaces),
        tuple(Route(r.destination, r.gateway, names.get(r.link, ""), r.metric) for r in routes),
    )
