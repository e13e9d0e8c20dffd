"""Ports of the host that are to be published by a process, or by rules: may they be had?

Standard library only: the bridge driver's worker imports it.
"""

from __future__ import annotations

import errno
import os
import socket

from .errors import Conflict, DriverError, TiffinError, UserError

IPPROTO_SCTP = 132
START = "/proc/sys/net/ipv4/ip_unprivileged_port_start"
"""For both families (Documentation/networking/ip-sysctl.rst)."""


def bound(host_ip: str, port: int, protocol: str, family: int) -> int:
    """0, or the errno of binding it for a moment."""
    kind = socket.SOCK_DGRAM if protocol == "udp" else socket.SOCK_STREAM
    number = 0
    if protocol == "sctp":
        if not os.path.exists("/proc/net/sctp"):
            return 0  # the module is not loaded (and should not be for this): nobody has the port
        number = IPPROTO_SCTP
    try:
        with socket.socket(family, kind, number) as probing:
            if protocol == "tcp":
                # As a server would: a connection that lingers (TIME_WAIT) is no obstacle.
                probing.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                probing.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            probing.bind((host_ip, port))
    except OSError as error:
        return error.errno or errno.EIO
    return 0


def shown(host_ip: str, port: int, protocol: str) -> str:
    before = f"[{host_ip}]:" if ":" in host_ip else f"{host_ip}:" if host_ip else ""
    return f"{before}{port}/{protocol}"


def refusal(number: int, what: str, port: int) -> TiffinError:
    """Why a port (`what`, for people) cannot be had, by the errno of `bound`."""
    if number == errno.EADDRINUSE:
        return Conflict(f"port {what} is in use on the host", hint="publish another one")
    if number == errno.EACCES:
        return forbidden(what, port)
    return DriverError(f"cannot publish {what}: {os.strerror(number)}")


def need_free(host_ip: str, port: int, protocol: str) -> None:
    """Error: UserError for a port that ordinary users may not bind."""
    if port < first_free():
        raise forbidden(shown(host_ip, port, protocol), port)


def forbidden(what: str, port: int) -> UserError:
    first = first_free()
    return UserError(
        f"port {what} is not for ordinary users: net.ipv4.ip_unprivileged_port_start is {first}",
        hint=f"publish one from {first} on, or an administrator allows it: "
        f"sysctl -w net.ipv4.ip_unprivileged_port_start={port}",
    )


def first_free() -> int:
    """The lowest port that everybody may bind."""
    try:
        with open(START, encoding="ascii") as file:
            return int(file.read())
    except (OSError, ValueError):
        return 1024
