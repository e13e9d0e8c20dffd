"""`network reload`: what others took away from running containers is made again."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator
from typing import Any

import pytest
from support.cli import BUSYBOX, Tiffin

from tiffin import netns

PORT = 18097
SERVE = "mkdir /w; echo lunch > /w/menu; httpd -f -p 80 -h /w"
ASK = "for host in 10.221.11.2 '[fd13:221:11::2]'; do timeout 2 wget -qO- http://$host/menu; done"


def sh(words: str) -> str:
    return subprocess.run(words.split(), check=True, capture_output=True, text=True).stdout


@pytest.fixture
def box(shared: Tiffin) -> Iterator[Tiffin]:
    """The module's store with the network `lunch`, a server `web` and a `guest` on it."""
    flags = ("--subnet", "10.221.11.0/24", "--subnet", "fd13:221:11::/64")
    shared("network", "create", *flags, "--interface-name", "tfTestL", "lunch")
    web = ("--name", "web", "--network", "lunch", "-p", f"{PORT}:80")
    shared.detached(*web, BUSYBOX, "sh", "-c", SERVE)
    shared.detached("--name", "guest", "--network", "lunch", BUSYBOX, "sleep", "1000")
    end = time.monotonic() + 10
    while not published() and time.monotonic() < end:
        time.sleep(0.1)
    assert published() and reached(shared)
    yield shared
    shared("rm", "-a", "-f", "-t", "0")
    shared("network", "prune", "-f")


def published() -> bool:
    """From the host, by the published port."""
    command = ["timeout", "2", "busybox", "wget", "-qO-", f"http://127.0.0.1:{PORT}/menu"]
    return subprocess.run(command, capture_output=True).stdout == b"lunch\n"


def reached(box: Tiffin) -> bool:
    """From the guest, by IPv4 and IPv6."""
    return box.attempt("exec", "guest", "sh", "-c", ASK).out == "lunch\n" * 2


def attachment(box: Tiffin, name: str) -> dict[str, Any]:
    """As the log has it."""
    cid = box("inspect", "-f", "{{.Id}}", name).word
    events = [e for e in box.events() if e["stream"] == f"container/{cid}"]
    found: dict[str, Any] = next(
        e["data"]["attachments"][0] for e in events if e["type"] == "container.init_planned"
    )
    return found


@pytest.mark.parametrize(
    "damage",
    [
        "nft delete table inet tiffin",
        "nft flush ruleset",
        "nft flush table inet tiffin",
        "nft flush chain inet tiffin publish",
        "nft flush map inet tiffin ports4",
    ],
)
def test_rules_that_were_flushed(box: Tiffin, damage: str) -> None:
    before = sh("nft list table inet tiffin")
    sh(damage)
    assert not published()
    cid = box("inspect", "-f", "{{.Id}}", "web").word
    assert box("network", "reload", "web").word == cid
    assert published() and reached(box)
    box("network", "reload", "--all")
    assert sorted(sh("nft list table inet tiffin").splitlines()) == sorted(before.splitlines())


def test_a_bridge_that_was_removed(box: Tiffin) -> None:
    sh("ip link del tfTestL")
    assert not published() and not reached(box)
    assert len(box("network", "reload", "--all").lines) == 2
    assert published() and reached(box)


def test_a_cable_that_was_removed(box: Tiffin) -> None:
    sh(f"ip link del {attachment(box, 'web')['host_interface']}")
    assert not published()
    before = box("inspect", "-f", "{{.NetworkSettings.MacAddress}}", "web").word
    box("network", "reload", "web")
    assert published() and reached(box)
    assert before in box("exec", "web", "ip", "link", "show", "dev", "eth0").out


@pytest.mark.parametrize(
    "damage",
    [
        "addr flush dev eth0",
        "link set eth0 down",
        "route del default",
        "link set eth0 address 02:00:00:00:00:99",
        "link set eth0 name eth9",
    ],
)
def test_what_was_changed_inside(box: Tiffin, damage: str) -> None:
    own = f"nsenter --net={attachment(box, 'web')['netns']} ip "
    if "eth9" in damage:
        sh(own + "link set eth0 down")
    sh(own + damage)
    box("network", "reload", "web")
    assert published() and reached(box)
    assert "default via 10.221.11.1 dev eth0" in box("exec", "web", "ip", "route").out


def test_connections_live_on(box: Tiffin) -> None:
    def within(name: str, *command: str) -> subprocess.Popen[bytes]:
        enter = ["nsenter", f"--net={attachment(box, name)['netns']}", "busybox", *command]
        return subprocess.Popen(enter, stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    with within("web", "nc", "-l", "-p", "4000") as server:
        time.sleep(1)
        with within("guest", "nc", "10.221.11.2", "4000") as client:
            assert client.stdin is not None and server.stdout is not None
            for line in (b"starter\n", b"main course\n"):
                client.stdin.write(line)
                client.stdin.flush()
                assert server.stdout.readline() == line
                sh("nft flush ruleset")
                box("network", "reload", "-a")
            client.kill()
        server.kill()


def test_a_namespace_that_was_unpinned(box: Tiffin) -> None:
    path = attachment(box, "web")["netns"]
    netns.remove(path)
    box("network", "reload", "web")
    assert netns.exists(path)
    assert published() and reached(box)


def test_intent_and_outcome_are_events(box: Tiffin) -> None:
    box("network", "reload", "web")
    cid = box("inspect", "-f", "{{.Id}}", "web").word
    types = [e["type"] for e in box.events() if e["stream"] == f"container/{cid}"][-2:]
    assert types == ["container.network_reload_planned", "container.network_reloaded"]


def test_a_reload_that_fails_says_why_and_takes_nothing_away(box: Tiffin) -> None:
    sh("ip link del tfTestL")
    sh("ip link add tfTestL type bridge")
    try:
        box.fails("network", "reload", "web", says="tfTestL exists and is not tiffin's")
    finally:
        sh("ip link del tfTestL")
    assert box.events()[-1]["type"] == "container.failed"
    assert box("inspect", "-f", "{{.State.Status}}", "web").word == "running"
    box("network", "reload", "-a")
    assert published() and reached(box)


def test_what_has_no_network_to_reload(box: Tiffin) -> None:
    box.detached("--name", "none", "--network", "none", BUSYBOX, "sleep", "1000")
    box.create("--name", "idle", "--network", "lunch", BUSYBOX)
    box.fails("network", "reload", "none", says="container none is on no network")
    box.fails("network", "reload", "-l", "none", says="name containers, or give --all or --latest")
    box.fails("network", "reload", "idle", says="it is created")
    box.fails("network", "reload", "--latest", says="container idle")
    box.fails("network", "reload", "nobody", says="no such container: nobody")
    box.fails("network", "reload", says="name containers")
    box.fails("network", "reload", "-a", "web", says="name containers")
    assert len(box("network", "reload", "-a").lines) == 2
