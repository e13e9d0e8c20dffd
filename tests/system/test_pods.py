"""Pods: what their containers share, their ports and names, their life, and what a kill leaves."""

from __future__ import annotations

import json
import os
import random
import signal
import sqlite3
import subprocess
import time
from functools import partial
from pathlib import Path

import pytest
from support import world
from support.cli import BUSYBOX, Tiffin, eventually

SLEEP = (BUSYBOX, "sleep", "1000")


def namespaces(tiffin: Tiffin, name: str) -> dict[str, str]:
    pid = tiffin.pid(name)
    return {kind: world.namespace(pid, kind) for kind in ("net", "ipc", "uts", "pid", "mnt")}


def state(tiffin: Tiffin, pod: str) -> str:
    return tiffin("pod", "inspect", "-f", "{{.State}}", pod).word


def pinned(tiffin: Tiffin) -> list[str]:
    """What pods have made on the machine."""
    found = [str(path) for path in tiffin.run.glob("pods/*")]
    found += [str(path) for path in tiffin.run.glob("netns/*")]
    return found + [m.target for m in world.mounts_below(tiffin.run / "pods")]


def test_what_its_containers_share(shared: Tiffin) -> None:
    shared("pod", "create", "--network=none", "lunch")
    a = shared.detached("--pod=lunch", "--name=a", *SLEEP)
    shared.detached("--pod=lunch", "--name=b", *SLEEP)
    first, second = namespaces(shared, "a"), namespaces(shared, "b")
    assert {kind for kind in first if first[kind] == second[kind]} == {"net", "ipc", "uts"}
    assert not {world.namespace("self", kind) for kind in first} & set(first.values())
    assert shared("exec", "a", "hostname").word == "lunch"
    shared("exec", "a", "sh", "-c", "echo dal > /dev/shm/menu")
    assert shared("exec", "b", "cat", "/dev/shm/menu").out == "dal\n"
    found = json.loads(shared("pod", "inspect", "lunch").out)
    assert found["PausePid"] == 0 and found["NumContainers"] == 2
    assert found["SharedNamespaces"] == ["net", "ipc", "uts"]
    # Nothing but their own processes keeps a pod: no conmon, no pause process more.
    ours = [line for _, _, line in world.processes() if str(shared.base) in line]
    assert len([line for line in ours if "conmon" in line]) == 2
    shared("rm", "-f", "-t0", "a", "b")
    assert pinned(shared), "the pod stays until it is stopped"
    shared("start", shared.create("--pod=lunch", "--name=c", *SLEEP))
    assert world.namespace(shared.pid("c"), "uts") == first["uts"]
    assert shared.inspect("c")["Pod"] == found["Id"] and a != found["Id"]
    shared("pod", "rm", "-f", "lunch")
    assert pinned(shared) == []


def test_a_pid_namespace_has_a_process_to_hold_it(shared: Tiffin) -> None:
    shared("pod", "create", "--network=none", "--share=+pid", "p")
    shared.detached("--pod=p", "--name=a", *SLEEP)
    seen = shared("run", "--rm", "--pod=p", BUSYBOX, "ps", "-o", "pid,user,args").lines
    assert [line.split()[:2] for line in seen[1:3]] == [["1", "nobody"], ["2", "root"]]
    pause = json.loads(shared("pod", "inspect", "p").out)["PausePid"]
    assert world.status(pause, "CapBnd") == "0" * 16 and world.status(pause, "NoNewPrivs") == "1"
    world.kill(pause)
    eventually(lambda: not world.alive(pause), seconds=30)
    shared("pod", "start", "p")
    assert json.loads(shared("pod", "inspect", "p").out)["PausePid"] != pause
    assert state(shared, "p") == "Running"
    shared("pod", "rm", "-f", "p")
    shared("pod", "create", "--share=none", "q")
    shared.detached("--pod=q", "--network=none", "--name=a", *SLEEP)
    assert not list(shared.run.glob("netns/*"))
    shared("pod", "rm", "-f", "q")


