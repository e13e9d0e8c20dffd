"""Published ports: which ones a new container, or pod, gets on the host."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Collection
from typing import Any

import msgspec

from .. import network_modes
from ..errors import TiffinError, UserError
from ..options import ContainerOptions, Port
from .base import Engine

TRIES = 20
"""How often the kernel is asked for a port before all are looked at."""
PUBLISHED = (
    "SELECT ports FROM containers WHERE ports<>'[]' UNION ALL "
    "SELECT ports FROM pods WHERE ports<>'[]'"
)


async def choose(
    engine: Engine, options: ContainerOptions, image_config: dict[str, Any]
) -> list[Port]:
    """Published ports, free host ports chosen; `-P` publishes what the image and
    --expose expose and -p does not publish.

    Error: UserError for the same host port twice, and for one that is not for ordinary users, where
    the caller is one.
    """
    ports = list(options.ports)
    if options.publish_all:
        given = {(port.container_port, port.protocol) for port in ports}
        for exposed in (*options.expose, *(image_config.get("ExposedPorts") or {})):
            number, _, protocol = exposed.partition("/")
            if number.isdecimal() and 0 < int(number) < 65536:
                port = Port(container_port=int(number), protocol=protocol or "tcp")
                if (port.container_port, port.protocol) not in given:
                    given.add((port.container_port, port.protocol))
                    ports.append(port)
    if network_modes.without_ports(options.network):
        return []
    taken = {(port.host_port, port.protocol) for port in ports}
    if any(not port.host_port for port in ports):
        for row in await engine.store.rows(PUBLISHED):
            taken |= {(p["host_port"], p.get("protocol", "tcp")) for p in row["ports"]}
    seen = set()
    said: set[Port] = set()
    chosen = []
    for port in ports:
        if port.host_port and port in said:
            continue  # twice
        said.add(port)
        host_port = port.host_port or free_port(port.protocol, port.host_ip, taken)
        key = (port.host_ip, host_port, port.protocol)
        if key in seen:
            raise UserError(f"host port {host_port}/{port.protocol} is published twice")
        seen.add(key)
        taken.add((host_port, port.protocol))
        if engine.layout.uid:
            from .. import host_ports

            host_ports.need_free(port.host_ip, host_port, port.protocol)
        chosen.append(msgspec.structs.replace(port, host_port=host_port))
    return chosen


def free_port(protocol: str, host_ip: str, taken: Collection[tuple[int, str]]) -> int:
    """A port of the ephemeral range that no program has bound now, and no container publishes:
    those are bound by nobody, and with hundreds of them the kernel often offers one."""
    for _ in range(TRIES):
        port = _bound(protocol, host_ip, 0)
        if (port, protocol) not in taken:
            return port
    with open(EPHEMERAL, encoding="ascii") as file:  # the kernel offers every other one (ip(7))
        first, last = map(int, file.read().split())
    for number in range(first, last + 1):
        if (number, protocol) not in taken:
            with contextlib.suppress(TiffinError):
                return _bound(protocol, host_ip, number)
    raise TiffinError(f"no free port on {host_ip or 'this host'}: containers publish them")


EPHEMERAL = "/proc/sys/net/ipv4/ip_local_port_range"


def _bound(protocol: str, host_ip: str, port: int) -> int:
    """This port, or one that the kernel chooses, bound for a moment. Error: TiffinError."""
    kind = socket.SOCK_DGRAM if protocol == "udp" else socket.SOCK_STREAM
    family = socket.AF_INET6 if ":" in host_ip else socket.AF_INET
    with socket.socket(family, kind) as probe:
        try:
            probe.bind((host_ip, port))
        except OSError as error:
            raise TiffinError(f"no free port on {host_ip or 'this host'}: {error}") from None
        return int(probe.getsockname()[1])
