"""The bridge driver when things go wrong: clear errors, nothing broken, nothing left."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import trio

from tiffin.errors import Conflict, DriverError, UserError
from tiffin.hooks import Attachment, DriverContext, PortMapping
from tiffin.testing.network import ask, attachment, host_links, network, server
from tiffin_net_bridge.driver import BridgeDriver

NETWORK = network("tfTest2", 209)
OTHER = network("tfTest3", 210)


@pytest.fixture
async def driver(tmp_path: Path) -> AsyncIterator[BridgeDriver]:
    made = BridgeDriver(DriverContext(root=str(tmp_path / "root"), run=str(tmp_path / "run")))
    yield made
    for net in (NETWORK, OTHER):
        await made.remove(net)
        assert net.interface not in host_links()
    await made.close()


def our_rules() -> list[str]:
    """Lines of the ruleset that are about our networks (others may be at work beside us)."""
    lines = subprocess.check_output(["nft", "list", "ruleset"], text=True).splitlines()
    return [line for line in lines if "tfTest" in line or "10.213." in line or "fd13:" in line]


async def test_port_that_a_program_has_is_a_conflict_and_leaves_nothing(
    driver: BridgeDriver, tmp_path: Path
) -> None:
    ports = (PortMapping(host_port=18082, container_port=80),)
    with attachment(tmp_path, NETWORK, 5, ports) as one, socket.create_server(("0.0.0.0", 18082)):
        with pytest.raises(Conflict, match="18082/tcp is in use"):
            await driver.attach(one)
        assert one.host_interface not in host_links()


async def test_port_of_another_container_is_a_conflict(
    driver: BridgeDriver, tmp_path: Path
) -> None:
    ports = (PortMapping(host_port=18083, container_port=80),)
    with (
        attachment(tmp_path, NETWORK, 5, ports) as one,
        attachment(tmp_path, NETWORK, 6, ports) as two,
    ):
        await driver.attach(one)
        with pytest.raises(Conflict, match="18083"):
            await driver.attach(two)
        assert two.host_interface not in host_links()
        await driver.detach(two)  # what a recovery would do: must not take the other's port
        with server(one.netns, 80):
            assert ask(None, "127.0.0.1", 18083)
        await driver.detach(one)


async def test_foreign_interface_of_the_same_name_is_named(
    driver: BridgeDriver, tmp_path: Path
) -> None:
    subprocess.run(["ip", "link", "add", NETWORK.interface, "type", "bridge"], check=True)
    try:
        with attachment(tmp_path, NETWORK, 5) as one:
            with pytest.raises(DriverError, match=f"{NETWORK.interface} exists"):
                await driver.attach(one)
            await driver.detach(one)
        assert NETWORK.interface in host_links()
    finally:
        subprocess.run(["ip", "link", "del", NETWORK.interface], check=True)


async def test_foreign_rules_stay(driver: BridgeDriver, tmp_path: Path) -> None:
    foreign = "table inet tfForeign { chain c { type nat hook prerouting priority 0; counter; }; }"
    subprocess.run(["nft", foreign], check=True)
    show = ["nft", "--stateless", "list", "table", "inet", "tfForeign"]
    try:
        before = subprocess.check_output(show)
        ports = (PortMapping(host_port=18085, container_port=80),)
        with attachment(tmp_path, NETWORK, 5, ports) as one:
            await driver.attach(one)
            assert len(our_rules()) >= 3
            assert subprocess.check_output(show) == before
            await driver.detach(one)
        assert subprocess.check_output(show) == before
        assert not our_rules()
    finally:
        subprocess.run(["nft", "delete table inet tfForeign"], check=True)


async def test_flushed_ruleset_is_made_again_by_the_next_attach(
    driver: BridgeDriver, tmp_path: Path
) -> None:
    ports = (PortMapping(host_port=18086, container_port=80),)
    with attachment(tmp_path, NETWORK, 5) as one, attachment(tmp_path, NETWORK, 6, ports) as two:
        await driver.attach(one)
        subprocess.run(["nft", "delete table inet tiffin"], check=True)
        await driver.attach(two)
        with server(two.netns, 80):
            assert ask(None, "127.0.0.1", 18086)
        await driver.detach(one)
        await driver.detach(two)


@pytest.mark.parametrize("first, second", [("", "127.0.0.1"), ("127.0.0.1", ""), ("", "0.0.0.0")])
async def test_port_on_all_addresses_and_on_one_is_a_conflict(
    driver: BridgeDriver, tmp_path: Path, first: str, second: str
) -> None:
    with (
        attachment(
            tmp_path, NETWORK, 5, (PortMapping(host_port=18091, container_port=80, host_ip=first),)
        ) as one,
        attachment(
            tmp_path, NETWORK, 6, (PortMapping(host_port=18091, container_port=80, host_ip=second),)
        ) as two,
    ):
        await driver.attach(one)
        with pytest.raises(Conflict, match="18091/tcp is published by another container"):
            await driver.attach(two)
        assert two.host_interface not in host_links()
        await driver.detach(one)
        await driver.attach(two)
        await driver.detach(two)


@pytest.mark.parametrize("host_ip", ["198.51.100.77", "::1", "2001:db8::77"])
async def test_host_address_that_cannot_be_published_on(
    driver: BridgeDriver, tmp_path: Path, host_ip: str
) -> None:
    ports = (PortMapping(host_port=18092, container_port=80, host_ip=host_ip),)
    with attachment(tmp_path, NETWORK, 5, ports) as one:
        with pytest.raises((DriverError, UserError), match="cannot publish"):
            await driver.attach(one)
    assert NETWORK.interface not in host_links()


async def test_ipv6_port_of_a_container_without_ipv6(driver: BridgeDriver, tmp_path: Path) -> None:
    ports = (PortMapping(host_port=18092, container_port=80, host_ip="::"),)
    with attachment(tmp_path, NETWORK, 5, ports) as one:
        from msgspec.structs import replace

        with pytest.raises(UserError, match="no IPv6 address"):
            await driver.attach(replace(one, addresses=one.addresses[:1]))


async def test_thousands_of_ports(driver: BridgeDriver, tmp_path: Path) -> None:
    ports = tuple(
        PortMapping(host_port=n, container_port=n, protocol="udp") for n in range(20000, 23000)
    )
    with attachment(tmp_path, NETWORK, 5, ports) as one:
        await driver.attach(one)
        with server(one.netns, 22999, "udp"):
            assert ask(None, "127.0.0.1", 22999, "udp")
        await driver.detach(one)
    assert not our_rules()


async def test_subnet_of_another_interface_is_a_conflict(
    driver: BridgeDriver, tmp_path: Path
) -> None:
    subprocess.run(["ip", "link", "add", "tfTestD", "type", "bridge"], check=True)
    try:
        subprocess.run(["ip", "addr", "add", "10.213.209.9/24", "dev", "tfTestD"], check=True)
        with attachment(tmp_path, NETWORK, 5) as one:
            with pytest.raises(Conflict, match=r"10\.213\.209\.0/24 is that of interface tfTestD"):
                await driver.attach(one)
        assert NETWORK.interface not in host_links()
    finally:
        subprocess.run(["ip", "link", "del", "tfTestD"], check=True)


async def test_stores_do_not_touch_each_other(driver: BridgeDriver, tmp_path: Path) -> None:
    """Two engines with run directories of their own share the host's table."""
    second = BridgeDriver(DriverContext(root=str(tmp_path / "r2"), run=str(tmp_path / "run2")))
    ports = (PortMapping(host_port=18093, container_port=80),)
    with (
        attachment(tmp_path, NETWORK, 5, ports) as one,
        attachment(tmp_path, OTHER, 5) as two,
        attachment(tmp_path, OTHER, 6, ports) as three,
    ):
        await driver.attach(one)
        await second.attach(two)
        with pytest.raises(Conflict, match="18093"):
            await second.attach(three)
        await second.detach(three)
        await second.detach(two)
        assert OTHER.interface not in host_links()
        with server(one.netns, 80):
            assert ask(None, "127.0.0.1", 18093)
        await driver.detach(one)
    await second.close()
    assert not our_rules()


