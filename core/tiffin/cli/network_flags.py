"""The flags of networks, ports and names."""

from __future__ import annotations

from .. import network_modes
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


USUAL = (["private"], ["default"])
"""Whichever is the usual one here."""


def network(options: Mapping[str, Any], default: str) -> tuple[str, tuple[NetworkOptions, ...]]:
    """Words of --network, and how the container joins the networks among them."""
    given = [*options["net"], *options["network"]]
    values = [] if given in USUAL else [_mode(value, default) for value in given]
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


def _mode(value: str, default: str) -> str:
    """The default network by podman's and docker's other names for it."""
    return default or network_modes.DEFAULT if value in ("private", "default") else value


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
        if options["dns_search"] or resolver_options(options):
            raise UserError("--dns none leaves /etc/resolv.conf to the image, others change it")
        return servers
    return tuple(_address("--dns", item) for item in servers)


def resolver_options(options: Mapping[str, Any]) -> tuple[str, ...]:
    given = (*options["dns_option"], *options["dns_opt"])
    return tuple(flag_words.word("--dns-option", item) for item in given)


def domains(values: list[str]) -> tuple[str, ...]:
    domains = tuple(flag_words.word("--dns-search", item) for item in flag_words.by_comma(values))
    if "." in domains and len(domains) > 1:
        raise UserError("--dns-search . means no domain, and cannot be combined with others")
    return domains


def add_hosts(options: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
    if options["no_hosts"] and options["add_host"]:
        raise UserError("--no-hosts leaves /etc/hosts to the image, --add-host changes it")
    return tuple(pair for item in options["add_host"] for pair in add_host(item))


def add_host(item: str) -> Iterator[tuple[str, str]]:
    """`NAME[;NAME...]:ADDRESS`, or docker's `NAME=ADDRESS`."""
    sign = "=" if "=" in item.partition(":")[0] else ":"
    words, found, address = flag_words.clean("--add-host", item).partition(sign)
    names = words.split(";")
    if not all(names) or not found or any(c.isspace() for c in words):
        raise UserError(f"--add-host {item!r} is not of the form NAME:ADDRESS")
    address = address[1:-1] if address[:1] == "[" and address[-1:] == "]" else address
    if address != "host-gateway":
        address = _address(f"--add-host {words}:", address)
    return ((name, address) for name in names)
