"""Who reaches whom, and under which address: containers on two networks, the host, and a remote
host (a network namespace on a cable of its own), by IPv4 and IPv6, with isolation on and off."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import pytest
from support.cli import BUSYBOX, Tiffin

from tiffin.testing.network import ask, remote_host, server

PORT = 18091
NO = "not reached"


class World(NamedTuple):
    """Namespaces, and addresses by who has them: the first of IPv4, the second of IPv6."""

    web: str
    near: str
    far: str
    remote: str
    addresses: dict[str, tuple[str, str]]


class Setting(NamedTuple):
    one: tuple[str, ...]
    """Flags of the network of `web` and `near`."""
    other: tuple[str, ...]
    """Flags of the network of `far`."""
    apart: bool
    """The two networks do not reach each other."""
    closed: bool = False
    """No way between the network and remote hosts."""


SETTINGS = {
    "open": Setting((), (), False),
    "isolated and open": Setting(("-o", "isolate=true"), (), False),
    "isolated": Setting(("-o", "isolate=true"), ("-o", "isolate=true"), True),
    "strict": Setting(("-o", "isolate=strict"), (), True),
    "internal": Setting(("--internal",), (), True, True),
}


def flags(number: int) -> tuple[str, ...]:
    return ("--subnet", f"10.221.{number}.0/24", "--subnet", f"fd13:221:{number}::/64")


@pytest.fixture(params=SETTINGS)
def setting(request: pytest.FixtureRequest) -> Setting:
    return SETTINGS[request.param]


@pytest.fixture
def world(shared: Tiffin, tmp_path: Path, setting: Setting) -> Iterator[World]:
    """`web` (with a published port) and `near` on one network, `far` on another, and a remote."""
    box = shared
    box("network", "create", *flags(16), *setting.one, "lunch")
    box("network", "create", *flags(17), *setting.other, "dinner")
    try:
        for name, network, more in (
            ("web", "lunch", ("-p", f"{PORT}:80")),
            ("near", "lunch", ()),
            ("far", "dinner", ()),
        ):
            box.detached("--name", name, "--network", network, *more, BUSYBOX, "sleep", "1000")
        found = {name: box.inspect(name)["NetworkSettings"] for name in ("web", "near", "far")}
        networks = {name: next(iter(s["Networks"].values())) for name, s in found.items()}
        addresses = {n: (w["IPAddress"], w["GlobalIPv6Address"]) for n, w in networks.items()}
        addresses["bridge"] = ("10.221.16.1", "fd13:221:16::1")
        addresses["host"] = ("198.51.100.1", "2001:db8:5::1")
        addresses["remote"] = ("198.51.100.2", "2001:db8:5::2")
        paths = [found[name]["SandboxKey"] for name in ("web", "near", "far")]
        with remote_host(tmp_path) as remote, contextlib.ExitStack() as stack:
            stack.enter_context(server(paths[0], 80))
            stack.enter_context(server(remote, 4000))
            yield World(paths[0], paths[1], paths[2], remote, addresses)
    finally:
        box("rm", "-a", "-f", "-t", "0")
        box("network", "rm", "lunch", "dinner")


@pytest.mark.parametrize("family", [0, 1], ids=["IPv4", "IPv6"])
def test_who_reaches_whom_and_as_whom(world: World, setting: Setting, family: int) -> None:
    at = {name: pair[family] for name, pair in world.addresses.items()}
    cases = {
        "a neighbour asks the container": (world.near, at["web"], 80, at["near"]),
        "the host asks the container": (None, at["web"], 80, at["bridge"]),
        "another network asks the container": (
            *(world.far, at["web"], 80),
            NO if setting.apart else at["far"],
        ),
        "a remote host asks the published port": (
            *(world.remote, at["host"], PORT),
            NO if setting.closed else at["remote"],
        ),
        "the host asks the published port": (None, at["bridge"], PORT, at["bridge"]),
        "a neighbour asks the published port": (world.near, at["bridge"], PORT, at["bridge"]),
        "the container asks its own published port": (
            *(world.web, at["bridge"], PORT, at["bridge"]),
        ),
        "the container asks a remote host": (
            *(world.web, at["remote"], 4000),
            NO if setting.closed else at["host"],
        ),
        "another network asks a remote host": (world.far, at["remote"], 4000, at["host"]),
        "a remote host asks a port that is not published": (world.remote, at["host"], 80, NO),
    }
    if family == 0:  # ::1 is refused at once: see rules.SETUP
        cases["the host asks the published port on its loopback"] = (
            *(None, "127.0.0.1", PORT, at["bridge"]),
        )

    def seen(case: tuple[str | None, str, int, str]) -> str:
        where, host, port, _ = case
        try:
            return ask(where, host, port)
        except AssertionError:
            return NO

    with ThreadPoolExecutor(len(cases)) as pool:
        found = dict(zip(cases, pool.map(seen, cases.values()), strict=True))
    assert found == {name: case[3] for name, case in cases.items()}
