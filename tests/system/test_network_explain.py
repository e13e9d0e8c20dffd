"""`network explain`: what the log says beside what the kernel has; every damage is named."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest
from support.cli import BUSYBOX, Tiffin

SUBNETS = ("--subnet", "10.221.15.0/24", "--subnet", "fd13:221:15::/64")


def sh(words: str) -> None:
    subprocess.run(words.split(), check=True)


@pytest.fixture
def box(shared: Tiffin) -> Iterator[Tiffin]:
    """The module's store with the network `lunch`, and `web` and `guest` on it."""
    route = ("--route", "198.51.100.0/24,10.221.15.9")
    shared("network", "create", *SUBNETS, *route, "--interface-name", "tfTestE", "lunch")
    flags = ("--network", "lunch", "-p", "18094:80", "-p", "127.0.0.1:18093:81/udp")
    shared.detached("--name", "web", *flags, BUSYBOX, "sleep", "1000")
    shared.detached("--name", "guest", "--network", "lunch", BUSYBOX, "sleep", "1000")
    yield shared
    shared("rm", "-a", "-f", "-t", "0")
    shared("network", "prune", "-f")


def story(box: Tiffin, name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(box("network", "explain", name, "--format", "json").out)
    return found


def within(box: Tiffin, name: str, words: str) -> None:
    pid = box("inspect", "-f", "{{.State.Pid}}", name).word
    sh(f"nsenter --net=/proc/{pid}/ns/net ip {words}")


def test_a_network_on_a_napkin(box: Tiffin) -> None:
    box.create("--name", "idle", "--network", "lunch", "--ip", "10.221.15.40", BUSYBOX)
    lines = box("network", "explain", "lunch").lines
    text = "\n".join(lines)
    assert lines[0] == "network lunch: bridge, 10.221.15.0/24, fd13:221:15::/64"
    assert "  tfTestE  10.221.15.1/24  fd13:221:15::1/64  (bridge, up, mtu 1500)" in lines
    (web,) = [line for line in lines if line.startswith("    |-- ")]
    assert " --- eth0  web    10.221.15.2/24  fd13:221:15::2/64" in web
    (guest,) = [line for line in lines if line.startswith("    `-- ")]
    assert " --- eth0  guest  10.221.15.3/24  fd13:221:15::3/64" in guest
    assert "    |     *:18094/tcp -> 80" in lines
    assert "kept for idle, which does not run" in text
    assert "port 18094/tcp at every IPv6 address of the host -> [fd13:221:15::2]:80" in text
    assert "port 18093/udp at 127.0.0.1 of the host -> 10.221.15.2:81" in text
    assert lines[-1] == "  the kernel has what the log says"
    assert story(box, "lunch")["differences"] == []


def test_a_container_with_its_routes_and_ports(box: Tiffin) -> None:
    lines = box("network", "explain", "web").lines
    assert lines[0] == "container web: running, --network lunch"
    for wanted in (
        "    default by 10.221.15.1 on eth0",
        "    198.51.100.0/24 by 10.221.15.9 on eth0",
        "    default by fd13:221:15::1 on eth0, metric 1024",
        "      127.0.0.1:18093/udp -> 81",
        "  the kernel has what the log says",
    ):
        assert wanted in lines, wanted
    told = story(box, "web")
    assert told["plugs"][0]["found"]["mac"] == told["plugs"][0]["mac"]
    assert [link["name"] for link in told["found"]["interfaces"]] == ["lo", "eth0"]


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        ("link set eth0 down", "web: eth0 is down"),
        ("addr del 10.221.15.2/24 dev eth0", "web: eth0 lacks address 10.221.15.2/24"),
        ("addr add 10.9.9.9/24 dev eth0", "web: eth0 has address 10.9.9.9/24, which tiffin did"),
        ("link set eth0 address 02:00:00:00:00:99", "web: eth0 has MAC 02:00:00:00:00:99, not 02"),
        ("route del default", "web: no default route by 10.221.15.1"),
        ("route del 198.51.100.0/24", "web: no route to 198.51.100.0/24 by 10.221.15.9"),
        ("link del eth0", "web: eth0 is missing"),
    ],
)
def test_what_was_changed_inside_is_named_and_mended(box: Tiffin, damage: str, says: str) -> None:
    within(box, "web", damage)
    for name in ("web", "lunch"):
        told = story(box, name)["differences"]
        assert [text for text in told if says in text], told
    assert f"    ! {says}" in box("network", "explain", "web").out
    box("network", "reload", "web")
    left = story(box, "web")["differences"]
    assert [text for text in left if "tiffin did not give" not in text] == []


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        ("nft delete table inet tiffin", "rule is missing: tfTestE is one of tiffin's bridges"),
        ("nft flush chain inet tiffin publish", "rule is missing: the chains that use these sets"),
        ("nft flush map inet tiffin ports4", "rule is missing: port 18094/tcp at every IPv4"),
        ("nft flush set inet tiffin subnets6", "rule is missing: from fd13:221:15::/64 to else"),
        ("ip link del tfTestE", "interface tfTestE is missing on the host"),
        ("ip link set tfTestE down", "interface tfTestE is down"),
        ("ip addr flush dev tfTestE", "interface tfTestE lacks address 10.221.15.1/24"),
    ],
)
def test_what_was_changed_on_the_host_is_named_and_mended(
    box: Tiffin, damage: str, says: str
) -> None:
    sh(damage)
    told = story(box, "lunch")["differences"]
    assert [text for text in told if text.startswith(says)], told
    box("network", "reload", "--all")
    assert story(box, "lunch")["differences"] == []


