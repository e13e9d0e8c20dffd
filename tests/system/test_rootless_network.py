"""An ordinary user's containers and the network: a process beside each, no privilege."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support import dns, world
from support.cli import BUSYBOX, Tiffin, eventually
from support.person import Person, TheirTiffin, person

from tiffin.testing import stack
from tiffin.testing.network import server

SERVE = "mkdir -p /w; echo lunch > /w/menu; exec httpd -f -p 80 -h /w"


@pytest.fixture(scope="module")
def tun() -> Iterator[None]:
    """/dev/net/tun as udev makes it, open to everybody; over the machine's, which may be closed."""
    subprocess.run(["mknod", "-m", "666", "/tmp/tfn-tun", "c", "10", "200"], check=True)
    subprocess.run(["mount", "--bind", "/tmp/tfn-tun", "/dev/net/tun"], check=True)
    yield
    subprocess.run(["umount", "/dev/net/tun"], check=True)
    Path("/tmp/tfn-tun").unlink()


@pytest.fixture(scope="module")
def outside(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with stack.world(tmp_path_factory.mktemp("world")) as path:
        yield path


@pytest.fixture(scope="module")
def who(tun: None, outside: str) -> Iterator[Person]:
    with person() as made:
        yield made


@pytest.fixture(scope="module")
def theirs(who: Person) -> Iterator[TheirTiffin]:
    made = TheirTiffin.of(who)
    made("pull", BUSYBOX)
    yield made
    made.close()


@pytest.fixture
def box(theirs: TheirTiffin) -> Iterator[TheirTiffin]:
    yield theirs
    theirs("rm", "-a", "-f", "-t", "0")


def fetched(where: str | None, url: str) -> bool:
    enter = ["nsenter", f"--net={where}"] if where else []
    command = [*enter, "timeout", "3", "busybox", "wget", "-qO-", f"{url}/menu"]
    return subprocess.run(command, capture_output=True).stdout == b"lunch\n"


def processes(tiffin: Tiffin, name: str) -> list[dict[str, Any]]:
    """What the log says that the container's network has started, as of now."""
    cid = tiffin.inspect(name)["Id"]
    named = ("container.initialized", "container.network_reloaded")
    told = [e for e in tiffin.events() if e["stream"] == f"container/{cid}" and e["type"] in named]
    found: list[dict[str, Any]] = told[-1]["data"]["processes"]
    return found


@pytest.mark.parametrize("network", ["", "slirp4netns"])
def test_ports_the_world_and_the_host(box: TheirTiffin, outside: str, network: str) -> None:
    words = ("--network", network) if network else ()
    box.detached(*words, "--name", "web", "-p", "18061:80", BUSYBOX, "sh", "-c", SERVE)
    assert box.inspect("web")["HostConfig"]["NetworkMode"] == (network or "pasta")
    for where, host in ((None, "127.0.0.1"), (outside, "198.51.100.1")):
        eventually(lambda w=where, h=host: fetched(w, f"http://{h}:18061"), seconds=30)  # type: ignore[misc]
    ask = ("exec", "web", "sh", "-c", "echo '?' | nc -w 3 \"$0\" 4000")
    with server(outside, 4000), server("/proc/self/ns/net", 4000):
        for host in ("198.51.100.2", "host.containers.internal"):
            eventually(lambda h=host: box.attempt(*ask, h).out, seconds=30)  # type: ignore[misc]
    (process,) = processes(box, "web")
    assert process["program"] == (network or "pasta")
    assert world.status(process["pid"], "Uid").split() == [str(box.who.uid)] * 4
    box("rm", "-f", "-t", "0", "web")
    assert not world.alive(process["pid"])


def test_a_killed_process_is_named_and_made_again(box: TheirTiffin) -> None:
    box.detached("--name", "web", "-p", "18062:80", BUSYBOX, "sh", "-c", SERVE)
    (before,) = processes(box, "web")
    world.kill(before["pid"])
    eventually(lambda: not world.alive(before["pid"]))
    assert "its network is gone" in box("system", "check", code=1).out
    assert "process pasta" in box("network", "explain", "web").out
    box("network", "reload", "web")
    (after,) = processes(box, "web")
    assert after["pid"] != before["pid"] and world.alive(after["pid"])
    eventually(lambda: fetched(None, "http://127.0.0.1:18062"), seconds=30)
    box("restart", "-t", "0", "web")
    assert not world.alive(after["pid"])
    eventually(lambda: fetched(None, "http://127.0.0.1:18062"), seconds=30)


def test_a_network_is_shared(box: TheirTiffin) -> None:
    box.detached("--name", "web", BUSYBOX, "sh", "-c", SERVE)
    get = ("wget", "-qO-", "http://127.0.0.1/menu")
    eventually(
        lambda: (
            box.attempt("run", "--rm", "--network=container:web", BUSYBOX, *get).out == "lunch\n"
        )
    )
    said = box.attempt("network", "connect", "bridge", "web")
    assert said.code == 125 and "it was made with --network pasta" in said.err


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ("-p 80:80", "net.ipv4.ip_unprivileged_port_start is 1024"),
        ("-p 127.0.0.1:443:80/udp --network slirp4netns", "port 127.0.0.1:443/udp is not for"),
        ("--network pasta:--runas,0", "'--runas' is not an option"),
        ("--network slirp4netns:colour=red", "unknown option colour"),
        ("--network pasta,none", "cannot be combined"),
        ("--network pasta -p 8099:80/sctp", "publishes no ports of sctp"),
    ],
)
def test_what_cannot_be_is_one_line(box: TheirTiffin, words: str, says: str) -> None:
    said = box.attempt("run", *words.split(), BUSYBOX, "true")
    assert said.code == 125 and says in said.err and len(said.err.splitlines()) == 1
    assert not box("ps", "-a", "-q").out


def test_name_servers_of_the_hosts_loopback_are_asked_by_pasta(
    shared: Tiffin, outside: str, tmp_path: Path
) -> None:
    """Where containers cannot reach them themselves."""
    text = "nameserver 127.0.0.99\n"
    look = ("sh", "-c", "cat /etc/resolv.conf; nslookup spice.test")
    with dns.server("127.0.0.99", "198.51.100.77"), dns.host_resolver(tmp_path, text):
        said = shared.attempt("run", "--rm", "--network=pasta", BUSYBOX, *look)
    assert "nameserver 10." in said.out and "198.51.100.77" in said.out, said
