"""The bridge driver over real namespaces: who reaches whom."""

from __future__ import annotations

import contextlib
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tiffin.hooks import DriverContext, PortMapping
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
from tiffin_net_bridge.driver import BridgeDriver

NETWORK = network("tfTest0", 207)


@pytest.fixture
async def driver(tmp_path: Path) -> AsyncIterator[BridgeDriver]:
    made = BridgeDriver(DriverContext(root=str(tmp_path / "root"), run=str(tmp_path / "run")))
    yield made
    await made.remove(NETWORK)
    await made.close()
    assert NETWORK.interface not in host_links()


class TestBridge(NetworkConformance):
    NETWORK = NETWORK


async def test_containers_reach_each_other_and_the_gateway(
    driver: BridgeDriver, tmp_path: Path
) -> None:
    with attachment(tmp_path, NETWORK, 5) as one, attachment(tmp_path, NETWORK, 6) as two:
        await driver.attach(one)
        await driver.attach(two)
        with server(one.netns, 4000):
            assert ask(two.netns, "10.213.207.5", 4000) == "10.213.207.6"
            assert ask(two.netns, "fd13:207::5", 4000) == "fd13:207::6"
            assert ask(None, "10.213.207.5", 4000) == "10.213.207.1"
        await driver.detach(one)
        await driver.detach(two)


@pytest.mark.parametrize("protocol", ["tcp", "udp"])
async def test_published_port_from_everywhere(
    driver: BridgeDriver, tmp_path: Path, protocol: str
) -> None:
    ports = (PortMapping(host_port=18080, container_port=80, protocol=protocol),)
    with (
        attachment(tmp_path, NETWORK, 5, ports) as one,
        attachment(tmp_path, NETWORK, 6) as two,
        remote_host(tmp_path) as remote,
    ):
        await driver.attach(one)
        await driver.attach(two)
        with server(one.netns, 80, protocol):
            assert ask(None, "127.0.0.1", 18080, protocol) == "10.213.207.1"
            assert ask(None, "10.213.207.1", 18080, protocol)
            assert ask(remote, "198.51.100.1", 18080, protocol) == "198.51.100.2"
            assert ask(remote, "2001:db8:5::1", 18080, protocol) == "2001:db8:5::2"
            assert ask(None, "fd13:207::1", 18080, protocol)
            assert ask(two.netns, "10.213.207.1", 18080, protocol)
            assert ask(two.netns, "198.51.100.1", 18080, protocol)
            assert ask(one.netns, "10.213.207.1", 18080, protocol)  # hairpin
        await driver.detach(one)
        await driver.detach(two)


INIT = """
import socket, struct, sys
TABLE = []
for n in range(256):
    for _ in range(8):
        n = n >> 1 ^ (0x82F63B78 if n & 1 else 0)
    TABLE.append(n)

def packet(source, target, tag, chunk):
    head, crc = struct.pack("!HHI", source, target, tag), 0xFFFFFFFF
    for byte in head + bytes(4) + chunk:
        crc = TABLE[(crc ^ byte) & 0xFF] ^ crc >> 8
    return head + struct.pack("<I", crc ^ 0xFFFFFFFF) + chunk

def chunk(kind, tag):
    return struct.pack("!BBHIIHHI", kind, 0, 20, tag, 65536, 1, 1, 7)

def received(s):
    data, peer = s.recvfrom(2000)
    data = data[(data[0] & 15) * 4:]
    source, target, _ = struct.unpack_from("!HHI", data)
    crc = packet(*struct.unpack_from("!HHI", data), data[12:])[8:12]
    assert crc == data[8:12], "checksum"
    return peer[0], source, target, data[12], struct.unpack_from("!I", data, 16)[0]

s = socket.socket(socket.AF_INET, socket.SOCK_RAW, 132)
s.settimeout(20)
if sys.argv[1] == "answer":
    print("ready", flush=True)
    peer, source, target, kind, tag = received(s)
    assert (target, kind) == (80, 1), "INIT"
    s.sendto(packet(target, source, tag, chunk(2, 99)), (peer, 0))
    print(peer)
else:
    s.sendto(packet(5555, int(sys.argv[2]), 0, chunk(1, 42)), (sys.argv[1], 0))
    print(*received(s)[:4])
"""


