"""What is not ours: bridges of the same name, other people's rules, links that were taken away."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.cli import BUSYBOX, Tiffin

from tiffin.testing.network import ask, host_links, remote_host, server

FOREIGN = """
table inet tfForeign {
    chain forward { type filter hook forward priority 0; policy accept; counter; }
    chain nat { type nat hook prerouting priority 0; policy accept; tcp dport 18095 accept; }
}
table ip tiffin {
    chain mine { tcp dport 18095 accept; }
}
"""


@pytest.fixture
def box(shared: Tiffin) -> Iterator[Tiffin]:
    """The module's store with the network `lunch`; without containers and networks afterwards."""
    shared("network", "create", "--interface-name", "tfTestF", "lunch")
    yield shared
    shared("rm", "-a", "-f", "-t", "0")
    shared("network", "prune", "-f")
    assert "tfTestF" not in host_links()


def sh(words: str) -> str:
    return subprocess.run(words.split(), check=True, capture_output=True, text=True).stdout


@pytest.mark.parametrize("kind", ["bridge", "veth peer name tfTestG"])
def test_an_interface_of_the_same_name_is_named_and_stays(box: Tiffin, kind: str) -> None:
    sh(f"ip link add tfTestF type {kind}")
    try:
        before = sh("ip -o link show dev tfTestF")
        says = "interface tfTestF exists and is not tiffin's (rename or remove it)"
        box.fails("run", "--network", "lunch", BUSYBOX, "true", says=says)
        assert box("ps", "-aq").out == ""
        assert sh("ip -o link show dev tfTestF") == before
        box.fails("network", "create", "--interface-name", "tfTestF", "supper", says="tfTestF")
        assert box("network", "rm", "lunch").word == "lunch"
        assert sh("ip -o link show dev tfTestF") == before
    finally:
        sh("ip link del tfTestF")


def test_other_peoples_rules_are_the_same_after_a_whole_life(box: Tiffin) -> None:
    subprocess.run(["nft", FOREIGN], check=True)
    tables = ("inet tfForeign", "ip tiffin")
    try:
        before = [sh(f"nft --stateless list table {table}") for table in tables]

        def untouched() -> bool:
            return before == [sh(f"nft --stateless list table {table}") for table in tables]

        flags = ("--name", "web", "--network", "lunch", "-p", "18095:80")
        box.detached(*flags, BUSYBOX, "sleep", "1000")
        assert untouched()
        box("network", "reload", "--all")
        assert untouched()
        box("restart", "-t", "0", "web")
        box("rm", "-f", "-t", "0", "web")
        box("network", "rm", "lunch")
        assert untouched()
    finally:
        for table in tables:
            sh(f"nft delete table {table}")
    assert "tiffin" not in sh("nft list tables")


@pytest.fixture
def clean() -> Iterator[None]:
    """No rules are left of firewalls that were there for a test."""
    yield
    for words in ("-P FORWARD ACCEPT", "-P INPUT ACCEPT", "-F"):
        sh(f"iptables {words}")
    subprocess.run(["nft", "delete", "table", "inet", "tfForeign"], check=False)
    for family in ("ip filter", "ip nat"):
        subprocess.run(f"nft delete table {family}".split(), check=False, capture_output=True)


DOCKER_S = ("iptables -P FORWARD DROP",)
DISTRIBUTION_S = (
    "iptables -A FORWARD -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT",
    "iptables -A FORWARD -j REJECT",
)
OWN = (
    "nft add table inet tfForeign",
    "nft add chain inet tfForeign mine { type filter hook forward priority 10; policy drop; }",
    "nft add rule inet tfForeign mine iifname nosuch accept",
)


