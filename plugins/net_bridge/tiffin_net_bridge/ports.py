"""Published ports: who has them already, on the host and among the containers."""

from __future__ import annotations

import errno
import socket
from collections.abc import Iterable
from typing import Any

from tiffin import host_ports  # by the name that `tiffin.hooks` has for it: see worker.py
from tiffin.errors import UserError

ANYWHERE = ("", "0.0.0.0", "::")  # noqa: S104 (compared, not bound)


def show(port: dict[str, Any]) -> str:
    return host_ports.shown(port.get("host_ip", ""), port["host_port"], port.get("protocol", "tcp"))


def probe(ports: Iterable[dict[str, Any]], addresses: Iterable[str]) -> None:
    """Bind each for a moment. Errors: Conflict when a program on the host has one of them;
    UserError for a host address that no traffic can come from to the container's `addresses`."""
    families = {":" in address for address in addresses}
    ipv6 = True in families
    for port in ports:
        host_ip = port.get("host_ip", "")
        if host_ip and (":" in host_ip) not in families:
            kind = "IPv6" if ":" in host_ip else "IPv4"
            raise UserError(f"cannot publish {show(port)}: the container has no {kind} address")
        if host_ip == "::1":
            raise UserError(
                f"cannot publish {show(port)}: the kernel does not route from ::1",
                hint="use 127.0.0.1",
            )
        if host_ip:
            _bind(port, socket.AF_INET6 if ":" in host_ip else socket.AF_INET)
        else:
            _bind(port, socket.AF_INET)
            if ipv6:
                _bind(port, socket.AF_INET6)


def _bind(port: dict[str, Any], family: int) -> None:
    host_ip, protocol = port.get("host_ip", ""), port.get("protocol", "tcp")
    number = host_ports.bound(host_ip, port["host_port"], protocol, family)
    if number and not (number == errno.EAFNOSUPPORT and not host_ip):
        # a host without IPv6 has no port taken there
        raise host_ports.refusal(number, show(port), port["host_port"])


def overlapping(
    ports: Iterable[dict[str, Any]],
    published: Iterable[tuple[str, str, int, str]],
    addresses: Iterable[str],
) -> dict[str, Any] | None:
    """The first of our ports that another container has, also where one of the two is published on
    all addresses and the other on one.

    `published` are (host address or "", protocol, host port, container's address) of the host;
    `addresses` are our container's own.
    """
    own = {address.partition("/")[0] for address in addresses}
    taken: dict[tuple[str, int, bool], set[str]] = {}
    for host_ip, protocol, number, target in published:
        if target not in own:
            taken.setdefault((protocol, number, ":" in target), set()).add(host_ip)
    for port in ports:
        host_ip = port.get("host_ip", "")
        for ipv6 in (False, True):
            if host_ip and (":" in host_ip) != ipv6:
                continue
            there = taken.get((port.get("protocol", "tcp"), port["host_port"], ipv6), set())
            if there and (host_ip in ANYWHERE or "" in there or host_ip in there):
                return port
    return None
