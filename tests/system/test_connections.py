"""Several networks a container, and `network connect` and `disconnect`."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest
from support import dns
from support.cli import BUSYBOX, Tiffin


@pytest.fixture
def box(shared: Tiffin) -> Iterator[Tiffin]:
    """The module's store with the networks lunch, dinner and inner (internal)."""
    for name in ("lunch", "dinner"):
        shared("network", "create", name)
    shared("network", "create", "--internal", "inner")
    yield shared
    shared("rm", "-a", "-f", "-t", "0")
    shared("network", "prune", "-f")
    assert not list(shared.run.rglob("names"))


def sleeper(box: Tiffin, name: str, *flags: str) -> str:
    return box.detached("--name", name, *flags, BUSYBOX, "sleep", "1000")


def on(box: Tiffin, name: str) -> dict[str, Any]:
    """What inspect says of the container's networks, by their names."""
    found: dict[str, Any] = box.inspect(name)["NetworkSettings"]["Networks"]
    return found


def gateway(box: Tiffin, network: str) -> str:
    found = json.loads(box("network", "inspect", network).out)
    return str(found[0]["subnets"][0]["gateway"])


def ask(box: Tiffin, asker: str, network: str, *names: str) -> dict[str, str]:
    place = box("inspect", "-f", "{{.NetworkSettings.SandboxKey}}", asker).word
    return dns.ask(place, gateway(box, network), *names)


def links(box: Tiffin, name: str) -> dict[str, str]:
    """Interface -> its IPv4 address, as the container sees them."""
    lines = box("exec", name, "ip", "-o", "-4", "addr").lines
    pairs = [(line.split()[1], line.split()[3].partition("/")[0]) for line in lines]
    return {link: address for link, address in pairs if link != "lo"}


def routes(box: Tiffin, name: str) -> list[str]:
    lines = box("exec", name, "ip", "route").lines
    return [line.strip() for line in lines if line.startswith("default")]


def serve(box: Tiffin, name: str) -> None:
    """The container answers on port 80, to everybody, with its name."""
    script = f"while true; do echo {name} | nc -l -p 80; done"
    box("exec", "-d", name, "sh", "-c", script)


def heard(port: int, *, host: str = "127.0.0.1") -> str:
    """What a published port answers, tried until it does."""
    ask = f"said=$(nc -w 2 {host} {port} </dev/null)"
    script = f'for i in $(seq 50); do {ask} && [ "$said" ] && break; sleep 0.1; done; echo "$said"'
    done = subprocess.run(["busybox", "sh", "-c", script], capture_output=True, text=True)
    return done.stdout.split("\n")[0]


def types(box: Tiffin, name: str) -> list[str]:
    identifier = box("inspect", "-f", "{{.Id}}", name).word
    found = [event["type"] for event in box.events("--filter", f"container={identifier}")]
    return [kind.removeprefix("container.") for kind in found if "connect" in kind]


# --- several networks from the beginning ----------------------------------------------------------


def test_interfaces_addresses_and_routes_are_in_the_order_of_the_networks(box: Tiffin) -> None:
    sleeper(box, "web", "--network", "inner,lunch", "--network", "dinner:alias=www")
    shown = on(box, "web")
    assert list(shown) == ["inner", "lunch", "dinner"]
    assert links(box, "web") == {
        f"eth{at}": shown[name]["IPAddress"] for at, name in enumerate(shown)
    }
    assert routes(box, "web") == [
        f"default via {gateway(box, 'lunch')} dev eth1",
        f"default via {gateway(box, 'dinner')} dev eth2  metric 2001",
    ]
    assert [shown[name]["Aliases"][:-1] for name in shown] == [[], [], ["www"]]
    sleeper(box, "lunch-guest", "--network", "lunch")
    sleeper(box, "diner", "--network", "dinner")
    lunch, dinner = shown["lunch"]["IPAddress"], shown["dinner"]["IPAddress"]
    found = ask(box, "lunch-guest", "lunch", "web", "www", "diner")
    assert found == {"web": lunch, "www": "NXDOMAIN", "diner": "NXDOMAIN"}
    assert ask(box, "diner", "dinner", "web", "www") == {"web": dinner, "www": dinner}