async def test_sctp(driver: BridgeDriver, tmp_path: Path) -> None:
    """Where the kernel has no SCTP of its own, an association's first packets, made by hand."""
    ports = (PortMapping(host_port=18085, container_port=80, protocol="sctp"),)
    with attachment(tmp_path, NETWORK, 5, ports) as one, remote_host(tmp_path) as remote:
        await driver.attach(one)
        try:
            socket.socket(socket.AF_INET, socket.SOCK_STREAM, 132).close()
        except OSError:
            argv = ["nsenter", f"--net={one.netns}", sys.executable, "-c", INIT, "answer"]
            with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as answering:
                assert answering.stdout is not None
                assert answering.stdout.readline() == "ready\n"
                seen = inside(remote, sys.executable, "-c", INIT, "198.51.100.1", "18085")
                assert seen == "198.51.100.1 18085 5555 2\n"
                assert answering.stdout.read() == "198.51.100.2\n"
        else:
            with server(one.netns, 80, "sctp"):
                assert ask(remote, "198.51.100.1", 18085, "sctp") == "198.51.100.2"
        await driver.detach(one)


async def test_a_range_of_ports(driver: BridgeDriver, tmp_path: Path) -> None:
    """Each leads to its own; none beside them is published."""
    ports = tuple(PortMapping(host_port=18070 + n, container_port=80 + n) for n in range(3))
    with attachment(tmp_path, NETWORK, 5, ports) as one, remote_host(tmp_path) as remote:
        await driver.attach(one)
        for number in range(3):
            with server(one.netns, 80 + number):
                assert ask(remote, "198.51.100.1", 18070 + number) == "198.51.100.2"
                assert ask(None, "127.0.0.1", 18070 + number)
                for other in {18069, 18070, 18071, 18072, 18073} - {18070 + number}:
                    with pytest.raises(AssertionError, match="refused"):
                        ask(remote, "198.51.100.1", other)
        await driver.detach(one)


async def test_port_on_one_host_address_only(driver: BridgeDriver, tmp_path: Path) -> None:
    ports = (PortMapping(host_port=18081, container_port=80, host_ip="127.0.0.1"),)
    with attachment(tmp_path, NETWORK, 5, ports) as one, remote_host(tmp_path) as remote:
        await driver.attach(one)
        with server(one.netns, 80):
            assert ask(None, "127.0.0.1", 18081)
            with pytest.raises(AssertionError, match="refused"):
                ask(remote, "198.51.100.1", 18081)
        await driver.detach(one)


async def test_container_reaches_a_remote_host_under_the_hosts_address(
    driver: BridgeDriver, tmp_path: Path
) -> None:
    with attachment(tmp_path, NETWORK, 5) as one, remote_host(tmp_path) as remote:
        await driver.attach(one)
        with server(remote, 4000):
            assert ask(one.netns, "2001:db8:5::2", 4000) == "2001:db8:5::1"
            assert ask(one.netns, "198.51.100.2", 4000) == "198.51.100.1"
        await driver.detach(one)


async def test_container_does_not_reach_the_hosts_loopback(
    driver: BridgeDriver, tmp_path: Path
) -> None:
    with attachment(tmp_path, NETWORK, 5) as one, socket.create_server(("127.0.0.1", 18099)):
        await driver.attach(one)
        inside(one.netns, "ip", "route", "add", "127.0.0.99", "via", "10.213.207.1")
        # A packet for 127.0.0.1 put on the wire by hand never arrives (CVE-2020-8558).
        inside(one.netns, "ip", "addr", "del", "127.0.0.1/8", "dev", "lo")
        inside(one.netns, "sysctl", "-qw", "net.ipv4.conf.eth0.route_localnet=1")
        with contextlib.suppress(AssertionError):
            inside(one.netns, "ip", "route", "add", "127.0.0.1", "via", "10.213.207.1")
        with pytest.raises(AssertionError):
            ask(one.netns, "127.0.0.1", 18099)
        await driver.detach(one)


