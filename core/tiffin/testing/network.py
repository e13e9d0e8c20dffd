"""The conformance suite for network drivers: real namespaces, real sockets.

    class TestMine(NetworkConformance):
        @pytest.fixture
        async def driver(self, tmp_path):
            ...  # yield your driver; remove NETWORK and close it afterwards

Needs root, iproute2 and nsenter. Tests are async: pytest-trio in trio mode.
"""

from __future__ import annotations

import contextlib
import json
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tiffin import ids, ipam, netns
from tiffin.errors import DriverError
from tiffin.hooks import Attachment, NetworkConfig, NetworkDriver, PortMapping, Subnet

PATIENCE = 30
"""Seconds after which a program in a test is given up as hanging."""


def network(interface: str, number: int, **more: Any) -> NetworkConfig:
    """A network of both families, in private subnets that bear this number (1-255)."""
    return NetworkConfig(
        id=ids.new_id(),
        name=f"test{number}",
        driver="bridge",
        interface=interface,
        subnets=(
            Subnet(subnet=f"10.213.{number}.0/24", gateway=f"10.213.{number}.1"),
            Subnet(subnet=f"fd13:{number}::/64", gateway=f"fd13:{number}::1"),
        ),
        **more,
    )


def addresses(net: NetworkConfig, number: int) -> tuple[str, ...]:
    """The addresses that end in this number: `10.213.7.5/24`, `fd13:7::5/64`."""
    found = []
    for subnet in net.subnets:
        base, prefix, bits = ipam.parse_cidr(subnet.subnet)
        found.append(f"{ipam.to_text(base + number, bits)}/{prefix}")
    return tuple(found)


@contextlib.contextmanager
def attachment(
    directory: Path,
    net: NetworkConfig,
    number: int,
    ports: tuple[PortMapping, ...] = (),
    **more: Any,
) -> Iterator[Attachment]:
    """An attachment with a network namespace of its own, which goes at the end."""
    container = ids.new_id()
    path = more.pop("netns", "") or str(directory / f"ns-{net.name}-{number}")
    netns.create(path)
    own = addresses(net, number)
    try:
        yield Attachment(
            container=container,
            network=net,
            netns=path,
            interface=more.pop("interface", "eth0"),
            host_interface=ipam.host_interface(container, net.id),
            mac=ipam.mac_address(own),
            addresses=own,
            ports=ports,
            **more,
        )
    finally:
        netns.remove(path)


