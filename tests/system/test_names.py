"""Containers on a network of one's own find each other by name, through aardvark-dns."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from support import dns, world
from support.cli import BUSYBOX, Tiffin, eventually

OUTSIDE = "198.51.100.53"
"""The host's name server; it calls everything OUTSIDE_ANSWER."""
OUTSIDE_ANSWER = "203.0.113.1"
OTHER = "198.51.100.54"
OTHER_ANSWER = "203.0.113.2"


@pytest.fixture
def box(shared: Tiffin, tmp_path: Path) -> Iterator[Tiffin]:
    """The module's store; the host's resolver is ours. Nothing is left of any name server."""
    text = f"search corp.example\nnameserver {OUTSIDE}\nnameserver 127.0.0.1\noptions edns0\n"
    with dns.server(OUTSIDE, OUTSIDE_ANSWER), dns.host_resolver(tmp_path, text):
        yield shared
        shared("rm", "-a", "-f", "-t", "0")
        shared("network", "prune", "-f")
    assert not servers(shared)
    assert not list(shared.run.rglob("names"))


def servers(box: Tiffin) -> list[int]:
    """The processes that serve this store's names."""
    return [
        pid
        for pid, name, line in world.processes()
        if name == "aardvark-dns" and str(box.run) in line
    ]


def sleeper(box: Tiffin, name: str, *flags: str) -> str:
    return box.detached("--name", name, *flags, BUSYBOX, "sleep", "1000")


def netns(box: Tiffin, name: str) -> str:
    return box("inspect", "-f", "{{.NetworkSettings.SandboxKey}}", name).word


def address(box: Tiffin, name: str, network: str) -> str:
    found = box.inspect(name)["NetworkSettings"]["Networks"][network]
    return str(found["IPAddress"])


def gateway(box: Tiffin, network: str) -> str:
    found = json.loads(box("network", "inspect", network).out)
    return str(found[0]["subnets"][0]["gateway"])


def resolver(box: Tiffin, name: str) -> list[str]:
    return box("exec", name, "cat", "/etc/resolv.conf").lines


def test_names_ids_and_aliases_resolve(box: Tiffin) -> None:
    box("network", "create", "lunch")
    identifier = sleeper(box, "web", "--network", "lunch:alias=www", "--network-alias", "site")
    sleeper(box, "Guest", "--network", "lunch")
    web, guest = address(box, "web", "lunch"), address(box, "Guest", "lunch")
    server = gateway(box, "lunch")
    wanted = {
        **dict.fromkeys(("web", "www", "site", identifier[:12], "web.dns.podman", "WEB"), web),
        "guest": guest,
        "nobody": "NXDOMAIN",
        "nobody.dns.podman": "NXDOMAIN",
        "www.example": OUTSIDE_ANSWER,
    }
    for asker in ("web", "Guest"):
        assert dns.ask(netns(box, asker), server, *wanted) == wanted
    assert resolver(box, "web") == [
        "search dns.podman corp.example",
        f"nameserver {server}",
        "options edns0",
    ]
    assert f"Address: {web}" in box("exec", "Guest", "nslookup", "web.dns.podman").out
    assert dns.ask("", server, "web") == {"web": web}  # the host may ask as well
    box("rm", "-f", "-t", "0", "web")
    assert dns.ask(netns(box, "Guest"), server, "web", "www") == {
        "web": "NXDOMAIN",
        "www": "NXDOMAIN",
    }


def test_ipv6_gateways_answer_too(box: Tiffin) -> None:
    box("network", "create", "--ipv6", "lunch")
    sleeper(box, "web", "--network", "lunch")
    subnets = json.loads(box("network", "inspect", "lunch").out)[0]["subnets"]
    found = dns.ask(netns(box, "web"), subnets[1]["gateway"], "web")
    assert found == {"web": address(box, "web", "lunch")}
    assert resolver(box, "web")[1:3] == [f"nameserver {subnet['gateway']}" for subnet in subnets]
    assert "fd" in box("exec", "web", "nslookup", "-type=aaaa", "web.dns.podman").out


