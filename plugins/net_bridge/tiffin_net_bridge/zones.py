"""Who is called what on which network, as aardvark-dns reads it. Pure: files' text in, text out.

A file a network, named after its bridge; its first line has the addresses to listen on and, after
a blank, the name servers for all other names. Then a line a container: id, IPv4, IPv6, names, and
name servers of its own. Whatever does not fit the format ends the server, so words are checked.
"""

from __future__ import annotations

import re
import socket
from collections.abc import Sequence
from typing import Any, NamedTuple

from tiffin.errors import UserError

DOMAIN = "dns.podman"
"""aardvark-dns answers for it without being told (and forwards nothing in it), but 1.4.0 only with
the names of the network at whose gateway it is asked: so all names are there in both forms."""
INTERNAL = "%int"
"""Ends the name of an internal network's file, where aardvark-dns since 1.11 forwards nothing."""
NOWHERE = "127.255.255.255"
"""The name server of containers that are on internal networks only, for the versions before: a
broadcast address, to which the kernel lets nobody send who did not ask for it."""
NAME = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9_.-]{0,254})\Z")

Zone = dict[str, str]
"""Lines by container id; the first line by ""."""
Zones = dict[str, Zone]
"""By name of the file."""


class Change(NamedTuple):
    what: str
    """`enter`: a container is there, or is called otherwise; `leave`: it goes; `update`: the
    network's own name servers are others."""
    subject: dict[str, Any]
    """The attachment, or the network."""
    mend: bool = False
    """The rules may be damaged."""


def changed(before: Zones, changes: Sequence[Change]) -> Zones:
    """Error: UserError for words that cannot be written down."""
    after = {name: dict(zone) for name, zone in before.items()}
    for change in changes:
        {"enter": put, "leave": take, "update": update}[change.what](after, change.subject)
    return after


def parse(text: str) -> Zone:
    head, _, rest = text.partition("\n")
    zone = {"": head}
    for line in rest.splitlines():
        zone[line.partition(" ")[0]] = line
    return zone


def render(zone: Zone) -> str:
    return "".join(f"{line}\n" for line in zone.values())


def interface(file_name: str) -> str:
    return file_name.removesuffix(INTERNAL)


def listening(zone: Zone) -> list[str]:
    """The gateways at which a network's names are asked for."""
    return zone[""].partition(" ")[0].split(",")


def put(zones: Zones, attachment: dict[str, Any]) -> None:
    """Add a container, or say anew what it is called. A network's line that is there stays: it may
    be newer than the attachment. Error: UserError for words that cannot be written down."""
    network = attachment["network"]
    name = _file_name(network)
    if name not in zones:
        zones[name] = {"": _head(network)}
    four, six = _families([a.partition("/")[0] for a in attachment["addresses"]])
    called = dict.fromkeys(_name(text) for text in attachment["names"])
    names = ",".join(form for text in called for form in (text, f"{text}.{DOMAIN}"))
    line = f"{_name(attachment['container'])} {four} {six} {names}"
    servers = attachment.get("dns", ()) if attachment.get("outward", True) else (NOWHERE,)
    if servers:
        line += f" {_addresses(servers)}"
    zones[name][attachment["container"]] = line


def take(zones: Zones, attachment: dict[str, Any]) -> None:
    """Remove a container from a network, and the network with its last one."""
    name = _file_name(attachment["network"])
    zone = zones.get(name, {})
    zone.pop(attachment["container"], None)
    if not zone.keys() - {""}:
        zones.pop(name, None)


def update(zones: Zones, network: dict[str, Any]) -> None:
    """The network's own line, as it is defined now, if it has a file."""
    name = _file_name(network)
    if name in zones:
        zones[name][""] = _head(network)


def _file_name(network: dict[str, Any]) -> str:
    interface: str = network["interface"]
    return interface + (INTERNAL if network.get("internal") else "")


def _head(network: dict[str, Any]) -> str:
    gateways = [subnet["gateway"] for subnet in network["subnets"] if subnet["gateway"]]
    if not gateways:
        raise UserError(
            f"network {network['name']} has no gateway at which names could be asked for",
            hint="make it with --gateway or --disable-dns",
        )
    return " ".join(filter(None, (_addresses(gateways), _addresses(network.get("dns", ())))))


def _name(text: str) -> str:
    if not NAME.match(text):
        raise UserError(
            f"{text!r} cannot be the name of a container on a network",
            hint="letters, digits, '_', '.' and '-'",
        )
    return text


def _addresses(texts: Any) -> str:
    return ",".join(filter(None, _families(texts)))


def _families(texts: Any) -> tuple[str, str]:
    """IPv4 and IPv6 addresses, each joined, as the system writes them. Error: UserError."""
    found: dict[bool, list[str]] = {False: [], True: []}
    for text in texts:
        family = socket.AF_INET6 if ":" in text else socket.AF_INET
        try:
            plain = socket.inet_ntop(family, socket.inet_pton(family, text))
        except (OSError, ValueError):
            raise UserError(f"{text!r} is not the address of a name server") from None
        found[":" in text].append(plain)
    return ",".join(found[False]), ",".join(found[True])
