"""rtnetlink(7) in batches: links, addresses and routes.

pyroute2's message classes encode what is sent; the socket is the standard library's. That is a
quarter of the time that loading pyroute2's IPRoute takes (which brings asyncio and ssl along), and
the classes are the same in pyroute2 0.7 and 0.9. A batch is one system call.
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import struct
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

from . import syscalls
from .errors import DriverError

if TYPE_CHECKING:
    from .hooks import Attachment

RTM_NEWLINK, RTM_DELLINK, RTM_GETLINK = 16, 17, 18
RTM_NEWADDR, RTM_GETADDR, RTM_NEWROUTE, RTM_GETROUTE = 20, 22, 24, 26
NLM_F_REQUEST, NLM_F_ACK = 0x1, 0x4
NLM_F_REPLACE, NLM_F_EXCL, NLM_F_CREATE, NLM_F_DUMP = 0x100, 0x200, 0x400, 0x300
NLMSG_ERROR, NLMSG_DONE = 2, 3
NLM_F_DUMP_INTR = 0x10
IFF_UP = 0x1
IFLA_ADDRESS, IFLA_IFNAME, IFLA_MTU, IFLA_LINK, IFLA_MASTER = 1, 3, 4, 5, 10
IFLA_LINKINFO, IFLA_IFALIAS, IFLA_EXT_MASK = 18, 20, 29
IFLA_INFO_KIND = 1
IFA_ADDRESS = 1
RTA_DST, RTA_OIF, RTA_GATEWAY, RTA_PRIORITY = 1, 4, 5, 6
IFA_F_NODAD = 0x2
RTEXT_FILTER_SKIP_STATS = 0x8
RT_TABLE_MAIN, RTPROT_BOOT, RT_SCOPE_UNIVERSE, RTN_UNICAST = 254, 3, 0, 1

HEADER = struct.Struct("=IHHII")
IFINFO = struct.Struct("=BxHiII")
IFADDR = struct.Struct("=BBBBi")
RTMSG = struct.Struct("=BBBBBBBBI")

Attributes = list[tuple[str, Any]]


class Refused(Exception):
    """The kernel's answer to one message of a batch."""

    def __init__(self, number: int, position: int) -> None:
        super().__init__(os.strerror(number))
        self.number = number
        self.position = position
        """Of the message in its batch."""


class Link(NamedTuple):
    number: int
    kind: str
    alias: str
    master: int
    lower: int
    """Index of the link it is on (macvlan) or paired with (veth), maybe of another namespace."""
    mac: str
    name: str
    up: bool
    mtu: int


class Address(NamedTuple):
    link: int
    text: str
    """With prefix length."""
    scope: int
    """0: everywhere; 253: this link (rtnetlink(7))."""


class Route(NamedTuple):
    destination: str
    """CIDR, or `default`."""
    gateway: str
    link: int
    metric: int


def load(*, lean: bool = False) -> None:
    """Import pyroute2's message classes, without what else its `__init__` imports; with `lean`,
    for a process of our own, without what they hardly use either (logging, multiprocessing)."""
    import importlib.util
    import types

    if "pyroute2" not in sys.modules:
        spec = importlib.util.find_spec("pyroute2")
        if spec is None or spec.submodule_search_locations is None:
            raise DriverError("pyroute2 is not installed", hint="install it: pip install pyroute2")
        package = types.ModuleType("pyroute2")
        package.__path__ = list(spec.submodule_search_locations)
        package.__spec__ = spec
        sys.modules["pyroute2"] = package
    with contextlib.ExitStack() as stack:
        if lean:
            from .lean import stand_ins

            stack.enter_context(stand_ins.logging())
            stack.enter_context(stand_ins.pyroute2_config())
            for name in ("traceback", "pkgutil"):  # for errors, and for plugins of others
                stack.enter_context(stand_ins.instead(stand_ins.StandIn(name)))
        for name in ("ifinfmsg", "ifaddrmsg", "rtmsg"):
            importlib.import_module(f"pyroute2.netlink.rtnl.{name}")


# --- messages -------------------------------------------------------------------------------------


