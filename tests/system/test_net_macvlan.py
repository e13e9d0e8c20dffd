"""The drivers macvlan and ipvlan over real links: containers on the network of a parent."""

from __future__ import annotations

import json
import subprocess
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import msgspec
import pytest
from support.cli import BUSYBOX, Tiffin

from tiffin.errors import DriverError, UserError
from tiffin.hooks import DriverContext, NetworkConfig, Subnet
from tiffin.testing.network import (
    NetworkConformance,
    ask,
    attachment,
    host_links,
    inside,
    network,
    remote_host,
    server,
)
from tiffin_net_macvlan import network_driver
from tiffin_net_macvlan.driver import LinkDriver

PARENT = "tfTestM"


def made(name: str) -> LinkDriver:
    driver = network_driver(name, DriverContext(root="/nowhere", run="/nowhere"))
    assert isinstance(driver, LinkDriver)
    return driver


def has(kind: str) -> bool:
    """True when this kernel has such links."""
    for words in (
        "add tfTestK type veth peer name tfTestL",
        f"add link tfTestK tfTestJ type {kind}",
    ):
        done = subprocess.run(["ip", "link", *words.split()], capture_output=True)
    subprocess.run(["ip", "link", "del", "tfTestK"], check=True)
    return done.returncode == 0


@pytest.fixture
def parent() -> Iterator[str]:
    """An interface with a cable that ends nowhere, on a host that has an eth0 as well."""
    has_eth0 = "eth0" in host_links()
    if not has_eth0:
        subprocess.run(["ip", "link", "add", "eth0", "type", "bridge"], check=True)
    subprocess.run(["ip", "link", "add", PARENT, "type", "veth", "peer", "tfTestN"], check=True)
    for name in (PARENT, "tfTestN"):
        subprocess.run(["ip", "link", "set", name, "up"], check=True)
    yield PARENT
    subprocess.run(["ip", "link", "del", PARENT], check=True)
    if not has_eth0:
        subprocess.run(["ip", "link", "del", "eth0"], check=True)


@pytest.fixture
async def driver(parent: str) -> AsyncIterator[LinkDriver]:
    driver = made("macvlan")
    yield driver
    await driver.close()


class TestMacvlan(NetworkConformance):
    NETWORK = msgspec.structs.replace(network(PARENT, 208), driver="macvlan")


class TestIpvlan(NetworkConformance):
    NETWORK = msgspec.structs.replace(network(PARENT, 209), driver="ipvlan")

    @pytest.fixture
    async def driver(self, parent: str) -> AsyncIterator[LinkDriver]:
        if not has("ipvlan"):
            pytest.skip("this kernel has no ipvlan links: scripts/vm-test runs it in one that has")
        driver = made("ipvlan")
        yield driver
        await driver.close()


def outside(interface: str, **options: str) -> NetworkConfig:
    """A network on the cable to `remote_host`."""
    return NetworkConfig(
        id="ab" * 32,
        name="outside",
        driver="macvlan",
        interface=interface,
        subnets=(
            Subnet(subnet="198.51.100.0/24", gateway="198.51.100.2"),
            Subnet(subnet="2001:db8:5::/64", gateway="2001:db8:5::2"),
        ),
        options=options,
    )


async def test_remote_hosts_and_containers_see_each_others_addresses(tmp_path: Path) -> None:
    driver = made("macvlan")
    with remote_host(tmp_path) as remote, attachment(tmp_path, outside("tfTestR"), 5) as one:
        await driver.attach(one)
        with server(remote, 4000), server(one.netns, 4000):
            assert ask(one.netns, "198.51.100.2", 4000) == "198.51.100.5"
            assert ask(one.netns, "2001:db8:5::2", 4000) == "2001:db8:5::5"
            assert ask(remote, "198.51.100.5", 4000) == "198.51.100.2"
            assert ask(remote, "2001:db8:5::5", 4000) == "2001:db8:5::2"
        assert "default via 198.51.100.2" in inside(one.netns, "ip", "route")
        await driver.detach(one)
    await driver.close()