def test_published_ports_belong_to_a_network_that_is_not_internal(box: Tiffin) -> None:
    sleeper(box, "web", "--network", "inner,lunch", "-p", "18097:80")
    serve(box, "web")
    assert heard(18097) == "web"


def test_options_are_of_one_network_at_a_time(box: Tiffin) -> None:
    word = "lunch,dinner:alias=www"
    box.fails("create", "--network", word, BUSYBOX, says="one network at a time")
    box.fails("create", "--network", "lunch,lunch", "--ip", "10.0.0.1", BUSYBOX, says="no subnet")


# --- connect --------------------------------------------------------------------------------------


def test_connect_puts_a_running_container_on_a_network(box: Tiffin) -> None:
    sleeper(box, "web", "--network", "lunch")
    sleeper(box, "diner", "--network", "dinner")
    address = gateway(box, "dinner").removesuffix(".1") + ".77"
    mac = "02:00:00:00:00:07"
    flags = ("--alias", "www", "--alias", "site", "--ip", address, "--mac-address", mac)
    assert box("network", "connect", *flags, "dinner", "web").out == ""
    shown = on(box, "web")["dinner"]
    assert (shown["IPAddress"], shown["MacAddress"]) == (address, mac)
    assert shown["Aliases"][:2] == ["www", "site"]
    assert links(box, "web")["eth1"] == address
    assert mac in box("exec", "web", "ip", "link", "show", "eth1").out
    found = ask(box, "diner", "dinner", "web", "www", "site")
    assert found == dict.fromkeys(("web", "www", "site"), address)
    assert ask(box, "web", "lunch", "diner")["diner"] == on(box, "diner")["dinner"]["IPAddress"]
    hosts = box("exec", "web", "cat", "/etc/hosts").lines
    assert [line for line in hosts if line.startswith(f"{address}\t")]
    (there,) = json.loads(box("network", "inspect", "dinner").out)
    assert {c["name"] for c in there["containers"].values()} == {"web", "diner"}
    assert types(box, "web") == ["connect_planned", "connected"]
    box("restart", "-t", "0", "web")
    assert links(box, "web")["eth1"] == address
    assert ask(box, "diner", "dinner", "www") == {"www": address}


def test_connect_and_disconnect_of_a_container_that_does_not_run(box: Tiffin) -> None:
    box.create("--name", "web", "--network", "lunch", BUSYBOX, "sleep", "1000")
    box("network", "connect", "--alias", "www", "dinner", "web")
    box("network", "disconnect", "lunch", "web")
    assert list(on(box, "web")) == ["dinner"]
    assert types(box, "web") == ["connected", "disconnected"]
    box.fails("network", "rm", "dinner", says="in use by web", code=2)
    box("network", "rm", "lunch")
    box("start", "web")
    assert list(links(box, "web")) == ["eth0"]
    assert ask(box, "web", "dinner", "www") == {"www": on(box, "web")["dinner"]["IPAddress"]}
    box("stop", "-t", "0", "web")
    box("network", "disconnect", "dinner", "web")
    box("start", "web")
    assert links(box, "web") == {}
    assert on(box, "web") == {}
    assert box("inspect", "-f", "{{.HostConfig.NetworkMode}}", "web").word == "bridge"
    assert box("ps", "--format", "{{.Networks}}").word == ""


def test_an_address_that_was_promised_is_not_given_to_others(box: Tiffin) -> None:
    address = gateway(box, "dinner").removesuffix(".1") + ".2"
    box.create("--name", "web", "--network", "lunch", BUSYBOX, "sleep", "1000")
    box("network", "connect", "--ip", address, "dinner", "web")
    sleeper(box, "diner", "--network", "dinner")
    assert on(box, "diner")["dinner"]["IPAddress"] != address
    box("start", "web")
    assert on(box, "web")["dinner"]["IPAddress"] == address
    box("network", "disconnect", "dinner", "web")
    sleeper(box, "late", "--network", "dinner")
    assert on(box, "late")["dinner"]["IPAddress"] == address


