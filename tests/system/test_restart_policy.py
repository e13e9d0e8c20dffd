"""Restart policies: who ends by itself is started again, who is stopped is not."""

from __future__ import annotations

import time
from itertools import pairwise

import pytest
from support import world
from support.cli import BUSYBOX, Tiffin, eventually


def count(tiffin: Tiffin, name: str) -> int:
    return int(tiffin("inspect", "-f", "{{.RestartCount}}", name).word)


def settled(tiffin: Tiffin, name: str) -> None:
    """It has ended, and its end is seen to."""
    eventually(lambda: tiffin.status(name) == "exited")
    time.sleep(1.5)
    assert tiffin.status(name) == "exited"


@pytest.mark.parametrize("policy", ["always", "unless-stopped"])
def test_always(tiffin: Tiffin, policy: str) -> None:
    name = tiffin.detached("--network=none", f"--restart={policy}", BUSYBOX, "sleep", "1000")
    for number in (1, 2):
        pid = tiffin.pid(name)
        world.kill(pid)
        eventually(lambda: tiffin.pid(name) not in (0, pid))  # noqa: B023
        assert count(tiffin, name) == number
    assert tiffin.inspect(name)["HostConfig"]["RestartPolicy"]["Name"] == policy
    tiffin("stop", "-t", "0", name)
    settled(tiffin, name)
    tiffin("start", name)
    assert count(tiffin, name) == 0, "counted from the last start by hand"
    tiffin("kill", name)
    settled(tiffin, name)


def test_on_failure_so_many_times(tiffin: Tiffin) -> None:
    flags = ("--network=none", "--restart=on-failure:2")
    name = tiffin.detached(*flags, BUSYBOX, "sh", "-c", "echo ran; exit 3")
    eventually(lambda: count(tiffin, name) == 2)
    settled(tiffin, name)
    assert tiffin("logs", name).lines == ["ran"] * 3
    assert tiffin.inspect(name)["State"]["ExitCode"] == 3
    fine = tiffin.detached(*flags, BUSYBOX, "true")
    settled(tiffin, fine)
    assert count(tiffin, fine) == 0


def test_pauses_grow(tiffin: Tiffin) -> None:
    name = tiffin.detached("--network=none", "--restart=always", BUSYBOX, "false")
    eventually(lambda: count(tiffin, name) >= 4, seconds=40)
    tiffin("rm", "-f", "-t", "0", name)
    starts = [
        e["timeNano"]
        for e in tiffin.events("--filter", f"container={name}")
        if e["type"] == "container.start_planned"
    ]
    gaps = [later - sooner for sooner, later in pairwise(starts)]
    assert all(gap > 0.1e9 * 2**number for number, gap in enumerate(gaps[:4])), gaps


def test_one_that_is_removed_while_it_waits_stays_away(tiffin: Tiffin) -> None:
    name = tiffin.detached("--network=none", "--restart=always", BUSYBOX, "false")
    eventually(lambda: count(tiffin, name) >= 3, seconds=40)
    tiffin("rm", "-f", "-t", "0", name)
    time.sleep(2)
    assert tiffin("ps", "-aq").out == ""


def test_a_foreground_run_leaves_it_to_others(tiffin: Tiffin) -> None:
    flags = ("--name=c", "--network=none", "--restart=on-failure:1")
    tiffin("run", *flags, BUSYBOX, "sh", "-c", "echo ran; exit 3", code=3)
    eventually(lambda: tiffin("logs", "c").lines == ["ran", "ran"], seconds=40)
    settled(tiffin, "c")
    assert count(tiffin, "c") == 1


def test_none_by_default_and_bad_ones_are_refused(tiffin: Tiffin) -> None:
    name = tiffin.detached("--network=none", BUSYBOX, "false")
    settled(tiffin, name)
    assert tiffin.inspect(name)["HostConfig"]["RestartPolicy"]["Name"] == "no"
    for policy in ("sometimes", "always:3", "on-failure:x"):
        tiffin.fails("create", f"--restart={policy}", BUSYBOX, says=policy)
    tiffin.fails("run", "--rm", "--restart=always", BUSYBOX, "true", says="--rm")