def new_link(
    attributes: Attributes, *, index: int = 0, up: bool = False, create: bool = False
) -> Any:
    """Make a link, or change the one with this index or IFLA_IFNAME."""
    message = _message("ifinfmsg", RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL if create else 0)
    message["index"] = index
    message["flags"] = message["change"] = IFF_UP if up else 0
    message["attrs"] = attributes
    return message


def del_link(attributes: Attributes) -> Any:
    message = _message("ifinfmsg", RTM_DELLINK)
    message["attrs"] = attributes
    return message


def new_address(index: int, address: str, prefix: int) -> Any:
    """IPv6 without duplicate address detection: addresses are ours to give, and used at once."""
    message = _message("ifaddrmsg", RTM_NEWADDR, NLM_F_CREATE | NLM_F_REPLACE)
    message["family"] = socket.AF_INET6 if ":" in address else socket.AF_INET
    message["prefixlen"] = prefix
    message["index"] = index
    message["flags"] = IFA_F_NODAD if ":" in address else 0
    attributes: Attributes = [("IFA_ADDRESS", address)]
    if ":" not in address:
        attributes.append(("IFA_LOCAL", address))
        if prefix < 31:
            value = int.from_bytes(socket.inet_aton(address), "big") | ((1 << (32 - prefix)) - 1)
            attributes.append(("IFA_BROADCAST", socket.inet_ntoa(value.to_bytes(4, "big"))))
    message["attrs"] = attributes
    return message


def new_route(index: int, gateway: str, destination: str = "", metric: int = 0) -> Any:
    """By a gateway; without a destination the default route."""
    message = _message("rtmsg", RTM_NEWROUTE, NLM_F_CREATE | NLM_F_REPLACE)
    message["family"] = socket.AF_INET6 if ":" in gateway else socket.AF_INET
    message["table"] = RT_TABLE_MAIN
    message["proto"] = RTPROT_BOOT
    message["scope"] = RT_SCOPE_UNIVERSE
    message["type"] = RTN_UNICAST
    attributes: Attributes = [("RTA_GATEWAY", gateway), ("RTA_OIF", index)]
    if destination:
        address, _, prefix = destination.partition("/")
        message["dst_len"] = int(prefix)
        attributes.append(("RTA_DST", address))
    if metric:
        attributes.append(("RTA_PRIORITY", metric))
    message["attrs"] = attributes
    return message


def configured(index: int, attachment: Attachment) -> list[Any]:
    """What makes a link in a container what its attachment says: addresses, up, routes."""
    network = attachment.network
    batch = []
    for address in attachment.addresses:
        plain, _, prefix = address.partition("/")
        batch.append(new_address(index, plain, int(prefix)))
    batch.append(new_link([], index=index, up=True))
    if (attachment.default_route or attachment.spare_route) and not network.internal:
        metric = 0 if attachment.default_route else attachment.spare_route
        gateways = [subnet.gateway for subnet in network.subnets if subnet.gateway]
        batch += [new_route(index, gateway, metric=metric) for gateway in gateways]
    batch += [new_route(index, r.gateway, r.destination, r.metric) for r in network.routes]
    return batch


class Raw:
    """A message that pyroute2 has no class for, or too slow a one: its bytes after the header."""

    def __init__(self, kind: int, body: bytes) -> None:
        self.header = {"type": kind, "flags": NLM_F_REQUEST, "sequence_number": 0}
        self.body = body
        self.data = b""

    def __getitem__(self, name: str) -> dict[str, int]:
        return self.header

    def reset(self) -> None:
        self.data = b""

    def encode(self) -> None:
        kind, flags, sequence = self.header.values()
        self.data = HEADER.pack(HEADER.size + len(self.body), kind, flags, sequence, 0) + self.body


def attribute(kind: int, value: bytes) -> bytes:
    """One attribute of a `Raw` message, or of another attribute."""
    return struct.pack("=HH", 4 + len(value), kind) + value + bytes(-len(value) % 4)


