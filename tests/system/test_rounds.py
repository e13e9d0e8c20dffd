"""Containers that end by themselves: one engine cleans up after many."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from support import invariants
from support.cli import BUSYBOX, Tiffin, eventually

from tiffin import processes
from tiffin.layout import Layout

NUMBER = 5


@pytest.fixture
def started(shared: Tiffin) -> Iterator[list[str]]:
    """Names of containers that run; one is removed at its end."""
    names = [f"c{number}" for number in range(NUMBER)]
    for name in names:
        rm = ["--rm"] if name == "c0" else []
        shared("create", f"--name={name}", *rm, "--network=none", BUSYBOX, "sleep", "1000")
    shared("start", "--all")
    yield names
    shared("rm", "-a", "-f", "-t", "0")


def layout(tiffin: Tiffin) -> Layout:
    return Layout(str(tiffin.root), str(tiffin.run))


def end(tiffin: Tiffin, *names: str) -> None:
    pids = tiffin("inspect", "--format={{.State.Pid}}", *names).lines
    for pid in pids:
        os.kill(int(pid), signal.SIGKILL)


@contextmanager
def held(tiffin: Tiffin, name: str) -> Iterator[str]:
    """The lock of a container, as a command has it that works for long; gives its id."""
    cid = tiffin("inspect", "--format={{.Id}}", name).word
    with open(layout(tiffin).lock(cid), "r+") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield cid


def ends(tiffin: Tiffin, since: int) -> list[dict[str, Any]]:
    return [event for event in told(tiffin, "container.exited") if event["seq"] > since]


def running(tiffin: Tiffin) -> set[str]:
    """Containers that have a run directory."""
    try:
        return set(os.listdir(layout(tiffin).containers_run))
    except FileNotFoundError:
        return set()


def told(tiffin: Tiffin, *types: str) -> list[dict[str, Any]]:
    events = [json.loads(line) for line in tiffin("events", "--format=json").lines]
    return [event for event in events if event["type"] in types]


def test_one_engine_cleans_up_after_all_that_end_at_once(
    shared: Tiffin, started: list[str]
) -> None:
    since = told(shared, "system.store_created", "container.started")[-1]["seq"]
    with held(shared, "c1"):  # the engine cannot be done before all have ended
        end(shared, *started)
        eventually(lambda: len(ends(shared, since)) == NUMBER, lambda: str(ends(shared, since)))
    eventually(lambda: not running(shared), lambda: str(running(shared)))
    eventually(lambda: len(shared("ps", "-aq").lines) == NUMBER - 1, lambda: "c0 is not removed")
    done = told(shared, "container.cleaned_up", "container.removed")
    done = [event for event in done if event["seq"] > since]
    exits = {event["seq"]: event for event in told(shared, "container.exited")}
    assert {event["stream"] for event in done} == {
        exit["stream"] for exit in exits.values() if exit["seq"] > since
    }
    for event in done:
        assert event["actor"]["front_end"] == "exit"
        cause = exits[event["actor"]["cause"]]
        assert (cause["stream"], cause["command"]) == (event["stream"], event["command"])
    assert len({event["actor"]["pid"] for event in done}) == 1
    assert shared("ps", "-a", "--format={{.ExitCode}}").lines == ["137"] * (NUMBER - 1)
    assert not invariants.broken(shared.base)


def test_one_that_another_command_holds_keeps_no_other_waiting(
    shared: Tiffin, started: list[str]
) -> None:
    other = shared("inspect", "--format={{.Id}}", "c2").word
    with held(shared, "c1") as cid:
        end(shared, "c1")
        state = "--format={{.State.Status}}"
        eventually(
            lambda: shared("inspect", state, "c1").word == "exited", lambda: "it has not ended"
        )
        end(shared, "c2")  # recorded by a process that finds a round under way, and goes
        eventually(lambda: other not in running(shared), lambda: "c2 is not cleaned up")
        assert cid in running(shared)
    eventually(lambda: cid not in running(shared), lambda: "c1 is not cleaned up")


def test_the_next_round_sees_to_what_a_killed_one_has_left(
    shared: Tiffin, started: list[str]
) -> None:
    other = shared("inspect", "--format={{.Id}}", "c2").word
    with held(shared, "c1") as cid:
        end(shared, "c1")
        eventually(lambda: waiting(cid) != [], lambda: "nobody cleans up")
        for pid in waiting(cid):
            os.kill(pid, signal.SIGKILL)
        eventually(lambda: waiting(cid) == [], lambda: "it cannot be killed")
    assert cid in running(shared)
    end(shared, "c2")
    eventually(lambda: not {cid, other} & running(shared), lambda: "c1 is not cleaned up")


def waiting(cid: str) -> list[int]:
    """Engines that were started for the clean-up after a container."""
    found = []
    for pid in filter(str.isdecimal, os.listdir("/proc")):
        try:
            with open(f"/proc/{pid}/cmdline", "rb") as file:
                words = file.read().split(b"\0")
        except OSError:
            continue
        if cid.encode() in words and b"cleanup" in words:
            found.append(int(pid))
    return found


def test_a_stop_runs_the_runtime_once(shared: Tiffin) -> None:
    """To delete the container. The signal goes to its process, whose parent is its conmon."""
    program = shutil.which("runc")
    assert program
    calls = shared.base / "calls"
    wrapper = shared.base / "bin" / "runc"
    wrapper.parent.mkdir()
    wrapper.write_text(f'#!/bin/sh\necho "$@" >>{calls}\nexec {program} "$@"\n')
    wrapper.chmod(0o755)
    flags = (f"--runtime={wrapper}", "run", "-d", "--network=none", BUSYBOX)
    with_trap = (*flags, "sh", "-c", "trap 'exit 3' TERM; echo ready; while :; do sleep 0.1; done")
    for end in (("stop", "-t", "0"), ("stop", "-t", "100"), ("kill",), ("rm", "-f", "-t", "0")):
        cid = shared(*with_trap).lines[-1]
        eventually(partial(is_ready, shared, cid), lambda: "it is not ready")
        calls.write_text("")
        shared(*end, cid)
        words = [line.split() for line in calls.read_text().splitlines()]
        ran = [set(line) & {"kill", "delete", "state", "start", "create"} for line in words]
        assert ran == [{"delete"}], words
        if end[0] != "rm":
            code = "3" if "100" in end else "137"
            assert shared("inspect", "--format={{.State.ExitCode}}", cid).word == code
    shared("rm", "-a", "-f", "-t", "0")


def is_ready(tiffin: Tiffin, cid: str) -> bool:
    return "ready" in tiffin("logs", cid).out


def test_a_process_is_signalled_only_as_the_child_that_it_is() -> None:
    """Pids are used again: one that is no child of the container's conmon is left alone."""
    with subprocess.Popen(["sleep", "1000"]) as child:
        assert not processes.signal_child(child.pid, 1, signal.SIGKILL)
        assert child.poll() is None
        assert processes.signal_child(child.pid, os.getpid(), signal.SIGKILL)
        assert child.wait() == -signal.SIGKILL
    assert not processes.signal_child(child.pid, os.getpid(), signal.SIGKILL)


def test_ends_are_recorded_a_few_at_a_time(shared: Tiffin, started: list[str]) -> None:
    """Whose turn it is not waits as a shell, not as an interpreter."""
    state = "--format={{.State.Status}}"
    with ExitStack() as stack:
        inodes = set()
        for lane in range(4):
            path = shared.run / "locks" / f"recording-{lane}"
            lock = stack.enter_context(path.open("a"))
            fcntl.flock(lock, fcntl.LOCK_EX)
            inodes.add(str(path.stat().st_ino))
        end(shared, "c1", "c2")
        eventually(lambda: waiters(inodes) == 2, lambda: Path("/proc/locks").read_text())
        assert shared("inspect", state, "c1", "c2").lines == ["running", "running"]
    eventually(
        lambda: shared("inspect", state, "c1", "c2").lines == ["exited", "exited"],
        lambda: "they have not ended",
    )


def waiters(inodes: set[str]) -> int:
    """proc_locks(5)"""
    lines = [line.split() for line in Path("/proc/locks").read_text().splitlines()]
    return sum("->" in words and words[-3].rpartition(":")[2] in inodes for words in lines)
