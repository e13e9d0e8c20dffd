"""An ordinary user's containers and the network: a process beside each, no privilege."""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from support import dns, world
from support.cli import BUSYBOX, Tiffin, eventually
from support.person import Person, TheirTiffin, person

from tiffin.testing import stack

GET = ("timeout", "5", "wget", "-qO-")  # busybox's own -T ends in a segmentation fault
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
    """Another machine; there and on the host, the menu is served on port 18060."""
    directory = tmp_path_factory.mktemp("world")
    (directory / "menu").write_text("lunch\n")
    with stack.world(directory) as path, contextlib.ExitStack() as stop:
        for where in (path, "/proc/self/ns/net"):
            serve = ("busybox", "httpd", "-f", "-p", "18060", "-h", str(directory))
            process = subprocess.Popen(["nsenter", f"--net={where}", *serve])
            stop.callback(process.wait)
            stop.callback(process.kill)
        yield path


@pytest.fixture(scope="module")
def who(tun: None, outside: str) -> Iterator[Person]:
    with person() as made:
        yield made


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
    for host in ("198.51.100.2", "host.containers.internal"):
        get = ("exec", "web", *GET, f"http://{host}:18060/menu")
        eventually(lambda g=get: box.attempt(*g).out == "lunch\n", seconds=30)  # type: ignore[misc]
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


def test_info_says_what_leads_outside(box: TheirTiffin) -> None:
    said = box("info", "--format", "{{.rootless.network}} {{.rootless.missing}}").out
    assert said.startswith("pasta ") and "/dev/net/tun" not in said


# --- networks of one's own: bridges in the user's own network namespace ---------------------------


@pytest.fixture
def lunch(box: TheirTiffin) -> Iterator[TheirTiffin]:
    """`web` publishes a port on the network `lunch`."""
    box("network", "create", "lunch")
    flags = ("--name", "web", "--network", "lunch:alias=cook", "-p", "18063:80")
    box.detached(*flags, BUSYBOX, "sh", "-c", SERVE)
    yield box
    box("rm", "-a", "-f", "-t", "0")
    box("network", "rm", "-f", "lunch")
    eventually(lambda: not others(box), lambda: f"processes are left: {others(box)}", seconds=30)
    directory = box.run / "drivers/network-bridge"
    left = {path.name for path in directory.iterdir()} - {"lock", "home.lock", "names"}
    assert not left


def others(tiffin: TheirTiffin) -> list[int]:
    """The user's processes, but for the keeper of the namespace."""
    return [pid for pid in tiffin.who.processes() if pid != tiffin.keeper()]


def guest(tiffin: Tiffin, *command: str) -> str:
    return tiffin.attempt("run", "--rm", "--network", "lunch", BUSYBOX, *command).out


def test_a_bridge_names_ports_and_the_world(lunch: TheirTiffin, outside: str) -> None:
    address = lunch("inspect", "-f", "{{.NetworkSettings.Networks.lunch.IPAddress}}", "web").word
    assert address in guest(lunch, "nslookup", "web.dns.podman")
    assert address in guest(lunch, "nslookup", "cook.dns.podman")
    assert guest(lunch, "wget", "-qO-", f"http://{address}/menu") == "lunch\n"
    for where, host in ((None, "127.0.0.1"), (outside, "198.51.100.1")):
        eventually(lambda w=where, h=host: fetched(w, f"http://{h}:18063"), seconds=30)  # type: ignore[misc]
    for host in ("198.51.100.2", "host.containers.internal"):
        get = (*GET, f"http://{host}:18060/menu")
        eventually(lambda g=get: guest(lunch, *g) == "lunch\n", seconds=30)  # type: ignore[misc]
    assert len(processes(lunch, "web")) == 2, "one that publishes, one for all containers"
    told = lunch("network", "explain", "lunch").out
    assert "the kernel has what the log says" in told
    assert not world.links() & set(told.split()), "an interface is on the host"


def test_a_users_host_is_made_again(lunch: TheirTiffin) -> None:
    """When its process was killed, and when all of the user's processes were."""
    outward = processes(lunch, "web")[-1]
    world.kill(outward["pid"])
    eventually(lambda: not world.alive(outward["pid"]))
    assert "process pasta is missing" in lunch("system", "check", code=1).out
    lunch("network", "reload", "web")
    assert processes(lunch, "web")[-1] != outward
    lunch.who.log_out()
    lunch("start", "web")
    eventually(lambda: fetched(None, "http://127.0.0.1:18063"), seconds=30)
    assert "dns.podman" in guest(lunch, "nslookup", "web.dns.podman")
    lunch("system", "check")


def test_connecting_and_pods(lunch: TheirTiffin) -> None:
    lunch("network", "create", "attic")
    try:
        lunch("network", "connect", "attic", "web")
        lunch("network", "disconnect", "lunch", "web")
        eventually(lambda: fetched(None, "http://127.0.0.1:18063"), seconds=30)
        assert "the kernel has" in lunch("network", "explain", "web").out
        lunch("pod", "create", "--name", "table", "--network", "attic", "-p", "18064:80")
        lunch.detached("--pod", "table", BUSYBOX, "sh", "-c", SERVE)
        eventually(lambda: fetched(None, "http://127.0.0.1:18064"), seconds=30)
    finally:
        lunch("pod", "rm", "-f", "-t", "0", "-a")
        lunch("network", "rm", "-f", "-t", "0", "attic")


def test_several_at_once_make_one_host(box: TheirTiffin) -> None:
    def one(number: int) -> str:
        words = ("run", "--rm", "--network", "bridge", BUSYBOX, "echo", str(number))
        return box(*words, timeout=170).word

    with ThreadPoolExecutor(6) as pool:
        assert list(pool.map(one, range(6))) == list("012345")
    eventually(lambda: not others(box), lambda: f"processes are left: {others(box)}", seconds=30)
    assert not (box.run / "drivers/network-bridge/home").exists()


def test_networks_on_the_hosts_interfaces_are_roots(box: TheirTiffin) -> None:
    said = box.attempt("network", "create", "-d", "macvlan", "--subnet", "10.3.0.0/24", "wire")
    assert said.code == 125 and "driver macvlan is for root" in said.err
