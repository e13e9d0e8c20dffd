"""Every storage driver with every runtime on every network."""

from __future__ import annotations

import itertools
import json
import os
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from support import registry, world
from support.cli import BUSYBOX, Tiffin, eventually

pytestmark = pytest.mark.outside

MATRIX = [
    pytest.param(*choice, id="-".join(choice))
    for choice in itertools.product(
        ("overlay", "vfs"), ("runc", "crun"), ("none", "host", "bridge")
    )
]


@contextmanager
def listening() -> Iterator[int]:
    """A server on the host that says hello to whoever connects; gives its port."""
    with socket.create_server(("0.0.0.0", 0)) as listener:

        def serve() -> None:
            while True:
                try:
                    client, _ = listener.accept()
                except OSError:
                    return
                with client:
                    client.sendall(b"hello from the host\n")

        thread = threading.Thread(target=serve)
        thread.start()
        yield listener.getsockname()[1]
        listener.shutdown(socket.SHUT_RDWR)
        thread.join()


@pytest.mark.parametrize(("storage", "runtime", "network"), MATRIX)
def test_every_combination(tiffin: Tiffin, storage: str, runtime: str, network: str) -> None:
    chosen = tiffin.using(f"--storage-driver={storage}", f"--runtime={runtime}")
    chosen("pull", BUSYBOX)

    name = chosen.create("--name", "one", f"--network={network}", BUSYBOX, "sleep", "1000")
    mount = chosen("mount", "one").word
    kinds = [m.type for m in world.mounts() if m.target == mount]
    assert ("overlay" in kinds) == (storage == "overlay")
    chosen("unmount", "one")
    chosen("start", "one")
    pid, conmon = chosen.pid("one"), chosen.conmon("one")
    with open(f"/proc/{conmon}/cmdline") as file:
        assert runtime in file.read()

    ours, theirs = world.namespace("self", "net"), world.namespace(pid, "net")
    assert (ours == theirs) == (network == "host")
    interfaces = chosen("exec", "one", "ls", "/sys/class/net").out.split()
    assert (
        set(interfaces)
        == {"none": {"lo"}, "host": world.links(), "bridge": {"lo", "eth0"}}[network]
    )
    with listening() as port:
        if network == "bridge":
            route = chosen("exec", "one", "ip", "route").out
            gateway = route.split("default via ")[1].split()[0]
            assert "hello" in chosen("exec", "one", "nc", gateway, str(port)).out
        if network == "host":
            assert "hello" in chosen("exec", "one", "nc", "127.0.0.1", str(port)).out
        if network == "none":
            assert chosen.attempt("exec", "one", "nc", "127.0.0.1", str(port)).code == 1

    chosen("exec", "one", "touch", "/written")
    chosen("stop", "-t", "0", "one")
    assert chosen.status("one") == "exited"
    assert chosen("start", "one").word in ("one", name)
    chosen("exec", "one", "test", "-e", "/written")
    chosen("rm", "-f", "-t", "0", "one")
    flags = ("--rm", f"--network={network}", "-e", "LUNCH=dal")
    assert "LUNCH=dal" in chosen("run", *flags, BUSYBOX, "env").lines


def test_containers_of_both_storage_drivers_and_both_runtimes_live_side_by_side(
    tiffin: Tiffin,
) -> None:
    for storage, runtime in itertools.product(("overlay", "vfs"), ("runc", "crun")):
        chosen = tiffin.using(f"--storage-driver={storage}", f"--runtime={runtime}")
        chosen.detached(
            "--name", f"{storage}-{runtime}", "--network=none", BUSYBOX, "sleep", "1000"
        )
    assert len(tiffin("ps", "-q").lines) == 4
    for name in tiffin("ps", "--format", "{{.Names}}").lines:
        storage, runtime = name.split("-")
        found = tiffin.inspect(name)
        assert (found["Driver"], os.path.basename(found["OCIRuntime"])) == (storage, runtime)
        tiffin("exec", name, "true")
        tiffin("restart", "-t", "0", name)
        assert tiffin.inspect(name)["Driver"] == storage


def test_the_runtime_can_be_a_path(tiffin: Tiffin) -> None:
    tiffin.using("--runtime=/usr/bin/crun")("run", "--rm", "--network=none", BUSYBOX, "true")


def test_two_containers_on_the_bridge_reach_each_other(tiffin: Tiffin) -> None:
    server = tiffin.detached(
        "--name", "server", BUSYBOX, "nc", "-l", "-p", "80", "-e", "echo", "hi"
    )
    address = tiffin.inspect(server)["NetworkSettings"]["IPAddress"]
    assert tiffin("run", "--rm", BUSYBOX, "nc", address, "80").out == "hi\n"


def test_a_published_port_is_served_until_the_container_ends(tiffin: Tiffin) -> None:
    port = registry.free_port()
    loop = ("sh", "-c", "while true; do echo hi | nc -l -p 80; done")
    name = tiffin.detached("-p", f"{port}:80", "--stop-signal=KILL", BUSYBOX, *loop)
    assert str(port) in world.ruleset()
    gateway = tiffin.inspect(name)["NetworkSettings"]["Gateway"]

    def answer() -> bytes:
        try:
            with socket.create_connection((gateway, port), timeout=2) as client:
                return client.recv(100)
        except OSError:
            return b""

    eventually(lambda: answer() == b"hi\n")
    assert json.loads(tiffin("inspect", "--format", "{{json .NetworkSettings.Ports}}", name).out)
    tiffin.fails("run", "-d", "-p", f"{port}:80", BUSYBOX, "true", says=str(port))
    tiffin("stop", "-t", "1", name)
    assert str(port) not in world.ruleset()
    assert answer() == b""


def test_a_bridge_is_there_as_long_as_somebody_is_on_it(tiffin: Tiffin) -> None:
    before = world.links()
    first = tiffin.detached(BUSYBOX, "sleep", "1000")
    second = tiffin.detached(BUSYBOX, "sleep", "1000")
    assert len(world.links() - before) == 3, "a bridge and two veth ends"
    tiffin("rm", "-f", "-t", "0", first)
    assert len(world.links() - before) == 2
    tiffin("rm", "-f", "-t", "0", second)
    eventually(lambda: world.links() == before)