def test_published_ports_stay_reachable(box: Tiffin) -> None:
    sleeper(box, "web", "--network", "lunch", "-p", "18098:80")
    serve(box, "web")
    assert heard(18098) == "web"
    box("network", "connect", "dinner", "web")
    assert heard(18098) == "web"
    box("network", "disconnect", "lunch", "web")
    assert routes(box, "web") == [f"default via {gateway(box, 'dinner')} dev eth1  metric 2001"]
    assert heard(18098) == "web"
    box("network", "disconnect", "dinner", "web")
    box("network", "connect", "lunch", "web")
    assert heard(18098) == "web"
    assert heard(18098, host=gateway(box, "lunch")) == "web"
    box("rm", "-f", "-t", "0", "web")
    rules = subprocess.run(["nft", "list", "ruleset"], capture_output=True, text=True).stdout
    assert "18098" not in rules


def test_ports_of_an_internal_network_move_to_one_that_is_not(box: Tiffin) -> None:
    sleeper(box, "web", "--network", "inner", "-p", "18099:80")
    serve(box, "web")
    assert box("exec", "web", "cat", "/etc/resolv.conf").lines[-1].startswith("options timeout:1")
    box("network", "connect", "lunch", "web")
    assert heard(18099) == "web"
    assert routes(box, "web") == [f"default via {gateway(box, 'lunch')} dev eth1"]
    assert box("exec", "web", "cat", "/etc/resolv.conf").lines[:2] == [
        box("exec", "web", "cat", "/etc/resolv.conf").lines[0],
        f"nameserver {gateway(box, 'lunch')}",
    ]


# --- disconnect -----------------------------------------------------------------------------------


def test_disconnect_takes_interface_name_and_address_away(box: Tiffin) -> None:
    sleeper(box, "web", "--network", "lunch,dinner")
    sleeper(box, "guest", "--network", "lunch")
    box("exec", "web", "sh", "-c", "echo 203.0.113.9 mine >> /etc/hosts")
    gone = on(box, "web")["lunch"]["IPAddress"]
    assert box("network", "disconnect", "lunch", "web").out == ""
    assert list(links(box, "web")) == ["eth1"]
    assert list(on(box, "web")) == ["dinner"]
    assert ask(box, "guest", "lunch", "web") == {"web": "NXDOMAIN"}
    assert ask(box, "web", "dinner", "guest") == {"guest": "NXDOMAIN"}
    hosts = box("exec", "web", "cat", "/etc/hosts").lines
    assert not [line for line in hosts if line.startswith(gone)]
    assert "203.0.113.9 mine" in hosts
    resolver = box("exec", "web", "cat", "/etc/resolv.conf").lines
    servers = [line for line in resolver if line.startswith("nameserver")]
    assert servers == [f"nameserver {gateway(box, 'dinner')}"]
    box("network", "connect", "lunch", "web")
    assert set(links(box, "web")) == {"eth0", "eth1"}
    assert types(box, "web") == [
        "disconnect_planned",
        "disconnected",
        "connect_planned",
        "connected",
    ]


def test_disconnect_by_force_goes_on_when_the_driver_cannot(box: Tiffin) -> None:
    sleeper(box, "web", "--network", "lunch,dinner")
    (there,) = json.loads(box("network", "inspect", "lunch").out)
    subprocess.run(["ip", "link", "del", there["network_interface"]], check=True)
    box("network", "disconnect", "-f", "lunch", "web")
    assert list(on(box, "web")) == ["dinner"]


# --- what is wrong --------------------------------------------------------------------------------


