"""`--network container:ID` and `ns:PATH`: a network namespace that is there already."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.cli import BUSYBOX, Tiffin

from tiffin import netns
from tiffin.testing.network import inside


@pytest.fixture
def box(shared: Tiffin) -> Iterator[Tiffin]:
    """The module's store with a running container `host1`; without containers afterwards."""
    flags = ("--name", "one", "--hostname", "host1", "-p", "127.0.0.1:18099:80")
    shared.detached(*flags, BUSYBOX, "sleep", "1000")
    yield shared
    shared("rm", "-a", "-f", "-t", "0")


@pytest.fixture
def namespace(tmp_path: Path) -> Iterator[str]:
    path = str(tmp_path / "ns")
    netns.create(path)
    yield path
    netns.remove(path)


def address(box: Tiffin, name: str) -> str:
    return box("inspect", "-f", "{{.NetworkSettings.IPAddress}}", name).word


def test_the_other_containers_interfaces_names_and_resolvers(box: Tiffin) -> None:
    script = "hostname; ip -o addr show dev eth0; cat /etc/hosts; cat /etc/resolv.conf"
    flags = ("--name", "two", "--network", "container:one")
    lines = box("run", *flags, BUSYBOX, "sh", "-c", script).lines
    cid = box("inspect", "-f", "{{.Id}}", "two").word
    assert lines[0] == cid[:12], "its host name is its own"
    assert address(box, "one") in lines[1]
    assert f"{address(box, 'one')}\thost1 one" in lines
    assert f"127.0.0.1\t{cid[:12]} two" in lines
    own = box("exec", "one", "cat", "/etc/resolv.conf").lines
    assert lines[-len(own) :] == own
    assert f"{cid[:12]} two" in box("exec", "one", "cat", "/etc/hosts").out, "one file for both"
    named = ("--hostname", "host2", "--network", "container:one")
    assert box("run", "--rm", *named, BUSYBOX, "hostname").word == "host2"


def test_both_meet_on_loopback_and_at_the_published_port(box: Tiffin) -> None:
    serve = "mkdir /w; echo lunch > /w/menu; httpd -f -p 80 -h /w"
    flags = ("--name", "two", "--network", "container:one")
    box.detached(*flags, BUSYBOX, "sh", "-c", serve)
    get = "for i in 1 2 3 4 5 6 7 8 9; do wget -qO- http://127.0.0.1/menu && break; sleep 0.2; done"
    assert box("exec", "one", "sh", "-c", get).word == "lunch"
    command = ["busybox", "wget", "-qO-", "http://127.0.0.1:18099/menu"]
    assert subprocess.run(command, capture_output=True, check=True).stdout == b"lunch\n"


def test_reads_show_the_others_ports_and_addresses(box: Tiffin) -> None:
    box("create", "--name", "two", "--network", "container:one", BUSYBOX)
    box("create", "--name", "three", "--network", "container:two", BUSYBOX)
    one = json.loads(box("inspect", "one").out)[0]
    for name in ("two", "three"):
        assert box("port", name).word == "80/tcp -> 127.0.0.1:18099"
        shown = json.loads(box("inspect", name).out)[0]
        assert shown["NetworkSettings"] == one["NetworkSettings"]
    assert shown["HostConfig"]["NetworkMode"].startswith("container:")
    listed = box("ps", "-a", "--format", "{{.Names}} {{.Ports}} {{.Networks}}").lines
    assert sorted(listed) == [
        "one 127.0.0.1:18099->80/tcp bridge",
        "three 127.0.0.1:18099->80/tcp ",
        "two 127.0.0.1:18099->80/tcp ",
    ]
    two = box("inspect", "-f", "{{.Id}}", "two").word
    assert shown["HostConfig"]["NetworkMode"] == f"container:{two}", "the full id"


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        (("--dns", "198.51.100.1"), "--dns and --network container:one exclude each other"),
        (("--add-host", "a:198.51.100.1"), "--add-host and --network container:one exclude"),
        (("--ip", "10.1.2.3"), "--ip can only be set on a network"),
        (("--network", "bridge"), "cannot be combined"),
    ],
)
def test_what_only_an_own_network_can_have(box: Tiffin, flags: tuple[str, ...], says: str) -> None:
    box.fails("run", "--network", "container:one", *flags, BUSYBOX, "true", says=says)
    assert len(box("ps", "-aq").lines) == 1


