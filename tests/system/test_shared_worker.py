"""Commands that are at work at the same moment share one network worker, and nobody is left with
it: neither when one of them is killed, nor when the worker is."""

from __future__ import annotations

import os
import signal
import stat
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest
import trio
import trio.testing
from support import world
from support.cli import BUSYBOX, Tiffin, eventually

from tiffin import network_modes
from tiffin.cli import life
from tiffin.errors import UserError
from tiffin.hooks import Attachment, DriverContext
from tiffin.layout import Layout
from tiffin.plugins import Plugins
from tiffin.testing.network import attachment, host_links, network
from tiffin_net_bridge.driver import BridgeDriver

NETWORK = msgspec.structs.replace(network("tfTestW", 226), dns_enabled=True)


@pytest.fixture
async def drivers(tmp_path: Path) -> AsyncIterator[list[BridgeDriver]]:
    """Those of four commands on one store; the first has the worker."""
    context = DriverContext(root=str(tmp_path / "root"), run=str(tmp_path / "run"))
    made = [BridgeDriver(context) for _ in range(4)]
    await made[0].rules(NETWORK, [])
    yield made
    await made[0].remove(NETWORK)
    for driver in made:
        await driver.close()
    await gone(tmp_path)
    assert NETWORK.interface not in host_links()


def workers(directory: Path) -> list[int]:
    return [
        pid
        for pid, name, line in world.processes()
        if f"{directory}/" in line and name != "aardvark-dns" and world.alive(pid)
    ]


async def gone(directory: Path) -> None:
    """The worker has ended, and took its door away."""
    await trio.to_thread.run_sync(
        lambda: eventually(lambda: not workers(directory), lambda: f"{workers(directory)}")
    )
    assert not doors(directory)


def doors(directory: Path) -> list[Path]:
    return [path for path in directory.glob("run/*") if stat.S_ISSOCK(path.stat().st_mode)]


def present(directory: Path) -> str:
    """Which of the two name servers is asked: another after each change."""
    return os.readlink(directory / "run/names/present")


async def test_who_comes_uses_the_worker_that_is_there(
    drivers: list[BridgeDriver], tmp_path: Path
) -> None:
    first, second, third, _ = drivers
    with attachment(tmp_path, NETWORK, 5) as one, attachment(tmp_path, NETWORK, 6) as two:
        await second.attach(one)
        assert first._worker is not None and second._worker is None
        await first.close()  # the command that started it is over
        await second.attach(two)
        await third.detach(one)
        assert third._worker is None
        assert len(workers(tmp_path)) == 1 == len(doors(tmp_path))
        await third.close()
        await second.detach(two)
        await second.close()
        await gone(tmp_path)


async def test_commands_that_begin_at_the_same_moment_start_one_worker(tmp_path: Path) -> None:
    """It has a door before it runs."""
    context = DriverContext(root=str(tmp_path / "root"), run=str(tmp_path / "run"))
    drivers = [BridgeDriver(context) for _ in range(4)]
    for driver in drivers:
        driver.warm_up()
    assert [driver._worker is not None for driver in drivers] == [True, False, False, False]
    async with trio.open_nursery() as nursery:
        for driver in drivers:
            nursery.start_soon(driver.rules, NETWORK, [])
    assert len(workers(tmp_path)) == 1 == len(doors(tmp_path))
    for driver in drivers:
        await driver.close()
    await gone(tmp_path)


async def test_a_door_that_leads_nowhere_is_replaced(tmp_path: Path) -> None:
    context = DriverContext(root=str(tmp_path / "root"), run=str(tmp_path / "run"))
    first, second = BridgeDriver(context), BridgeDriver(context)
    first.warm_up()
    assert first._worker is not None
    first._worker.kill()
    first._worker.wait()
    (stale,) = doors(tmp_path)
    await second.rules(NETWORK, [])
    assert second._worker is not None and doors(tmp_path) == [stale]
    assert len(workers(tmp_path)) == 1
    await first.close()
    await second.close()
    await gone(tmp_path)


async def test_who_loses_the_worker_of_another_goes_on_with_an_own_one(
    drivers: list[BridgeDriver], tmp_path: Path
) -> None:
    first, second, third, _ = drivers
    assert first._worker is not None
    with attachment(tmp_path, NETWORK, 5) as one:
        await second.attach(one)
        await third.rules(NETWORK, [one])
        os.kill(first._worker.pid, signal.SIGSTOP)  # in the middle of the request
        async with trio.open_nursery() as nursery:
            nursery.start_soon(second.detach, one)
            nursery.start_soon(third.rules, NETWORK, [one])
            await trio.testing.wait_all_tasks_blocked(0.01)
            os.kill(first._worker.pid, signal.SIGKILL)
        assert one.host_interface not in host_links()
        assert (second._worker is None) != (third._worker is None)  # whoever was later uses it
    await first.close()


def cgroup_roots() -> set[Path]:
    """Of the hierarchies that a process can be put below without more ado."""
    return {
        Path(mount.target)
        for mount in world.mounts()
        if mount.type in ("cgroup", "cgroup2") and mount.root == "/"
        if "cpuset" not in mount.options
    }


