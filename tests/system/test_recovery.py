"""An engine that is killed at any moment: the next command resolves what it left."""

from __future__ import annotations

import fcntl
import random
import signal
import sqlite3
import time

import pytest
from support import world
from support.cli import BUSYBOX, Tiffin, eventually

from tiffin import exited
from tiffin.layout import Layout

COMMANDS = {
    "create": [["create", "--name=victim", "-p", "127.0.0.1::80", BUSYBOX, "sleep", "1000"]],
    "start": [["start", "victim"]],
    "init": [["init", "victim"]],
    "run": [["run", "-d", "--name=victim", BUSYBOX, "sleep", "1000"]],
    "stop": [["stop", "-t", "0", "victim"]],
    "rm": [["rm", "-f", "-t", "0", "victim"]],
    "mount": [["mount", "victim"]],
}
BEFORE = {
    "start": ["create"], "init": ["create"], "mount": ["create"],
    "stop": ["run"], "rm": ["run"],
}  # fmt: skip


def open_intents(tiffin: Tiffin) -> list[tuple[str, str]]:
    with sqlite3.connect(f"file:{tiffin.root}/tiffin.db?mode=ro", uri=True) as connection:
        return connection.execute("SELECT stream, operation FROM intents").fetchall()


def kill_after(tiffin: Tiffin, args: list[str], seconds: float) -> bool:
    """Run a command and kill it with SIGKILL after that time; False if it was done before."""
    with tiffin.start(*args) as process:
        time.sleep(seconds)
        done = process.poll() is not None
        process.send_signal(signal.SIGKILL)
        process.communicate()
    return not done


def duration(tiffin: Tiffin, args: list[str]) -> float:
    began = time.monotonic()
    tiffin(*args)
    return time.monotonic() - began


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("network", ["bridge"])
def test_killed_at_any_moment(tiffin: Tiffin, command: str, network: str) -> None:
    """The moments are spread over the time that the command takes; then `rm -f` leaves nothing."""
    tiffin("pull", BUSYBOX)
    links = world.links()
    (args,) = COMMANDS[command]

    def prepare() -> None:
        for earlier in BEFORE.get(command, []):
            tiffin(*COMMANDS[earlier][0])

    prepare()
    whole = duration(tiffin, args)
    tiffin.attempt("rm", "-f", "-t", "0", "victim")

    generator = random.Random(command)
    for step in range(8):
        prepare()
        killed = kill_after(tiffin, args, whole * (step + generator.random()) / 8)
        tiffin("system", "recover")
        if killed:
            assert open_intents(tiffin) == []
        after = tiffin.attempt("inspect", "--format", "{{.State.Status}}", "victim")
        if after.code == 0:
            assert after.word in ("created", "initialized", "running", "exited"), after.word
            if after.word == "running":
                assert world.alive(tiffin.pid("victim"))
            tiffin("rm", "-f", "-t", "0", "victim")
        eventually(
            lambda: not tiffin.traces(),
            lambda: f"left behind: {tiffin.traces()}",
        )
        assert tiffin("ps", "-a", "-q").out == ""
        assert not list(tiffin.run.glob("netns/*"))
        assert list(tiffin.root.glob("containers/*")) == []
    eventually(lambda: world.links() == links, lambda: f"{world.links() - links}")
    tiffin("events", "verify")


@pytest.mark.parametrize("step", range(4))
def test_the_next_command_about_it_is_enough(tiffin: Tiffin, step: int) -> None:
    """Nobody has to know of `system recover`: rm -f, or a new container of that name, will do."""
    tiffin("pull", BUSYBOX)
    args = COMMANDS["run"][0]
    whole = duration(tiffin, args)
    tiffin("rm", "-f", "-t", "0", "victim")
    kill_after(tiffin, args, whole * (step + 0.5) / 4)
    tiffin("run", "--replace", *args[1:])
    assert tiffin.status("victim") == "running"
    tiffin("rm", "-f", "-t", "0", "victim")
    tiffin("ps", "-a")
    assert open_intents(tiffin) == []


def test_a_killed_foreground_run_leaves_a_container_that_ends_well(tiffin: Tiffin) -> None:
    with tiffin.start("run", "--name=orphan", BUSYBOX, "sleep", "2") as process:
        eventually(lambda: tiffin.attempt("exec", "orphan", "true").code == 0)
        process.kill()
    assert tiffin.status("orphan") == "running"
    eventually(lambda: tiffin.status("orphan") == "exited")
    assert tiffin.inspect("orphan")["State"]["ExitCode"] == 0


@pytest.mark.parametrize("who", ["conmon", "process", "both"])
def test_killed_from_outside(tiffin: Tiffin, who: str) -> None:
    """An admin's kill -9 of conmon, of the process, or of both."""
    tiffin.detached("--name=victim", BUSYBOX, "sleep", "1000")
    pid, conmon = tiffin.pid("victim"), tiffin.conmon("victim")
    for target in {"conmon": [conmon], "process": [pid], "both": [conmon, pid]}[who]:
        world.kill(target)
    if who == "conmon":
        tiffin("stop", "-t", "0", "victim")
    eventually(lambda: not world.alive(pid))
    tiffin("system", "recover")
    eventually(lambda: tiffin.status("victim") == "exited")
    tiffin("start", "victim")
    assert tiffin.status("victim") == "running"
    tiffin("rm", "-f", "-t", "0", "victim")


def test_a_killed_pull_is_taken_up_by_the_next(tiffin: Tiffin) -> None:
    whole = duration(tiffin, ["pull", BUSYBOX])
    tiffin("rmi", BUSYBOX)
    for step in range(4):
        kill_after(tiffin, ["pull", BUSYBOX], whole * (step + 0.5) / 4)
        tiffin("pull", BUSYBOX)
        tiffin("run", "--rm", "--network=none", BUSYBOX, "true")
        tiffin("rmi", BUSYBOX)
        assert tiffin.left_in_store() == []


def test_run_state_that_is_gone_as_after_a_reboot(tiffin: Tiffin) -> None:
    """/run is empty after a boot, and all processes are gone."""
    tiffin.detached("--name=victim", "--network=none", BUSYBOX, "sleep", "1000")
    pid, conmon = tiffin.pid("victim"), tiffin.conmon("victim")
    world.kill(conmon)
    world.kill(pid)
    eventually(lambda: not world.alive(pid))
    world.unmount_below(tiffin.base)
    world.remove(tiffin.run)
    tiffin("start", "victim")
    assert tiffin.status("victim") == "running"
    tiffin("rm", "-f", "-t", "0", "victim")


def test_a_start_between_the_end_and_its_clean_up(tiffin: Tiffin) -> None:
    """conmon's exit command records the end, then a new process cleans up: a `start` that comes
    between the two finds the runtime's state, mount and network still there."""
    cid = tiffin.detached("--name=victim", BUSYBOX, "sleep", "1000")
    pid, conmon = tiffin.pid("victim"), tiffin.conmon("victim")
    layout = Layout(str(tiffin.root), str(tiffin.run))
    with open(layout.attended(cid), "w") as attended:  # the exit command takes us for a `run`
        fcntl.flock(attended, fcntl.LOCK_EX)
        world.kill(pid)
        eventually(lambda: not world.alive(conmon))
        assert exited.record(layout, cid)
    assert tiffin.status("victim") == "exited"
    assert world.mounts_below(tiffin.root)
    tiffin("start", "victim")
    assert tiffin.status("victim") == "running"
    tiffin("rm", "-f", "-t", "0", "victim")