@pytest.mark.parametrize(("mode", "reached"), [("bridge", True), ("private", False)])
async def test_the_mode_is_that_of_the_network(tmp_path: Path, mode: str, reached: bool) -> None:
    driver = made("macvlan")
    net = outside("tfTestR", mode=mode)
    with (
        remote_host(tmp_path),
        attachment(tmp_path, net, 5) as one,
        attachment(tmp_path, net, 6) as two,
    ):
        await driver.attach(one)
        await driver.attach(two)
        shown = inside(one.netns, "ip", "-d", "link", "show", "dev", "eth0")
        assert f"macvlan mode {mode}" in shown
        with server(one.netns, 4000):
            if reached:
                assert ask(two.netns, "198.51.100.5", 4000) == "198.51.100.6"
            else:
                with pytest.raises(AssertionError, match=r"timed out|No route"):
                    ask(two.netns, "198.51.100.5", 4000)
        await driver.detach(one)
        await driver.detach(two)
    await driver.close()


async def test_a_parent_that_is_gone_is_named(driver: LinkDriver, tmp_path: Path) -> None:
    net = outside("tfTestX")
    with attachment(tmp_path, net, 5) as one:
        with pytest.raises(DriverError, match=r"tfTestX, the parent of network outside, is not th"):
            await driver.attach(one)
        await driver.detach(one)


async def test_an_internal_network_has_no_default_route(driver: LinkDriver, tmp_path: Path) -> None:
    net = msgspec.structs.replace(outside(PARENT), internal=True, mtu=1400)
    with attachment(tmp_path, net, 5) as one:
        await driver.attach(one)
        assert "default" not in inside(one.netns, "ip", "route")
        assert "mtu 1400" in inside(one.netns, "ip", "link", "show", "dev", "eth0")


async def test_the_parent_of_a_new_network(driver: LinkDriver) -> None:
    asked = msgspec.structs.replace(outside(""), options={"parent": PARENT, "mode": "vepa"})
    defined = await driver.create(asked)
    assert (defined.interface, defined.options) == (PARENT, {"mode": "vepa"})
    assert (await driver.create(outside(PARENT))).interface == PARENT
    for options, says in (
        ({"parent": "tfTestX"}, "tfTestX: no such interface"),
        ({"parent": "lo"}, "lo: the loopback"),
        ({"parent": PARENT, "mode": "l2"}, "mode=l2: not a mode of macvlan"),
        ({"parent": PARENT, "isolate": "true"}, "isolate: not an option of macvlan"),
    ):
        with pytest.raises(UserError, match=says):
            await driver.create(msgspec.structs.replace(asked, options=options))
    with pytest.raises(UserError, match="differ"):
        await driver.create(outside("tfTestN", parent=PARENT))


# --- as a user has it -----------------------------------------------------------------------------


@pytest.fixture
def box(shared: Tiffin, parent: str) -> Iterator[Tiffin]:
    """The module's store; without containers and networks afterwards."""
    yield shared
    shared("rm", "-a", "-f", "-t", "0")
    shared("network", "prune", "-f")


CREATE = ("network", "create", "-d", "macvlan")
SUBNET = ("--subnet", "10.221.13.0/24")


