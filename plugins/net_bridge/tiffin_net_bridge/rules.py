"""The nftables rules, as text for `nft -f -`. Pure: plain data in, a transaction out.

The table has fixed chains; a network adds its bridge and subnets to sets, a container its ports to
maps. A port is one map element: adding it again is no change, another container's is an error.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from .ports import ANYWHERE

TABLE = "inet tiffin"
KEY = "meta l4proto . th dport"

SETUP = f"""
create table {TABLE}
add set {TABLE} bridges {{ type ifname; }}
add set {TABLE} subnets4 {{ type ipv4_addr; flags interval; }}
add set {TABLE} subnets6 {{ type ipv6_addr; flags interval; }}
add set {TABLE} internal {{ type ifname; }}
add set {TABLE} isolated {{ type ifname; }}
add set {TABLE} strict {{ type ifname; }}
add set {TABLE} same {{ type ifname . ifname; }}
add map {TABLE} ports4 {{ type inet_proto . inet_service : ipv4_addr . inet_service; }}
add map {TABLE} ports6 {{ type inet_proto . inet_service : ipv6_addr . inet_service; }}
add map {TABLE} bound4 {{ type ipv4_addr . inet_proto . inet_service : ipv4_addr . inet_service; }}
add map {TABLE} bound6 {{ type ipv6_addr . inet_proto . inet_service : ipv6_addr . inet_service; }}
add chain {TABLE} publish
add rule {TABLE} publish meta nfproto ipv4 dnat ip to ip daddr . {KEY} map @bound4
add rule {TABLE} publish meta nfproto ipv4 dnat ip to {KEY} map @ports4
add rule {TABLE} publish meta nfproto ipv6 dnat ip6 to ip6 daddr . {KEY} map @bound6
add rule {TABLE} publish meta nfproto ipv6 dnat ip6 to {KEY} map @ports6
add chain {TABLE} prerouting {{ type nat hook prerouting priority dstnat; policy accept; }}
add chain {TABLE} named
add rule {TABLE} prerouting jump named
add rule {TABLE} prerouting fib daddr type local jump publish
add chain {TABLE} output {{ type nat hook output priority -100; policy accept; }}
add rule {TABLE} output ip6 daddr ::1 accept
add rule {TABLE} output fib daddr type local jump publish
add chain {TABLE} postrouting {{ type nat hook postrouting priority srcnat; policy accept; }}
add rule {TABLE} postrouting ip saddr @subnets4 oifname != @bridges masquerade
add rule {TABLE} postrouting ip6 saddr @subnets6 oifname != @bridges masquerade
add rule {TABLE} postrouting ct status dnat ip saddr @subnets4 ip daddr @subnets4 masquerade
add rule {TABLE} postrouting ct status dnat ip6 saddr @subnets6 ip6 daddr @subnets6 masquerade
add rule {TABLE} postrouting ip saddr 127.0.0.0/8 oifname @bridges masquerade
add chain {TABLE} guard {{ type filter hook prerouting priority raw; policy accept; }}
add rule {TABLE} guard iifname @bridges ip daddr 127.0.0.0/8 drop
add chain {TABLE} forward {{ type filter hook forward priority filter; policy accept; }}
add rule {TABLE} forward iifname . oifname @same accept
add rule {TABLE} forward iifname @internal drop
add rule {TABLE} forward oifname @internal drop
add rule {TABLE} forward iifname @isolated oifname @isolated drop
add rule {TABLE} forward iifname @strict oifname @bridges drop
add rule {TABLE} forward iifname @bridges oifname @strict drop
"""
"""`guard` because published ports on 127.0.0.1 need route_localnet, which alone would let a
container reach the host's loopback (CVE-2020-8558). IPv6 has no such switch: a connection to ::1 is
refused at once, rather than lost, and who asked for `localhost` goes on to 127.0.0.1.