def _links_asked(which: bytes, index: int = 0) -> Raw:
    """The question for links, without pyroute2: each attachment asks some, and encoding one of them
    there takes as long as the kernel's answer."""
    mask = attribute(IFLA_EXT_MASK, struct.pack("=I", RTEXT_FILTER_SKIP_STATS))
    return Raw(RTM_GETLINK, IFINFO.pack(0, 0, index, 0, 0) + which + mask)


def _message(kind: str, number: int, flags: int = 0) -> Any:
    message = getattr(sys.modules[f"pyroute2.netlink.rtnl.{kind}"], kind)()
    message["header"]["type"] = number
    message["header"]["flags"] = NLM_F_REQUEST | flags
    return message


# --- the socket -----------------------------------------------------------------------------------


class Netlink:
    """A socket of the network namespace that the calling thread is in; it stays there."""

    def __init__(self, protocol: int = socket.NETLINK_ROUTE) -> None:
        kind = socket.SOCK_RAW | socket.SOCK_CLOEXEC
        self._socket = socket.socket(socket.AF_NETLINK, kind, protocol)
        self._socket.bind((0, 0))
        self._sequence = 0

    def close(self) -> None:
        self._socket.close()

    def __enter__(self) -> Netlink:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def do(self, *messages: Any) -> None:
        """Send all in one system call; the kernel carries them out in turn.
        Error: Refused, for the first that fails (those after it are carried out all the same)."""
        first, data = self._sequence + 1, b""
        for message in messages:
            data += self._encode(message, NLM_F_ACK)
        self._socket.send(data)
        failed: Refused | None = None
        missing = len(messages)
        while missing:
            for kind, _, sequence, body in self._receive():
                if kind == NLMSG_ERROR and sequence >= first:
                    missing -= 1
                    number = -struct.unpack_from("=i", body)[0]
                    if number and failed is None:
                        failed = Refused(number, sequence - first)
        if failed is not None:
            raise failed

    def link(self, name: str) -> Link | None:
        """The link with this name, if there is one."""
        return self._link(attribute(IFLA_IFNAME, name.encode() + b"\0"))

    def numbered(self, index: int) -> Link | None:
        """The link with this index, if there is one."""
        return self._link(b"", index)

    def _link(self, which: bytes, index: int = 0) -> Link | None:
        self._socket.send(self._encode(_links_asked(which, index), 0))
        for kind, _, sequence, body in self._receive():
            if sequence != self._sequence:
                continue
            if kind == RTM_NEWLINK:
                return _link(body)
            number = -struct.unpack_from("=i", body)[0]
            if number != errno.ENODEV:
                raise Refused(number, 0)
        return None

    def ports(self, bridge: int) -> set[int]:
        """Indexes of the links that are on a bridge."""
        message = _links_asked(attribute(IFLA_MASTER, struct.pack("=I", bridge)))
        # The kernel filters, except one that is too old to: so we do.
        found = (_link(body) for body in self.dump(message))
        return {link.number for link in found if link.master == bridge}

    def addresses(self) -> Iterator[tuple[int, str]]:
        """(index of the link, address) of all in this namespace."""
        for body in self.dump(_message("ifaddrmsg", RTM_GETADDR)):
            family, _, _, _, index = IFADDR.unpack_from(body)
            value = dict(attributes(body, IFADDR.size)).get(IFA_ADDRESS)
            if value is not None and family in (socket.AF_INET, socket.AF_INET6):
                yield index, socket.inet_ntop(family, value)

    def all_links(self) -> list[Link]:
        return [_link(body) for body in self.dump(_links_asked(b""))]

    def all_addresses(self) -> list[Address]:
        found = []
        for body in self.dump(_message("ifaddrmsg", RTM_GETADDR)):
            family, prefix, _, scope, index = IFADDR.unpack_from(body)
            value = dict(attributes(body, IFADDR.size)).get(IFA_ADDRESS)
            if value is not None and family in (socket.AF_INET, socket.AF_INET6):
                text = f"{socket.inet_ntop(family, value)}/{prefix}"
                found.append(Address(index, text, scope))
        return found

    def all_routes(self) -> list[Route]:
        """Those of the main table that lead to hosts elsewhere or on a link."""
        found = []
        bodies = []
        for family in (socket.AF_INET, socket.AF_INET6):
            message = _message("rtmsg", RTM_GETROUTE)
            message["family"] = family
            bodies += self.dump(message)
        for body in bodies:
            family, prefix, _, _, table, _, _, kind, _ = RTMSG.unpack_from(body)
            if table != RT_TABLE_MAIN or kind != RTN_UNICAST:
                continue
            values = dict(attributes(body, RTMSG.size))
            to, by = values.get(RTA_DST, b""), values.get(RTA_GATEWAY, b"")
            found.append(
                Route(
                    f"{socket.inet_ntop(family, to)}/{prefix}" if to else "default",
                    socket.inet_ntop(family, by) if by else "",
                    int.from_bytes(values.get(RTA_OIF, b""), sys.byteorder),
                    int.from_bytes(values.get(RTA_PRIORITY, b""), sys.byteorder),
                )
            )
        return found

    def dump(self, message: Any) -> list[bytes]:
        while True:
            self._socket.send(self._encode(message, NLM_F_DUMP))
            found, complete, changed = [], False, False
            while not complete:
                for kind, flags, sequence, body in self._receive():
                    if sequence != self._sequence:
                        continue
                    changed = changed or bool(flags & NLM_F_DUMP_INTR)
                    if kind == NLMSG_ERROR:
                        raise Refused(-struct.unpack_from("=i", body)[0], 0)
                    if kind == NLMSG_DONE:
                        complete = True
                    else:
                        found.append(body)
            if not changed:  # else something changed meanwhile, and may be missing
                return found

    def _encode(self, message: Any, flags: int) -> bytes:
        self._sequence += 1
        message["header"]["sequence_number"] = self._sequence
        message["header"]["flags"] |= flags
        message.reset()
        message.encode()
        return bytes(message.data)

    def _receive(self) -> Iterator[tuple[int, int, int, bytes]]:
        """(type, flags, sequence number, body) of the messages in one datagram."""
        data = self._socket.recv(1 << 17)
        position = 0
        while position + HEADER.size <= len(data):
            length, kind, flags, sequence, _ = HEADER.unpack_from(data, position)
            yield kind, flags, sequence, data[position + HEADER.size : position + length]
            position += (length + 3) & ~3