async def test_bridge_of_a_store_that_is_no_more(driver: BridgeDriver, tmp_path: Path) -> None:
    again = network(NETWORK.interface, 209)  # the same name, another network
    with (
        attachment(tmp_path, NETWORK, 5) as one,
        attachment(tmp_path, again, 6, netns=str(tmp_path / "again")) as two,
    ):
        await driver.attach(one)
        with pytest.raises(DriverError, match="another network of tiffin's, with containers"):
            await driver.attach(two)
        await driver.detach(two)
        assert NETWORK.interface in host_links()
        subprocess.run(["ip", "link", "del", one.host_interface], check=True)
        await driver.attach(two)
        with server(two.netns, 80):
            assert ask(None, "10.213.209.6", 80) == "10.213.209.1"
        await driver.detach(one)
        assert NETWORK.interface in host_links()
        await driver.detach(two)


async def test_a_killed_worker_is_replaced(driver: BridgeDriver, tmp_path: Path) -> None:
    with attachment(tmp_path, NETWORK, 5) as one:
        await driver.attach(one)
        assert driver._worker is not None
        assert os.getpgid(driver._worker.pid) != os.getpgrp()  # a Ctrl-C does not reach it
        os.kill(driver._worker.pid, signal.SIGKILL)
        with pytest.raises(DriverError, match="network worker ended"):
            await driver.attach(one)
        await driver.attach(one)
        await driver.detach(one)


async def test_a_cancelled_command_waits_for_its_request(
    driver: BridgeDriver, tmp_path: Path
) -> None:
    with attachment(tmp_path, NETWORK, 5) as one:
        with trio.CancelScope() as scope:
            scope.cancel()
            await driver.attach(one)
        await driver.detach(one)
    assert NETWORK.interface not in host_links()


async def test_close_without_a_request(driver: BridgeDriver) -> None:
    driver.warm_up()
    driver.warm_up()
    await driver.close()
    await driver.close()


async def test_several_processes_at_once_leave_nothing(
    driver: BridgeDriver, tmp_path: Path
) -> None:
    context = DriverContext(root=str(tmp_path / "root"), run=str(tmp_path / "run"))
    everything: list[Attachment] = []

    async def one_process(first: int) -> None:
        own = BridgeDriver(context)
        made: list[Attachment] = []
        with contextlib.ExitStack() as stack:
            for number in range(first, first + 5):
                port = PortMapping(host_port=18200 + number, container_port=80)
                it = stack.enter_context(attachment(tmp_path, NETWORK, number, (port,)))
                made.append(it)
                await own.attach(it)
                if number % 2:  # the bridge comes and goes under the others
                    await own.detach(it)
            with server(made[2].netns, 80):
                seen = await trio.to_thread.run_sync(ask, None, "127.0.0.1", 18202 + first)
                assert seen == "10.213.209.1"
            for it in made:
                await own.detach(it)
        everything.extend(made)
        await own.close()

    async with trio.open_nursery() as nursery:
        for start in range(10, 90, 10):
            nursery.start_soon(one_process, start)
    assert len(everything) == 40
    assert not host_links() & {NETWORK.interface, *(it.host_interface for it in everything)}
    assert not our_rules()