def inside(path: str, *command: str) -> str:
    """Run a program in a network namespace and return what it prints."""
    done = subprocess.run(
        ["nsenter", f"--net={path}", *command], capture_output=True, text=True, timeout=PATIENCE
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def host_links() -> set[str]:
    """By netlink, which sees a deletion at once; /sys follows when the kernel has cleaned up."""
    return {name for _, name in socket.if_nameindex()}


ECHO = """
import socket, sys
kind = socket.SOCK_DGRAM if sys.argv[2] == "udp" else socket.SOCK_STREAM
s = socket.socket(socket.AF_INET6, kind, 132 if sys.argv[2] == "sctp" else 0)
s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
s.bind(("::", int(sys.argv[1])))
if kind == socket.SOCK_STREAM:
    s.listen()
print("ready", flush=True)
while True:
    if kind == socket.SOCK_STREAM:
        c, peer = s.accept()
        c.recv(1)
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
s = socket.socket(family, kind, 132 if protocol == "sctp" else 0)
s.settimeout(3)
s.connect((host, int(port)))
s.send(b"?")
print(s.recv(100).decode())
"""


@contextlib.contextmanager
def server(path: str, port: int, protocol: str = "tcp") -> Iterator[None]:
    """Tells everybody who asks the address that they come from."""
    process = subprocess.Popen(
        ["nsenter", f"--net={path}", sys.executable, "-c", ECHO, str(port), protocol],
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
        [*enter, sys.executable, "-c", ASK, host, str(port), protocol],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    assert done.returncode == 0, done.stderr[-300:]
    return done.stdout.strip().removeprefix("::ffff:")


@contextlib.contextmanager
def remote_host(directory: Path, interface: str = "tfTestR") -> Iterator[str]:
    """Another machine: a namespace on a cable of its own; we are 198.51.100.1 and 2001:db8:5::1
    there, it is .2 and ::2 (RFC 5737, RFC 3849)."""
    path = str(directory / "remote")
    netns.create(path)
    try:
        pair = ["ip", "link", "add", interface, "type", "veth", "peer", "name", "eth0"]
        subprocess.run([*pair, "netns", path], check=True)
        for address in ("198.51.100.1/24", "2001:db8:5::1/64"):
            subprocess.run(["ip", "addr", "add", address, "dev", interface, "nodad"], check=True)
        subprocess.run(["ip", "link", "set", interface, "up"], check=True)
        for address in ("198.51.100.2/24", "2001:db8:5::2/64"):
            inside(path, "ip", "addr", "add", address, "dev", "eth0", "nodad")
        inside(path, "ip", "link", "set", "eth0", "up")
        yield path
    finally:
        subprocess.run(["ip", "link", "del", interface], check=False)
        netns.remove(path)


def shown(path: str, interface: str) -> tuple[str, set[str]]:
    """(MAC address, addresses with prefix length but no link-local ones) inside a namespace."""
    (link,) = json.loads(inside(path, "ip", "-j", "addr", "show", "dev", interface))
    assert "UP" in link["flags"]
    found = {f"{a['local']}/{a['prefixlen']}" for a in link["addr_info"] if a["scope"] == "global"}
    return link["address"], found


class NetworkConformance:
    """Subclass it, and give it the fixture `driver`; it is used on the network `NETWORK`."""

    NETWORK = network("tfConf0", 201)
    Attach = Callable[..., contextlib.AbstractContextManager[Attachment]]

    @pytest.fixture
    def attach(self, tmp_path: Path) -> Attach:
        def make(number: int, **more: Any) -> contextlib.AbstractContextManager[Attachment]:
            return attachment(tmp_path, self.NETWORK, number, **more)

        return make

    def expected(self, driver: NetworkDriver, it: Attachment) -> tuple[str, set[str]]:
        """What `shown` should say; a driver without MACs of its own gives the host interface's."""
        mac = it.mac
        if not driver.has_mac:
            with open(f"/sys/class/net/{self.NETWORK.interface}/address", encoding="ascii") as file:
                mac = file.read().strip()
        return mac, set(it.addresses)

    async def test_the_interface_is_what_the_attachment_says(
        self, driver: NetworkDriver, attach: Attach
    ) -> None:
        with attach(5) as one, attach(6, interface="eth7", default_route=False) as two:
            for it in (one, two):
                await driver.attach(it)
                assert shown(it.netns, it.interface) == self.expected(driver, it)
            assert "default via" in inside(one.netns, "ip", "route")
            assert "default via" in inside(one.netns, "ip", "-6", "route")
            assert "default" not in inside(two.netns, "ip", "route")
            await driver.detach(one)
            await driver.detach(two)
            assert "eth0" not in inside(one.netns, "ip", "-br", "link")

    async def test_containers_reach_each_other(self, driver: NetworkDriver, attach: Attach) -> None:
        with attach(5) as one, attach(6) as two:
            await driver.attach(one)
            await driver.attach(two)
            with server(one.netns, 4000):
                for target, source in zip(one.addresses, two.addresses, strict=True):
                    seen = ask(two.netns, target.partition("/")[0], 4000)
                    assert seen == source.partition("/")[0]
            await driver.detach(one)
            await driver.detach(two)

    async def test_attach_makes_what_should_be_however_often(
        self, driver: NetworkDriver, attach: Attach
    ) -> None:
        with attach(5) as one:
            for _ in range(3):
                await driver.attach(one)
                assert shown(one.netns, one.interface) == self.expected(driver, one)
            await driver.detach(one)

    async def test_reload_makes_again_what_was_taken_away(
        self, driver: NetworkDriver, attach: Attach
    ) -> None:
        with attach(5) as one:
            await driver.attach(one)
            for damage in ("link del eth0", "addr flush dev eth0", "link set eth0 down", "link"):
                inside(one.netns, "ip", *damage.split())
                await driver.reload(one)
                assert shown(one.netns, one.interface) == self.expected(driver, one), damage
                assert "default via" in inside(one.netns, "ip", "route"), damage
            await driver.detach(one)

    async def test_rules_are_what_the_attachments_need(
        self, driver: NetworkDriver, attach: Attach
    ) -> None:
        assert not await driver.rules(self.NETWORK, [])
        ports = (PortMapping(host_port=18079, container_port=80),) if driver.publishes else ()
        with attach(5, ports=ports) as one:
            await driver.attach(one)
            told = await driver.rules(self.NETWORK, [one])
            assert all(rule.expected and rule.there and rule.text for rule in told)
            assert len(told) >= len(ports)
            await driver.detach(one)
            assert not any(rule.there for rule in await driver.rules(self.NETWORK, [one]))
        assert not await driver.rules(self.NETWORK, [])

    async def test_detach_of_what_is_gone_is_success(
        self, driver: NetworkDriver, attach: Attach
    ) -> None:
        with attach(5) as one:
            await driver.detach(one)
            await driver.attach(one)
            netns.remove(one.netns)
            await driver.detach(one)
            await driver.detach(one)

    async def test_attach_to_a_missing_namespace_leaves_nothing(
        self, driver: NetworkDriver, attach: Attach
    ) -> None:
        before = host_links()
        with attach(5) as one:
            netns.remove(one.netns)
            with pytest.raises(DriverError, match=r"(?i)no such file"):
                await driver.attach(one)
        assert host_links() == before

    async def test_nothing_is_left_on_the_host(self, driver: NetworkDriver, attach: Attach) -> None:
        before = host_links()
        with attach(5) as one, attach(6) as two:
            for it in (one, two):
                await driver.attach(it)
            for it in (one, two):
                await driver.detach(it)
            assert host_links() == before
        await driver.remove(self.NETWORK)
        await driver.remove(self.NETWORK)
        assert host_links() == before