def test_a_whole_life(box: Tiffin) -> None:
    before = host_links()
    bridges = box.run / "drivers/network-bridge"
    bridges_before = bridges.exists()
    assert box(*CREATE, "-o", f"parent={PARENT}", *SUBNET, "wire").word == "wire"
    flags = ("--name", "one", "--network", "wire", "--ip", "10.221.13.40", "-p", "80")
    box.detached(*flags, BUSYBOX, "sleep", "1000")
    assert host_links() == before, "no bridge and no veth"
    shown = box("exec", "one", "ip", "addr", "show", "dev", "eth0").out
    assert "inet 10.221.13.40/24" in shown
    assert box("port", "one").out == "", "podman and docker leave them out"
    (found,) = json.loads(box("network", "inspect", "wire").out)
    assert found["driver"] == "macvlan"
    assert found["network_interface"] == PARENT
    box("exec", "one", "ip", "link", "show", "dev", "eth0")
    box("restart", "-t", "0", "one")
    inner = box("inspect", "-f", "{{.State.Pid}}", "one").word
    subprocess.run(["nsenter", "-t", inner, "-n", "ip", "link", "del", "eth0"], check=True)
    box("network", "reload", "one")
    assert box("exec", "one", "ip", "addr", "show", "dev", "eth0").out.count("10.221.13.40") == 1
    box("rm", "-f", "-t", "0", "one")
    assert box("network", "rm", "wire").word == "wire"
    assert bridges.exists() == bridges_before, (
        "the driver for bridges, and its worker, were not needed"
    )


def test_two_networks_on_one_parent_and_on_the_hosts_subnet(box: Tiffin) -> None:
    subprocess.run(["ip", "addr", "add", "10.221.13.1/24", "dev", PARENT], check=True)
    box(*CREATE, "-o", f"parent={PARENT}", *SUBNET, "--gateway", "10.221.13.1", "one")
    box(*CREATE, "--interface-name", PARENT, "--subnet", "10.221.14.0/24", "two")
    for name in ("one", "two"):
        box("run", "--rm", "--network", name, BUSYBOX, "ip", "link", "show", "dev", "eth0")
    box.fails(*CREATE, *SUBNET, "-o", f"parent={PARENT}", says="overlaps that of network one")


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        (("-o", f"parent={PARENT}"), "needs --subnet"),
        (("-o", f"parent={PARENT}"), "DHCP is not there"),
        (("-o", f"parent={PARENT}", *SUBNET, "--ipv6"), "the IPv6 subnet"),
        (("--ipam-driver", "dhcp"), "--ipam-driver 'dhcp' is not there"),
        (("-o", "parent=tfTestX", *SUBNET), "--opt parent=tfTestX: no such interface"),
        (("-o", f"parent={PARENT}", "-o", "mode=l2", *SUBNET), "not a mode of macvlan"),
    ],
)
def test_bad_wishes_are_one_line(box: Tiffin, flags: tuple[str, ...], says: str) -> None:
    box.fails(*CREATE, *flags, says=says)
    assert "wire" not in box("network", "ls", "-q").lines


def test_a_parent_that_went_away_is_named_at_start(box: Tiffin) -> None:
    subprocess.run(["ip", "link", "add", "tfTestX", "type", "bridge"], check=True)
    box(*CREATE, "-o", "parent=tfTestX", *SUBNET, "wire")
    subprocess.run(["ip", "link", "del", "tfTestX"], check=True)
    box.fails("run", "--network", "wire", BUSYBOX, "true", says="tfTestX, the parent of network")
    assert box("ps", "-aq").out == ""


def test_ipvlan_has_the_mac_of_its_parent(box: Tiffin) -> None:
    words = ("network", "create", "-d", "ipvlan", "-o", f"parent={PARENT}", *SUBNET, "wire")
    assert box(*words).word == "wire"
    flags = ("--network", "wire", "--mac-address", "02:00:00:00:00:07")
    box.fails("create", *flags, BUSYBOX, says="have the MAC address of tfTestM (ipvlan)")
    if not has("ipvlan"):
        says = "this kernel has no ipvlan links"
        box.fails("run", "--network", "wire", BUSYBOX, "true", says=says)
        return
    box.detached("--name", "one", "--network", "wire", BUSYBOX, "sleep", "1000")
    mac = Path(f"/sys/class/net/{PARENT}/address").read_text().strip()
    assert mac in box("exec", "one", "ip", "link", "show", "dev", "eth0").out