def test_ports_are_left_out_and_that_is_said(box: Tiffin) -> None:
    done = box("run", "--rm", "--network", "container:one", "-p", "80:80", BUSYBOX, "true")
    assert done.err == (
        "Ports are not published with --network container:one: it has none of its own\n"
    )


def test_a_missing_and_a_stopped_container_are_named(box: Tiffin) -> None:
    says = "--network container:none-such: no such container: none-such"
    box.fails("run", "--network", "container:none-such", BUSYBOX, "true", says=says)
    box("create", "--name", "two", "--network", "container:one", BUSYBOX)
    box("stop", "-t", "0", "one")
    says = "container one, whose network two uses, does not run (tiffin start one)"
    box.fails("start", "two", says=says)
    assert box("inspect", "-f", "{{.State.Status}}", "two").word == "created"
    box("start", "one")
    box("start", "two")


def test_who_shares_its_network_stays_until_the_others_are_gone(box: Tiffin) -> None:
    box("network", "create", "lunch")
    box.detached("--name", "guest", "--network", "lunch", BUSYBOX, "sleep", "1000")
    box.detached("--name", "two", "--network", "container:guest", BUSYBOX, "sleep", "1000")
    says = "has dependent containers which must be removed before it: two"
    box.fails("rm", "-f", "guest", says=says, code=2)
    box("network", "rm", "-f", "-t", "0", "lunch")
    assert box("ps", "-a", "--format", "{{.Names}}").lines == ["one"]
    box("create", "--name", "two", "--network", "container:one", BUSYBOX)
    assert len(box("rm", "-a", "-f", "-t", "0").lines) == 2


def test_the_others_network_stays_when_a_guest_ends(box: Tiffin) -> None:
    box("run", "--rm", "--network", "container:one", BUSYBOX, "true")
    box.detached("--name", "two", "--network", "container:one", BUSYBOX, "sleep", "1000")
    box("rm", "-f", "-t", "0", "two")
    assert address(box, "one") in box("exec", "one", "ip", "addr").out


@pytest.mark.parametrize("mode", ["none", "host"])
def test_of_a_container_without_a_network_of_its_own(box: Tiffin, mode: str) -> None:
    box.detached("--name", "bare", "--network", mode, BUSYBOX, "sleep", "1000")
    flags = ("--rm", "--network", "container:bare")
    found = box("run", *flags, BUSYBOX, "readlink", "/proc/self/ns/net").word
    assert found == box("exec", "bare", "readlink", "/proc/self/ns/net").word


def test_a_namespace_at_a_path(box: Tiffin, namespace: str) -> None:
    for words in ("link add tfx type bridge", "addr add 198.51.100.77/24 dev tfx"):
        inside(namespace, "ip", *words.split())
    flags = ("--rm", "--network", f"ns:{namespace}")
    shown = box("run", *flags, BUSYBOX, "sh", "-c", "ip addr; cat /etc/hosts").out
    assert "198.51.100.77/24" in shown
    assert "\tlocalhost" in shown
    assert "tfx" in inside(namespace, "ip", "-br", "link"), "it is not ours to remove"


def test_what_is_no_namespace_is_refused(box: Tiffin) -> None:
    for path, says in (
        ("/run/netns/none-such", "/run/netns/none-such: No such file or directory"),
        ("/etc/passwd", "/etc/passwd is not a network namespace"),
        ("/proc/self/ns/mnt", "/proc/self/ns/mnt is not a network namespace"),
    ):
        box.fails("create", "--network", f"ns:{path}", BUSYBOX, says=says)
    box.fails("create", "--network", "ns:tfTestNs", BUSYBOX, says="not an absolute path")


def test_a_namespace_that_is_gone_at_start(box: Tiffin, namespace: str) -> None:
    box("create", "--name", "two", "--network", f"ns:{namespace}", BUSYBOX, "true")
    netns.remove(namespace)
    box.fails("start", "two", says=f"network namespace {namespace}: No such file")