async def test_the_cgroup_of_who_started_the_worker_may_go(
    drivers: list[BridgeDriver], tmp_path: Path
) -> None:
    """As when a person logs out, or systemd stops the service that a command was run by: others
    keep their worker, and it keeps nobody's cgroup."""
    first, second, third, _ = drivers
    assert first._worker is not None
    worker = first._worker.pid
    made = [root / f"tfTest-{NETWORK.id[:12]}" for root in cgroup_roots()]
    assert made
    try:
        for cgroup in made:
            cgroup.mkdir()
            (cgroup / "cgroup.procs").write_text(str(worker))
        await first.rules(NETWORK, [])
        assert str(worker) in (made[0] / "cgroup.procs").read_text().split(), "nobody else is there"
        await second.rules(NETWORK, [])
        for cgroup in made:
            assert (cgroup / "cgroup.procs").read_text() == ""
            if (cgroup / "cgroup.kill").exists():
                (cgroup / "cgroup.kill").write_text("1")
    finally:
        for cgroup in made:
            cgroup.rmdir()
    await third.rules(NETWORK, [])
    assert second._worker is None and third._worker is None
    assert workers(tmp_path) == [worker]


async def test_one_change_of_names_for_requests_that_come_together(
    drivers: list[BridgeDriver], tmp_path: Path
) -> None:
    """One of them cannot be served: that is its own matter."""
    failed: list[str] = []

    async def attach(driver: BridgeDriver, one: Attachment) -> None:
        try:
            await driver.attach(one)
        except UserError as error:
            failed.append(str(error))

    worker = drivers[0]._worker
    assert worker is not None
    for driver in drivers:
        await driver.rules(NETWORK, [])
    with (
        attachment(tmp_path, NETWORK, 5, names=("keeps",)) as keeps,
        attachment(tmp_path, NETWORK, 6, names=("a",)) as a,
        attachment(tmp_path, NETWORK, 7, names=("b",)) as b,
        attachment(tmp_path, NETWORK, 8, names=("c",)) as c,
        attachment(tmp_path, NETWORK, 9, names=("no name",)) as d,
    ):
        await drivers[0].attach(keeps)
        assert present(tmp_path) == "1"

        async def together(requests: list[tuple[BridgeDriver, Attachment]], how: str) -> None:
            os.kill(worker.pid, signal.SIGSTOP)
            async with trio.open_nursery() as nursery:
                for driver, one in requests:
                    act = attach if how == "attach" else BridgeDriver.detach
                    nursery.start_soon(act, driver, one)
                await trio.testing.wait_all_tasks_blocked(0.01)
                os.kill(worker.pid, signal.SIGCONT)

        await together(list(zip(drivers, (a, b, c), strict=False)), "attach")
        assert present(tmp_path) == "2"
        await together(list(zip(drivers, (a, b), strict=False)), "detach")
        assert present(tmp_path) == "1"
        await together(list(zip(drivers, (a, d, b), strict=False)), "attach")
        assert failed == [
            "'no name' cannot be the name of a container on a network "
            "(letters, digits, '_', '.' and '-')"
        ]
        assert d.host_interface not in host_links()
        assert {a.host_interface, b.host_interface} <= host_links()
        (zone,) = tmp_path.glob(f"run/names/{present(tmp_path)}/{NETWORK.interface}")
        assert [line.split()[3].split(",")[0] for line in zone.read_text().splitlines()[1:]] == [
            "keeps",
            "c",
            "a",
            "b",
        ]
        await together(list(zip(drivers, (keeps, a, b, c), strict=True)), "detach")
        assert not list(tmp_path.glob("run/names"))


def test_a_killed_command_leaves_the_others_their_worker(tiffin: Tiffin) -> None:
    """Its worker is theirs as well; what it had asked for is undone by the next command."""
    tiffin("network", "create", "lunch")
    started = [
        tiffin.start("run", "-d", "--name", f"c{n}", "--network", "lunch", BUSYBOX, "sleep", "1000")
        for n in range(4)
    ]
    directory = tiffin.run / "drivers/network-bridge"

    def over() -> bool:
        return all(process.poll() is not None for process in started)

    eventually(lambda: list(directory.glob("worker-*")) or over())
    started[0].kill()
    codes = [process.wait(timeout=120) for process in started]
    assert codes[1:] == [0, 0, 0]
    tiffin("system", "recover")
    tiffin("rm", "-a", "-f", "-t", "0")
    tiffin("network", "rm", "lunch")
    eventually(lambda: not list(directory.glob("worker-*")))


def test_a_removal_has_its_worker_before_the_engine_is_loaded(tiffin: Tiffin) -> None:
    """And only one that will need it: the door opens while the container still runs."""
    directory = tiffin.run / "drivers/network-bridge"
    cid = tiffin.detached("--name", "web", BUSYBOX, "sleep", "1000")
    tiffin("run", "-d", "--name", "apart", "--network", "none", BUSYBOX, "sleep", "1000")
    eventually(lambda: not list(directory.glob("worker-*")))
    plugins = Plugins(Layout(str(tiffin.root), str(tiffin.run)))
    for name, states, expected in (
        ("apart", life.LIVE, 0),
        ("web", ("exited",), 0),
        ("web", life.LIVE, 1),
        (cid[:12], life.LIVE, 1),
    ):
        network_modes.warm_up_for(plugins, [name, "nobody"], states)
        made = list(plugins.made("network"))
        assert len(made) == expected == len(list(directory.glob("worker-*"))), (name, states)
    driver = made[0]
    assert isinstance(driver, BridgeDriver) and driver._connection is not None
    tiffin("rm", "-f", "-t", "0", "web", "apart")
    assert driver._connection is not None
    driver._connection.close()
    eventually(lambda: not list(directory.glob("worker-*")))
