"""Many containers come and go on one network, by several processes at once: no address twice,
nothing left. `bench/network.py` does it with 200 of them, beside podman."""

from __future__ import annotations

import os
import sqlite3
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from support.cli import BUSYBOX, Tiffin, eventually

from tiffin.testing.network import host_links

CROWD = int(os.environ.get("TIFFIN_TEST_CROWD", "16"))
WORKERS = 4
PORTS = 18300


@pytest.fixture
def box(shared: Tiffin) -> Iterator[Tiffin]:
    """The module's store with the network `lunch`, exactly large enough."""
    subnets = ("--subnet", "10.221.18.0/24", "--subnet", "fd13:221:18::/64")
    ranges = ("--ip-range", "10.221.18.128/25", "--ip-range", "fd13:221:18::100/120")
    shared("network", "create", *subnets, *ranges, "--interface-name", "tfTestC", "lunch")
    yield shared
    shared("rm", "-a", "-f", "-t", "0")
    shared("network", "prune", "-f")


def addresses(box: Tiffin) -> list[tuple[str, str]]:
    """(address, container) as the store holds them now."""
    with sqlite3.connect(f"file:{box.root}/tiffin.db?mode=ro", uri=True) as connection:
        return connection.execute("SELECT address, container FROM addresses").fetchall()


def test_no_address_twice_and_nothing_is_left(box: Tiffin) -> None:
    def come(number: int) -> str:
        flags = ("--network", "lunch", "-p", f"{PORTS + number}:80")
        return box.detached("--name", f"c{number}", *flags, BUSYBOX, "sleep", "1000")

    def come_and_go(number: int) -> None:
        """The bridge's ports, the rules and the addresses change under the others."""
        come(number)
        if number % 2:
            box("rm", "-f", "-t", "0", f"c{number}")

    with ThreadPoolExecutor(WORKERS) as pool:
        list(pool.map(come_and_go, range(CROWD)))
        held = addresses(box)
        assert len(held) == CROWD // 2 * 2, "one of each family for each that stayed"
        assert len({address for address, _ in held}) == len(held)
        shown = {}
        for number in range(0, CROWD, 2):
            found = box("exec", f"c{number}", "ip", "-o", "addr", "show", "dev", "eth0").out
            shown[number] = found.split("inet ")[1].split("/")[0]
        assert len(set(shown.values())) == len(shown), "as the kernel has it"
        assert box("network", "explain", "lunch").lines[-1] == "  the kernel has what the log says"
        list(pool.map(lambda n: box("rm", "-f", "-t", "0", f"c{n}"), range(0, CROWD, 2)))
    assert addresses(box) == []
    assert not list(box.run.glob("netns/*"))
    eventually(lambda: "tfTestC" not in host_links())
    assert not [name for name in host_links() if name.startswith("tf")]
    tables = subprocess.run(["nft", "list", "tables"], capture_output=True, text=True, check=True)
    assert "inet tiffin" not in tables.stdout


def test_a_range_that_is_too_small_gives_each_address_once(box: Tiffin) -> None:
    box("network", "create", "--subnet", "10.221.19.0/29", "small")  # five addresses

    def come(number: int) -> int:
        flags = ("--name", f"s{number}", "--network", "small")
        return box.attempt("run", "-d", *flags, BUSYBOX, "sleep", "1000").code

    with ThreadPoolExecutor(WORKERS) as pool:
        codes = sorted(pool.map(come, range(8)))
    assert codes == [0] * 5 + [125] * 3
    assert len({address for address, _ in addresses(box)}) == 5


def test_a_bridge_that_has_all_the_ports_that_linux_gives_it_says_so(box: Tiffin) -> None:
    box.detached("--name", "first", "--network", "lunch", BUSYBOX, "sleep", "1000")
    pairs = [(f"tfp{number}", f"tfq{number}") for number in range(511)]
    lines = [
        f"link add {one} group 4711 master tfTestC type veth peer name {other}\n"
        f"link set {other} master tfTestC"
        for one, other in pairs
    ]
    try:
        subprocess.run(["ip", "-batch", "-"], input="\n".join(lines).encode(), check=True)
        says = "network lunch is full: Linux lets a bridge have 1023 ports"
        box.fails("run", "--rm", "--network", "lunch", BUSYBOX, "true", says=says)
        assert box("ps", "-a", "--format", "{{.Names}}").lines == ["first"]
        assert len(addresses(box)) == 2, "those of the first"
        box("run", "--rm", "--network", "none", BUSYBOX, "true")
    finally:
        subprocess.run(["ip", "link", "delete", "group", "4711"])  # at once: one by one lasts
    box("run", "--rm", "--network", "lunch", BUSYBOX, "true")
