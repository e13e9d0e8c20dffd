"""Other people's firewalls that stand in the way. Pure: the ruleset, as libnftables-json(5) lists
it, in; `tiffin.hooks.Rule` as plain data out.

A packet passes only if no base chain of any table drops it, so what our table accepts may still be
dropped by one that lets through only what it knows (docker's, ufw's, firewalld's). We do not touch
it, but say which it is, and what its administrator could do. It is a reading, not a proof: a chain
is named when it ends in a drop and nothing in its table speaks of the network.
"""

from __future__ import annotations

import socket
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from .rules import TABLE

Told = dict[str, Any]
IDLE = ("counter", "log")
"""What a rule may do that decides nothing."""
WORDS = {
    "forward": "lets only known packets through, and nothing in it names {name}",
    "input": "lets only known packets to the host, and no queries for names from {name}",
}
FORWARDED = ("-i {name} -j ACCEPT", "-o {name} -j ACCEPT")
ASKED = ("-i {name} -p udp --dport 53 -j ACCEPT",)


def obstacles(
    network: dict[str, Any], attachments: Sequence[dict[str, Any]], ruleset: Sequence[Told]
) -> Iterator[Told]:
    """One for each chain that is in the way of a network that is up."""
    if not attachments:
        return
    families = {"ip6" if ":" in s["subnet"] else "ip" for s in network["subnets"]}
    asked = network.get("dns_enabled") and any(at.get("names") for at in attachments)
    for chain in (entry["chain"] for entry in ruleset if "chain" in entry):
        hook, family, table = chain.get("hook"), chain["family"], chain["table"]
        wanted = (hook == "forward" and not network.get("internal")) or (hook == "input" and asked)
        if f"{family} {table}" == TABLE or not wanted or family not in (*families, "inet"):
            continue
        own = [
            entry["rule"]
            for entry in ruleset
            if "rule" in entry
            and (entry["rule"]["family"], entry["rule"]["table"]) == (family, table)
        ]
        if _ends_in_drop(chain, own) and not any(_names(network, hook, rule) for rule in own):
            name = network["interface"]
            yield {
                "text": f"{family} {table} {chain['name']} {WORDS[hook].format(name=name)}",
                "expected": True,
                "there": True,
                "remedy": _remedy(chain, own, name),
            }


def _ends_in_drop(chain: Told, rules: Iterable[Told]) -> bool:
    """What is not decided before is dropped, by a last rule for all packets or by the policy."""
    for rule in rules:
        if rule["chain"] == chain["name"]:
            words = [word for word in rule.get("expr", ()) if not _idle(word)]
            if len(words) == 1 and "accept" in words[0]:
                return False
            if len(words) == 1 and _drops(words[0]):
                return True
    return chain.get("policy") == "drop"


def _idle(word: Told) -> bool:
    return any(kind in IDLE for kind in word) or _xt(word, "match") == "comment"


def _drops(word: Told) -> bool:
    return "drop" in word or "reject" in word or _xt(word, "target") in ("REJECT", "DROP")


def _xt(word: Told, kind: str) -> str:
    """The name of an extension of iptables' (nft cannot say more of it)."""
    found = word.get("xt") or {}
    return str(found.get("name", "")) if found.get("type") == kind else ""


def _names(network: dict[str, Any], hook: str, rule: Told) -> bool:
    """True for a rule that speaks of the network, or of names, and does not drop."""
    expressions = rule.get("expr", ())
    if any(_drops(word) for word in expressions):
        return False
    for match in (word["match"] for word in expressions if "match" in word):
        left, right = match.get("left"), match.get("right")
        values = right.get("set", [right]) if isinstance(right, dict) else [right]
        key = left.get("meta", {}).get("key", "") if isinstance(left, dict) else ""
        field = left.get("payload", {}).get("field", "") if isinstance(left, dict) else ""
        links = values if key in ("iifname", "oifname", "iif", "oif") else []
        if any(_matches(str(value), network["interface"]) for value in links):
            return True
        if field in ("saddr", "daddr") and any(
            _covers(value, subnet["subnet"]) for value in values for subnet in network["subnets"]
        ):
            return True
        if hook == "input" and field == "dport" and 53 in values:
            return True
    return False


def _matches(pattern: str, name: str) -> bool:
    return name.startswith(pattern[:-1]) if pattern.endswith("*") else name == pattern


def _covers(value: Any, subnet: str) -> bool:
    """True when an address or prefix has the whole subnet in it."""
    prefix = value.get("prefix") if isinstance(value, dict) else None
    if not isinstance(prefix, dict):
        return False
    base, _, length = subnet.partition("/")
    address, size = str(prefix["addr"]), int(prefix["len"])
    if (":" in address) != (":" in base) or size > int(length):
        return False
    family, bits = (socket.AF_INET6, 128) if ":" in base else (socket.AF_INET, 32)
    one, other = (int.from_bytes(socket.inet_pton(family, a), "big") for a in (address, base))
    return one >> (bits - size) == other >> (bits - size)


def _remedy(chain: Told, rules: Sequence[Told], name: str) -> str:
    """In the words of the program that seems to have made the chain."""
    family, table, chain_name, hook = (chain[key] for key in ("family", "table", "name", "hook"))
    if table == "firewalld":
        return f"firewall-cmd --zone=trusted --add-interface={name}"
    if any(str(rule["chain"]).startswith("ufw") for rule in rules):
        if hook == "input":
            return f"ufw allow in on {name} to any port 53 proto udp"
        return f"ufw route allow in on {name}; ufw route allow out on {name}"
    if table == "filter" and str(chain_name).isupper():
        program = "ip6tables" if family == "ip6" else "iptables"
        words = FORWARDED if hook == "forward" else ASKED
        return "; ".join(f"{program} -I {chain_name} {word.format(name=name)}" for word in words)
    into = f"nft insert rule {family} {table} {chain_name}"
    if hook == "input":
        return f"{into} iifname {name} udp dport 53 accept"
    return f"{into} iifname {name} accept; {into} oifname {name} accept"
