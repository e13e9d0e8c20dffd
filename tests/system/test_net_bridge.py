"""The bridge driver over real namespaces: who reaches whom, and what is left afterwards."""

from __future__ import annotations

import contextlib
import json
import socket
import subprocess
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import trio

from tiffin import ids, ipam, netns
from tiffin.errors import Conflict, DriverError
from tiffin.hooks import Attachment, DriverContext, NetworkConfig, PortMapping, Subnet
from tiffin_net_bridge.driver import BridgeDriver

BRIDGE = "tfTest0"
NETWORK = NetworkConfig(
    id=ids.new_id(),
    name="test",
    driver="bridge",
    interface=BRIDGE,
    subnets=(
        Subnet(subnet="10.213.7.0/24", gateway="10.213.7.1"),
        Subnet(subnet="fd13:7::/64", gateway="fd13:7::1"),
    ),
)


@pytest.fixture
async def driver(tmp_path: Path) -> AsyncIterator[BridgeDriver]:
    made = BridgeDriver(DriverContext(root=str(tmp_path / "root"), run=str(tmp_path / "run")))
    yield made
    await made.remove(NETWORK)
    await made.close()
    assert BRIDGE not in links_of_host()


@contextlib.contextmanager
def attachment(
    tmp_path: Path, number: int, ports: tuple[PortMapping, ...] = ()
) -> Iterator[Attachment]:
    container = ids.new_id()
    path = str(tmp_path / f"ns{number}")
    netns.create(path)
    try:
        yield Attachment(
            container=container,
            network=NETWORK,
            netns=path,
            interface="eth0",
            host_interface=ipam.host_interface(container, NETWORK.id),
            mac=ipam.mac_address([f"10.213.7.{number}/24"]),
            addresses=(f"10.213.7.{number}/24", f"fd13:7::{number}/64"),
            ports=ports,
        )
    finally:
        netns.remove(path)


