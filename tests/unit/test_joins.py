"""`--network NAME:KEY=VALUE,...`, --ip, --ip6, --mac-address: what they mean, what is refused."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tiffin.cli.joins import parse
from tiffin.errors import UserError
from tiffin.options import NetworkOptions


def test_names_without_wishes() -> None:
    assert parse(["a,b", "c", "a"], "") == ("a,b,c", ())
    assert parse([], "lunch") == ("lunch", ())
    assert parse(["a:"], "") == ("a", ())


def test_options_of_a_network() -> None:
    words = "lunch:ip=10.1.2.3,ip6=FD00:0::5,mac=02-00-00-00-00-AA,interface_name=lan0"
    wish = NetworkOptions("lunch", ("10.1.2.3", "fd00::5"), "02:00:00:00:00:aa", "lan0")
    assert parse([words], "") == ("lunch", (wish,))
    assert parse([words, "dinner:mac=0200.0000.0001", "x"], "") == (
        "lunch,dinner,x",
        (wish, NetworkOptions("dinner", mac="02:00:00:00:00:01")),
    )


def test_flags_are_for_the_only_network() -> None:
    assert parse([], "", "10.1.2.3") == ("", (NetworkOptions("bridge", ("10.1.2.3",)),))
    assert parse(["a:ip=fd00::1"], "", ip="10.1.2.3", mac="02:00:00:00:00:01") == (
        "a",
        (NetworkOptions("a", ("fd00::1", "10.1.2.3"), "02:00:00:00:00:01"),),
    )


@pytest.mark.parametrize(
    ("values", "flags", "says"),
    [
        (["a:ip=10.1"], {}, "not an IP address"),
        (["a:ip6=10.1.2.3"], {}, "not an IPv6 address"),
        (["a:mac=02:00"], {}, "not a MAC address"),
        (["a:mac=02:00-00:00:00:0g"], {}, "not a MAC address"),
        (["a:mac=03:00:00:00:00:01"], {}, "cannot have that"),
        (["a:mac=00:00:00:00:00:00"], {}, "cannot have that"),
        (["a:interface_name=a/b"], {}, "not the name of an interface"),
        (["a:interface_name=lo"], {}, "not the name of an interface"),
        (["a:interface_name=sixteencharacter"], {}, "not the name of an interface"),
        (["a:colour=red"], {}, "unknown option colour"),
        (["a:ip"], {}, "KEY=VALUE"),
        (["a:ip="], {}, "KEY=VALUE"),
        (["a:ip=10.1.2.3", "a:mac=02:00:00:00:00:01"], {}, "given twice"),
        (["host:ip=10.1.2.3"], {}, "only a network takes options"),
        ([":ip=10.1.2.3"], {}, "only a network takes options"),
        (["container:"], {}, "names no container"),
        (["ns:run/x"], {}, "not an absolute path"),
        (["container:a", "b"], {}, "cannot be combined"),
        (["container:a"], {"ip": "10.1.2.3"}, "--ip can only be set on a network"),
        (["none"], {"mac": "02:00:00:00:00:01"}, "--mac-address can only be set on a network"),
        (["a,b"], {"ip6": "fd00::1"}, "--ip6 can only be set for a single network"),
        (["a"], {"ip": "fd00::1"}, "not an IPv4 address"),
        (["a"], {"ip6": "10.1.2.3"}, "not an IPv6 address"),
    ],
)
def test_nonsense_is_named(values: list[str], flags: dict[str, str], says: str) -> None:
    with pytest.raises(UserError, match=says):
        parse(values, "", **flags)


@given(st.lists(st.text("ab:=,/.-0123456789ipmac6", max_size=30), max_size=3), st.text(max_size=9))
def test_any_words_are_taken_or_refused(values: list[str], ip: str) -> None:
    try:
        network, wishes = parse(values, "", ip)
    except UserError:
        return
    assert isinstance(network, str)
    assert all(wish.addresses or wish.mac or wish.interface for wish in wishes)
