"""Flows of UDP on published ports, which the kernel remembers (conntrack) whatever the rules say.

Where the packets of a flow go is decided with its first one, and holds for as long as it sends more
often than every half minute. So who keeps sending to a port of the host would never reach a
container that got the port meanwhile, but for ever the one that had it before, or nobody. When
ports come or go, the flows that lead elsewhere than the rules do are forgotten; the next packet
begins anew. (A flow of TCP or SCTP that leads nowhere ends, and its next one is new.)
"""

from __future__ import annotations

import contextlib
import socket
import struct
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

from tiffin import rtnetlink as links  # by the name that `tiffin.hooks` has for it: see worker.py
from tiffin.rtnetlink import Netlink, Refused

from .ports import ANYWHERE

NETLINK_NETFILTER = 12
CT_GET, CT_DELETE = 0x101, 0x102
CTA_TUPLE_ORIG, CTA_TUPLE_REPLY, CTA_ZONE, CTA_FILTER = 1, 2, 18, 25
CTA_TUPLE_IP, CTA_TUPLE_PROTO = 1, 2
CTA_PROTO_NUM, CTA_PROTO_SRC_PORT, CTA_PROTO_DST_PORT = 1, 2, 3
CTA_FILTER_ORIG_FLAGS = 1
BY_PROTOCOL, BY_PORT = 0x08, 0x20
NESTED = 0x8000
ONE_BY_ONE = 16
"""Ports that are looked for one at a time, not among all flows of UDP there are."""


class Flow(NamedTuple):
    family: int
    host: str
    """Where its first packet was sent to."""
    port: int
    leads_to: tuple[str, int]
    """Address and port that answer."""
    name: bytes
    """The attributes that name it to the kernel."""


def forget(
    ports: Sequence[dict[str, Any]], addresses: Iterable[str], local: Iterable[str], *, gone: bool
) -> None:
    """Those of the container's published ports; `addresses` are its own, `local` the host's. With
    `gone` they lead to the container no more. Without ctnetlink clients have to pause for a while:
    that is no error."""
    wanted = {p["host_port"]: p for p in ports if p.get("protocol") == "udp"}
    own = {":" in address: address.partition("/")[0] for address in addresses}
    here = set(local)
    with contextlib.suppress(OSError, Refused), Netlink(NETLINK_NETFILTER) as netlink:
        for flow in _flows(netlink, wanted):
            port = wanted.get(flow.port)
            if port is None or not (flow.host in here or flow.host.startswith("127.")):
                continue
            host = port.get("host_ip", "")
            if host not in ANYWHERE and host != flow.host:
                continue
            target = own.get(":" in flow.host), port["container_port"]
            if gone or flow.leads_to != target:
                with contextlib.suppress(Refused):  # it ended meanwhile
                    netlink.do(links.Raw(CT_DELETE, _head(flow.family) + flow.name))


def _flows(netlink: Netlink, ports: Iterable[int]) -> Iterator[Flow]:
    numbers: list[int] = list(ports)
    for family in (socket.AF_INET, socket.AF_INET6):
        for number in numbers if len(numbers) <= ONE_BY_ONE else (0,):
            request = links.Raw(CT_GET, _head(family) + _of(number))
            found = [_flow(body) for body in netlink.dump(request)]
            yield from (flow for flow in found if flow is not None)


def _of(port: int) -> bytes:
    """A filter: UDP, and a port unless it is 0 (since Linux 5.8; those before list all)."""
    protocol = links.attribute(CTA_PROTO_NUM, bytes([socket.IPPROTO_UDP]))
    protocol += links.attribute(CTA_PROTO_DST_PORT, struct.pack("!H", port))
    flags = BY_PROTOCOL | (BY_PORT if port else 0)
    return links.attribute(
        CTA_TUPLE_ORIG | NESTED, links.attribute(CTA_TUPLE_PROTO | NESTED, protocol)
    ) + links.attribute(
        CTA_FILTER | NESTED, links.attribute(CTA_FILTER_ORIG_FLAGS, struct.pack("=I", flags))
    )


def _head(family: int) -> bytes:
    return struct.pack("!BBH", family, 0, 0)


def _flow(body: bytes) -> Flow | None:
    family, found = body[0], dict(links.attributes(body, 4))
    _, host, protocol, _, port = _tuple(family, found[CTA_TUPLE_ORIG])
    answers, _, _, number, _ = _tuple(family, found[CTA_TUPLE_REPLY])
    if protocol != socket.IPPROTO_UDP:
        return None
    name = links.attribute(CTA_TUPLE_ORIG | NESTED, found[CTA_TUPLE_ORIG])
    if CTA_ZONE in found:
        name += links.attribute(CTA_ZONE, found[CTA_ZONE])
    return Flow(family, host, port, (answers, number), name)


def _tuple(family: int, data: bytes) -> tuple[str, str, int, int, int]:
    """(source, destination, protocol, source port, destination port)"""
    parts = dict(links.attributes(data, 0))
    ip = dict(links.attributes(parts[CTA_TUPLE_IP], 0))
    first = 1 if family == socket.AF_INET else 3  # CTA_IP_V4_SRC, CTA_IP_V6_SRC
    source, target = (socket.inet_ntop(family, ip[first + at]) for at in (0, 1))
    proto = dict(links.attributes(parts[CTA_TUPLE_PROTO], 0))
    number = proto[CTA_PROTO_NUM][0]
    ports = [
        int.from_bytes(proto.get(kind, b""), "big")
        for kind in (CTA_PROTO_SRC_PORT, CTA_PROTO_DST_PORT)
    ]
    return source, target, number, ports[0], ports[1]