def test_mistakes_are_one_line_and_change_nothing(box: Tiffin) -> None:
    sleeper(box, "web", "--network", "lunch")
    sleeper(box, "alone", "--network", "none")
    sleeper(box, "friend", "--network", "container:web")
    before = box.inspect("web")["NetworkSettings"]
    for verb in ("connect", "disconnect"):
        box.fails("network", verb, "supper", "web", says="no such network: supper")
        box.fails("network", verb, "lunch", "nobody", says="no such container: nobody")
        box.fails("network", verb, "lunch", "alone", says="--network none")
        box.fails("network", verb, "lunch", "friend", says="--network container:")
        box.fails("network", verb, "lunch", says="network")
    box.fails("network", "connect", "lunch", "web", says="already connected to network lunch")
    box.fails("network", "disconnect", "dinner", "web", says="not connected to network dinner")
    box.fails("network", "disconnect", "-f", "lunch", "nobody", says="no such container")
    box.fails("network", "connect", "--ip", "198.51.100.7", "dinner", "web", says="no subnet")
    box.fails("network", "connect", "--ip", "x", "dinner", "web", says="--ip 'x'")
    box.fails("network", "connect", "--alias", "a b", "dinner", "web", says="--alias 'a b'")
    taken = gateway(box, "lunch").removesuffix(".1") + ".2"
    sleeper(box, "diner", "--network", "dinner")
    box.fails("network", "connect", "--ip", taken, "lunch", "diner", says="is taken by container")
    assert box.inspect("web")["NetworkSettings"] == before
    assert types(box, "web") == []


def test_a_connection_that_fails_is_undone(box: Tiffin) -> None:
    """The bridge's name is somebody else's by now."""
    sleeper(box, "web", "--network", "lunch")
    before = box.inspect("web")["NetworkSettings"]
    (there,) = json.loads(box("network", "inspect", "dinner").out)
    foreign = there["network_interface"]
    subprocess.run(["ip", "link", "add", foreign, "type", "bridge"], check=True)
    try:
        box.fails("network", "connect", "dinner", "web", says="is not tiffin's")
    finally:
        subprocess.run(["ip", "link", "del", foreign], check=True)
    assert box.inspect("web")["NetworkSettings"] == before
    assert types(box, "web") == ["connect_planned", "connect_failed"]
    box("network", "connect", "dinner", "web")


def test_tables_are_the_fold_of_the_log(box: Tiffin) -> None:
    sleeper(box, "web", "--network", "lunch", "-p", "18096:80")
    box("network", "connect", "--alias", "www", "dinner", "web")
    box("network", "disconnect", "lunch", "web")
    box.create("--name", "made", "--network", "lunch", BUSYBOX)
    box("network", "connect", "--mac-address", "02:00:00:00:00:09", "dinner", "made")
    before = box("inspect", "web", "made").out
    box("system", "rebuild")
    assert box("inspect", "web", "made").out == before


def test_events_in_other_engines_shapes(box: Tiffin) -> None:
    sleeper(box, "web", "--network", "lunch")
    box("network", "connect", "dinner", "web")
    identifier = box("inspect", "-f", "{{.Id}}", "web").word
    flags = ("--filter", "event=connect", "--filter", f"container={identifier}")
    (line,) = box("events", "--format", "podman", *flags).lines
    shape = json.loads(line)
    assert (shape["Type"], shape["Status"], shape["Network"]) == ("network", "connect", "dinner")
    assert shape["ID"] == identifier
    (line,) = box("events", "--format", "docker", *flags).lines
    shape = json.loads(line)
    assert (shape["Type"], shape["Action"]) == ("network", "connect")
    assert shape["Actor"]["Attributes"] == {"container": identifier, "name": "dinner"}


@pytest.mark.parametrize("operation", ["connect", "disconnect"])
def test_what_a_killed_command_left_is_resolved(box: Tiffin, operation: str) -> None:
    """Killed at many moments; the next command finds one of the two states, whole."""
    sleeper(box, "web", "--network", "lunch,inner")
    if operation == "disconnect":
        box("network", "connect", "dinner", "web")
    for milliseconds in range(60, 260, 25):
        process = box.start("network", operation, "dinner", "web")
        try:
            process.wait(milliseconds / 1000)
        except subprocess.TimeoutExpired:
            process.kill()
        process.communicate()
        box("system", "recover")
        shown = on(box, "web")
        assert set(links(box, "web").values()) == {net["IPAddress"] for net in shown.values()}
        undo = "disconnect" if operation == "connect" else "connect"
        if ("dinner" in shown) == (operation == "connect"):
            box("network", undo, "dinner", "web")
