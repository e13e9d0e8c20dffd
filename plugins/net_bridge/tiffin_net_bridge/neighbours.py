"""Whose an address is, told to those who may remember another.

An address mostly has a MAC address of its own (`usual`), so neighbours' caches are right whoever
has it now. A container with a MAC that was asked for is the exception: when it comes, the network
is told of its MAC, and when it goes, of the usual one. Else who spoke to the container before it
would lose it for seconds or minutes ("no route to host").
"""

from __future__ import annotations

import contextlib
import socket
import struct
from collections.abc import Iterator
from typing import Any

from tiffin import rtnetlink as links  # by the name that `tiffin.hooks` has for it: see worker.py
from tiffin.rtnetlink import Netlink, Refused

RTM_DELNEIGH, NDA_DST = 29, 1
ETH_ARP, ETH_IPV6 = 0x0806, 0x86DD
NEIGHBOUR_ADVERTISEMENT, OVERRIDE, TARGET_LINK = 136, 0x20000000, 2
ALL_NODES = socket.inet_pton(socket.AF_INET6, "ff02::1")

_packets: list[socket.socket] = []
"""Kept open: closing one waits for the kernel's other processors."""


def usual(address: str, network: dict[str, Any]) -> str:
    """The MAC address that an address has when nobody asks for another: that of an IPv4 address is
    made of it (`tiffin.ipam.mac_address`), an IPv6 address mostly goes with the IPv4 address of
    the same number in its subnet. Empty when there is none such."""
    four = address
    if ":" in address:
        bases = [subnet["subnet"].partition("/")[0] for subnet in network["subnets"]]
        base = next((base for base in bases if ":" not in base), "")
        own = next((base for base in bases if ":" in base), "")
        number = _number(base) + _number(address) - _number(own) if base else -1
        if not 0 <= number < 1 << 32:
            return ""
        four = socket.inet_ntop(socket.AF_INET, number.to_bytes(4, "big"))
    return "02:74:" + socket.inet_aton(four).hex(":")


def unusual(attachment: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """The addresses of a container that have another MAC now than they usually have, with that."""
    for text in attachment["addresses"]:
        address = text.partition("/")[0]
        mac = usual(address, attachment["network"])
        if mac != attachment["mac"]:
            yield address, mac


def tell(bridge: str, address: str, mac: str) -> None:
    """All on the bridge, and the host. What cannot be told is no error: they find out."""
    with contextlib.suppress(OSError):
        number = socket.if_nametoindex(bridge)
        if not _packets:
            _packets.append(socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0))
        _packets[0].sendto(frame(address, mac), (bridge, 0))
        with Netlink() as netlink, contextlib.suppress(Refused):  # the host may not know it at all
            family = socket.AF_INET6 if ":" in address else socket.AF_INET
            body = struct.pack("=BxxxiHBB", family, number, 0, 0, 0)
            packed = socket.inet_pton(family, address)
            netlink.do(links.Raw(RTM_DELNEIGH, body + links.attribute(NDA_DST, packed)))


def frame(address: str, mac: str) -> bytes:
    """A gratuitous ARP request (RFC 5227, 3), or an unsolicited neighbour advertisement (RFC 4861,
    7.2.6)."""
    own = bytes.fromhex(mac.replace(":", ""))
    if ":" not in address:
        packed = socket.inet_aton(address)
        head = b"\xff" * 6 + own + struct.pack("!HHHBBH", ETH_ARP, 1, 0x0800, 6, 4, 1)
        return head + own + packed + bytes(6) + packed
    packed = socket.inet_pton(socket.AF_INET6, address)
    rest = struct.pack("!I16sBB6s", OVERRIDE, packed, TARGET_LINK, 1, own)
    body = struct.pack("!BBH", NEIGHBOUR_ADVERTISEMENT, 0, 0) + rest
    sums = packed + ALL_NODES + struct.pack("!II", len(body), socket.IPPROTO_ICMPV6) + body
    body = struct.pack("!BBH", NEIGHBOUR_ADVERTISEMENT, 0, _checksum(sums)) + rest
    head = struct.pack("!IHBB", 6 << 28, len(body), socket.IPPROTO_ICMPV6, 255)
    link = bytes.fromhex("333300000001") + own + struct.pack("!H", ETH_IPV6)
    return link + head + packed + ALL_NODES + body


def _checksum(data: bytes) -> int:
    """RFC 1071."""
    total: int = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def _number(address: str) -> int:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    return int.from_bytes(socket.inet_pton(family, address), "big")
