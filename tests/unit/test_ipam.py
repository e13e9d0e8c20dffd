"""Addresses: none twice, all in their subnet, and names that the kernel takes."""

from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tiffin import ids, ipam
from tiffin.errors import Conflict, UserError
from tiffin.hooks import NetworkConfig, Subnet

HEX = st.text("0123456789abcdef", min_size=64, max_size=64)


def network(*subnets: Subnet) -> NetworkConfig:
    return NetworkConfig(id="ab" * 32, name="net", driver="bridge", interface="br", subnets=subnets)


@st.composite
def subnets(draw: st.DrawFn) -> Subnet:
    if draw(st.booleans()):
        prefix = draw(st.integers(8, 30))
        net = ipaddress.ip_network((draw(st.integers(0, 2**32 - 1)), prefix), strict=False)
    else:
        prefix = draw(st.integers(48, 126))
        net = ipaddress.ip_network((draw(st.integers(0, 2**128 - 1)), prefix), strict=False)
    gateway = str(net[1]) if draw(st.booleans()) else ""
    return Subnet(subnet=str(net), gateway=gateway)


@given(subnets(), st.integers(1, 40))
def test_no_address_twice_and_all_are_usable(subnet: Subnet, count: int) -> None:
    net = ipaddress.ip_network(subnet.subnet)
    used: list[str] = []
    for _ in range(min(count, net.num_addresses - 3)):
        (chosen,) = ipam.choose(network(subnet), used)
        assert chosen.endswith(f"/{net.prefixlen}")
        address = ipaddress.ip_address(chosen.partition("/")[0])
        assert address in net
        assert address not in (net[0], net[1])
        if net.version == 4:
            assert address != net.broadcast_address
        assert str(address) not in used
        used.append(str(address))


@given(st.integers(26, 30), st.data())
def test_every_address_is_given_before_a_subnet_is_full(prefix: int, data: st.DataObject) -> None:
    size = 2 ** (32 - prefix)
    subnet = Subnet(subnet=f"10.1.2.0/{prefix}", gateway="10.1.2.1")
    used: set[str] = set()
    last = ""
    for _ in range(size - 3):
        (chosen,) = ipam.choose(network(subnet), used, last)
        last = chosen.partition("/")[0]
        used.add(last)
    assert len(used) == size - 3
    with pytest.raises(Conflict, match="no free address"):
        list(ipam.choose(network(subnet), used, last))
    freed = data.draw(st.sampled_from(sorted(used)))
    assert list(ipam.choose(network(subnet), used - {freed}, last)) == [f"{freed}/{prefix}"]


def test_the_next_one_is_tried_first_and_the_end_wraps() -> None:
    net = network(Subnet(subnet="10.1.2.0/29", gateway="10.1.2.1"))
    assert list(ipam.choose(net, (), "10.1.2.3")) == ["10.1.2.4/29"]
    assert list(ipam.choose(net, (), "10.1.2.6")) == ["10.1.2.2/29"]
    assert list(ipam.choose(net, (), "192.0.2.1")) == ["10.1.2.2/29"]


def test_gateway_in_the_middle_is_not_given_away() -> None:
    net = network(Subnet(subnet="10.1.2.0/29", gateway="10.1.2.2"))
    assert list(ipam.choose(net, ())) == ["10.1.2.1/29"]
    assert list(ipam.choose(net, ("10.1.2.1",))) == ["10.1.2.3/29"]


def test_both_families_get_one_each() -> None:
    net = network(
        Subnet(subnet="10.1.2.0/24", gateway="10.1.2.1"),
        Subnet(subnet="fd00:1::/64", gateway="fd00:1::1"),
    )
    assert list(ipam.choose(net, ("10.1.2.2",))) == ["10.1.2.3/24", "fd00:1::2/64"]


@pytest.mark.parametrize("prefix", [31, 32])
def test_subnet_without_room_is_full_at_once(prefix: int) -> None:
    with pytest.raises(Conflict):
        list(ipam.choose(network(Subnet(subnet=f"10.1.2.0/{prefix}")), ()))


