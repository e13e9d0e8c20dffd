"""Proxies from the environment, by the rules that curl and Go share."""

from __future__ import annotations

import os
from urllib.parse import unquote, urlsplit

from msgspec import Struct

from ..errors import UserError


class Proxy(Struct, frozen=True):
    host: str
    port: int
    authorization: str = ""
    """Value of `Proxy-Authorization`, or empty."""


def find(scheme: str, host: str, port: int) -> Proxy | None:
    """The proxy for a URL, or None. Loopback never goes through one. Error: UserError."""
    name = f"{scheme}_proxy"
    value = os.environ.get(name) or os.environ.get(name.upper()) or ""
    if not value or is_loopback(host) or _exempt(host, port):
        return None
    url = urlsplit(value if "://" in value else f"http://{value}")
    try:
        number = url.port or 3128
    except ValueError:
        number = 0
    if url.scheme != "http" or not url.hostname or not number:
        raise UserError(f"{name.upper()} is not a usable proxy", hint="set it to http://HOST:PORT")
    authorization = ""
    if url.username:
        from .auth import Credentials

        pair = Credentials(unquote(url.username), unquote(url.password or ""))
        authorization = pair.basic()
    return Proxy(url.hostname, number, authorization)


def is_loopback(host: str) -> bool:
    """localhost (RFC 6761), 127.0.0.0/8 and ::1."""
    if host == "localhost" or host.endswith(".localhost") or host == "::1":
        return True
    parts = host.split(".")
    return len(parts) == 4 and parts[0] == "127" and all(part.isdecimal() for part in parts)


def _exempt(host: str, port: int) -> bool:
    for entry in (os.environ.get("no_proxy") or os.environ.get("NO_PROXY") or "").split(","):
        entry = entry.strip().lower()
        if entry == "*":
            return True
        if "/" in entry and _in_network(host, entry):
            return True
        name, colon, number = entry.rpartition(":")
        if colon and number.isdecimal() and ":" not in name:
            if int(number) != port:
                continue
            entry = name
        entry = entry.removeprefix("*").strip("[]")
        bare = entry.lstrip(".")
        if bare and (host == bare or host.endswith(f".{bare}")):
            return True
    return False


def _in_network(host: str, network: str) -> bool:
    import ipaddress  # latency: only for a CIDR in NO_PROXY

    try:
        return ipaddress.ip_address(host) in ipaddress.ip_network(network, strict=False)
    except ValueError:
        return False