def test_networks_do_not_hear_of_each_other(box: Tiffin) -> None:
    for name in ("lunch", "dinner", "supper"):
        box("network", "create", "-o", "isolate=true", name)
    sleeper(box, "web", "--network", "lunch", "--network-alias", "same")
    sleeper(box, "db", "--network", "dinner", "--network-alias", "same")
    sleeper(box, "both", "--network", "lunch,dinner")
    lunch, dinner = gateway(box, "lunch"), gateway(box, "dinner")
    web, db = address(box, "web", "lunch"), address(box, "db", "dinner")
    assert dns.ask(netns(box, "web"), lunch, "db", "same") == {"db": "NXDOMAIN", "same": web}
    assert dns.ask(netns(box, "db"), dinner, "web", "same") == {"web": "NXDOMAIN", "same": db}
    asked_elsewhere = dns.ask(netns(box, "web"), dinner, "db")["db"]
    assert "rror" in asked_elsewhere  # refused, or nobody answers
    for server in (lunch, dinner):
        for suffix in ("", ".dns.podman"):
            names = [f"web{suffix}", f"db{suffix}", f"same{suffix}"]
            found = dns.ask(netns(box, "both"), server, *names)
            assert found == {
                names[0]: web,
                names[1]: db,
                names[2]: " ".join(sorted((web, db))),
            }


def test_internal_networks_have_names_and_nothing_else(box: Tiffin) -> None:
    """CVE-2024-29018: nothing is asked for outside, which would carry out what is in the names."""
    box("network", "create", "--internal", "inner")
    box("network", "create", "lunch")
    sleeper(box, "deep", "--network", "inner", "--dns", OTHER)
    sleeper(box, "both", "--network", "inner,lunch")
    server = gateway(box, "inner")
    with dns.server(OTHER, OTHER_ANSWER):
        found = dns.ask(netns(box, "deep"), server, "both", "www.example")
    assert found["both"] == address(box, "both", "inner")
    assert "203.0.113" not in found["www.example"]
    assert resolver(box, "deep")[-1] == "options timeout:1 attempts:1"
    assert f"nameserver {gateway(box, 'lunch')}" in resolver(box, "both")
    found = dns.ask(netns(box, "both"), gateway(box, "lunch"), "deep", "www.example")
    assert found == {"deep": address(box, "deep", "inner"), "www.example": OUTSIDE_ANSWER}


def test_other_names_go_to_the_networks_or_the_containers_servers(box: Tiffin) -> None:
    box("network", "create", "--dns", OTHER, "lunch")
    box("network", "create", "dinner")
    (made,) = json.loads(box("network", "inspect", "lunch").out)
    assert (made["dns_enabled"], made["network_dns_servers"]) == (True, [OTHER])
    sleeper(box, "one", "--network", "lunch")
    sleeper(box, "two", "--network", "dinner", "--dns", OTHER)
    with dns.server(OTHER, OTHER_ANSWER):
        for name, network in (("one", "lunch"), ("two", "dinner")):
            found = dns.ask(netns(box, name), gateway(box, network), name, "www.example")
            assert found == {name: address(box, name, network), "www.example": OTHER_ANSWER}
    assert f"nameserver {gateway(box, 'dinner')}" in resolver(box, "two")


def test_update_changes_the_servers_of_a_network_with_containers_on_it(box: Tiffin) -> None:
    box("network", "create", "lunch")
    sleeper(box, "web", "--network", "lunch")

    def answers() -> str:
        return dns.ask(netns(box, "web"), gateway(box, "lunch"), "www.example")["www.example"]

    with dns.server(OTHER, OTHER_ANSWER):
        assert answers() == OUTSIDE_ANSWER
        assert box("network", "update", "--dns-add", f"{OTHER},{OTHER}", "lunch").word == "lunch"
        assert answers() == OTHER_ANSWER
        (made,) = json.loads(box("network", "inspect", "lunch").out)
        assert made["network_dns_servers"] == [OTHER]
        sleeper(box, "guest", "--network", "lunch")
        assert answers() == OTHER_ANSWER
        box("network", "create", "dinner")
        box("network", "connect", "dinner", "web")  # whose attachment is older than the update
        assert answers() == OTHER_ANSWER
        box("network", "update", "--dns-drop", OTHER, "--dns-add", OUTSIDE, "lunch")
        assert answers() == OUTSIDE_ANSWER
    before = box("network", "inspect", "lunch").out
    box("system", "rebuild")
    assert box("network", "inspect", "lunch").out == before
    identifier = json.loads(before)[0]["id"]
    types = [e["type"] for e in box.events() if e["stream"] == f"network/{identifier}"]
    assert types == ["network.created", *["network.update_planned", "network.updated"] * 2]
    box("network", "create", "--disable-dns", "plain")
    box.fails("network", "update", "--dns-add", OTHER, "plain", says="has no names")
    box.fails("network", "update", "--dns-add", "x", "lunch", says="--dns-add 'x'")
    box.fails("network", "update", "lunch", says="nothing to change")
    box.fails("network", "update", "--dns-add", OTHER, "supper", says="no such network")


