"""The contents of /etc/hosts, /etc/resolv.conf and /etc/hostname, as pure functions."""

from __future__ import annotations

from collections.abc import Sequence

from ..errors import UserError

FALLBACK_DNS = ("1.1.1.1", "8.8.8.8")
"""Used when the host has only resolvers on its own loopback, which a container cannot reach."""


def hosts(
    addresses: Sequence[str],
    names: Sequence[str],
    added: Sequence[tuple[str, str]] = (),
    gateway: str = "",
) -> str:
    """hosts(5). `addresses` are the container's own; `names` its hostname and name; `added` are
    (name, address) of --add-host, `host-gateway` standing for the gateway."""
    lines = ["127.0.0.1\tlocalhost localhost.localdomain", "::1\tlocalhost localhost.localdomain"]
    for name, address in added:
        if address == "host-gateway":
            if not gateway:
                raise UserError(f"--add-host {name}:host-gateway: the container has no gateway")
            address = gateway
        lines.append(f"{address}\t{name}")
    own = " ".join(dict.fromkeys(name for name in names if name))
    lines += [f"{address}\t{own}" for address in addresses if own]
    if not addresses and own:
        lines.append(f"127.0.1.1\t{own}")
    if gateway:
        lines.append(f"{gateway}\thost.containers.internal host.docker.internal")
    return "\n".join(lines) + "\n"


def resolv_conf(host: str, dns: Sequence[str], *, own_network: bool) -> str:
    """resolv.conf(5): --dns, or the host's with what cannot be reached from inside left out."""
    servers: list[str] = []
    others: list[str] = []
    for line in host.splitlines():
        words = line.split()
        if not words or words[0][0] in "#;":
            continue
        if words[0] == "nameserver" and len(words) > 1:
            servers.append(words[1])
        elif words[0] in ("search", "domain", "options", "sortlist"):
            others.append(" ".join(words))
    if dns:
        servers = list(dns)
    elif own_network:
        servers = [s for s in servers if not (s.startswith("127.") or s == "::1")]
        servers = servers or list(FALLBACK_DNS)
    return "\n".join([*others, *(f"nameserver {server}" for server in servers)]) + "\n"