def _found(tiffin: Tiffin, url: str) -> bool:
    argv = ("run", "--rm", "--network=backend", BUSYBOX, "wget", "-qO-", url)
    return tiffin.attempt(*argv).out == "hello\n"


def test_ports_and_names(shared: Tiffin) -> None:
    links = world.links()
    shared("network", "create", "backend")
    shared("pod", "create", "--network=backend", "-p", "127.0.0.1::80", "web")
    serve = "echo hello > /tmp/index.html; exec httpd -f -p 80 -h /tmp"
    shared.detached("--pod=web", "--name=server", BUSYBOX, "sh", "-c", serve)
    shared.detached("--pod=web", "--name=late", *SLEEP)
    port = json.loads(shared("pod", "inspect", "web").out)["InfraConfig"]["PortBindings"]["80/tcp"]
    address = f"http://127.0.0.1:{port[0]['HostPort']}/index.html"

    def answer() -> str:
        done = subprocess.run(["busybox", "wget", "-qO-", address], capture_output=True, text=True)
        return done.stdout

    eventually(lambda: answer() == "hello\n", seconds=30)
    fetch = ("wget", "-qO-", "http://server/index.html")
    assert shared("exec", "late", *fetch).out == "hello\n", "within the pod"
    for name in ("web", "server", "late"):  # and from outside of it, by each name in it
        eventually(partial(_found, shared, f"http://{name}/index.html"), seconds=60)
    assert shared("ps", "--filter=pod=web", "--format={{.Ports}}").lines[0].endswith("->80/tcp")
    assert "in use by pod web" in shared("network", "rm", "backend", code=2).err
    shared.fails("create", "--pod=web", "-p", "81:81", BUSYBOX, says="pod web")
    shared.fails("create", "--pod=web", "--network=none", BUSYBOX, says="pod web")
    shared.fails("create", "--pod=web", "--hostname=x", BUSYBOX, says="pod web")
    shared("pod", "stop", "-t0", "web")
    assert answer() == "" and pinned(shared) == []
    shared("pod", "rm", "web")
    shared("network", "rm", "backend")
    eventually(lambda: world.links() == links, lambda: f"{world.links() - links}")


def test_a_life(shared: Tiffin) -> None:
    pod = shared("pod", "create", "--network=none", "--label=tier=db", "life").word
    assert state(shared, "life") == "Created"
    for name in ("a", "b"):
        shared.create("--pod=life", f"--name={name}", *SLEEP)
    assert shared("pod", "start", "life").word == pod
    assert state(shared, "life") == "Running"
    shared("kill", "b")
    eventually(lambda: state(shared, "life") == "Degraded")
    shared.fails("pod", "rm", "life", code=2, says="running containers: a")
    shared("pod", "start", "life")
    shared("pod", "pause", "life")
    assert (state(shared, "life"), shared.status("a")) == ("Paused", "paused")
    shared("pod", "unpause", "life")
    shared("pod", "kill", "-s", "HUP", "life")
    shared("pod", "restart", "life")
    assert state(shared, "life") == "Running"
    assert [line.split()[1] for line in shared("pod", "top", "life", "user,args").lines] == [
        "COMMAND", "sleep", "sleep",
    ]  # fmt: skip
    rows = shared("pod", "stats", "--no-stream", "--format={{.Name}}", "life").lines
    assert sorted(rows) == ["a", "b"]
    shared("pod", "kill", "life")
    eventually(lambda: state(shared, "life") == "Exited")
    assert pinned(shared) == []
    assert shared("pod", "prune", "-f").word == pod
    assert shared("ps", "-aq").out == ""
    told = [e["type"] for e in shared.events() if e["stream"] == f"pod/{pod}"]
    for what in ("created", "started", "paused", "unpaused", "killed", "stopped", "removed"):
        assert f"pod.{what}" in told
    lines = shared("events", "--format=podman {{.Type}} {{.Status}} {{.Name}}", "--filter=pod=life")
    assert "pod start life" in lines.lines and "pod remove life" in lines.lines