def test_flags_of_resolv_conf(box: Tiffin) -> None:
    box("network", "create", "--disable-dns", "plain")
    box("network", "create", "lunch")
    (made,) = json.loads(box("network", "inspect", "plain").out)
    assert made["dns_enabled"] is False

    def lines(*flags: str) -> list[str]:
        return box("run", "--rm", *flags, BUSYBOX, "cat", "/etc/resolv.conf").lines

    hosts = ["search corp.example", f"nameserver {OUTSIDE}", "options edns0"]
    assert lines("--network", "plain") == hosts
    assert lines() == hosts
    assert lines("--dns", OTHER) == [hosts[0], f"nameserver {OTHER}", hosts[2]]
    searched = ("--dns-search", "a.example,b.example", "--dns-option", "ndots:3")
    assert lines("--network", "lunch", *searched) == [
        "search a.example b.example",
        f"nameserver {gateway(box, 'lunch')}",
        "options ndots:3",
    ]
    assert lines("--dns-search", ".") == hosts[1:]
    assert not servers(box)
    box("run", "--rm", "--dns", "none", BUSYBOX, "cat", "/etc/resolv.conf", code=1)
    sleeper(box, "web", "--network", "plain")
    box.fails("run", "--dns", "none", "--dns-search", "a", BUSYBOX, says="--dns none")
    box.fails("run", "--dns-search", "a b", BUSYBOX, says="is not a word")
    box.fails("run", "--dns-option", "a\nnameserver 1.1.1.1", BUSYBOX, says="is not a word")
    box.fails("network", "create", "--dns", "x", says="--dns 'x' is not an IP address")
    box.fails("network", "create", "--dns", OTHER, "--disable-dns", says="for networks with names")
    inspected = box.inspect("web")["HostConfig"]
    assert (inspected["Dns"], inspected["DnsSearch"], inspected["DnsOptions"]) == ([], [], [])


