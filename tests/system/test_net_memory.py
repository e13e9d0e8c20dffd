"""What neighbours, clients and routers remember of the time before: a container that comes is
reached at once, whoever had its address or its port."""

from __future__ import annotations

import contextlib
import os
import select
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import IO

import msgspec
import pytest
from support.cli import eventually

from tiffin.hooks import DriverContext, PortMapping
from tiffin.testing.network import ask, attachment, host_links, inside, network, remote_host, server
from tiffin_net_bridge.driver import BridgeDriver

NETWORK = network("tfTestM", 209)
PORT = 18086


@pytest.fixture
async def driver(tmp_path: Path) -> AsyncIterator[BridgeDriver]:
    made = BridgeDriver(DriverContext(root=str(tmp_path / "root"), run=str(tmp_path / "run")))
    yield made
    await made.remove(NETWORK)
    await made.close()
    assert NETWORK.interface not in host_links()


STEADY = """
import socket, sys, time
family = socket.AF_INET6 if ":" in sys.argv[1] else socket.AF_INET
s = socket.socket(family, socket.SOCK_DGRAM)
s.bind(("", 5555))
s.settimeout(0.05)
print("ready", flush=True)
while True:
    s.sendto(b"?", (sys.argv[1], int(sys.argv[2])))
    try:
        s.recv(100)
        print("answered", flush=True)
        time.sleep(0.05)
    except TimeoutError:
        pass
"""


def readable(file: IO[bytes], seconds: float) -> bool:
    poll = select.poll()  # which takes descriptors above 1023, unlike select
    poll.register(file, select.POLLIN)
    return bool(poll.poll(seconds * 1000))


class Steady:
    """A client that never pauses, from one port of its own, as a sender of logs or of speech."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self.process = process

    def line(self, seconds: float) -> bytes:
        assert self.process.stdout is not None
        return self.process.stdout.readline() if readable(self.process.stdout, seconds) else b""

    def answered(self) -> bool:
        return self.line(30) == b"answered\n"

    def forget(self) -> None:
        """What was answered up to now."""
        assert self.process.stdout is not None
        while readable(self.process.stdout, 0):
            os.read(self.process.stdout.fileno(), 1 << 16)


@contextlib.contextmanager
def steady(where: str, host: str) -> Iterator[Steady]:
    argv = ["nsenter", f"--net={where}", sys.executable, "-uc", STEADY, host, str(PORT)]
    process = subprocess.Popen(argv, stdout=subprocess.PIPE, bufsize=0)
    try:
        client = Steady(process)
        assert client.line(30) == b"ready\n"
        yield client
    finally:
        process.kill()
        process.communicate()


@pytest.mark.parametrize("host", ["198.51.100.1", "2001:db8:5::1"])
async def test_a_client_that_never_pauses_reaches_who_has_the_port_now(
    driver: BridgeDriver, tmp_path: Path, host: str
) -> None:
    ports = (PortMapping(host_port=PORT, container_port=99, protocol="udp"),)
    with (
        attachment(tmp_path, NETWORK, 4) as other,  # the bridge, and what it knows, stays
        attachment(tmp_path, NETWORK, 5, ports) as one,
        attachment(tmp_path, NETWORK, 6, ports) as two,
        remote_host(tmp_path) as remote,
        steady(remote, host) as client,
    ):
        await driver.attach(other)
        await driver.attach(one)
        with server(one.netns, 99, "udp"):
            assert client.answered(), "it has sent since before there was such a port"
        await driver.detach(one)
        await driver.attach(two)
        client.forget()
        with server(two.netns, 99, "udp"):
            assert client.answered(), "another container, at another address"
            await driver.reload(two)
            await driver.publish(two)
            client.forget()
            assert client.answered()
        await driver.detach(two)
        await driver.detach(other)


async def test_an_address_whose_mac_is_another_one_now_is_reached_at_once(
    driver: BridgeDriver, tmp_path: Path
) -> None:
    with attachment(tmp_path, NETWORK, 6) as peer:
        await driver.attach(peer)
        for mac in ("", "02:00:00:00:00:77", "02:00:00:00:00:78", ""):
            with attachment(tmp_path, NETWORK, 5) as made:
                one = msgspec.structs.replace(made, mac=mac or made.mac)
                await driver.attach(one)
                with server(one.netns, 80):
                    for asker in (peer.netns, None):
                        assert ask(asker, "10.213.209.5", 80)
                        assert ask(asker, "fd13:209::5", 80)
                await driver.detach(one)
        await driver.detach(peer)


ADVERTISE = """
import socket, struct, sys
s = socket.socket(socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_ICMPV6)
s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_HOPS, 255)
number = socket.if_nametoindex("eth0")
s.bind(("fe80::5", 0, 0, number))
s.sendto(struct.pack("!BBHBBHII", 134, 0, 0, 64, 0, 1800, 0, 0), ("ff02::1", 0, 0, number))
"""


async def test_a_host_keeps_the_default_route_that_a_router_gave_it(
    driver: BridgeDriver, tmp_path: Path
) -> None:
    """Containers with IPv6 make the host a router itself, and routers do not listen to others."""

    def routed() -> bool:
        shown = subprocess.run(
            ["ip", "-6", "route", "show", "default"], capture_output=True, text=True, check=True
        )
        return "via fe80::5 dev tfTestR" in shown.stdout

    with remote_host(tmp_path) as remote, attachment(tmp_path, NETWORK, 5) as one:
        for setting in ("all.forwarding=0", "tfTestR.accept_ra=1"):
            subprocess.run(["sysctl", "-qw", f"net.ipv6.conf.{setting}"], check=True)
        inside(remote, "ip", "addr", "add", "fe80::5/64", "dev", "eth0", "nodad")

        def advertised() -> bool:
            inside(remote, sys.executable, "-c", ADVERTISE)
            return routed()

        eventually(advertised)
        await driver.attach(one)
        assert routed()
        inside(remote, sys.executable, "-c", ADVERTISE.replace("1800", "0"))
        eventually(lambda: not routed())  # still listened to
        await driver.detach(one)
