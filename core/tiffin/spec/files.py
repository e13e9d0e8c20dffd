"""The contents of /etc/hosts, /etc/resolv.conf and /etc/hostname, as pure functions."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import Struct

from ..errors import UserError
from ..hooks import Attachment

FALLBACK_DNS = ("1.1.1.1", "8.8.8.8")
"""Used when the host has only resolvers on its own loopback, which a container cannot reach."""
DOMAIN = "dns.podman"
"""In which the names of containers lie as well (aardvark-dns, --filter-search-domain): a name
without dots is looked for there first, and so never asked for outside."""
PATIENCE = ("timeout:1", "attempts:1")
"""On internal networks nobody answers for names outside; containers' are answered at once."""


def hosts(
    addresses: Sequence[str],
    names: Sequence[str],
    added: Sequence[tuple[str, str]] = (),
    gateway: str = "",
    host: str | None = None,
) -> str:
    """hosts(5). `addresses` are the container's own; `names` its hostname and name; `added` are
    (name, address) of --add-host, `host-gateway` standing for the gateway. `host` is the host's
    own file, for a container on the host's network, which sees what the host sees."""
    lines = ["127.0.0.1\tlocalhost localhost.localdomain", "::1\tlocalhost localhost.localdomain"]
    if host is not None:
        lines, gateway = [], gateway or "127.0.0.1"
    for name, address in added:
        if address == "host-gateway":
            if not gateway:
                raise UserError(f"--add-host {name}:host-gateway: the container has no gateway")
            address = gateway
        lines.append(f"{address}\t{name}")
    if host is not None:
        known = set(host.split())
        names = [name for name in names if name not in known]
        lines += host.splitlines()
    own = " ".join(dict.fromkeys(name for name in names if name))
    lines += [f"{address}\t{own}" for address in addresses if own]
    if not addresses and own:
        lines.append(f"127.0.1.1\t{own}")
    if gateway and host is None:
        lines.append(f"{gateway}\thost.containers.internal host.docker.internal")
    return "\n".join(lines) + "\n"


def merged(now: str, old: str, new: str) -> str:
    """A file that we wrote as `old`, with what should be `new` in it: the lines that somebody else
    wrote there stay, at its end."""
    ours = set(old.splitlines())
    others = [line for line in now.splitlines() if line not in ours]
    return "\n".join([*new.splitlines(), *others]) + "\n"


class Resolving(Struct, frozen=True):
    """What a container's /etc/resolv.conf is to say."""

    servers: tuple[str, ...] = ()
    """Empty: the host's, without those that cannot be reached from the container."""
    domains: tuple[str, ...] = ()
    """Empty: the host's and `own_domains`; `.` alone: none."""
    own_domains: tuple[str, ...] = ()
    options: tuple[str, ...] = ()
    """Empty: the host's."""
    own_network: bool = True


def resolv_conf(host: str, wanted: Resolving) -> str:
    """resolv.conf(5), from the host's and what is wanted instead."""
    servers: list[str] = []
    domains: list[str] = []
    options: list[str] = []
    others: list[str] = []
    for line in host.splitlines():
        words = line.split()
        if not words or words[0][0] in "#;":
            continue
        if words[0] == "nameserver" and len(words) > 1:
            servers.append(words[1])
        elif words[0] in ("search", "domain"):
            domains = words[1:]  # the last one counts
        elif words[0] == "options":
            options += words[1:]
        elif words[0] == "sortlist":
            others.append(" ".join(words))
    if wanted.servers:
        servers = list(wanted.servers)
    elif wanted.own_network:
        servers = _outer(servers) or list(FALLBACK_DNS)
    domains = list(wanted.domains or (*wanted.own_domains, *domains))
    options = list(wanted.options or options)
    lines = []
    if domains and domains != ["."]:
        lines.append(f"search {' '.join(dict.fromkeys(domains))}")
    lines += [f"nameserver {server}" for server in servers]
    if options:
        lines.append(f"options {' '.join(options)}")
    return "\n".join([*others, *lines]) + "\n"


def _outer(servers: Sequence[str]) -> list[str]:
    """Those that another network namespace reaches: not the host's loopback, nor an address that
    is one only together with an interface of the host's (fe80::1%eth0)."""
    return [s for s in servers if not (s.startswith("127.") or s == "::1" or "%" in s)]


def only_here(host: str) -> bool:
    """True when the host's resolv.conf names servers, but none that a container can ask."""
    words = [line.split() for line in host.splitlines()]
    servers = [line[1] for line in words if len(line) > 1 and line[0] == "nameserver"]
    return bool(servers) and not _outer(servers)


def resolving(
    attachments: Sequence[Attachment],
    dns: Sequence[str],
    search: Sequence[str],
    options: Sequence[str],
    *,
    own_network: bool,
) -> Resolving:
    """On networks with names their gateways are asked, for everything: they know whom to ask for
    other names, and a resolver that asks several at once (musl's does) must not hear from another
    one that there is no such name. Internal networks' are asked only when there are no others:
    nothing outside can be asked for there."""
    named = [attachment.network for attachment in attachments if attachment.network.dns_enabled]
    open_ones = [network for network in named if not network.internal]
    gateways = [s.gateway for network in open_ones or named for s in network.subnets if s.gateway]
    if named and not open_ones and len(named) == len(attachments) and not options:
        options = PATIENCE
    nameless = [at.network for at in attachments if not at.network.dns_enabled]
    theirs = [server for network in nameless for server in network.dns]
    return Resolving(
        servers=tuple(gateways or dns or theirs),
        domains=tuple(search),
        own_domains=(DOMAIN,) if named else (),
        options=tuple(options),
        own_network=own_network,
    )
