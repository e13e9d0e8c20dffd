"""Networks as people make, list and remove them."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.cli import BUSYBOX, Tiffin


@pytest.fixture
def box(shared: Tiffin) -> Iterator[Tiffin]:
    """The module's store, without containers and networks afterwards."""
    yield shared
    shared("rm", "-a", "-f", "-t", "0")
    shared("network", "prune", "-f")
    assert shared("network", "ls", "-q").lines in ([], ["bridge"])


def network(box: Tiffin, name: str) -> dict[str, object]:
    found: list[dict[str, object]] = json.loads(box("network", "inspect", name).out)
    return found[0]


def test_create_says_the_name_and_inspect_says_the_rest(box: Tiffin) -> None:
    flags = (
        "--subnet",
        "10.221.7.0/24",
        "--ip-range",
        "10.221.7.64/26",
        "--ipv6",
        "--label",
        "a=b",
    )
    assert box("network", "create", *flags, "-o", "mtu=1400", "lunch").word == "lunch"
    assert box("network", "create").word == "net1"
    made = network(box, "lunch")
    assert made["driver"] == "bridge"
    assert made["labels"] == {"a": "b"}
    assert made["options"] == {"mtu": "1400"}
    assert made["ipv6_enabled"] is True
    assert made["containers"] == {}
    assert made["subnets"][0] == {  # type: ignore[index]
        "subnet": "10.221.7.0/24",
        "gateway": "10.221.7.1",
        "lease_range": {"start_ip": "10.221.7.64", "end_ip": "10.221.7.127"},
    }

    def shown(template: str) -> str:
        return box("network", "inspect", "-f", template, "lunch").word

    first, second = list(made["subnets"])  # type: ignore[call-overload]
    assert json.loads(shown("{{json .Subnets}}")) == [first, second]
    assert json.loads(shown("{{json .}}")).keys() == made.keys()
    assert shown("{{.Labels}} {{(index .Subnets 0).LeaseRange.EndIP}}") == "map[a:b] 10.221.7.127"
    assert box("network", "ls", "--format", "{{.Labels}}", "-f", "name=lunch").word == "a=b"
    types = [event["type"] for event in box.events() if event["stream"] == f"network/{made['id']}"]
    assert types == ["network.created"]


def test_lists_are_filtered_and_formatted(box: Tiffin) -> None:
    box("network", "create", "--label", "meal=1", "lunch")
    box("network", "create", "--internal", "dinner")
    box.detached("--name", "guest", "--network", "lunch", BUSYBOX, "sleep", "1000")

    def names(*flags: str) -> list[str]:
        found = box("network", "ls", "-q", *flags).lines
        return [name for name in found if name != "bridge"]

    assert names() == ["dinner", "lunch"]
    box("network", "connect", "dinner", "guest")
    assert box("ps", "--format", "{{.Networks}}").word == "lunch,dinner"
    box("network", "disconnect", "dinner", "guest")
    assert names("--filter", "label=meal") == ["lunch"]
    assert names("--filter", "label!=meal") == ["dinner"]
    assert names("--filter", "dangling=true") == ["dinner"]
    assert names("--filter", "name=^lu") == ["lunch"]
    identifier = str(network(box, "lunch")["id"])
    assert names("--filter", f"id={identifier[:10]}") == ["lunch"]
    shown = box("network", "ls", "--format", "{{.Name}} {{.Internal}}").lines
    assert {"dinner true", "lunch false"} <= set(shown)
    assert box("network", "inspect", "-f", "{{len .Containers}}", "lunch").word == "1"
    (guest,) = network(box, "lunch")["containers"].values()  # type: ignore[attr-defined]
    assert guest["name"] == "guest"
    assert guest["interfaces"]["eth0"]["mac_address"].startswith("02:74:")
    box("network", "exists", identifier[:12])
    box("network", "exists", "supper", code=1)
    box.fails("network", "ls", "--filter", "size=3", says="unknown filter")
    box.fails("network", "inspect", "supper", says="no such network: supper")


def test_a_network_in_use_stays_unless_forced(box: Tiffin) -> None:
    box("network", "create", "lunch")
    box.create("--name", "guest", "--network", "lunch", BUSYBOX)
    box.fails("network", "rm", "lunch", says="in use by guest", code=2)
    assert box("network", "prune", "-f").out == ""
    box("network", "prune", code=0)
    assert box("network", "rm", "-f", "-t", "0", "lunch").word == "lunch"
    assert box("ps", "-aq").out == ""
    box.fails("network", "rm", "lunch", says="no such network", code=1)
    box.fails("network", "rm", "-t", "3", "lunch", says="--time is for --force")
    box.fails("create", "--network", "lunch", BUSYBOX, says="no such network: lunch")


def test_options_in_the_words_of_others(box: Tiffin) -> None:
    docker = "com.docker.network."
    box("network", "create", "-o", "isolate=1", "-o", f"{docker}driver.mtu=1400", "lunch")
    assert network(box, "lunch")["options"] == {"isolate": "true", "mtu": "1400"}
    box("network", "create", "-o", f"{docker}bridge.name=tfTestN", "dinner")
    assert network(box, "dinner")["network_interface"] == "tfTestN"


