"""What nftables lists, beside what a network needs: nothing missing, nothing that is nobody's."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from tiffin_net_bridge import rules
from tiffin_net_bridge.story import complete, elements, told

NETWORK: dict[str, Any] = {
    "id": "ab" * 32,
    "interface": "tfbr0",
    "subnets": [{"subnet": "10.1.2.0/24"}, {"subnet": "fd01::/64"}],
    "options": {"isolate": "true"},
}
PORTS = [
    {"host_port": 8080, "container_port": 80},
    {"host_port": 53, "container_port": 53, "protocol": "udp", "host_ip": "127.0.0.1"},
]
ATTACHMENT: dict[str, Any] = {"addresses": ["10.1.2.5/24", "fd01::5/64"], "ports": PORTS}
TYPES = {"subnets4": "ipv4_addr", "subnets6": "ipv6_addr", "same": ["ifname", "ifname"]}


def concat(text: str) -> dict[str, Any]:
    parts = [part.strip('"') for part in text.split(" . ")]
    return {"concat": [int(part) if part.isdecimal() else part for part in parts]}


def listed(wanted: list[rules.Element]) -> list[dict[str, Any]]:
    """As libnftables-json(5) shows these elements, in a table with all its chains and rules."""
    found: dict[str, dict[str, Any]] = {}
    for name, key, value in wanted:
        if value:
            entry = found.setdefault(name, {"map": {"name": name, "elem": []}})["map"]
            entry["elem"].append([concat(key), concat(value)])
            continue
        entry = found.setdefault(
            name, {"set": {"name": name, "type": TYPES.get(name, "ifname"), "elem": []}}
        )["set"]
        address, slash, length = key.partition("/")
        if slash:
            entry["elem"].append({"prefix": {"addr": address, "len": int(length)}})
        else:
            entry["elem"].append(concat(key) if " . " in key else key.strip('"'))
    chains = [line.split()[4] for line in rules.SETUP.splitlines() if line.startswith("add rule")]
    return [*found.values(), *({"rule": {"chain": chain}} for chain in chains)]


NEEDED = rules.network_elements(NETWORK) + rules.port_elements(ATTACHMENT)


def test_what_is_listed_is_what_was_added() -> None:
    assert sorted(elements(listed(NEEDED))) == sorted(NEEDED)
    assert all(
        rule["expected"] and rule["there"] for rule in told(NETWORK, [ATTACHMENT], listed(NEEDED))
    )
    assert told(NETWORK, [], []) == []


def test_protocols_are_numbers_on_a_machine_without_their_names() -> None:
    """nft asks /etc/protocols (package netbase) what 6 and 17 are called."""
    text = json.dumps(listed(NEEDED)).replace('"tcp"', "6").replace('"udp"', "17")
    assert sorted(elements(json.loads(text))) == sorted(NEEDED)
    ports4 = next(e["map"] for e in json.loads(text) if e.get("map", {}).get("name") == "ports4")
    assert rules.published(ports4) == [("", "tcp", 8080, "10.1.2.5")]
    assert [element[1] for element in rules.aimed("ports4", ports4, ATTACHMENT)] == ["tcp . 8080"]


@given(st.sets(st.sampled_from(range(len(NEEDED)))))
def test_each_that_is_gone_is_missing(gone: set[int]) -> None:
    left = [element for number, element in enumerate(NEEDED) if number not in gone]
    found = told(NETWORK, [ATTACHMENT], listed(left))
    assert [rule["there"] for rule in found[:-1]] == [n not in gone for n in range(len(NEEDED))]


def test_all_is_missing_without_a_table_and_a_lost_rule_is_noticed() -> None:
    assert not any(rule["there"] for rule in told(NETWORK, [ATTACHMENT], []))
    assert complete(listed(NEEDED))
    assert not complete(listed(NEEDED)[:-1])


def test_what_nobody_needs_is_told_but_not_what_is_another_networks() -> None:
    mine = ("ports4", "tcp . 99", "10.1.2.77 . 80")
    others = [
        ("ports4", "tcp . 98", "10.1.3.77 . 80"),
        ("bridges", '"tfbr1"', ""),
        ("subnets4", "10.1.3.0/24", ""),
    ]
    found = told(NETWORK, [ATTACHMENT], listed([*NEEDED, mine, *others]))
    strays = [rule for rule in found if not rule["expected"]]
    assert [rule["text"] for rule in strays] == [
        "port 99/tcp at every IPv4 address of the host -> 10.1.2.77:80"
    ]
