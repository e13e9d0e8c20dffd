"""Which chains of other people's are read as being in the way of a network."""

from __future__ import annotations

from typing import Any

import pytest

from tiffin_net_bridge.foreign import obstacles

NETWORK: dict[str, Any] = {
    "interface": "tfbr0",
    "subnets": [{"subnet": "10.1.2.0/24"}],
    "dns_enabled": True,
}
ATTACHMENTS = [{"names": ["web"]}]
ACCEPT: dict[str, Any] = {"accept": None}
REJECT = {"xt": {"type": "target", "name": "REJECT"}}
COMMENT = {"xt": {"type": "match", "name": "comment"}}
STATE = {"match": {"op": "==", "left": {"ct": {"key": "state"}}, "right": "established"}}


def link(name: str, key: str = "iifname") -> dict[str, Any]:
    return {"match": {"op": "==", "left": {"meta": {"key": key}}, "right": name}}


def source(address: str, length: int) -> dict[str, Any]:
    left = {"payload": {"protocol": "ip", "field": "saddr"}}
    return {"match": {"left": left, "right": {"prefix": {"addr": address, "len": length}}}}


def firewall(
    *rules: list[dict[str, Any]], policy: str = "drop", hook: str = "forward", table: str = "filter"
) -> list[dict[str, Any]]:
    """A base chain, and a chain `more` with its last rule."""
    named = {"family": "ip", "table": table}
    chain = {"name": hook.upper(), "type": "filter", "hook": hook, "policy": policy}
    found = [{"table": {"family": "ip", "name": table}}, {"chain": {**named, **chain}}]
    return found + [{"rule": {**named, "chain": hook.upper(), "expr": expr}} for expr in rules]


@pytest.mark.parametrize(
    ("ruleset", "in_the_way"),
    [
        (firewall(), True),
        (firewall(policy="accept"), False),
        (firewall([{"counter": {}}, REJECT], policy="accept"), True),
        (firewall([COMMENT, {"drop": None}], policy="accept"), True),
        (firewall([STATE, {"drop": None}], policy="accept"), False),
        (firewall([STATE, ACCEPT]), True),
        (firewall([{"counter": {}}, ACCEPT]), False),
        (firewall([link("docker0"), ACCEPT]), True),
        (firewall([link("tfbr0"), ACCEPT]), False),
        (firewall([link("tf*", "oifname"), ACCEPT]), False),
        (firewall([link("tfbr0"), REJECT]), True),
        (firewall([source("10.0.0.0", 8), ACCEPT]), False),
        (firewall([source("10.1.2.0", 25), ACCEPT]), True),
        (firewall(hook="input"), True),
        (firewall(hook="output"), False),
    ],
)
def test_chains_that_end_in_a_drop_and_do_not_know_the_network(
    ruleset: list[dict[str, Any]], in_the_way: bool
) -> None:
    assert bool(list(obstacles(NETWORK, ATTACHMENTS, ruleset))) is in_the_way


def test_what_a_network_does_not_need() -> None:
    assert not list(obstacles(NETWORK, [], firewall()))
    assert not list(obstacles({**NETWORK, "internal": True}, ATTACHMENTS, firewall()))
    assert not list(obstacles(NETWORK, [{"names": []}], firewall(hook="input")))


@pytest.mark.parametrize(
    ("ruleset", "remedy"),
    [
        (
            firewall(),
            "iptables -I FORWARD -i tfbr0 -j ACCEPT; iptables -I FORWARD -o tfbr0 -j ACCEPT",
        ),
        (firewall(table="firewalld"), "firewall-cmd --zone=trusted --add-interface=tfbr0"),
        (firewall(hook="input", table="mine"), "nft insert rule ip mine INPUT iifname tfbr0 udp"),
    ],
)
def test_the_remedy_is_in_the_words_of_whose_it_is(
    ruleset: list[dict[str, Any]], remedy: str
) -> None:
    (found,) = obstacles(NETWORK, ATTACHMENTS, ruleset)
    assert found["remedy"].startswith(remedy)
