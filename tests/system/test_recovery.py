"""An engine that is killed at any moment: the next command resolves what it left."""

from __future__ import annotations

import fcntl
import json
import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest
from support import invariants, world
from support.cli import BUSYBOX, Tiffin, eventually

from tiffin import exited
from tiffin.layout import Layout
from tiffin.store import log, sync

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


@pytest.mark.parametrize("alive", [True, False])
def test_only_what_a_dead_exec_left_open_is_closed(tiffin: Tiffin, alive: bool) -> None:
    """An `exec` that is just being started has an open intent as well: it holds a lock."""
    tiffin.detached("--name=victim", "--network=none", BUSYBOX, "sleep", "1000")
    cid, exec_id = tiffin.inspect("victim")["Id"], "e" * 64
    planned = {"container": cid, "command": ["true"], "directory": "/nowhere"}
    with sqlite3.connect(tiffin.root / "tiffin.db", isolation_level=None) as connection:
        record = log.Record(f"exec/{exec_id}", "exec.planned", json.dumps(planned))
        sync.run(connection, log.append([record], command="0" * 16, actor="{}"))
    with open(tiffin.run / f"locks/exec-{exec_id}", "w") as lock:
        if alive:
            fcntl.flock(lock, fcntl.LOCK_EX)
        tiffin("system", "recover")
        assert [stream for stream, _ in open_intents(tiffin)] == [f"exec/{exec_id}"] * alive
    tiffin("system", "recover")
    assert open_intents(tiffin) == []
    assert not (tiffin.run / f"locks/exec-{exec_id}").exists()


def test_a_volume_is_not_removed_while_others_work_with_volumes(tiffin: Tiffin) -> None:
    """An intent to remove one may be that of a process at work, and its name may be used again."""
    tiffin("volume", "create", "data")
    path = Path(tiffin("volume", "inspect", "--format", "{{.Mountpoint}}", "data").word)
    with sqlite3.connect(tiffin.root / "tiffin.db", isolation_level=None) as connection:
        record = log.Record(
            "volume/data", "volume.removal_planned", json.dumps({"path": str(path)})
        )
        sync.run(connection, log.append([record], command="0" * 16, actor="{}"))
    with open(tiffin.run / "locks/volumes", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_SH)
        with tiffin.start("system", "recover") as process:
            time.sleep(0.5)
            assert process.poll() is None
            assert path.is_dir()
            fcntl.flock(lock, fcntl.LOCK_UN)
            assert process.wait(20) == 0
    assert not path.exists()
    assert open_intents(tiffin) == []


def test_rm_that_was_killed_takes_anonymous_volumes_all_the_same(tiffin: Tiffin) -> None:
    cid = tiffin.create("--name=victim", "--network=none", "-v", "/data", BUSYBOX, "true")
    assert len(tiffin("volume", "ls", "-q").lines) == 1
    planned = log.Record(f"container/{cid}", "container.removal_planned", '{"volumes":true}')
    with sqlite3.connect(tiffin.root / "tiffin.db", isolation_level=None) as connection:
        sync.run(connection, log.append([planned], command="0" * 16, actor="{}"))
    tiffin("system", "recover")
    assert tiffin("ps", "-a", "-q").out == ""
    assert tiffin("volume", "ls", "-q").out == ""
    assert not list(tiffin.root.glob("volumes/*"))


def test_the_end_of_a_detached_exec_is_recorded(shared: Tiffin) -> None:
    """It is no unfinished command while it runs, and leaves nothing when it has ended."""
    name = shared.detached("--network=none", BUSYBOX, "sleep", "1000")
    directory = shared.run / "containers" / name / "execs"

    def ends() -> list[int]:
        return [
            e["data"]["exit_code"]
            for e in shared.events("--filter", f"container={name}")
            if e["type"] == "exec.exited"
        ]

    shared("exec", "-d", name, "sh", "-c", "exit 3")
    eventually(lambda: ends() == [3])
    eventually(lambda: not os.listdir(directory))

    shared("exec", "-d", name, "sleep", "500")
    assert invariants.broken(shared.base) == []
    assert "exec" not in shared("system", "recover").out
    (conmon,) = (p for p, n, line in world.processes() if n == "conmon" and "/execs/" in line)
    (child,) = (p for p, _, line in world.processes() if "sleep 500" in line and p != conmon)
    world.kill(conmon)
    world.kill(child)
    eventually(lambda: not world.alive(child))
    assert "running -> ended" in shared("system", "recover").out
    assert ends() == [3, 255]
    assert not os.listdir(directory)
    shared("rm", "-f", "-t", "0", name)


def test_a_mount_that_nobody_was_told_of_is_undone(shared: Tiffin) -> None:
    """Found by torture: it stayed, without anybody who would unmount it. One that was acknowledged
    before stays."""
    cid = shared.create("--network=none", BUSYBOX, "true")
    planned = '{"driver":"overlay","path":"%s"}'
    path = Path(shared("mount", cid).word)
    directory = path.parent
    stream = f"container/{cid}"

    def killed_in_the_middle() -> None:
        """As if `mount` had been killed before it told the log."""
        with sync.open_for_append(str(shared.root / "tiffin.db")) as connection:
            record = log.Record(stream, "container.mount_planned", planned % path)
            steps = log.append([record], command="0" * 16, actor="{}", expect={})
            sync.run(connection, steps)

    killed_in_the_middle()
    shared("system", "recover")
    assert world.mounts_below(directory)
    assert not open_intents(shared)
    with sync.open_for_append(str(shared.root / "tiffin.db")) as connection:
        steps = log.append(
            [log.Record(stream, "container.unmounted", "{}")],
            command="0" * 16, actor="{}", expect={},
        )  # fmt: skip
        sync.run(connection, steps)
    killed_in_the_middle()
    shared("system", "recover")
    assert not world.mounts_below(directory)
    assert invariants.broken(shared.base) == []
    shared("rm", cid)


def test_a_killed_run_with_a_mounted_volume_is_undone_by_the_next(shared: Tiffin) -> None:
    """Found by torture: the next `run` of that name held the volume while it undid the first one,
    which needs the volume, and so waited for itself."""
    shared("volume", "create", "-o", "type=tmpfs", "-o", "o=size=1m", "held")
    words = ["run", "-d", "--name=victim", "--network=none", "-v", "held:/scratch", BUSYBOX]
    killer = Path(__file__).parent / "support/killer.py"
    trace = shared.base / "trace"

    def killed_at(number: int) -> list[str]:
        trace.unlink(missing_ok=True)
        argv = [sys.executable, str(killer), f"{number}:", str(trace), *shared.argv(*words)[1:]]
        subprocess.run([*argv, "sleep", "1000"], capture_output=True, timeout=120, check=False)
        return trace.read_text().splitlines()

    point = killed_at(0).index("after conmon.create") + 1
    shared("rm", "-f", "-t", "0", "victim")
    assert killed_at(point)[-1] == "after conmon.create"
    assert shared.attempt(*words, "sleep", "1000").code in (0, 125)
    shared("rm", "-f", "-t", "0", "victim")
    shared("volume", "rm", "held")
    assert invariants.broken(shared.base) == []