def test_a_rule_of_nobodys_is_named(box: Tiffin) -> None:
    element = "{ tcp . 18092 : 10.221.15.77 . 80 }"
    sh(f"nft add element inet tiffin ports4 {element}")
    says = "rule of nobody's: port 18092/tcp at every IPv4 address of the host -> 10.221.15.77:80"
    assert story(box, "lunch")["differences"] == [says]
    assert story(box, "web")["differences"] == []
    assert f"    STRAY: {says[18:]}" in box("network", "explain", "lunch").lines
    sh("nft delete element inet tiffin ports4 { tcp . 18092 }")


def test_modes_without_a_network_of_their_own(box: Tiffin) -> None:
    for name, mode in (("none", "none"), ("host", "host"), ("mate", "container:web")):
        box.detached("--name", name, "--network", mode, BUSYBOX, "sleep", "1000")
    assert "a network namespace on no network" in box("network", "explain", "none").out
    assert "tfTestE" in box("network", "explain", "host").out
    assert "10.221.15.2/24" in box("network", "explain", "mate").out
    assert "shared with mate" in box("network", "explain", "web").out


def test_pods_are_named(box: Tiffin) -> None:
    box("pod", "create", "--network=lunch", "mensa")
    for name in ("cook", "waiter"):
        box.detached("--pod=mensa", "--name", name, BUSYBOX, "sleep", "1000")
    drawn = box("network", "explain", "lunch")
    assert any("--- eth0  pod mensa  10.221.15." in line for line in drawn.lines), drawn.out
    assert "the kernel has what the log says" in drawn.out
    holders = {one["who"] for one in json.loads(
        box("network", "explain", "lunch", "--format=json").out)["holders"]}  # fmt: skip
    assert "pod mensa" in holders
    told = box("network", "explain", "mensa").out
    assert told.startswith("pod mensa: running") and "shared with cook, waiter" in told
    assert "shared with waiter" in box("network", "explain", "cook").out
    box("pod", "rm", "-f", "-t", "0", "mensa")


def test_what_does_not_run_and_what_is_not_there(box: Tiffin) -> None:
    box("network", "create", "dinner")
    box.create("--name", "idle", "--network", "dinner", BUSYBOX)
    assert "nothing of it is on the host" in box("network", "explain", "dinner").out
    assert "it does not run" in box("network", "explain", "idle").out
    box.fails("network", "explain", "supper", says="no such network, container or pod: supper")
    assert box("network", "explain", "-f", "{{.name}}", "dinner").word == "dinner"
