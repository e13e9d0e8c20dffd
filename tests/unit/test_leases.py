"""What a container keeps on a network: its addresses and its MAC, as long as nobody needs them."""

from __future__ import annotations

import pytest

from tiffin import leases
from tiffin.errors import Conflict, UserError
from tiffin.hooks import NetworkConfig, Subnet
from tiffin.leases import Lease
from tiffin.options import NetworkOptions

ME, OTHER = "a" * 64, "b" * 64
NETWORK = NetworkConfig(
    id="cd" * 32,
    name="net",
    driver="bridge",
    interface="br",
    subnets=(
        Subnet(subnet="10.1.2.0/29", gateway="10.1.2.1"),
        Subnet(subnet="fd01::/64", gateway="fd01::1"),
    ),
)
ALL = [f"10.1.2.{last}" for last in range(2, 7)]


def addresses(
    wish: tuple[str, ...] = (),
    holders: dict[str, str] | None = None,
    known: tuple[Lease, ...] = (),
) -> tuple[str, ...]:
    return leases.addresses(NETWORK, NetworkOptions("net", wish), ME, holders or {}, known)


def test_one_of_each_subnet_and_the_wish_where_there_is_one() -> None:
    assert addresses() == ("10.1.2.2/29", "fd01::2/64")
    assert addresses(("fd01::77",)) == ("10.1.2.2/29", "fd01::77/64")
    assert addresses(("fd01::77", "10.1.2.5")) == ("10.1.2.5/29", "fd01::77/64")


def test_a_lease_is_kept_and_others_are_avoided_until_nothing_else_is_left() -> None:
    mine = Lease(ME, addresses=("10.1.2.4", "fd01::4"))
    theirs = Lease(OTHER, addresses=("10.1.2.2", "fd01::2"))
    assert addresses(known=(mine, theirs)) == ("10.1.2.4/29", "fd01::4/64")
    assert addresses(known=(theirs,)) == ("10.1.2.3/29", "fd01::3/64")
    full = dict.fromkeys(ALL[1:], "c" * 64)
    assert addresses(known=(theirs,), holders=full)[0] == "10.1.2.2/29"
    assert addresses(known=(mine,), holders={"10.1.2.4": OTHER})[0] == "10.1.2.2/29"
    with pytest.raises(Conflict, match="no free address"):
        addresses(holders=dict.fromkeys(ALL, OTHER))


def test_a_taken_wish_names_who_has_it() -> None:
    with pytest.raises(Conflict, match=r"10\.1\.2\.5 of network net is taken by container bbbbbb"):
        addresses(("10.1.2.5",), {"10.1.2.5": OTHER})
    assert addresses(("10.1.2.5",), {"10.1.2.5": ME})[0] == "10.1.2.5/29"


@pytest.mark.parametrize(
    ("wish", "says"),
    [
        (("10.9.9.9",), "in no subnet of network net"),
        (("fd02::5",), "in no subnet of network net"),
        (("10.1.2.1",), "the gateway of network net"),
        (("fd01::1",), "the gateway of network net"),
        (("10.1.2.0",), "that of subnet"),
        (("10.1.2.7",), "that of subnet"),
        (("fd01::",), "that of subnet"),
        (("10.1.2.4", "10.1.2.5"), "both in subnet"),
    ],
)
def test_what_is_wrong_whoever_is_there(wish: tuple[str, ...], says: str) -> None:
    with pytest.raises(UserError, match=says):
        leases.check(NETWORK, NetworkOptions("net", wish))


def mac(
    wish: str = "", holders: dict[str, str] | None = None, known: tuple[Lease, ...] = ()
) -> str:
    options = NetworkOptions("net", mac=wish)
    return leases.mac(NETWORK, options, ME, ["10.1.2.5/29"], holders or {}, known)


def test_the_mac_is_the_wish_then_the_lease_then_that_of_the_address() -> None:
    of_address = "02:74:0a:01:02:05"
    assert mac() == of_address
    assert mac("02:00:00:00:00:01") == "02:00:00:00:00:01"
    assert mac(known=(Lease(ME, "02:74:0a:01:02:09"),)) == "02:74:0a:01:02:09"
    another = mac(known=(Lease(OTHER, of_address),))
    assert another.startswith("02:75:")
    both = (Lease(ME, of_address), Lease(OTHER, of_address))
    assert mac(known=both) == another


def test_a_mac_in_use_is_a_conflict_and_one_of_a_stopped_container_is_not() -> None:
    known = (Lease(OTHER, "02:00:00:00:00:01", ("10.1.2.2",)),)
    assert mac("02:00:00:00:00:01", known=known) == "02:00:00:00:00:01"
    with pytest.raises(Conflict, match="in use on network net, by container bbbb"):
        mac("02:00:00:00:00:01", {"10.1.2.2": OTHER}, known)