def test_the_default_network_is_there_before_it_is_used(tiffin: Tiffin) -> None:
    for words in (("ls", "-q"), ("inspect", "-f", "{{.Name}}", "bridge")):
        assert tiffin("network", *words).word == "bridge"
    assert tiffin("network", "explain", "bridge").lines[0].startswith("network bridge: bridge, ")
    assert len([e for e in tiffin.events() if e["type"] == "network.created"]) == 1


def test_the_default_network_stays(box: Tiffin) -> None:
    box("run", "--rm", BUSYBOX, "true")
    box.fails("network", "rm", "bridge", says="default network")
    assert box("network", "prune", "-f").out == ""
    box("network", "exists", "bridge")


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        (("--opt", "colour=red"), "--opt colour: not an option of bridges"),
        (("--opt", "isolate=maybe"), "--opt isolate=maybe"),
        (("--opt", "vlan=4095"), "--opt vlan=4095: not a VLAN"),
        (("--opt", "mtu"), "not of the form KEY=VALUE"),
        (("--driver", "pigeon"), "no network driver 'pigeon'"),
        (("--ipam-driver", "dhcp"), "--ipam-driver 'dhcp' is not there"),
        (("--interface-name", "lo"), "interface lo exists"),
        (("--subnet", "10.1"), "is not a subnet"),
        (("host",), "cannot be a network's name"),
    ],
)
def test_bad_wishes_are_one_line(box: Tiffin, flags: tuple[str, ...], says: str) -> None:
    box.fails("network", "create", *flags, says=says)


def test_a_subnet_that_is_taken_is_named(box: Tiffin) -> None:
    box("network", "create", "--subnet", "10.221.7.0/24", "lunch")
    box.fails("network", "create", "--subnet", "10.221.0.0/16", says="that of network lunch")
    box.fails("network", "create", "lunch", says="network lunch exists")
    assert box("network", "create", "--ignore", "lunch").word == "lunch"
    subprocess.run(["ip", "link", "add", "tfTestD", "type", "bridge"], check=True)
    try:
        for words in ("addr add 10.222.3.1/24 dev tfTestD", "link set tfTestD up"):
            subprocess.run(["ip", *words.split()], check=True)
        box.fails("network", "create", "--subnet", "10.222.3.0/25", says="in use on the host")
    finally:
        subprocess.run(["ip", "link", "del", "tfTestD"], check=True)


def test_the_definition_shows_in_the_container(box: Tiffin) -> None:
    route = "198.51.100.0/24,10.221.7.9,50"
    flags = ("--subnet", "10.221.7.0/24", "--ip-range", "10.221.7.64/26", "--route", route)
    box("network", "create", *flags, "-o", "mtu=1400", "lunch")
    ran = box("run", "--rm", "--network", "lunch", BUSYBOX, "sh", "-c", "ip addr; ip route")
    assert "10.221.7.64/24" in ran.out
    assert "mtu 1400" in ran.out
    assert "default via 10.221.7.1 dev eth0" in ran.out
    assert "198.51.100.0/24 via 10.221.7.9 dev eth0  metric 50" in ran.out


def test_tables_are_the_fold_of_the_log(box: Tiffin) -> None:
    box("network", "create", "lunch")
    box("network", "create", "dinner")
    box("network", "rm", "lunch")
    before = box("network", "inspect", "dinner").out
    box("system", "rebuild")
    assert box("network", "inspect", "dinner").out == before
    assert "lunch" not in box("network", "ls", "-q").lines


SERVE = ("sh", "-c", "while true; do echo here | nc -l -p 7000; done")


def address(box: Tiffin, name: str) -> str:
    row = box.inspect(name)["NetworkSettings"]["Networks"]
    (settings,) = row.values()
    return str(settings["IPAddress"])


def reaches(box: Tiffin, guest: str, host: str) -> bool:
    """A real connection from one container to another, tried a few times."""
    command = (
        f"for i in 1 2 3; do nc -w 1 {host} 7000 < /dev/null | grep here && exit; done; exit 1"
    )
    return box.attempt("exec", guest, "sh", "-c", command).code == 0


@pytest.mark.parametrize(
    ("one", "other", "apart"),
    [
        ((), (), False),
        (("--opt", "isolate=true"), (), False),
        (("--opt", "isolate=true"), ("--opt", "isolate=true"), True),
        (("--opt", "isolate=strict"), (), True),
        (("--internal",), (), True),
        (("--internal",), ("--internal",), True),
    ],
)
def test_who_reaches_whom(
    box: Tiffin, one: tuple[str, ...], other: tuple[str, ...], apart: bool
) -> None:
    box("network", "create", *one, "lunch")
    box("network", "create", *other, "dinner")
    box.detached("--name", "host", "--network", "lunch", BUSYBOX, *SERVE)
    box.detached("--name", "near", "--network", "lunch", BUSYBOX, *SERVE)
    box.detached("--name", "far", "--network", "dinner", BUSYBOX, *SERVE)
    assert reaches(box, "near", address(box, "host"))
    assert reaches(box, "far", address(box, "host")) is not apart
    assert reaches(box, "host", address(box, "far")) is not apart


