"""What the table says, in words: the elements that a network should have in it beside those that it
has. Pure: plain data in, plain data (`tiffin.hooks.Rule`) out."""

from __future__ import annotations

import socket
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from . import rules
from .rules import Element

Told = dict[str, Any]


def told(
    network: dict[str, Any], attachments: Sequence[dict[str, Any]], table: list[dict[str, Any]]
) -> list[Told]:
    """`table` as libnftables-json(5) lists it, empty when it is not there. Without attachments
    nothing is expected: table and bridge come with the first container."""
    expected = _expected(network, attachments)
    there = set(elements(table))
    found = [rule(words(network, e), True, e in there) for e in expected]
    if attachments:
        found.append(rule("the chains that use these sets are complete", True, complete(table)))
        found += _asked(network, attachments, there)
    for element in strays(network, attachments, table):
        found.append(rule(words(network, element), False, True))
    return found


def _expected(network: dict[str, Any], attachments: Sequence[dict[str, Any]]) -> list[Element]:
    found = rules.network_elements(network) if attachments else []
    for attachment in attachments:
        found += rules.port_elements(attachment)
    return found


def strays(
    network: dict[str, Any], attachments: Sequence[dict[str, Any]], table: list[dict[str, Any]]
) -> list[Element]:
    """Elements about the network that do not follow from it and its attachments."""
    stray = set(elements(table)) - set(_expected(network, attachments))
    return sorted(e for e in stray if e[0] not in rules.SERVED and belongs(network, e))


def _asked(
    network: dict[str, Any], attachments: Sequence[dict[str, Any]], there: set[Element]
) -> Iterator[Told]:
    """Whether the gateways hand queries for names to a server (which one changes)."""
    if network.get("dns_enabled") and any(at.get("names") for at in attachments):
        keys = {key for name, key, _ in there if name in rules.NAMES}
        for gateway in filter(None, (subnet["gateway"] for subnet in network["subnets"])):
            asked = f"{network['interface']} . {gateway}" in keys
            yield rule(f"{gateway} answers for names", True, asked)


def rule(text: str, expected: bool, there: bool) -> Told:
    return {"text": text, "expected": expected, "there": there}


def elements(table: Iterable[dict[str, Any]]) -> list[Element]:
    """All elements of its sets and maps, written as `rules` writes them."""
    found: list[Element] = []
    for entry in table:
        for one in entry.get("set", {}).get("elem", ()):
            quoted = str(entry["set"]["type"]).count("ifname") > 0
            found.append((entry["set"]["name"], _key(one, quoted=quoted), ""))
        for key, value in entry.get("map", {}).get("elem", ()):
            name = entry["map"]["name"]
            if name.startswith(("ports", "bound")):
                key = {"concat": rules.port_key(key)}
            found.append((name, _key(key), _key(value)))
    return found


def _key(value: Any, *, quoted: bool = False) -> str:
    if isinstance(value, dict) and "concat" in value:
        return " . ".join(_key(part, quoted=quoted) for part in value["concat"])
    if isinstance(value, dict) and "prefix" in value:
        return f"{value['prefix']['addr']}/{value['prefix']['len']}"
    return f'"{value}"' if quoted else str(value)


def complete(table: Iterable[dict[str, Any]]) -> bool:
    """True when every chain has as many rules as it was made with; those for names are made with
    the first container that has some."""
    there = Counter(entry["rule"]["chain"] for entry in table if "rule" in entry)
    named = _counted(rules.NAMES_SETUP)
    others = Counter({chain: count for chain, count in there.items() if chain not in named})
    return others == _counted(rules.SETUP) and (
        len(there) == len(others) or there - others == named
    )


def _counted(text: str) -> Counter[str]:
    lines = [line.split() for line in text.splitlines()]
    return Counter(words[4] for words in lines if words[:2] == ["add", "rule"])


def belongs(network: dict[str, Any], element: Element) -> bool:
    """True for an element about this network: its interface, or an address of its subnets."""
    name, key, value = element
    if f'"{network["interface"]}"' in key.split(" . "):
        return True
    if name in ("subnets4", "subnets6"):
        return any(key == subnet["subnet"] for subnet in network["subnets"])
    target = value.partition(" . ")[0]
    return bool(target) and any(_inside(target, s["subnet"]) for s in network["subnets"])


def _inside(address: str, subnet: str) -> bool:
    if (":" in address) != (":" in subnet):
        return False
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    base, _, length = subnet.partition("/")
    shift = (128 if ":" in address else 32) - int(length)
    one, other = (int.from_bytes(socket.inet_pton(family, a), "big") for a in (address, base))
    return one >> shift == other >> shift


WORDS = {
    "bridges": "{name} is one of tiffin's bridges",
    "subnets4": "from {key} to elsewhere: under the address of the host (masquerade)",
    "subnets6": "from {key} to elsewhere: under the address of the host (masquerade)",
    "same": "containers on {name} reach each other",
    "internal": "no way out of {name}, and none in",
    "isolated": "{name} is apart from other isolated networks",
    "strict": "{name} is apart from all other networks",
}


def words(network: dict[str, Any], element: Element) -> str:
    name, key, value = element
    if name in WORDS:
        return WORDS[name].format(name=network["interface"], key=key)
    *bound, protocol, port = key.split(" . ")
    target, _, number = value.partition(" . ")
    shown = f"[{target}]" if ":" in target else target
    where = f"{bound[0]}" if bound else f"every {'IPv6' if ':' in target else 'IPv4'} address"
    return f"port {port}/{protocol} at {where} of the host -> {shown}:{number}"
