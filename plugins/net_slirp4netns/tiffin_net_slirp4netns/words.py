"""The options of `--network slirp4netns:KEY=VALUE,...`, as in podman-run(1). Pure."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import Struct

from tiffin.hooks import errors

HANDLERS = ("slirp4netns", "rootlesskit")
"""Both words of podman's are taken; it is always the first, which keeps callers' addresses."""
KEYS = "allow_host_loopback, mtu, cidr, enable_ipv6, outbound_addr, outbound_addr6, port_handler"


class Asked(Struct, frozen=True):
    cidr: str = ""
    mtu: int = 65520
    ipv6: bool | None = None
    """None: where the host has it."""
    host_loopback: bool = False
    outbound: str = ""
    outbound6: str = ""


def read(words: Sequence[str]) -> Asked:
    """Error: UserError."""
    found: dict[str, str] = {}
    for word in words:
        key, equals, value = word.partition("=")
        if not equals or not value:
            raise errors.UserError(f"--network slirp4netns: {word!r} is not of the form KEY=VALUE")
        if key not in KEYS.split(", "):
            raise errors.UserError(
                f"--network slirp4netns: unknown option {key}", hint=f"known: {KEYS}"
            )
        found[key] = value
    handler = found.get("port_handler", HANDLERS[0])
    if handler not in HANDLERS:
        raise errors.UserError(
            f"--network slirp4netns: port_handler={handler}", hint=f"one of {', '.join(HANDLERS)}"
        )
    mtu = found.get("mtu", "65520")
    if not (mtu.isascii() and mtu.isdecimal() and 68 <= int(mtu) <= 65521):
        raise errors.UserError(f"--network slirp4netns: mtu={mtu}: not between 68 and 65521")
    asked = found.get("enable_ipv6")
    return Asked(
        cidr=found.get("cidr", ""),
        mtu=int(mtu),
        ipv6=_flag("enable_ipv6", asked) if asked else None,
        host_loopback=_flag("allow_host_loopback", found.get("allow_host_loopback", "false")),
        outbound=found.get("outbound_addr", ""),
        outbound6=found.get("outbound_addr6", ""),
    )


def _flag(key: str, text: str) -> bool:
    if text not in ("true", "false"):
        raise errors.UserError(f"--network slirp4netns: {key}={text}: true or false")
    return text == "true"
