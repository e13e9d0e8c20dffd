"""The files that tell aardvark-dns who is called what."""

from __future__ import annotations

import contextlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tiffin.errors import UserError
from tiffin_net_bridge import zones

LUNCH = {
    "name": "lunch",
    "interface": "tfbr1",
    "subnets": [
        {"subnet": "10.1.0.0/24", "gateway": "10.1.0.1"},
        {"subnet": "fd01::/64", "gateway": "FD01:0::1"},
    ],
    "dns": ["9.9.9.9"],
}


def attached(container: str = "c1", **more: Any) -> dict[str, Any]:
    return {
        "container": container,
        "network": LUNCH,
        "addresses": ["10.1.0.5/24", "fd01::5/64"],
        "names": ["web", "c1", "web"],
        **more,
    }


def test_a_file_has_gateways_servers_and_a_line_for_each_container() -> None:
    there: zones.Zones = {}
    zones.put(there, attached())
    zones.put(there, attached("c2", names=["db"], dns=["1.1.1.1", "::1"]))
    zones.put(there, attached("c3", names=["deep"], outward=False, dns=["1.1.1.1"]))
    assert zones.render(there["tfbr1"]) == (
        "10.1.0.1,fd01::1 9.9.9.9\n"
        "c1 10.1.0.5 fd01::5 web,web.dns.podman,c1,c1.dns.podman\n"
        "c2 10.1.0.5 fd01::5 db,db.dns.podman 1.1.1.1,::1\n"
        f"c3 10.1.0.5 fd01::5 deep,deep.dns.podman {zones.NOWHERE}\n"
    )
    assert zones.listening(there["tfbr1"]) == ["10.1.0.1", "fd01::1"]


def test_putting_again_replaces_and_the_last_takes_the_file_along() -> None:
    there: zones.Zones = {}
    zones.put(there, attached())
    zones.put(there, attached(names=["other"], network={**LUNCH, "dns": []}))
    assert there["tfbr1"][""] == "10.1.0.1,fd01::1 9.9.9.9"
    zones.update(there, {**LUNCH, "dns": []})
    assert there["tfbr1"][""] == "10.1.0.1,fd01::1"
    zones.update(there, {**LUNCH, "interface": "tfbr2"})
    assert list(there) == ["tfbr1"]
    assert there["tfbr1"]["c1"].endswith(" other,other.dns.podman")
    zones.take(there, attached("c9"))
    assert there
    zones.take(there, attached())
    zones.take(there, attached())
    assert there == {}


def test_internal_networks_are_marked() -> None:
    there: zones.Zones = {}
    zones.put(there, attached(network={**LUNCH, "internal": True}))
    (name,) = there
    assert name == "tfbr1%int"
    assert zones.interface(name) == "tfbr1"


def test_what_would_break_the_format_is_refused() -> None:
    for words in ({"names": ["a b"]}, {"names": ["a,b"]}, {"names": ["a\n1.1.1.1 x"]}):
        with pytest.raises(UserError, match="cannot be the name"):
            zones.put({}, attached(**words))
    with pytest.raises(UserError, match="name server"):
        zones.put({}, attached(dns=["1.1.1.1 c9"]))
    no_gateway = {**LUNCH, "subnets": [{"subnet": "10.1.0.0/24", "gateway": ""}]}
    with pytest.raises(UserError, match="no gateway"):
        zones.put({}, attached(network=no_gateway))


@given(st.lists(st.text(max_size=20), max_size=5))
def test_whatever_the_names_a_file_stays_one_line_a_container(names: list[str]) -> None:
    there: zones.Zones = {}
    zones.put(there, attached("first"))
    with contextlib.suppress(UserError):
        zones.put(there, attached("second", names=names))
    text = zones.render(there["tfbr1"])
    assert zones.parse(text) == there["tfbr1"]
    assert all(len(line.split(" ")) == 4 for line in text.splitlines()[1:])
