"""Where a registry may send us: not from a checked connection to an open one, and not to services
that only this machine can reach."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from ..errors import RegistryError

if TYPE_CHECKING:
    from .answers import Origin

Addresses = Callable[["Origin"], Sequence[str]]
ASK = "ask whoever runs the registry"


def check(before: Origin, after: Origin, addresses: Addresses, *, verified: bool) -> None:
    """A redirect; `verified`: the certificate of `before` was. What is of this machine alone
    (loopback, and link-local addresses, where clouds keep their secrets) may only be named by what
    is there itself. Error: RegistryError."""
    if before == after:
        return
    if verified and after.scheme == "http":
        raise RegistryError(
            f"{before.netloc} sends us from https to http ({after.netloc})", hint=ASK
        )
    if _internal(after, addresses) and not _internal(before, addresses):
        raise RegistryError(
            f"{before.netloc} sends us to {after.netloc}, which is this machine's own", hint=ASK
        )


def _internal(origin: Origin, addresses: Addresses) -> bool:
    return any(map(_own, addresses(origin)))


def _own(text: str) -> bool:
    import ipaddress  # latency: only for a redirect to another host

    try:
        address = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return False
    mapped = getattr(address, "ipv4_mapped", None)
    address = mapped or address
    return address.is_loopback or address.is_link_local or address.is_unspecified