def inside(path: str) -> Netlink:
    """A socket of the network namespace at this path. Error: OSError."""

    def enter() -> Netlink:
        with opened(path) as fd:
            syscalls.setns(fd, syscalls.CLONE_NEWNET)
        return Netlink()

    return syscalls.in_thread(enter)


@contextlib.contextmanager
def opened(path: str) -> Iterator[int]:
    """A file descriptor of a namespace, while it is needed."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        yield fd
    finally:
        os.close(fd)


def _link(body: bytes) -> Link:
    _, _, index, flags, _ = IFINFO.unpack_from(body)
    found = dict(attributes(body, IFINFO.size))
    info = dict(attributes(found.get(IFLA_LINKINFO, b""), 0))
    return Link(
        index,
        info.get(IFLA_INFO_KIND, b"").rstrip(b"\0").decode(),
        found.get(IFLA_IFALIAS, b"").rstrip(b"\0").decode(errors="replace"),
        int.from_bytes(found.get(IFLA_MASTER, b""), sys.byteorder),
        int.from_bytes(found.get(IFLA_LINK, b""), sys.byteorder),
        found.get(IFLA_ADDRESS, b"").hex(":"),
        found.get(IFLA_IFNAME, b"").rstrip(b"\0").decode(errors="replace"),
        bool(flags & IFF_UP),
        int.from_bytes(found.get(IFLA_MTU, b""), sys.byteorder),
    )


def attributes(data: bytes, position: int) -> Iterator[tuple[int, bytes]]:
    """(type, value) of the attributes from a position on; a few bytes of what pyroute2 decodes."""
    while position + 4 <= len(data):
        length, kind = struct.unpack_from("=HH", data, position)
        if length < 4:
            return
        yield kind & 0x3FFF, data[position + 4 : position + length]
        position += (length + 3) & ~3