With br_netfilter, packets between two ports of one bridge are forwarded ones too: hence `same`."""


def _mend() -> str:
    lines = SETUP.strip().replace("create table", "add table").splitlines()
    made = [line for line in lines if not line.startswith("add rule")]
    chains = [line.split()[4] for line in made if " chain " in line]
    flushed = [f"flush chain {TABLE} {chain}" for chain in chains if chain != "named"]
    return "\n".join([*made, *flushed, *(line for line in lines if line not in made)]) + "\n"


MEND = _mend()
"""The same for a table that may be there and have lost some of it. One transaction, so that no
packet passes between the rules before and those after; the elements stay."""

Element = tuple[str, str, str]
"""(set or map, key, value or "")."""


def network_elements(network: dict[str, Any]) -> list[Element]:
    """What a network adds to the sets."""
    name = network["interface"]
    elements: list[Element] = [("bridges", f'"{name}"', "")]
    for subnet in network["subnets"]:
        family = "6" if ":" in subnet["subnet"] else "4"
        elements.append((f"subnets{family}", subnet["subnet"], ""))
    elements.append(("same", f'"{name}" . "{name}"', ""))
    isolate = network.get("options", {}).get("isolate", "false")
    for rule, holds in (
        ("internal", network.get("internal")),
        ("isolated", isolate == "true"),
        ("strict", isolate == "strict"),
    ):
        if holds:
            elements.append((rule, f'"{name}"', ""))
    return elements


def port_elements(attachment: dict[str, Any]) -> list[Element]:
    """What a container's published ports add to the maps; without a host address a port is
    published for each family that the container has an address of."""
    elements = []
    for port in attachment["ports"]:
        host_ip = port.get("host_ip", "")
        for address in attachment["addresses"]:
            target = address.partition("/")[0]
            family = "6" if ":" in target else "4"
            anywhere = host_ip in ANYWHERE
            if host_ip and (":" in host_ip) != (family == "6"):
                continue
            key = f"{port.get('protocol', 'tcp')} . {port['host_port']}"
            value = f"{target} . {port['container_port']}"
            if anywhere:
                elements.append((f"ports{family}", key, value))
            else:
                elements.append((f"bound{family}", f"{host_ip} . {key}", value))
    return elements


def add(elements: Sequence[Element]) -> str:
    """Statements that add elements; those that are there already are no error."""
    return "".join(f"add {line}" for line in _lines(elements))


def delete(elements: Sequence[Element]) -> str:
    """Statements that delete elements, whether they are there or not. A map element is added
    first: if it is another container's by now, that fails, and with it the transaction."""
    return "".join(f"add {line}delete {line}" for line in _lines(elements))


def _lines(elements: Sequence[Element]) -> list[str]:
    """One for each set, because thousands of ports in commands of their own are slow."""
    grouped: dict[str, list[str]] = {}
    for name, key, value in elements:
        grouped.setdefault(name, []).append(f"{key} : {value}" if value else key)
    return [f"element {TABLE} {name} {{ {', '.join(items)} }}\n" for name, items in grouped.items()]


# --- names ----------------------------------------------------------------------------------------