@pytest.mark.parametrize("firewall", [DOCKER_S, DISTRIBUTION_S, OWN])
def test_a_firewall_in_the_way_is_named_with_what_helps(
    box: Tiffin, tmp_path: Path, clean: None, firewall: tuple[str, ...]
) -> None:
    """What it says is done to the letter, and then packets pass."""
    box.detached("--name", "web", "--network", "lunch", "-p", "18095:80", BUSYBOX, "sleep", "1000")
    netns = box.inspect("web")["NetworkSettings"]["SandboxKey"]

    def obstacles(name: str) -> list[dict[str, str]]:
        shown = json.loads(box("network", "explain", name, "--format", "json").out)
        assert shown["differences"] == []
        found: list[dict[str, str]] = shown["obstacles"]
        return found

    assert obstacles("lunch") == []
    with remote_host(tmp_path) as remote, server(netns, 80), server(remote, 4000):
        assert ask(remote, "198.51.100.1", 18095)
        for command in firewall:
            sh(command)
        with pytest.raises(AssertionError):
            ask(remote, "198.51.100.1", 18095)
        (named,) = obstacles("lunch")
        assert "nothing in it names tfTestF" in named["text"]
        assert obstacles("web") == [named]
        text = box("network", "explain", "web").out
        assert f"    ! {named['text']}; this lets it through:\n      {named['remedy']}\n" in text
        for command in named["remedy"].split("; "):
            sh(command)
        assert obstacles("lunch") == []
        assert ask(remote, "198.51.100.1", 18095) == "198.51.100.2"
        assert ask(netns, "198.51.100.2", 4000) == "198.51.100.1"


def test_a_firewall_that_drops_queries_for_names(box: Tiffin, clean: None) -> None:
    flags = ("--name", "web", "--network", "lunch", BUSYBOX, "sleep", "1000")
    box.detached(*flags)
    look = ("exec", "web", "timeout", "5", "nslookup", "web.dns.podman")
    box(*look)
    sh("iptables -P INPUT DROP")
    assert box.attempt(*look).code != 0
    shown = json.loads(box("network", "explain", "lunch", "--format", "json").out)
    (named,) = shown["obstacles"]
    sh(named["remedy"])
    box(*look)
    shown = json.loads(box("network", "explain", "lunch", "--format", "json").out)
    assert shown["obstacles"] == []


def test_a_container_whose_links_are_gone_is_removed_without_a_word(box: Tiffin) -> None:
    for name in ("one", "two"):
        flags = ("--name", name, "--network", "lunch", "-p", "80")
        box.detached(*flags, BUSYBOX, "sleep", "1000")
    sh("ip link del tfTestF")
    sh("nft delete table inet tiffin")
    for name in ("one", "two"):
        assert box("rm", "-f", "-t", "0", name).err == ""
    assert not [name for name in host_links() if name.startswith("tf")]


def test_a_new_container_after_the_bridge_was_removed(box: Tiffin) -> None:
    serve = ("sh", "-c", "mkdir /w; echo lunch > /w/menu; httpd -f -p 80 -h /w")
    box.detached("--name", "one", "--network", "lunch", BUSYBOX, *serve)
    sh("ip link del tfTestF")
    box.detached("--name", "two", "--network", "lunch", BUSYBOX, "sleep", "1000")
    box("network", "reload", "one")
    address = box("inspect", "-f", "{{.NetworkSettings.IPAddress}}", "one").word
    assert box("exec", "two", "wget", "-qO-", f"http://{address}/menu").word == "lunch"


def test_a_subnet_that_is_used_up_is_named_and_a_removal_makes_room(box: Tiffin) -> None:
    box("network", "create", "--subnet", "10.221.12.0/30", "tiny")
    box.detached("--name", "one", "--network", "tiny", BUSYBOX, "sleep", "1000")
    says = "network tiny has no free address in 10.221.12.0/30 (remove containers, or make a larger"
    box.fails("run", "--network", "tiny", BUSYBOX, "true", says=says)
    box("rm", "-f", "-t", "0", "one")
    box("run", "--rm", "--network", "tiny", BUSYBOX, "true")