@contextlib.contextmanager
def resolved(directory: Path, text: str) -> Iterator[None]:
    """A host with systemd-resolved: its file names a stub, another one the real servers."""
    folder = Path("/run/systemd/resolve")
    made = [path for path in (folder, folder.parent) if not path.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    (directory / "resolved").mkdir()
    (directory / "resolved/resolv.conf").write_text(text)
    subprocess.run(["mount", "--bind", directory / "resolved", folder], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", folder], check=True)
        for path in made:
            path.rmdir()


def test_a_host_with_systemd_resolved(box: Tiffin, tmp_path: Path) -> None:
    """Its stub on 127.0.0.53 is out of a container's reach, the servers behind it are not."""
    real = f"nameserver {OTHER}\nsearch office.example\n"
    stub = "nameserver 127.0.0.53\noptions edns0 trust-ad\nsearch office.example\n"
    (tmp_path / "stub").mkdir()
    show = (BUSYBOX, "cat", "/etc/resolv.conf")
    with dns.host_resolver(tmp_path / "stub", stub), resolved(tmp_path, real):
        lines = box("run", "--rm", *show).lines
        assert lines == ["search office.example", f"nameserver {OTHER}"]
        assert box("run", "--rm", "--network", "host", *show).lines[1] == "nameserver 127.0.0.53"


def test_hosts_are_the_images_or_the_hosts(box: Tiffin, tmp_path: Path) -> None:
    show = (BUSYBOX, "cat", "/etc/hosts")
    image = box("run", "--rm", "--no-hosts", *show).out
    assert "host.containers.internal" not in image and "localhost" in image
    box.detached("--name", "bare", "--no-hosts", BUSYBOX, "sleep", "1000")
    assert box("run", "--rm", "--network", "container:bare", *show).out == image
    box("network", "create", "lunch")
    box("network", "connect", "lunch", "bare")
    assert box("exec", "bare", "cat", "/etc/hosts").out == image
    (tmp_path / "hosts").write_text("127.0.0.1 localhost\n10.1.2.3 printer\n")
    subprocess.run(["mount", "--bind", tmp_path / "hosts", "/etc/hosts"], check=True)
    try:
        up = ("--add-host", "up:host-gateway")
        lines = box("run", "--rm", "--network", "host", *up, *show).lines
    finally:
        subprocess.run(["umount", "/etc/hosts"], check=True)
    assert lines[:3] == ["127.0.0.1\tup", "127.0.0.1 localhost", "10.1.2.3 printer"]


@pytest.mark.parametrize(
    "alias", ["ünï", "two words", "a,b", "a\n10.0.0.1", "-x", "a..b", "a.", "x" * 64, "", "a/b"]
)
def test_odd_names_are_refused(box: Tiffin, alias: str) -> None:
    box("network", "create", "lunch")
    flags = ("create", "--network", "lunch", "--network-alias", alias, BUSYBOX)
    box.fails(*flags, says="cannot be a name on a network")
    if "," not in alias and alias:
        word = f"lunch:alias={alias}"
        box.fails("create", "--network", word, BUSYBOX, says="cannot be a name on a network")
    box.fails("create", "--network", "none", "--network-alias", "a", BUSYBOX, says="for networks")


def test_no_query_is_lost_while_containers_come_and_go(box: Tiffin) -> None:
    """Ten start at once and go again, and each is known as soon as it runs."""
    box("network", "create", "lunch")
    sleeper(box, "web", "--network", "lunch")
    web, server, place = address(box, "web", "lunch"), gateway(box, "lunch"), netns(box, "web")
    asking = dns.asking(place, server, "web", "web.dns.podman", seconds=6)
    asking_outside = dns.asking(place, server, "www.example", seconds=6)
    script = "nslookup web.dns.podman >/dev/null && nslookup $0.dns.podman >/dev/null && echo well"
    started = [
        box.start(
            *("run", "--rm", "--name", f"guest{number}", "--network", "lunch"),
            *(BUSYBOX, "sh", "-c", script, f"guest{number}"),
        )
        for number in range(10)
    ]
    for process in started:
        out, err = process.communicate(timeout=60)
        assert (process.returncode, out) == (0, b"well\n"), err
    lines = asking.communicate(timeout=30)[0].splitlines()
    wrong = [line for line in lines if line not in (f"web {web}", f"web.dns.podman {web}")]
    assert not wrong
    assert len(lines) > 20, "a quiet machine asks 400 times"
    outside = set(asking_outside.communicate(timeout=30)[0].splitlines())
    assert outside == {f"www.example {OUTSIDE_ANSWER}"}
    # A server that still had answers to give when it was replaced is ended by the next change.
    box("run", "--rm", "--network", "lunch", BUSYBOX, "true")
    assert len(servers(box)) == 2, "the present one and the spare"
    gone = dns.ask(place, server, "guest0", "guest9")
    assert set(gone.values()) == {"NXDOMAIN"}


def test_a_killed_server_is_started_by_the_next_container(box: Tiffin) -> None:
    box("network", "create", "lunch")
    sleeper(box, "web", "--network", "lunch")
    (old,) = servers(box)
    os.kill(old, signal.SIGKILL)
    sleeper(box, "guest", "--network", "lunch")
    (new,) = servers(box)
    assert new != old
    found = dns.ask(netns(box, "guest"), gateway(box, "lunch"), "web")
    assert found == {"web": address(box, "web", "lunch")}


def test_two_servers_take_turns(box: Tiffin) -> None:
    """None is started for a change, unless the spare cannot be told of it; not by a version of it
    that does not show when it has reloaded."""

    def change(name: str) -> set[int]:
        sleeper(box, name, "--network", "lunch")
        found = dns.ask(netns(box, name), gateway(box, "lunch"), name)
        assert found == {name: address(box, name, "lunch")}
        return set(servers(box))

    box("network", "create", "lunch")
    (first,) = change("a")
    both = change("b")
    assert len(both) == 2 and first in both
    assert change("c") == both == change("d")
    (second,) = both - {first}
    (place,) = box.run.rglob("names")
    assert os.readlink(place / "present") == "2" and os.readlink(place / "spare") == "1"
    os.utime(place / "1", (0, 0))  # long since it was asked: so it is not left to answer
    os.kill(first, signal.SIGSTOP)
    others = change("e")
    assert second in others and first not in others and len(others) == 2
    (place / "version").write_text("aardvark-dns 1.14.0\n")
    third = change("f")
    assert len(third) == 1 and not os.path.lexists(place / "spare")
    assert not third & change("g")


def test_the_server_is_in_no_containers_cgroup_and_keeps_nothing_open(box: Tiffin) -> None:
    box("network", "create", "lunch")
    done = box("run", "-d", "--name", "web", "--network", "lunch", BUSYBOX, "sleep", "1000")
    (pid,) = servers(box)
    places = Path(f"/proc/{pid}/cgroup").read_text().splitlines()
    assert not [line for line in places if done.word[:12] in line]
    assert world.parent(pid) == 1
    for fd in ("0", "1", "2"):
        assert os.readlink(f"/proc/{pid}/fd/{fd}") == "/dev/null"
    box("kill", "web")
    eventually(lambda: not servers(box), lambda: "the server goes with the last container")


def test_a_container_that_publishes_port_53_gets_no_queries_of_others(box: Tiffin) -> None:
    box("network", "create", "lunch")
    sleeper(box, "web", "--network", "lunch")
    port = f"{gateway(box, 'lunch')}:53:53/udp"
    sleeper(box, "pihole", "--network", "lunch", "-p", port)
    found = dns.ask(netns(box, "web"), gateway(box, "lunch"), "pihole")
    assert found == {"pihole": address(box, "pihole", "lunch")}


def test_port_53_of_the_host_may_be_taken(box: Tiffin) -> None:
    box("network", "create", "lunch")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            taken.bind(("0.0.0.0", 53))
        except OSError:
            taken.bind(("127.0.0.1", 53))
        sleeper(box, "web", "--network", "lunch")
        found = dns.ask(netns(box, "web"), gateway(box, "lunch"), "web")
        assert found == {"web": address(box, "web", "lunch")}


def test_without_aardvark_dns_the_error_says_what_to_install(box: Tiffin) -> None:
    program = "/usr/lib/podman/aardvark-dns"
    box("network", "create", "lunch")
    subprocess.run(["mount", "--bind", "/dev/null", program], check=True)
    try:
        flags = ("--name", "early", "--network", "lunch")
        box.fails("run", *flags, BUSYBOX, says="apt install aardvark-dns")
        assert box("ps", "-a", "--format", "{{.Names}}").lines.count("early") == 0
    finally:
        subprocess.run(["umount", program], check=True)
    sleeper(box, "web", "--network", "lunch")
    sleeper(box, "guest", "--network", "lunch")
    subprocess.run(["mount", "--bind", "/dev/null", program], check=True)
    try:
        box("rm", "-f", "-t", "0", "guest")  # what is there goes all the same
        found = dns.ask(netns(box, "web"), gateway(box, "lunch"), "web", "guest")
        assert found["guest"] == "NXDOMAIN"
        box("run", "--rm", BUSYBOX, "true")
    finally:
        subprocess.run(["umount", program], check=True)
    sleeper(box, "third", "--network", "lunch")
    found = dns.ask(netns(box, "web"), gateway(box, "lunch"), "web", "third", "guest")
    assert found == {
        **{name: address(box, name, "lunch") for name in ("web", "third")},
        "guest": "NXDOMAIN",
    }


def test_explain_knows_the_rules_for_names(box: Tiffin) -> None:
    box("network", "create", "--ipv6", "lunch")
    sleeper(box, "web", "--network", "lunch")
    sleeper(box, "guest", "--network", "lunch")
    told = box("network", "explain", "lunch").out
    assert f"{gateway(box, 'lunch')} answers for names" in told
    before = box("network", "explain", "--format", "json", "lunch").out
    subprocess.run(["nft", "flush", "chain", "inet", "tiffin", "ask"], check=True)
    assert box("network", "explain", "--format", "json", "lunch").out != before
    box("network", "reload", "web")
    assert box("network", "explain", "--format", "json", "lunch").out == before


def test_flushed_rules_come_back_with_the_next_container(box: Tiffin) -> None:
    box("network", "create", "lunch")
    sleeper(box, "web", "--network", "lunch")
    subprocess.run(["nft", "delete", "table", "inet", "tiffin"], check=True)
    sleeper(box, "guest", "--network", "lunch")
    found = dns.ask(netns(box, "guest"), gateway(box, "lunch"), "web", "guest")
    assert found == {name: address(box, name, "lunch") for name in ("web", "guest")}
    subprocess.run(["nft", "flush", "map", "inet", "tiffin", "names4"], check=True)
    sleeper(box, "third", "--network", "lunch")
    found = dns.ask(netns(box, "guest"), gateway(box, "lunch"), "third")
    assert found == {"third": address(box, "third", "lunch")}