def inside(path: str, *command: str) -> str:
    done = subprocess.run(
        ["nsenter", f"--net={path}", *command], capture_output=True, text=True, timeout=20
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


ECHO = """
import socket, sys
kind = socket.SOCK_DGRAM if sys.argv[2] == "udp" else socket.SOCK_STREAM
s = socket.socket(socket.AF_INET6, kind)
s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
s.bind(("::", int(sys.argv[1])))
if kind == socket.SOCK_STREAM:
    s.listen()
print("ready", flush=True)
while True:
    if kind == socket.SOCK_STREAM:
        c, peer = s.accept()
        c.sendall(peer[0].encode())
        c.close()
    else:
        data, peer = s.recvfrom(100)
        s.sendto(peer[0].encode(), peer)
"""

ASK = """
import socket, sys
host, port, protocol = sys.argv[1:]
kind = socket.SOCK_DGRAM if protocol == "udp" else socket.SOCK_STREAM
family = socket.AF_INET6 if ":" in host else socket.AF_INET
s = socket.socket(family, kind)
s.settimeout(3)
s.connect((host, int(port)))
if kind == socket.SOCK_DGRAM:
    s.send(b"?")
print(s.recv(100).decode())
"""


def links_of_host() -> set[str]:
    """By netlink, which sees a deletion at once; /sys follows when the kernel has cleaned up."""
    return {name for _, name in socket.if_nameindex()}


@contextlib.contextmanager
def server(path: str, port: int, protocol: str = "tcp") -> Iterator[None]:
    """Tells everybody who asks the address that they come from."""
    process = subprocess.Popen(
        ["nsenter", f"--net={path}", "python3", "-c", ECHO, str(port), protocol],
        stdout=subprocess.PIPE,
    )
    assert process.stdout is not None
    try:
        assert process.stdout.readline() == b"ready\n"
        yield
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def ask(where: str | None, host: str, port: int, protocol: str = "tcp") -> str:
    """The address under which a server saw us; `where` is a namespace, None the host's."""
    enter = ["nsenter", f"--net={where}"] if where else []
    done = subprocess.run(
        [*enter, "python3", "-c", ASK, host, str(port), protocol],
        capture_output=True,
        text=True,
        timeout=20,
    )
    assert done.returncode == 0, done.stderr[-300:]
    return done.stdout.strip().removeprefix("::ffff:")


@contextlib.contextmanager
def remote_host(tmp_path: Path) -> Iterator[str]:
    """Another machine: a namespace on a cable of its own, 198.51.100.0/24."""
    path = str(tmp_path / "remote")
    netns.create(path)
    try:
        run = ["ip", "link", "add", "tfTestR", "type", "veth", "peer", "name", "eth0"]
        subprocess.run([*run, "netns", path], check=True)
        subprocess.run(["ip", "addr", "add", "198.51.100.1/24", "dev", "tfTestR"], check=True)
        subprocess.run(["ip", "link", "set", "tfTestR", "up"], check=True)
        inside(path, "ip", "addr", "add", "198.51.100.2/24", "dev", "eth0")
        inside(path, "ip", "link", "set", "eth0", "up")
        yield path
    finally:
        subprocess.run(["ip", "link", "del", "tfTestR"], check=False)
        netns.remove(path)


async def test_containers_reach_each_other_and_the_gateway(
    driver: BridgeDriver, tmp_path: Path
) -> None:
    with attachment(tmp_path, 5) as one, attachment(tmp_path, 6) as two:
        await driver.attach(one)
        await driver.attach(two)
        with server(one.netns, 4000):
            assert ask(two.netns, "10.213.7.5", 4000) == "10.213.7.6"
            assert ask(two.netns, "fd13:7::5", 4000) == "fd13:7::6"
            assert ask(None, "10.213.7.5", 4000) == "10.213.7.1"
        await driver.detach(one)
        await driver.detach(two)


@pytest.mark.parametrize("protocol", ["tcp", "udp"])
async def test_published_port_from_everywhere(
    driver: BridgeDriver, tmp_path: Path, protocol: str
) -> None:
    ports = (PortMapping(host_port=18080, container_port=80, protocol=protocol),)
    with (
        attachment(tmp_path, 5, ports) as one,
        attachment(tmp_path, 6) as two,
        remote_host(tmp_path) as remote,
    ):
        await driver.attach(one)
        await driver.attach(two)
        with server(one.netns, 80, protocol):
            assert ask(None, "127.0.0.1", 18080, protocol) == "10.213.7.1"
            assert ask(None, "10.213.7.1", 18080, protocol)
            assert ask(remote, "198.51.100.1", 18080, protocol) == "198.51.100.2"
            assert ask(two.netns, "10.213.7.1", 18080, protocol)
            assert ask(one.netns, "10.213.7.1", 18080, protocol)  # hairpin
        await driver.detach(one)
        await driver.detach(two)


async def test_port_on_one_host_address_only(driver: BridgeDriver, tmp_path: Path) -> None:
    ports = (PortMapping(host_port=18081, container_port=80, host_ip="127.0.0.1"),)
    with attachment(tmp_path, 5, ports) as one, remote_host(tmp_path) as remote:
        await driver.attach(one)
        with server(one.netns, 80):
            assert ask(None, "127.0.0.1", 18081)
            with pytest.raises(AssertionError, match="refused"):
                ask(remote, "198.51.100.1", 18081)
        await driver.detach(one)


async def test_container_reaches_a_remote_host_under_the_hosts_address(
    driver: BridgeDriver, tmp_path: Path
) -> None:
    with attachment(tmp_path, 5) as one, remote_host(tmp_path) as remote:
        await driver.attach(one)
        with server(remote, 4000):
            assert ask(one.netns, "198.51.100.2", 4000) == "198.51.100.1"
        await driver.detach(one)


async def test_container_does_not_reach_the_hosts_loopback(
    driver: BridgeDriver, tmp_path: Path
) -> None:
    with attachment(tmp_path, 5) as one, socket.create_server(("127.0.0.1", 18099)):
        await driver.attach(one)
        inside(one.netns, "ip", "route", "add", "127.0.0.99", "via", "10.213.7.1")
        # A packet for 127.0.0.1 put on the wire by hand never arrives (CVE-2020-8558).
        inside(one.netns, "ip", "addr", "del", "127.0.0.1/8", "dev", "lo")
        inside(one.netns, "sysctl", "-qw", "net.ipv4.conf.eth0.route_localnet=1")
        with contextlib.suppress(AssertionError):
            inside(one.netns, "ip", "route", "add", "127.0.0.1", "via", "10.213.7.1")
        with pytest.raises(AssertionError):
            ask(one.netns, "127.0.0.1", 18099)
        await driver.detach(one)


async def test_port_that_a_program_has_is_a_conflict_and_leaves_nothing(
    driver: BridgeDriver, tmp_path: Path
) -> None:
    ports = (PortMapping(host_port=18082, container_port=80),)
    with attachment(tmp_path, 5, ports) as one, socket.create_server(("0.0.0.0", 18082)):
        with pytest.raises(Conflict, match="18082/tcp is in use"):
            await driver.attach(one)
        assert one.host_interface not in links_of_host()


async def test_port_of_another_container_is_a_conflict(
    driver: BridgeDriver, tmp_path: Path
) -> None:
    ports = (PortMapping(host_port=18083, container_port=80),)
    with attachment(tmp_path, 5, ports) as one, attachment(tmp_path, 6, ports) as two:
        await driver.attach(one)
        with pytest.raises(Conflict, match="18083"):
            await driver.attach(two)
        assert two.host_interface not in links_of_host()
        await driver.detach(two)  # what a recovery would do: must not take the other's port
        with server(one.netns, 80):
            assert ask(None, "127.0.0.1", 18083)
        await driver.detach(one)


async def test_attach_and_detach_may_be_repeated(driver: BridgeDriver, tmp_path: Path) -> None:
    ports = (PortMapping(host_port=18084, container_port=80),)
    with attachment(tmp_path, 5, ports) as one:
        await driver.attach(one)
        netns.remove(one.netns)
        netns.create(one.netns)
        await driver.attach(one)
        with server(one.netns, 80):
            assert ask(None, "127.0.0.1", 18084)
        await driver.detach(one)
        await driver.detach(one)


async def test_foreign_interface_of_the_same_name_is_named(
    driver: BridgeDriver, tmp_path: Path
) -> None:
    subprocess.run(["ip", "link", "add", BRIDGE, "type", "bridge"], check=True)
    try:
        with attachment(tmp_path, 5) as one:
            with pytest.raises(DriverError, match=f"{BRIDGE} exists"):
                await driver.attach(one)
            await driver.detach(one)
        assert BRIDGE in links_of_host()
    finally:
        subprocess.run(["ip", "link", "del", BRIDGE], check=True)


async def test_nothing_is_left_and_foreign_rules_stay(driver: BridgeDriver, tmp_path: Path) -> None:
    subprocess.run(["nft", "add table inet tfForeign"], check=True)
    try:
        before = subprocess.run(["nft", "list", "ruleset"], capture_output=True).stdout
        links = links_of_host()
        ports = (PortMapping(host_port=18085, container_port=80),)
        with attachment(tmp_path, 5, ports) as one, attachment(tmp_path, 6) as two:
            await driver.attach(one)
            await driver.attach(two)
            await driver.detach(one)
            await driver.detach(two)
        assert subprocess.run(["nft", "list", "ruleset"], capture_output=True).stdout == before
        assert links_of_host() == links
    finally:
        subprocess.run(["nft", "delete table inet tfForeign"], check=True)


async def test_flushed_ruleset_is_made_again_by_the_next_attach(
    driver: BridgeDriver, tmp_path: Path
) -> None:
    ports = (PortMapping(host_port=18086, container_port=80),)
    with attachment(tmp_path, 5) as one, attachment(tmp_path, 6, ports) as two:
        await driver.attach(one)
        subprocess.run(["nft", "delete table inet tiffin"], check=True)
        await driver.attach(two)
        with server(two.netns, 80):
            assert ask(None, "127.0.0.1", 18086)
        await driver.detach(one)
        await driver.detach(two)


async def test_several_processes_at_once_leave_nothing(
    driver: BridgeDriver, tmp_path: Path
) -> None:
    links = links_of_host()
    context = DriverContext(root=str(tmp_path / "root"), run=str(tmp_path / "run"))

    async def one_process(first: int) -> None:
        own = BridgeDriver(context)
        try:
            for number in range(first, first + 5):
                with attachment(tmp_path, number) as made:
                    await own.attach(made)
                    await own.detach(made)
        finally:
            await own.close()

    async with trio.open_nursery() as nursery:
        for start in (10, 20, 30, 40):
            nursery.start_soon(one_process, start)
    assert links_of_host() == links
    listed = json.loads(subprocess.check_output(["nft", "-j", "list", "tables"]))
    assert not any(t.get("table", {}).get("name") == "tiffin" for t in listed["nftables"])
