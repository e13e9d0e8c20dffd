"""`-p`: which ports are published. Pure."""

from __future__ import annotations

from ..errors import UserError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..options import Port

PROTOCOLS = ("tcp", "udp", "sctp")


def parse_port(text: str) -> tuple[Port, ...]:
    """`[[IP:][HOST_PORT]:]CONTAINER_PORT[/PROTOCOL]`; a port may be a range `8000-8010`, and the
    host's range must then be as long, or left out. An IPv6 address stands in brackets.

    Error: UserError.
    """
    from ..options import Port

    body, slash, protocol = text.partition("/")
    protocol = protocol.lower() if slash else "tcp"
    if protocol not in PROTOCOLS:
        raise _bad(text, f"the protocol is one of {', '.join(PROTOCOLS)}")
    before, colon, container = body.rpartition(":")
    host_ip, host = "", ""
    if colon:
        if before.startswith("["):
            host_ip, bracket, rest = before[1:].partition("]")
            if not bracket or (rest and not rest.startswith(":")):
                raise _bad(text, "an IPv6 address stands in brackets, then a colon")
            host = rest[1:]
        elif ":" in before:
            host_ip, _, host = before.rpartition(":")
            if ":" in host_ip:
                raise _bad(text, "an IPv6 address needs brackets: [::1]:80:80")
        elif "." in before:  # IP:CONTAINER is no form of podman's, IP::CONTAINER is
            raise _bad(text, f"write {before}::{container} for any port of that address")
        else:
            host = before
        if host_ip:
            _check_ip(text, host_ip)
    first, last = _range(text, container)
    if not host:
        return tuple(Port(n, 0, protocol, host_ip) for n in range(first, last + 1))
    host_first, host_last = _range(text, host, zero=True)
    if host_last - host_first != last - first:
        raise _bad(text, "the two ranges differ in length")
    if host_first == 0:
        return (Port(first, 0, protocol, host_ip),)
    return tuple(Port(n, host_first + n - first, protocol, host_ip) for n in range(first, last + 1))


def _range(text: str, given: str, *, zero: bool = False) -> tuple[int, int]:
    low, dash, high = given.partition("-")
    numbers = []
    for part in (low, high) if dash else (low,):
        if not (part.isascii() and part.isdecimal() and len(part) <= 5):
            raise _bad(text, f"{part!r} is not a port")
        number = int(part)
        if number > 65535 or (number == 0 and not (zero and not dash)):
            raise _bad(text, f"{part} is not a port (1 to 65535)")
        numbers.append(number)
    if numbers[0] > numbers[-1]:
        raise _bad(text, f"the range {given} runs backwards")
    return numbers[0], numbers[-1]


def _check_ip(text: str, address: str) -> None:
    import socket  # rarely

    try:
        socket.inet_pton(socket.AF_INET6 if ":" in address else socket.AF_INET, address)
    except (OSError, ValueError):
        raise _bad(text, f"{address!r} is not an IP address") from None


def _bad(text: str, why: str) -> UserError:
    return UserError(
        f"--publish {text!r}: {why}", hint="the form is [[IP:][HOST_PORT]:]PORT[/PROTOCOL]"
    )
