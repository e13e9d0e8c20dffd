"""The flags of networks, ports and names."""

from __future__ import annotations

from ..errors import UserError
from . import flag_words
from .ports import parse_port

TYPE_CHECKING = False  # without importing typing
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from typing import Any

    from ..options import (
        NetworkOptions,
        Port,
    )


def network(options: Mapping[str, Any], default: str) -> tuple[str, tuple[NetworkOptions, ...]]:
    """Words of --network, and how the container joins the networks among them."""
    values = [*options["net"], *options["network"]]
    if "private" in values:  # podman's word for the default
        values = [value for value in values if value != "private"]
    wishes = options["ip"], options["ip6"], options["mac_address"], options["network_alias"]
    if any(wishes) or any(":" in value for value in values):
        from . import joins  # rarely

        network, found = joins.parse(values, default, *wishes)
        joins.refuse(network, options)
        return network, found
    names = flag_words.by_comma(values)
    if values and not names:
        raise UserError("--network is empty", hint="none, host, bridge or a network's name")
    return ",".join(dict.fromkeys(names)) or default, ()


def ports(items: Iterable[str]) -> tuple[Port, ...]:
    return tuple(port for item in items for port in parse_port(item))


def exposed(item: str) -> Iterator[str]:
    """`PORT/PROTO` of each."""
    ports, _, protocol = item.partition("/")
    first, _, last = ports.partition("-")
    last = last or first
    numbers = [int(text) for text in (first, last) if text.isdecimal() and 0 < int(text) < 65536]
    protocol = protocol or "tcp"
    if len(numbers) < 2 or numbers[0] > numbers[1] or protocol not in ("tcp", "udp", "sctp"):
        raise UserError(f"--expose {item!r} is not of the form PORT[-PORT][/PROTO]")
    return (f"{number}/{protocol}" for number in range(numbers[0], numbers[1] + 1))


def _address(flag: str, text: str) -> str:
    import socket  # rarely

    family = socket.AF_INET6 if ":" in text else socket.AF_INET
    try:
        socket.inet_pton(family, text)
    except (OSError, ValueError):
        raise UserError(f"{flag} {text!r} is not an IP address") from None
    return text


def name_servers(options: Mapping[str, Any]) -> tuple[str, ...]:
    servers = flag_words.by_comma(options["dns"])
    if servers == ("none",):
        if options["dns_search"] or options["dns_option"]:
            raise UserError("--dns none leaves /etc/resolv.conf to the image, others change it")
        return servers
    return tuple(_address("--dns", item) for item in servers)


def domains(values: list[str]) -> tuple[str, ...]:
    domains = tuple(flag_words.word("--dns-search", item) for item in flag_words.by_comma(values))
    if "." in domains and len(domains) > 1:
        raise UserError("--dns-search . means no domain, and cannot be combined with others")
    return domains


def add_host(item: str) -> tuple[str, str]:
    name, colon, address = flag_words.clean("--add-host", item).partition(":")
    if not name or not colon or any(c.isspace() for c in name):
        raise UserError(f"--add-host {item!r} is not of the form NAME:ADDRESS")
    address = address[1:-1] if address[:1] == "[" and address[-1:] == "]" else address
    if address == "host-gateway":
        return name, address
    return name, _address(f"--add-host {name}:", address)