def test_lists_and_logs(shared: Tiffin) -> None:
    one = shared("pod", "create", "--network=none", "--label=x=1", "one").word
    shared("pod", "create", "--network=none", "two")
    for name in ("a", "b"):
        shared("run", "--pod=one", f"--name={name}", BUSYBOX, "echo", f"from {name}")
    assert shared("pod", "ps", "--noheading", "--format={{.Name}}").lines == ["two", "one"]
    heading = shared("pod", "ps").lines[0]
    assert heading.split("  ")[0] == "POD ID" and heading.endswith("# OF CONTAINERS")
    for given, found in {
        "name=on": "one", "label=x": "one", "ctr-names=a": "one", "ctr-number=0": "two",
        "status=created": "two", f"id={one[:6]}": "one",
    }.items():  # fmt: skip
        argv = ("pod", "ps", "--format={{.Name}}", f"--filter={given}")
        assert shared(*argv).word == found, given
    (listed,) = json.loads(shared("pod", "ls", "--format=json", "--filter=name=one").out)
    assert [c["Names"] for c in listed["Containers"]] == ["a", "b"]
    assert shared("pod", "ps", "-q", "--no-trunc", "--filter=name=one").word == one
    assert shared("ps", "-a", "--pod", "--filter=pod=one").lines[1].split()[-2:] == [
        one[:12],
        "one",
    ]
    assert {c["PodName"] for c in json.loads(shared("ps", "-a", "--format=json").out)} == {"one"}
    assert sorted(shared("pod", "logs", "-n", "one").lines) == ["a from a", "b from b"]
    assert sorted(shared("pod", "logs", "-n", "-f", "one").lines) == ["a from a", "b from b"]
    assert shared("pod", "logs", "-c", "b", "one").lines == ["from b"]
    shared("pod", "exists", "one")
    shared("pod", "exists", "nosuch", code=1)
    for args in (["inspect"], ["start"], ["stop"], ["top"], ["logs"], ["kill"], ["pause"]):
        shared.fails("pod", *args, "nosuch", says="no such pod: nosuch")
    shared.fails("pod", "rm", "nosuch", code=1, says="no such pod: nosuch")
    shared("pod", "rm", "-f", "nosuch")
    shared.fails("pod", "create", "one", says="in use")
    shared.fails("pod", "create", "--share=cows", "x", says="cows")
    assert shared("pod", "create", "--replace", "--name=two").word
    shared("pod", "rm", "-a")
    assert shared("pod", "ps", "-q").out == "" and shared("ps", "-aq").out == ""


def test_a_new_pod_with_its_first_container(shared: Tiffin) -> None:
    shared.detached("--pod=new:fresh", "--network=none", "--hostname=kitchen", "--name=a", *SLEEP)
    assert shared("exec", "a", "hostname").word == "kitchen"
    assert state(shared, "fresh") == "Running"
    shared.fails("run", "--pod=new:fresh", BUSYBOX, "true", says="in use")
    shared.fails("run", "--pod=new:bad", "--pull=never", "nosuch", "true", says="nosuch")
    shared("pod", "exists", "bad", code=1)
    shared("pod", "rm", "-f", "-a")


def intents(tiffin: Tiffin) -> list[tuple[str, str]]:
    with sqlite3.connect(f"file:{tiffin.root}/tiffin.db?mode=ro", uri=True) as connection:
        return connection.execute("SELECT stream, operation FROM intents").fetchall()


