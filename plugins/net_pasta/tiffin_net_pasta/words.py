"""The words of `--network pasta:...`: pasta's own options, by comma, as podman takes them. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import Struct

from tiffin.hooks import errors

VALUES = {
    "-m": "--mtu",
    "-a": "--address",
    "-n": "--netmask",
    "-M": "--mac-addr",
    "-g": "--gateway",
    "-i": "--interface",
    "-o": "--outbound",
    "--outbound-if4": "--outbound-if4",
    "--outbound-if6": "--outbound-if6",
    "-D": "--dns",
    "--dns-forward": "--dns-forward",
    "-S": "--search",
    "-t": "--tcp-ports",
    "-u": "--udp-ports",
    "-T": "--tcp-ns",
    "-U": "--udp-ns",
    "-I": "--ns-ifname",
    "--ns-mac-addr": "--ns-mac-addr",
    "-p": "--pcap",
    "-l": "--log-file",
    "--log-size": "--log-size",
}
"""Options with a value: how they may be written -> their long names."""
SWITCHES = {
    **{f"--no-{what}": f"--no-{what}" for what in "tcp udp icmp dhcp ndp dhcpv6 ra map-gw".split()},
    "--map-gw": "--map-gw",
    "-4": "--ipv4-only",
    "-6": "--ipv6-only",
    "--config-net": "--config-net",
    "--dhcp-dns": "--dhcp-dns",
    "--dhcp-search": "--dhcp-search",
}
"""Options without one. What pasta has besides (where it runs, and as whom) is ours to say."""


class Asked(Struct, frozen=True):
    """What the words say of what we decide, and what is left for pasta."""

    addresses: tuple[str, ...] = ()
    netmask: str = ""
    gateways: tuple[str, ...] = ()
    interface: str = ""
    mac: str = ""
    forward: tuple[str, ...] = ()
    """Addresses at which pasta is to answer for names."""
    mtu: int = 0
    ipv4: bool = True
    ipv6: bool = True
    map_gateway: bool = False
    left: tuple[str, ...] = ()


def read(words: Sequence[str]) -> Asked:
    """Error: UserError for a word that is not known, or lacks its value."""
    pairs = list(_pairs(words))
    values: dict[str, list[str]] = {}
    left: list[str] = []
    for name, value in pairs:
        if name in OURS:
            values.setdefault(name, []).append(value)
        else:
            left += [name] if name in SWITCHES.values() else [name, value]
    return Asked(
        addresses=tuple(values.get("--address", ())),
        netmask=_last(values, "--netmask"),
        gateways=tuple(values.get("--gateway", ())),
        interface=_last(values, "--ns-ifname"),
        mac=_last(values, "--ns-mac-addr").lower(),
        forward=tuple(values.get("--dns-forward", ())),
        mtu=_mtu(_last(values, "--mtu")),
        ipv4="--ipv6-only" not in values,
        ipv6="--ipv4-only" not in values,
        map_gateway="--map-gw" in values,
        left=tuple(left),
    )


OURS = frozenset(
    (
        *("--address", "--netmask", "--gateway", "--ns-ifname", "--ns-mac-addr", "--dns-forward"),
        *("--mtu", "--ipv4-only", "--ipv6-only", "--map-gw", "--no-map-gw", "--config-net"),
    )
)


def _pairs(words: Sequence[str]) -> list[tuple[str, str]]:
    long = {**{name: name for name in VALUES.values()}, **VALUES}
    switches = {**{name: name for name in SWITCHES.values()}, **SWITCHES}
    found = []
    rest = iter(words)
    for word in rest:
        name, equals, value = word.partition("=")
        if not equals and word in switches:
            found.append((switches[word], ""))
            continue
        if name not in long:
            raise errors.UserError(
                f"--network pasta: {word!r} is not an option of pasta's that is known here",
                hint="as in pasta(1), by comma: pasta:--mtu,1500,--ipv4-only",
            )
        if not equals:
            value = next(rest, "")
        if not value:
            raise errors.UserError(f"--network pasta: {name} lacks its value")
        found.append((long[name], value))
    return found


def _last(values: dict[str, list[str]], name: str) -> str:
    return values.get(name, [""])[-1]


def _mtu(text: str) -> int:
    if text and not (text.isascii() and text.isdecimal() and 68 <= int(text) <= 65520):
        raise errors.UserError(f"--network pasta: --mtu {text}: not between 68 and 65520")
    return int(text or 0)