def test_a_network_may_be_named_by_its_id(box: Tiffin) -> None:
    box("network", "create", "lunch")
    identifier = str(network(box, "lunch")["id"])
    box.create("--name", "guest", "--network", identifier[:12], BUSYBOX)
    box.fails("network", "rm", "lunch", says="in use by guest", code=2)


def test_a_range_that_is_used_up_is_named(box: Tiffin) -> None:
    box("network", "create", "--subnet", "10.221.8.0/24", "--ip-range", "10.221.8.4/31", "lunch")
    for _ in range(2):
        box.detached("--network", "lunch", BUSYBOX, "sleep", "1000")
    box.fails(
        "run",
        "--rm",
        "--network",
        "lunch",
        BUSYBOX,
        "true",
        says="no free address in 10.221.8.4/31",
    )
    assert len(box("ps", "-aq").lines) == 2


def kernel_has_vlans() -> bool:
    made = subprocess.run(
        ["ip", "link", "add", "tfvlan", "type", "bridge", "vlan_filtering", "1"],
        capture_output=True,
        check=False,
    )
    if made.returncode == 0:
        subprocess.run(["ip", "link", "del", "tfvlan"], check=True)
    return made.returncode == 0


def test_a_vlan(box: Tiffin) -> None:
    """All on the network are in it, the gateway too; where the kernel has none, that is said."""
    box("network", "create", "--opt", "vlan=42", "lunch")
    bridge = network(box, "lunch")["network_interface"]
    if not kernel_has_vlans():
        box.fails("run", "--network=lunch", BUSYBOX, "true", says="bridges have no VLANs")
        assert box("ps", "-a", "-q").out == ""
        return
    box.detached("--name=guest", "--network=lunch", BUSYBOX, "sleep", "1000")
    about = Path("/sys/class/net", str(bridge), "bridge")
    assert (about / "vlan_filtering").read_text() == "1\n"
    assert (about / "default_pvid").read_text() == "42\n"
    gateway = "{{range .NetworkSettings.Networks}}{{.Gateway}}{{end}}"
    for target in ("guest", box("inspect", "--format", gateway, "guest").word):
        ping = (BUSYBOX, "ping", "-c1", "-w5", target)
        box("run", "--rm", "--network=lunch", "--cap-add=NET_RAW", *ping)


def test_a_chosen_port_is_no_other_containers(box: Tiffin) -> None:
    """Published ports are bound by no program, so the kernel offers them again."""
    (first, last) = Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()
    number = int(first) + 101
    Path("/proc/sys/net/ipv4/ip_local_port_range").write_text(f"{number} {number + 3}")
    try:
        for name in ("one", "two", "three"):
            box("create", "--name", name, "-p", "80", "-p", "18089:81", "-p", "18089:81", BUSYBOX)
        assert box("port", "one", "81").word == "0.0.0.0:18089", "said twice"
        box.fails("create", "-p", "18089:81", "-p", "18089:82", BUSYBOX, says="published twice")
        box("create", "--name", "four", "-p", "80", BUSYBOX)
        found = {box("port", name, "80").word for name in ("one", "two", "three", "four")}
        assert found == {f"0.0.0.0:{number + at}" for at in range(4)}
        box.fails("create", "-p", "80", BUSYBOX, says="no free port on this host: containers pub")
    finally:
        Path("/proc/sys/net/ipv4/ip_local_port_range").write_text(f"{first} {last}")


def test_publish_all_publishes_what_is_exposed_and_not_published_already(box: Tiffin) -> None:
    box("create", "--name", "exposing", BUSYBOX)
    change = ("--change", "EXPOSE 80", "--change", "EXPOSE 53/udp")
    box("commit", *change, "exposing", "localhost/exposing:1")
    flags = ("--expose", "81", "--expose", "90-91/udp", "-p", "127.0.0.1::80")
    box("create", "--name", "web", *flags, "-P", "localhost/exposing:1")
    found = sorted(line.partition(" -> ")[0] for line in box("port", "web").lines)
    assert found == ["53/udp", "80/tcp", "81/tcp", "90/udp", "91/udp"]
    box("create", "--name", "quiet", "--expose", "81", "localhost/exposing:1")
    assert box("port", "quiet").out == ""
    box("run", "-d", "--name", "runs", "-P", "localhost/exposing:1", "sleep", "1000")
    assert len(box("port", "runs").lines) == 2
    for wrong in ("0", "90-80", "80/icmp", "x", "70000"):
        box.fails(
            "create", "--expose", wrong, BUSYBOX, says=f"--expose '{wrong}' is not of the form"
        )
    box("rm", "-a", "-f", "-t", "0")
    box("rmi", "localhost/exposing:1")
