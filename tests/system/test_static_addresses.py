"""Addresses that were asked for, and those that a container keeps."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
from support.cli import BUSYBOX, Tiffin

SUBNET = "10.221.9.0/24"


@pytest.fixture
def box(shared: Tiffin) -> Iterator[Tiffin]:
    """The module's store with the network `lunch`; without containers and networks afterwards."""
    shared("network", "create", "--subnet", SUBNET, "--subnet", "fd13:221:9::/64", "lunch")
    yield shared
    shared("rm", "-a", "-f", "-t", "0")
    shared("network", "prune", "-f")


def placed(box: Tiffin, name: str) -> tuple[str, str, str]:
    """(IPv4 address, IPv6 address, MAC) that a running container has."""
    (shown,) = json.loads(box("inspect", name).out)
    network = shown["NetworkSettings"]["Networks"]["lunch"]
    return network["IPAddress"], network["GlobalIPv6Address"], network["MacAddress"]


def idle(box: Tiffin, name: str, *flags: str) -> None:
    box.detached("--name", name, "--network", "lunch", *flags, BUSYBOX, "sleep", "1000")


def test_the_flags_and_the_options_of_a_network_are_the_same(box: Tiffin) -> None:
    mac = "02:00:00:00:00:77"
    flags = ("--network=lunch", "--ip=10.221.9.77", "--ip6=fd13:221:9::77", f"--mac-address={mac}")
    option = f"--network=lunch:ip=10.221.9.77,ip6=fd13:221:9::77,mac={mac},interface_name=eth0"
    for words in (flags, (option,)):
        shown = box("run", "--rm", *words, BUSYBOX, "ip", "addr", "show", "dev", "eth0").out
        assert f"link/ether {mac}" in shown
        assert "inet 10.221.9.77/24" in shown
        assert "inet6 fd13:221:9::77/64" in shown


def test_the_interface_is_called_as_asked(box: Tiffin) -> None:
    words = ("--network", "lunch:interface_name=lan0")
    shown = box("run", "--rm", *words, BUSYBOX, "ip", "-o", "link").out
    assert "lan0@" in shown
    assert "eth0@" not in shown


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        (("--ip", "10.9.9.9"), "address 10.9.9.9 is in no subnet of network lunch"),
        (("--ip", "10.221.9.1"), "is the gateway of network lunch"),
        (("--ip", "10.221.9.255"), "is that of subnet"),
        (("--ip", "fd13:221:9::7"), "not an IPv4 address"),
        (("--ip6", "10.221.9.7"), "not an IPv6 address"),
        (("--ip", "lunch"), "not an IP address"),
        (("--mac-address", "cafe"), "not a MAC address"),
        (("--network", "lunch:ip=10.9.9.9"), "in no subnet of network lunch"),
        (("--network", "supper:ip=10.9.9.9"), "no such network: supper"),
    ],
)
def test_what_cannot_be_is_one_line_and_leaves_nothing(
    box: Tiffin, flags: tuple[str, ...], says: str
) -> None:
    network = () if "--network" in flags else ("--network", "lunch")
    box.fails("run", *network, *flags, BUSYBOX, "true", says=says)
    box.fails("create", *network, *flags, BUSYBOX, says=says)
    assert box("ps", "-aq").out == ""


def test_an_address_in_use_is_a_conflict_before_anything_starts(box: Tiffin) -> None:
    idle(box, "one", "--ip", "10.221.9.40", "--mac-address", "02:00:00:00:00:40")
    flags = ("--network", "lunch", "--ip", "10.221.9.40")
    box.fails("run", *flags, BUSYBOX, "true", says="10.221.9.40 of network lunch is taken by")
    flags = ("--network", "lunch", "--mac-address", "02:00:00:00:00:40")
    box.fails("run", *flags, BUSYBOX, "true", says="02:00:00:00:00:40 is in use on network lunch")
    assert len(box("ps", "-aq").lines) == 1
    # As in podman, two containers may have it as long as one of them is stopped.
    box("create", "--name", "two", *("--network", "lunch", "--ip", "10.221.9.40"), BUSYBOX)
    box.fails("start", "two", says="taken by")
    box("stop", "-t", "0", "one")
    box("start", "two")


def test_a_container_keeps_addresses_and_mac_across_restarts(box: Tiffin) -> None:
    idle(box, "one")
    before = placed(box, "one")
    box("stop", "-t", "0", "one")
    idle(box, "two")
    assert placed(box, "two")[0] != before[0]
    box("start", "one")
    assert placed(box, "one") == before
    box("restart", "-t", "0", "one")
    assert placed(box, "one") == before
    box("rm", "-f", "-t", "0", "one")
    idle(box, "three")
    assert placed(box, "three") == before, "freed on removal"


def test_an_address_asked_for_is_not_given_to_others_before_it_is_used(box: Tiffin) -> None:
    box("create", "--name", "one", "--network", "lunch", "--ip", "10.221.9.2", BUSYBOX)
    idle(box, "two")
    assert placed(box, "two")[0] == "10.221.9.3"


def test_the_last_address_goes_to_who_needs_it_and_no_mac_is_there_twice(box: Tiffin) -> None:
    range_ = ("--ip-range", "10.221.8.2/31")
    box("network", "create", "--subnet", "10.221.8.0/24", *range_, "small")

    def start(name: str) -> tuple[str, str]:
        box.detached("--name", name, "--network", "small", BUSYBOX, "sleep", "1000")
        return shown(name)

    def shown(name: str) -> tuple[str, str]:
        where = "{{.NetworkSettings.IPAddress}} {{.NetworkSettings.MacAddress}}"
        address, mac = box("inspect", "-f", where, name).word.split()
        return address, mac

    one, two = start("one"), start("two")
    box("stop", "-t", "0", "one")
    three = start("three")
    assert three[0] == one[0]
    assert three[1] not in (one[1], two[1])
    box.fails("start", "one", says="no free address")
    box("rm", "-f", "-t", "0", "two")
    box("start", "one")
    assert shown("one") == (two[0], one[1])


def test_leases_are_the_fold_of_the_log(box: Tiffin) -> None:
    idle(box, "one")
    before = placed(box, "one")
    box("stop", "-t", "0", "one")
    box("system", "rebuild")
    idle(box, "two")
    box("start", "one")
    assert placed(box, "one") == before