def test_a_large_subnet_is_not_counted_through() -> None:
    net = network(Subnet(subnet="fd00::/8"))
    used = {f"fd00::{n:x}" for n in range(1, 3000)}
    assert list(ipam.choose(net, used)) == ["fd00::bb8/8"]


@given(HEX, HEX)
def test_interface_names_fit_the_kernel(container: str, net: str) -> None:
    assert 0 < len(ipam.host_interface(container, net).encode()) <= 15
    assert len(ipam.default_network(container, "x", private=True).interface) <= 15


@given(subnets().flatmap(lambda s: st.sampled_from([s])), st.data())
def test_mac_belongs_to_the_address(subnet: Subnet, data: st.DataObject) -> None:
    net = ipaddress.ip_network(subnet.subnet)
    one, two = (net[data.draw(st.integers(0, min(net.num_addresses, 2**32) - 1))] for _ in "ab")
    mac = ipam.mac_address([f"{one}/{net.prefixlen}"])
    first = int(mac[:2], 16)
    assert first & 1 == 0 and first & 2 == 2  # unicast, locally administered
    assert len(bytes.fromhex(mac.replace(":", ""))) == 6
    assert (mac == ipam.mac_address([str(two)])) == (one == two)


@pytest.mark.parametrize(
    "bad", ["", "x", "10.0.0.0/33", "10.0.0.0/", "10.0.0/8", "10.0.0.0/+8", "::/129", "1.2.3.4\0/8"]
)
def test_bad_subnet_is_named(bad: str) -> None:
    with pytest.raises(UserError, match="is not a subnet"):
        ipam.parse_cidr(bad)


@given(subnets())
def test_cidr_is_read_as_the_standard_library_does(subnet: Subnet) -> None:
    value, prefix, bits = ipam.parse_cidr(subnet.subnet)
    net = ipaddress.ip_network(subnet.subnet)
    assert (value, prefix, bits) == (int(net[0]), net.prefixlen, net.max_prefixlen)
    assert ipaddress.ip_address(ipam.to_text(value, bits)) == net[0]


def route(text: str) -> ipam.Route:
    net = ipaddress.IPv4Network(text)
    return int(net.network_address), int(net.netmask)


def test_default_subnet_avoids_what_the_host_routes() -> None:
    assert ipam.free_subnet([]) == "10.89.0.0/16"
    assert ipam.free_subnet([route("10.89.3.0/24")]) == "10.90.0.0/16"
    assert ipam.free_subnet([route("10.88.0.0/15"), route("10.90.0.0/16")]) == "10.91.0.0/16"
    assert ipam.free_subnet([route("10.0.0.0/8")]) == "172.29.0.0/16"


def test_a_vpn_that_routes_everything_does_not_stop_containers() -> None:
    everything = [route("0.0.0.0/1"), route("128.0.0.0/1"), route("10.89.0.0/24")]
    assert ipam.free_subnet(everything) == "10.90.0.0/16"


def test_no_subnet_left_is_a_conflict() -> None:
    with pytest.raises(Conflict, match="no subnet is left"):
        ipam.free_subnet([route(c) for c in ipam.CANDIDATES])


@given(HEX)
@settings(deadline=None)  # a loaded machine
def test_other_stores_keep_away_from_the_machines_own(identifier: str) -> None:
    found = ipam.private_candidates(identifier)
    assert len(set(found)) == len(found)
    machine = [ipaddress.ip_network(c) for c in ipam.CANDIDATES]
    for candidate in found:
        assert not any(ipaddress.ip_network(candidate).overlaps(m) for m in machine)


def test_default_network_has_bridge_and_gateway() -> None:
    net = ipam.default_network(ids.new_id(), "bridge")
    (subnet,) = net.subnets
    assert net.interface == "tiffin0"
    assert ipaddress.ip_address(subnet.gateway) in ipaddress.ip_network(subnet.subnet)
