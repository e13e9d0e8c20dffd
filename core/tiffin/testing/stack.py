"""The conformance suite for network drivers that are modes (`--network NAME[:OPTION,...]`): real
processes, real sockets.

    class TestMine(StackConformance):
        @pytest.fixture
        async def driver(self, tmp_path):
            ...  # yield your driver

Needs root, iproute2 and nsenter. Tests are async: pytest-trio in trio mode. A namespace on a cable
stands in for the world; the host is the machine itself.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest
import trio

from tiffin import ids, ipam, netns
from tiffin.errors import Conflict, DriverError, UserError
from tiffin.hooks import Attachment, PortMapping, Process, StackDriver
from tiffin.processes import start_time

from .network import ask, host_links, inside, remote_host, server, shown

LOOKS, GLANCE = 300, 0.1
WORLD = ("198.51.100.2", "2001:db8:5::2")
HOST = ("198.51.100.1", "2001:db8:5::1")


@contextlib.contextmanager
def world(directory: Path) -> Iterator[str]:
    """`remote_host`, with the default routes by it where the host has none."""
    with remote_host(directory) as path:
        for family, gateway in zip(("-4", "-6"), WORLD, strict=True):
            route = ["ip", family, "route", "append", "default", "via", gateway, "metric", "9999"]
            subprocess.run(route, check=True)  # goes with the cable
        yield path


async def asked(where: str | None, host: str, port: int, protocol: str = "tcp") -> str:
    """`ask`, until there is an answer: a stack that has just begun may lose the first packet."""
    for look in range(LOOKS):
        try:
            return await trio.to_thread.run_sync(ask, where, host, port, protocol)
        except AssertionError:
            if look + 1 == LOOKS:
                raise
            await trio.sleep(GLANCE)
    raise AssertionError("unreachable")


class StackConformance:
    """Subclass it, and give it the fixture `driver`."""

    WORDS: Sequence[str] = ()
    """Options that all the tests are made with."""

    @pytest.fixture
    def outside(self, tmp_path: Path) -> Iterator[str]:
        with world(tmp_path) as path:
            yield path

    @contextlib.asynccontextmanager
    async def alone(
        self, driver: StackDriver, directory: Path, *ports: PortMapping, **more: Any
    ) -> Any:
        """An attachment with a namespace of its own; detached, and gone, at the end."""
        container = ids.new_id()
        path = str(directory / f"ns-{container[:12]}")
        netns.create(path)
        it = await driver.stack(container, path, self.WORDS)
        it = msgspec.structs.replace(it, ports=ports, default_route=True, **more)
        try:
            yield it
        finally:
            await driver.detach(it)
            netns.remove(path)

    async def attached(self, driver: StackDriver, it: Attachment) -> Process:
        found = await driver.attach(it)
        assert found is not None
        (process,) = found
        assert start_time(process.pid) == process.start
        return process

    async def test_what_is_planned_is_what_is_there(
        self, driver: StackDriver, outside: str, tmp_path: Path
    ) -> None:
        async with self.alone(driver, tmp_path) as it:
            assert {":" in address for address in it.addresses} == {False, True}
            await self.attached(driver, it)
            for _ in range(LOOKS):  # a router's advertisement may take its time
                if shown(it.netns, it.interface) == (it.mac, set(it.addresses)):
                    break
                await trio.sleep(GLANCE)
            assert shown(it.netns, it.interface) == (it.mac, set(it.addresses))
            for family in ("-4", "-6"):
                assert "default via" in inside(it.netns, "ip", family, "route")

    async def test_the_world_and_the_host_are_reached(
        self, driver: StackDriver, outside: str, tmp_path: Path
    ) -> None:
        async with self.alone(driver, tmp_path) as it:
            await self.attached(driver, it)
            with server(outside, 4000), server(outside, 4001, "udp"):
                for address, own in zip(WORLD, HOST, strict=True):
                    assert await asked(it.netns, address, 4000) == own
                assert await asked(it.netns, WORLD[0], 4001, "udp") == HOST[0]
            assert it.network.host
            with server("/proc/self/ns/net", 4000):
                assert await asked(it.netns, it.network.host, 4000)

    async def test_what_listens_on_the_hosts_loopback_alone_is_not_reached(
        self, driver: StackDriver, outside: str, tmp_path: Path
    ) -> None:
        async with self.alone(driver, tmp_path) as it:
            await self.attached(driver, it)
            with socket.create_server(("127.0.0.1", 0)) as listening:
                port = listening.getsockname()[1]
                gateway = it.network.subnets[0].gateway
                with pytest.raises(AssertionError, match=r"timed out|refused|unreachable|reset"):
                    await trio.to_thread.run_sync(ask, it.netns, gateway, port)

    async def test_published_ports_are_reached(
        self, driver: StackDriver, outside: str, tmp_path: Path
    ) -> None:
        ports = (
            PortMapping(host_port=18071, container_port=80),
            PortMapping(host_port=18072, container_port=80, host_ip="127.0.0.1"),
            PortMapping(host_port=18073, container_port=18073, protocol="udp"),
        )
        async with self.alone(driver, tmp_path, *ports) as it:
            await self.attached(driver, it)
            with server(it.netns, 80), server(it.netns, 18073, "udp"):
                assert await asked(None, "127.0.0.1", 18071)
                assert await asked(None, "127.0.0.1", 18072)
                assert await asked(outside, HOST[0], 18071)
                assert await asked(outside, HOST[0], 18073, "udp")
                with pytest.raises(AssertionError, match="refused"):
                    ask(outside, HOST[0], 18072)
            told = await driver.rules(it.network, [it])
            assert told and all(rule.expected and rule.there for rule in told)

    async def test_a_port_that_cannot_be_had_is_named(
        self, driver: StackDriver, outside: str, tmp_path: Path
    ) -> None:
        port = PortMapping(host_port=18074, container_port=80)
        with socket.create_server(("127.0.0.1", 18074)):
            async with self.alone(driver, tmp_path, port) as it:
                with pytest.raises(Conflict, match="18074/tcp is in use"):
                    await driver.attach(it)
                assert not any(rule.there for rule in await driver.rules(it.network, [it]))
        port = PortMapping(host_port=18074, container_port=80, protocol="sctp")
        async with self.alone(driver, tmp_path, port) as it:
            with pytest.raises(UserError, match="18074/sctp"):
                await driver.attach(it)

    async def test_attach_however_often_leaves_one_process(
        self, driver: StackDriver, outside: str, tmp_path: Path
    ) -> None:
        async with self.alone(driver, tmp_path) as it:
            first = await self.attached(driver, it)
            second = await self.attached(driver, it)
            assert start_time(first.pid) != first.start
            with server(outside, 4000):
                assert await asked(it.netns, WORLD[0], 4000) == HOST[0]
            await driver.detach(it)
            assert start_time(second.pid) != second.start
            await driver.detach(it)

    async def test_reload_makes_again_what_was_taken_away(
        self, driver: StackDriver, outside: str, tmp_path: Path
    ) -> None:
        async with self.alone(driver, tmp_path) as it:
            before = await self.attached(driver, it)
            assert list(await driver.reload(it) or ()) == [before], "it was there"
            with server(outside, 4000):
                for damage in ("kill", "link del eth0", "addr flush dev eth0", "route flush"):
                    if damage == "kill":
                        os.kill(before.pid, signal.SIGKILL)
                        for _ in range(LOOKS):
                            if not start_time(before.pid):
                                break
                            await trio.sleep(GLANCE)
                    elif damage == "route flush":
                        inside(it.netns, "ip", "route", "del", "default")
                    else:
                        inside(it.netns, "ip", *damage.split())
                    assert await driver.reload(it), damage
                    assert await asked(it.netns, WORLD[0], 4000) == HOST[0], damage

    async def test_a_process_that_nobody_wrote_down_is_ended(
        self, driver: StackDriver, outside: str, tmp_path: Path
    ) -> None:
        """The command was killed when it had just been started."""
        async with self.alone(driver, tmp_path) as it:
            process = await self.attached(driver, it)
            for path in tmp_path.rglob(f"*{it.container}*.pid"):
                path.unlink()
            await driver.detach(it)
            assert start_time(process.pid) != process.start

    async def test_another_containers_process_is_left_alone(
        self, driver: StackDriver, outside: str, tmp_path: Path
    ) -> None:
        async with self.alone(driver, tmp_path) as one, self.alone(driver, tmp_path) as two:
            mine, other = await self.attached(driver, one), await self.attached(driver, two)
            for path in tmp_path.rglob(f"*{one.container}*.pid"):
                path.write_text(f"{other.pid}\n")  # the pid is another's by now
            await driver.detach(one)
            assert start_time(other.pid) == other.start
            assert start_time(mine.pid) != mine.start

    async def test_attach_to_a_missing_namespace_leaves_nothing(
        self, driver: StackDriver, outside: str, tmp_path: Path
    ) -> None:
        links = host_links()
        async with self.alone(driver, tmp_path) as it:
            netns.remove(it.netns)
            with pytest.raises(DriverError, match=r"(?i)no such file"):
                await driver.attach(it)
            await driver.detach(it)
            left = [path for path in tmp_path.rglob(f"*{it.container}*") if path.is_file()]
            assert not left
        assert host_links() == links

    async def test_nobody_defines_a_network_of_this_driver(self, driver: StackDriver) -> None:
        with pytest.raises(UserError, match=driver.name):
            await driver.create((await driver.stack("0" * 64, "", ())).network)

    async def test_an_unknown_option_is_named(self, driver: StackDriver) -> None:
        with pytest.raises(UserError, match=r"--colour"):
            await driver.stack("0" * 64, "", ["--colour", "red"])

    async def test_the_subnet_is_none_that_the_host_routes(
        self, driver: StackDriver, outside: str
    ) -> None:
        plain = await driver.stack("0" * 64, "", ())
        subnet = plain.network.subnets[0].subnet
        words = ["ip", "route", "add", subnet, "via", WORLD[0]]
        subprocess.run(words, check=True)
        try:
            other = await driver.stack("0" * 64, "", ())
            base, _, _ = ipam.parse_cidr(subnet)
            assert ipam.parse_cidr(other.network.subnets[0].subnet)[0] != base
        finally:
            subprocess.run(["ip", "route", "del", subnet], check=True)
