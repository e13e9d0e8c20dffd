"""`--network NAME:KEY=VALUE,...`, `--ip`, `--ip6`, `--mac-address` and `--network-alias`: how a
container joins its networks. Imported only when one of them is there."""

from __future__ import annotations

import re
import socket

import msgspec

from .. import network_modes
from ..errors import UserError
from ..options import NetworkOptions

TYPE_CHECKING = False  # without importing typing
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

INTERFACE = re.compile(r"[^\s/:]{1,15}\Z", re.ASCII)
"""What the kernel takes as a link's name (dev_valid_name), where it is used for nothing else."""
LABEL = r"[A-Za-z0-9_][A-Za-z0-9_-]{0,62}"
"""Letters, digits and hyphens (RFC 1035, 2.3.1), and `_`, which people use."""
ALIAS = re.compile(rf"{LABEL}(\.{LABEL})*\Z")
KEYS = "alias, ip, ip6, mac, interface_name"


def parse(
    values: Sequence[str],
    default: str,
    ip: str = "",
    ip6: str = "",
    mac: str = "",
    aliases: Sequence[str] = (),
) -> tuple[str, tuple[NetworkOptions, ...]]:
    """(words of --network, wishes). `default` counts without --network. Error: UserError."""
    names: list[str] = []
    wishes: dict[str, NetworkOptions] = {}
    for value in values:
        if network_modes.joins(value):
            names.append(_joined(value))
            continue
        name, colon, text = value.partition(":")
        if not colon:
            names += [part for part in value.split(",") if part]
            continue
        if name in network_modes.STACKS:
            names.append(name)
            words = tuple(word for word in text.split(",") if word)
            wishes[name] = NetworkOptions(name, words=words)
            continue
        if not name or name in network_modes.NO_NETWORK:
            raise UserError(f"--network {value}: only a network takes options")
        if "," in name:
            raise UserError(
                f"--network {value}: one network at a time takes options",
                hint="repeat --network for each",
            )
        if name in wishes:
            raise UserError(f"--network {name} is given twice, with options")
        names.append(name)
        wishes[name] = _options(value, name, text)
    if values and not names:
        raise UserError("--network is empty", hint="none, host, bridge or a network's name")
    names = list(dict.fromkeys(names))
    joined = next((name for name in names if network_modes.joins(name)), "")
    if joined and len(names) > 1:
        raise UserError(f"--network {joined} cannot be combined with others")
    network = ",".join(names) or default
    if ip or ip6 or mac:
        flag = "--ip" if ip else "--ip6" if ip6 else "--mac-address"
        wish = _single(network, flag, wishes)
        found = [*([_four(ip)] if ip else ()), *([_six("--ip6", ip6)] if ip6 else ())]
        wishes[wish.network] = NetworkOptions(
            network=wish.network,
            addresses=(*wish.addresses, *found),
            mac=_mac("--mac-address", mac) if mac else wish.mac,
            interface=wish.interface,
            aliases=wish.aliases,
        )
    if aliases:
        _alias_all(network, aliases, wishes)
    network_modes.names(network)
    return network, tuple(wish for wish in wishes.values() if wish != NetworkOptions(wish.network))


def wish(ip: str, ip6: str, mac: str, aliases: Sequence[str]) -> NetworkOptions:
    """How a container joins a network that is named elsewhere (`network connect`)."""
    return NetworkOptions(
        network="",
        addresses=(*([_four(ip)] if ip else ()), *([_six("--ip6", ip6)] if ip6 else ())),
        mac=_mac("--mac-address", mac) if mac else "",
        aliases=tuple(dict.fromkeys(alias("--alias", text) for text in aliases)),
    )


def _alias_all(network: str, aliases: Sequence[str], wishes: dict[str, NetworkOptions]) -> None:
    """--network-alias is for all networks that the container is on."""
    on = network_modes.on(network)
    if not on:
        raise UserError(f"--network-alias {aliases[0]} is for networks, not --network {network}")
    found = [alias("--network-alias", text) for text in aliases]
    for name in on:
        wish = wishes.get(name, NetworkOptions(name))
        both = tuple(dict.fromkeys((*wish.aliases, *found)))
        wishes[name] = msgspec.structs.replace(wish, aliases=both)


