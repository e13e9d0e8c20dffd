"""What is not ours: bridges of the same name, other people's rules, links that were taken away."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator

import pytest
from support.cli import BUSYBOX, Tiffin

from tiffin.testing.network import host_links

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