async def test_ipv6_loopback_is_refused_at_once(driver: BridgeDriver, tmp_path: Path) -> None:
    ports = (PortMapping(host_port=18087, container_port=80),)
    with attachment(tmp_path, NETWORK, 5, ports) as one:
        await driver.attach(one)
        with server(one.netns, 80), pytest.raises(AssertionError, match="refused"):
            ask(None, "::1", 18087)
        await driver.detach(one)


async def test_address_of_another_container_before_is_reached_at_once(
    driver: BridgeDriver, tmp_path: Path
) -> None:
    """Neighbours remember the MAC address: it is that of the address, not of the container."""
    with attachment(tmp_path, NETWORK, 6) as stays:
        await driver.attach(stays)
        for _ in range(2):
            with attachment(tmp_path, NETWORK, 5) as one:
                await driver.attach(one)
                with server(one.netns, 80):
                    assert ask(stays.netns, "10.213.207.5", 80) == "10.213.207.6"
                    assert ask(None, "fd13:207::5", 80) == "fd13:207::1"
                await driver.detach(one)
        await driver.detach(stays)


async def test_bridge_keeps_its_mac_address(driver: BridgeDriver, tmp_path: Path) -> None:
    seen = set()
    with attachment(tmp_path, NETWORK, 5) as one, attachment(tmp_path, NETWORK, 6) as two:
        for step in (driver.attach(one), driver.attach(two), driver.detach(one)):
            await step
            seen.add(Path(f"/sys/class/net/{NETWORK.interface}/address").read_text())
        await driver.detach(two)
    assert len(seen) == 1


async def test_internal_network_has_no_way_out_or_in(driver: BridgeDriver, tmp_path: Path) -> None:
    closed = network("tfTest1", 208, internal=True)
    with (
        attachment(tmp_path, closed, 5) as one,
        attachment(tmp_path, closed, 6) as two,
        attachment(tmp_path, NETWORK, 5) as outside,
        remote_host(tmp_path) as remote,
    ):
        for it in (one, two, outside):
            await driver.attach(it)
        inside(one.netns, "ip", "route", "add", "default", "via", "10.213.208.1")
        with server(remote, 4000), server(two.netns, 4001):
            assert ask(one.netns, "10.213.208.6", 4001) == "10.213.208.5"
            assert ask(None, "10.213.208.6", 4001) == "10.213.208.1"
            for where, host, port in (
                (one.netns, "198.51.100.2", 4000),
                (outside.netns, "10.213.208.6", 4001),
            ):
                with pytest.raises(AssertionError, match=r"timed out|unreachable"):
                    ask(where, host, port)
        for it in (one, two, outside):
            await driver.detach(it)
    assert closed.interface not in host_links()


async def test_mtu_is_that_of_the_network(driver: BridgeDriver, tmp_path: Path) -> None:
    small = network("tfTest1", 208, mtu=1400)
    with attachment(tmp_path, small, 5) as one:
        await driver.attach(one)
        assert "mtu 1400" in inside(one.netns, "ip", "link", "show", "eth0")
        for name in (small.interface, one.host_interface):
            assert Path(f"/sys/class/net/{name}/mtu").read_text() == "1400\n"
        await driver.detach(one)


async def test_a_container_cannot_tell_the_host_where_to_route(
    driver: BridgeDriver, tmp_path: Path
) -> None:
    """CVE-2020-10749: the bridge takes no router advertisements."""
    with attachment(tmp_path, NETWORK, 5) as one:
        await driver.attach(one)
        setting = Path(f"/proc/sys/net/ipv6/conf/{NETWORK.interface}/accept_ra")
        assert setting.read_text() == "0\n"
        await driver.detach(one)