def alias(flag: str, text: str) -> str:
    """A name on a network. Error: UserError."""
    if not ALIAS.match(text) or len(text) > 253:
        raise UserError(
            f"{flag} {text!r} cannot be a name on a network",
            hint="letters, digits, '-', '_' and '.'",
        )
    return text


def refuse(network: str, options: Mapping[str, Any]) -> None:
    """What a container cannot have that uses another's network, as in podman. Error: UserError."""
    if network.startswith(network_modes.CONTAINER):
        for key in ("dns", "add_host"):
            if options[key]:
                raise UserError(
                    f"--{key.replace('_', '-')} and --network {network} exclude each other",
                    hint="the other container's files are used",
                )


def _joined(value: str) -> str:
    kind, _, rest = value.partition(":")
    if not rest or "\0" in rest:
        raise UserError(f"--network {value} names no {'container' if kind != 'ns' else 'file'}")
    if kind == "ns" and (not rest.startswith("/") or "," in rest):
        why = "a comma cannot be in it" if "," in rest else "not an absolute path"
        raise UserError(f"--network {value}: {why}", hint="ns:/run/netns/NAME")
    return value


def _single(network: str, flag: str, wishes: dict[str, NetworkOptions]) -> NetworkOptions:
    names = network_modes.names(network)
    on = network_modes.on(network)
    if not on:
        raise UserError(f"{flag} can only be set on a network, not with --network {network}")
    if len(names) > 1:
        raise UserError(
            f"{flag} can only be set for a single network", hint="--network NAME:ip=...,mac=..."
        )
    return wishes.get(on[0], NetworkOptions(on[0]))


def _options(value: str, name: str, text: str) -> NetworkOptions:
    addresses: list[str] = []
    aliases: list[str] = []
    mac = interface = ""
    for item in text.split(",") if text else ():
        key, equals, given = item.partition("=")
        where = f"--network {name}: {key}"
        if not equals or not given:
            raise UserError(f"--network {value}: {item!r} is not of the form KEY=VALUE")
        if key == "ip":
            addresses.append(address(where, given))
        elif key == "ip6":
            addresses.append(_six(where, given))
        elif key == "mac":
            mac = _mac(where, given)
        elif key == "alias":
            aliases.append(alias(where, given))
        elif key == "interface_name":
            interface = _interface(where, given)
        else:
            raise UserError(f"--network {name}: unknown option {key}", hint=f"known: {KEYS}")
    return NetworkOptions(name, tuple(addresses), mac, interface, tuple(aliases))


def address(flag: str, text: str) -> str:
    """An address of either family, as the kernel writes it. Error: UserError."""
    family = socket.AF_INET6 if ":" in text else socket.AF_INET
    try:
        return socket.inet_ntop(family, socket.inet_pton(family, text))
    except (OSError, ValueError):
        raise UserError(f"{flag} {text!r} is not an IP address") from None


def _four(text: str) -> str:
    found = address("--ip", text)
    if ":" in found:
        raise UserError(f"--ip {text} is not an IPv4 address", hint="--ip6 is for IPv6")
    return found


def _six(flag: str, text: str) -> str:
    found = address(flag, text)
    if ":" not in found:
        raise UserError(f"{flag} {text} is not an IPv6 address")
    return found


def _mac(flag: str, text: str) -> str:
    """02:00:00:00:00:07, 02-00-00-00-00-07 or 0200.0000.0007. Error: UserError."""
    digits = ""
    for pattern in (r"[0-9a-f]{2}([:-][0-9a-f]{2}){5}\Z", r"[0-9a-f]{4}(\.[0-9a-f]{4}){2}\Z"):
        if re.match(pattern, text.lower()):
            digits = re.sub("[:.-]", "", text.lower())
    if not digits:
        raise UserError(f"{flag} {text!r} is not a MAC address", hint="write 02:00:00:00:00:07")
    if int(digits[1], 16) & 1 or not int(digits, 16):
        raise UserError(f"{flag} {text}: an interface cannot have that", hint="02:00:00:00:00:07")
    return ":".join(digits[at : at + 2] for at in range(0, 12, 2))


def _interface(where: str, text: str) -> str:
    if not INTERFACE.match(text) or text in (".", "..", "lo", "all", "default"):
        raise UserError(
            f"{where}: {text!r} is not the name of an interface", hint="at most 15 characters"
        )
    return text
