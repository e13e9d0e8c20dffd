"""What may be asked of a new network, and what comes of it."""

from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tiffin import ipam, network_specs
from tiffin.errors import Conflict, UserError
from tiffin.hooks import NetworkConfig, StaticRoute
from tiffin.network_specs import NetworkRequest, define, overlap


def made(*others: NetworkConfig, routes: tuple[str, ...] = (), **asked: object) -> NetworkConfig:
    request = NetworkRequest(**asked)  # type: ignore[arg-type]
    return define(request, others, private=True, routes=routes)


def test_a_network_without_wishes_has_name_subnet_and_gateway() -> None:
    one = made()
    two = made(one)
    assert (one.name, two.name) == ("net1", "net2")
    assert len(one.interface) <= 15
    (subnet,) = one.subnets
    net = ipaddress.ip_network(subnet.subnet)
    assert ipaddress.ip_address(subnet.gateway) == net[1]
    assert not overlap(subnet.subnet, two.subnets[0].subnet)


def test_the_order_of_subnet_gateway_and_range_counts() -> None:
    net = made(
        subnets=("10.91.7.3/24", "fd91:7::/64"),
        gateways=("10.91.7.9",),
        ip_ranges=("10.91.7.128/25", "fd91:7::100/120"),
    )
    four, six = net.subnets
    assert (four.subnet, four.gateway, four.ip_range) == (
        "10.91.7.0/24",
        "10.91.7.9",
        "10.91.7.128/25",
    )
    assert (six.gateway, six.ip_range) == ("fd91:7::1", "fd91:7::100/120")
    assert list(ipam.choose(net, ())) == ["10.91.7.128/24", "fd91:7::100/64"]


def test_ipv6_adds_a_unique_local_subnet_unless_one_is_given() -> None:
    four, six = made(ipv6=True).subnets
    assert ":" not in four.subnet
    assert ipaddress.ip_network(six.subnet).subnet_of(ipaddress.ip_network("fd00::/8"))  # type: ignore[arg-type]
    assert [s.subnet for s in made(ipv6=True, subnets=("fd91:8::/64",)).subnets] == ["fd91:8::/64"]


def test_options_and_routes_are_taken_over() -> None:
    net = made(options={"mtu": "1400"})
    assert net.mtu == 1400
    assert network_specs.route("10.7.0.0/16,10.91.7.9,50") == StaticRoute(
        "10.7.0.0/16", "10.91.7.9", 50
    )


@pytest.mark.parametrize(
    ("asked", "says"),
    [
        ({"name": "host"}, "cannot be a network's name"),
        ({"name": "a,b"}, "is not a network name"),
        ({"subnets": ("10.1.1.1",)}, "no room"),
        ({"subnets": ("10.1.1.0/31",)}, "no room"),
        ({"subnets": ("10.1.0.0/16", "10.1.3.0/24")}, "overlaps"),
        ({"gateways": ("10.1.1.1",)}, "no --subnet"),
        ({"subnets": ("10.1.1.0/24",), "gateways": ("10.1.2.1",)}, "no address of a host"),
        ({"subnets": ("10.1.1.0/24",), "gateways": ("10.1.1.255",)}, "no address of a host"),
        ({"subnets": ("10.1.1.0/24",), "gateways": ("x",)}, "not an IP address"),
        ({"subnets": ("10.1.1.0/24",), "ip_ranges": ("10.1.2.0/25",)}, "not within"),
        ({"subnets": ("10.1.1.0/24",), "ip_ranges": ("10.1.0.0/16",)}, "not within"),
        ({"options": {"mtu": "12"}}, "mtu=12"),
        ({"routes": ("10.7.0.0/16",)}, "is not a route"),
        ({"routes": ("10.7.0.0/16,fd00::1",)}, "different families"),
        ({"interface": "a/b"}, "not the name of an interface"),
        ({"interface": "sixteen-letters-"}, "not the name of an interface"),
    ],
)
def test_what_makes_no_sense_is_named(asked: dict[str, object], says: str) -> None:
    if "routes" in asked:
        with pytest.raises(UserError, match=says):
            network_specs.route(asked["routes"][0])  # type: ignore[index]
        return
    with pytest.raises(UserError, match=says):
        made(**asked)


def test_what_is_taken_is_a_conflict() -> None:
    one = made(name="one", subnets=("10.91.7.0/24",), interface="br-one")
    for asked, says in (
        ({"name": "one"}, "network one exists"),
        ({"subnets": ("10.91.0.0/16",)}, "overlaps that of network one"),
        ({"interface": "br-one"}, "is that of network one"),
    ):
        with pytest.raises(Conflict, match=says):
            made(one, **asked)
    with pytest.raises(Conflict, match="in use on the host"):
        made(subnets=("10.4.0.0/24",), routes=("10.4.0.0/16",))
    made(subnets=("10.4.0.0/24",), routes=("10.0.0.0/8",))  # a VPN's


SUBNETS = st.one_of(
    st.builds(
        lambda value, prefix: ipaddress.ip_network((value, prefix), strict=False),
        st.integers(0, 2**32 - 1),
        st.integers(0, 32),
    ),
    st.builds(
        lambda value, prefix: ipaddress.ip_network((value << 96, prefix), strict=False),
        st.integers(0, 2**32 - 1),
        st.integers(0, 128),
    ),
)


@given(SUBNETS, SUBNETS)
def test_overlap_is_what_the_standard_library_says(
    one: ipaddress.IPv4Network, other: ipaddress.IPv4Network
) -> None:
    expected = one.version == other.version and one.overlaps(other)
    assert overlap(str(one), str(other)) == expected


def test_a_subnet_of_a_network_outside_is_given_and_may_be_the_hosts() -> None:
    def outside(**asked: object) -> NetworkConfig:
        request = NetworkRequest(driver="wire", **asked)  # type: ignore[arg-type]
        routes = ("10.4.0.0/16",)
        return define(request, [], private=True, routes=routes, own_subnets=False)

    assert outside(subnets=("10.4.0.0/16",)).interface == ""
    assert outside(subnets=("10.4.0.0/16",), interface="eth1").interface == "eth1"
    with pytest.raises(UserError, match="driver wire needs --subnet"):
        outside()
    with pytest.raises(UserError, match="the IPv6 subnet"):
        outside(subnets=("10.4.0.0/16",), ipv6=True)