@pytest.mark.parametrize("command", ["start", "rm"])
def test_killed_at_any_moment(shared: Tiffin, command: str) -> None:
    """The moments are spread over the time that the command takes; then nothing is left open."""
    links = world.links()
    argv = {"start": ("start",), "rm": ("rm", "-f", "-t0")}[command]

    def prepare() -> None:
        shared("pod", "create", "--share=+pid", "victim")
        shared.create("--pod=victim", "--name=member", *SLEEP)
        if command != "start":
            shared("pod", "start", "victim")

    prepare()
    began = time.monotonic()
    shared("pod", *argv, "victim")
    whole = time.monotonic() - began
    shared("pod", "rm", "-f", "-t0", "victim")
    generator = random.Random(command)
    for step in range(4):
        prepare()
        with shared.start("pod", *argv, "victim") as process:
            time.sleep(whole * (step + generator.random()) / 4)
            process.send_signal(signal.SIGKILL)
            process.communicate()
        shared("system", "recover")
        assert intents(shared) == []
        if shared.attempt("pod", "exists", "victim").code == 0:
            shared("pod", "start", "victim")
            if shared.attempt("inspect", "member").code == 0:
                assert shared.status("member") == "running"
            shared("pod", "rm", "-f", "-t0", "victim")
        assert pinned(shared) == []
        assert not list(shared.root.glob("pods/*"))
        left = [line for _, name, line in world.processes() if name == "catatonit"]
        assert not left, left
    eventually(lambda: world.links() == links, lambda: f"{world.links() - links}")
    shared("events", "verify")


@pytest.mark.parametrize("runtime", ["runc", "crun"])
def test_what_a_pod_gives_its_containers(shared: Tiffin, tmp_path: Path, runtime: str) -> None:
    # With systemd's, a parent is a slice of systemd's.
    tiffin = shared.using(f"--runtime={runtime}", "--cgroup-manager=cgroupfs")
    (tmp_path / "menu").write_text("dal\n")
    file = tmp_path / "id"
    parent = f"/tiffin-test-{os.getpid()}"
    pod = tiffin(
        *("pod", "create", "--network=none", f"--pod-id-file={file}", f"--cgroup-parent={parent}"),
        *("--sysctl=net.ipv4.ip_unprivileged_port_start=80", "--sysctl=kernel.msgmax=9000"),
        *("--device=/dev/null:/dev/void", f"--volume={tmp_path}:/given:ro", "gives"),
    ).word
    script = "cat /given/menu /proc/sys/net/ipv4/ip_unprivileged_port_start"
    script += " /proc/sys/kernel/msgmax; test -c /dev/void && cat /proc/self/cgroup"
    done = tiffin("run", "--rm", "--pod=gives", BUSYBOX, "sh", "-c", script)
    assert done.lines[:3] == ["dal", "80", "9000"]
    assert any(line.partition(":/")[2].startswith(parent[1:]) for line in done.lines[3:])
    own = ("-v", f"{file}:/given", "--sysctl=kernel.msgmax=9001")
    done = tiffin(
        "run", "--rm", "--pod=gives", *own, BUSYBOX, "cat", "/given", "/proc/sys/kernel/msgmax"
    )
    assert done.out == f"{pod}9001\n"
    assert tiffin("pod", "start", f"--pod-id-file={file}").out
    assert tiffin("pod", "stop", f"--pod-id-file={file}").out
    assert tiffin("pod", "rm", f"--pod-id-file={file}").out
    tiffin("pod", "rm", "--ignore", f"--pod-id-file={tmp_path}/none")
    shared.fails("pod", "rm", f"--pod-id-file={tmp_path}/none", says="no such file")
    for path in Path("/sys/fs/cgroup").glob(f"**/{parent[1:]}"):
        path.rmdir()


def test_pods_that_share_less(shared: Tiffin) -> None:
    shared("pod", "create", "--network=none", "--uts=host", "--pid=host", "open")
    script = "hostname; readlink /proc/self/ns/pid; readlink /proc/self/ns/uts"
    lines = shared("run", "--rm", "--pod=open", BUSYBOX, "sh", "-c", script).lines
    assert lines == [
        os.uname().nodename,
        *(os.readlink(f"/proc/self/ns/{n}") for n in ("pid", "uts")),
    ]
    shared("pod", "rm", "open")
    bad = {
        ("--pid=host", "--share=+pid"): "share one of their own",
        ("--sysctl=kernel.panic=1",): "belongs to the host",
        ("--pid=nosuch",): "nosuch",
        ("--exit-policy=stop",): "exit-policy",
        ("-v", "/nosuch:/x"): "no such file",
        ("--device=/nosuch",): "no such file",
    }
    for flags, says in bad.items():
        shared.fails("pod", "create", *flags, "bad", says=says)
    assert shared("pod", "ps", "-q").out == ""