NAMES_SETUP = f"""
add map {TABLE} names4 {{ type ifname . ipv4_addr : inet_service; }}
add map {TABLE} names6 {{ type ifname . ipv6_addr : inet_service; }}
add set {TABLE} asked4 {{ type ifname . ipv4_addr; }}
add set {TABLE} asked6 {{ type ifname . ipv6_addr; }}
add set {TABLE} answers4 {{ type ipv4_addr . inet_service; }}
add set {TABLE} answers6 {{ type ipv6_addr . inet_service; }}
add chain {TABLE} ask {{ type filter hook input priority security + 10; policy accept; }}
flush chain {TABLE} ask
add rule {TABLE} ask udp dport 53 udp dport set iifname . ip daddr map @names4
add rule {TABLE} ask udp dport 53 udp dport set iifname . ip6 daddr map @names6
add chain {TABLE} answer {{ type filter hook output priority raw; policy accept; }}
flush chain {TABLE} answer
add rule {TABLE} answer ip saddr . udp sport @answers4 udp sport set 53
add rule {TABLE} answer ip6 saddr . udp sport @answers6 udp sport set 53
add chain {TABLE} named
flush chain {TABLE} named
add rule {TABLE} named udp dport 53 iifname . ip daddr @asked4 accept
add rule {TABLE} named udp dport 53 iifname . ip6 daddr @asked6 accept
add rule {TABLE} named tcp dport 53 redirect to : iifname . ip daddr map @names4
add rule {TABLE} named tcp dport 53 redirect to : iifname . ip6 daddr map @names6
"""
"""May be run again. A query to a gateway's port 53 is handed to the port of the server that knows
the names now, and its answer goes back from port 53. Not by NAT: each packet goes to the present
server, whatever the one before it did. So a new server takes over without a query lost, and port
53 of the host stays free for others. `ask` comes after everybody's filters and `answer` before
them: those see port 53. `named` keeps a container that publishes port 53 from getting the
queries. (aardvark-dns 1.4.0 does not listen on TCP, later versions do.)"""

NAMES = ("names4", "names6")
SERVED = (*NAMES, "asked4", "asked6", "answers4", "answers6")


def served_elements(name: str, address: str, ports: Sequence[int]) -> list[Element]:
    """What a gateway adds that answers for names; the servers take turns on the ports."""
    family = "6" if ":" in address else "4"
    found: list[Element] = [
        (f"asked{family}", f'"{interface}" . {address}', "") for interface in (name, "lo")
    ]
    return found + [(f"answers{family}", f"{address} . {port}", "") for port in ports]


def asked_elements(name: str, address: str, port: int) -> list[Element]:
    """Which port the queries to a gateway go to, by containers and by the host itself."""
    family = "6" if ":" in address else "4"
    return [
        (f"names{family}", f'"{interface}" . {address}', str(port)) for interface in (name, "lo")
    ]


def served(name: str, listed: dict[str, Any]) -> list[Element]:
    """The elements of a map of names, as libnftables-json(5) lists it."""
    found: list[Element] = []
    for key, port in listed.get("elem", ()):
        interface, address = key["concat"]
        found.append((name, f'"{interface}" . {address}', str(port)))
    return found


BRIDGES = f"set {TABLE} bridges"


def port_maps(attachment: dict[str, Any]) -> list[str]:
    """Those that the container's families of addresses have ports in."""
    families = sorted({"6" if ":" in address else "4" for address in attachment["addresses"]})
    return [f"map {TABLE} {kind}{family}" for family in families for kind in ("ports", "bound")]


PROTOCOLS = {6: "tcp", 17: "udp", 132: "sctp"}
"""Their numbers (protocols(5)): what nft writes on a machine without /etc/protocols."""


def port_key(key: dict[str, Any]) -> list[Any]:
    """([host address,] protocol, host port) of an element, as libnftables-json(5) lists it."""
    *bound, protocol, port = key["concat"]
    number = int(protocol) if str(protocol).isdecimal() else 0
    return [*bound, PROTOCOLS.get(number, protocol), port]


def aimed(name: str, listed: dict[str, Any], attachment: dict[str, Any]) -> list[Element]:
    """The elements of a map of ports that lead to a container."""
    own = {address.partition("/")[0] for address in attachment["addresses"]}
    return [
        (name, " . ".join(map(str, port_key(key))), " . ".join(map(str, value["concat"])))
        for key, value in listed.get("elem", ())
        if value["concat"][0] in own
    ]


def published(listed: dict[str, Any]) -> list[tuple[str, str, int, str]]:
    """(host address or "", protocol, host port, container's address) in one of those maps, as
    libnftables-json(5) lists it."""
    found = []
    for key, value in listed.get("elem", ()):
        *bound, protocol, port = port_key(key)
        found.append((bound[0] if bound else "", protocol, port, value["concat"][0]))
    return found
