"""Standard streams, terminals, signals and exit codes."""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import signal
import sqlite3
import subprocess
import time
from pathlib import Path

import pytest
from support import world
from support.cli import BUSYBOX, PATIENCE, Tiffin, eventually
from support.terminal import terminal

RUN = ("run", "--rm", "--network=none")
QUIET = ("--network=none", BUSYBOX)
FOREVER = ("sleep", "1000")


# --- pipes ----------------------------------------------------------------------------------------


def test_stdin_goes_through_a_container_unchanged(shared: Tiffin) -> None:
    data = os.urandom(20 << 20)
    done = subprocess.run(
        shared.argv(*RUN, "-i", BUSYBOX, "cat"), input=data, capture_output=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    assert hashlib.sha256(done.stdout).digest() == hashlib.sha256(data).digest()


def test_stdout_and_stderr_stay_apart(shared: Tiffin) -> None:
    done = shared(*RUN, BUSYBOX, "sh", "-c", "echo out; echo err >&2")
    assert (done.out, done.err) == ("out\n", "err\n")


@pytest.mark.parametrize(
    ("streams", "shown"),
    [
        (["stdout"], ("out\n", "")),
        (["stderr"], ("", "err\n")),
        (["stdout", "stderr"], ("out\n", "err\n")),
        (["stdin"], ("", "")),
    ],
)
def test_only_the_streams_that_are_attached_are_shown(
    shared: Tiffin, streams: list[str], shown: tuple[str, str]
) -> None:
    flags = [f"--attach={stream}" for stream in streams]
    done = shared(*RUN, *flags, BUSYBOX, "sh", "-c", "echo out; echo err >&2")
    assert (done.out, done.err) == shown


def test_without_i_stdin_is_empty(shared: Tiffin) -> None:
    assert shared(*RUN, BUSYBOX, "cat", input="not for you").out == ""


def test_a_reader_that_goes_away_does_not_leave_the_container(shared: Tiffin) -> None:
    command = " ".join(shared.argv(*RUN, "--name=yes", BUSYBOX, "yes"))
    done = subprocess.run(
        ["bash", "-c", f"{command} | head -n 2"], capture_output=True, text=True, timeout=60
    )
    assert done.stdout == "y\ny\n"
    shared.attempt("rm", "-f", "-t", "0", "yes")


def test_output_of_exec_and_its_stdin(shared: Tiffin) -> None:
    name = shared.detached(*QUIET, *FOREVER)
    assert shared("exec", "-i", name, "wc", "-c", input=b"x" * 100_000).word == "100000"
    done = shared("exec", name, "sh", "-c", "echo out; echo err >&2; exit 7", code=7)
    assert (done.out, done.err) == ("out\n", "err\n")
    flags = ("-e", "LUNCH=dal", "-w", "/tmp", "-u", "1000:1000")
    out = shared("exec", *flags, name, "sh", "-c", "echo $LUNCH; pwd; id -u").lines
    assert out == ["dal", "/tmp", "1000"]
    shared("exec", "-d", name, "sh", "-c", "touch /made")
    eventually(lambda: shared.attempt("exec", name, "test", "-e", "/made").code == 0)


# --- exit codes -----------------------------------------------------------------------------------


@pytest.mark.parametrize("runtime", ["runc", "crun"])
@pytest.mark.parametrize(
    ("command", "code"),
    [
        (["true"], 0),
        (["sh", "-c", "exit 3"], 3),
        (["sh", "-c", "kill -9 $$"], 137),
        (["sh", "-c", "trap 'exit 9' TERM; kill $$; sleep 9"], 9),
    ],
    ids=str,
)
def test_exit_code_is_the_commands(
    shared: Tiffin, runtime: str, command: list[str], code: int
) -> None:
    # the first process of a pid namespace ignores signals, unless it has a handler: hence --init
    shared.using(f"--runtime={runtime}")(*RUN, "--init", BUSYBOX, *command, code=code)


def test_exit_codes_of_exec(shared: Tiffin) -> None:
    name = shared.detached(*QUIET, *FOREVER)
    shared("exec", name, "sh", "-c", "kill -15 $$", code=143)
    shared.fails("exec", name, "no-such-program", code=127, says="no-such-program")
    shared.fails("exec", name, "/etc", code=126, says="/etc")


def test_wait_prints_the_exit_code(shared: Tiffin) -> None:
    names = [shared.detached(*QUIET, "sh", "-c", f"sleep 0.{n}; exit {n}") for n in (1, 2)]
    assert shared("wait", *names).lines == ["1", "2"]
    assert shared("wait", names[0]).lines == ["1"]
    assert [shared.inspect(n)["State"]["ExitCode"] for n in names] == [1, 2]


# --- terminals ------------------------------------------------------------------------------------


@pytest.mark.parametrize("runtime", ["runc", "crun"])
def test_a_terminal_has_the_size_of_ours_and_follows_it(shared: Tiffin, runtime: str) -> None:
    argv = shared.using(f"--runtime={runtime}").argv(*RUN, "-it", BUSYBOX, "sh")
    with terminal(argv, shared.environment(), rows=33, columns=99) as screen:
        screen.type("tty; stty size\n")
        screen.expect("/dev/")
        screen.expect("33 99")
        assert screen.is_raw()
        screen.resize(44, 111)
        screen.type("sleep 0.3; stty size\n")
        screen.expect("44 111")
        screen.type("exit 5\n")
        assert screen.wait() == 5
        assert not screen.is_raw(), "the terminal is as it was"


def test_ctrl_c_reaches_the_process_through_the_terminal(shared: Tiffin) -> None:
    with terminal(shared.argv(*RUN, "-it", BUSYBOX, "sh"), shared.environment()) as screen:
        screen.type("trap 'echo caught it' INT; echo rea''dy\n")
        screen.expect("ready")
        screen.type("\x03")
        screen.expect("caught it")
        screen.type("exit\n")
        assert screen.wait() == 0


def test_keys_mean_nothing_to_a_terminal_without_stdin(shared: Tiffin) -> None:
    command = "echo there; until test -e /go; do sleep 0.05; done; exit 4"
    argv = shared.argv(*RUN, "-t", "--name=deaf", BUSYBOX, "sh", "-c", command)
    with terminal(argv, shared.environment()) as screen:
        screen.expect("there")
        eventually(screen.is_raw)
        screen.type("\x03\x1c\x1aexit\n\x10\x11")  # ctrl-c, ctrl-\, ctrl-z; ctrl-p, ctrl-q
        shared("exec", "deaf", "true")
        assert screen.process.poll() is None
        shared("exec", "deaf", "touch", "/go")
        assert screen.wait() == 4
        assert not screen.is_raw()
        assert not screen.unread(), "what was typed does not go to the shell"


def test_detach_keys_leave_it_running_and_attach_comes_back(shared: Tiffin) -> None:
    argv = shared.argv("run", "-it", "--name=back", *QUIET, "sh")
    with terminal(argv, shared.environment()) as screen:
        screen.type("echo 1''23\n")
        screen.expect("123")
        screen.type("\x10\x11")  # ctrl-p, ctrl-q
        assert screen.wait() == 0
    assert shared.status("back") == "running"
    argv = shared.argv("attach", "--detach-keys=ctrl-x,x", "back")
    with terminal(argv, shared.environment()) as screen:
        screen.type("echo 4''56\n")
        screen.expect("456")
        screen.type("\x18x")
        assert screen.wait() == 0
    assert shared.status("back") == "running"
    with terminal(shared.argv("attach", "back"), shared.environment()) as screen:
        screen.type("exit 6\n")
        assert screen.wait() == 6
    assert shared.status("back") == "exited"


def test_exec_with_a_terminal(shared: Tiffin) -> None:
    name = shared.detached(*QUIET, *FOREVER)
    argv = shared.argv("exec", "-it", name, "sh", "-c", "tty; stty size; read x; exit $x")
    with terminal(argv, shared.environment(), rows=20, columns=70) as screen:
        screen.expect("/dev/pts/")
        screen.expect("20 70")
        screen.type("4\n")
        assert screen.wait() == 4


# --- signals --------------------------------------------------------------------------------------

TRAP = "trap 'echo got TERM; exit 21' TERM; trap 'echo got USR1' USR1; echo ready; "
TRAP += "while true; do sleep 0.05; done"


def test_signals_to_run_are_passed_on(shared: Tiffin) -> None:
    with shared.start(*RUN, BUSYBOX, "sh", "-c", TRAP) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        process.send_signal(signal.SIGUSR1)
        assert process.stdout.readline() == b"got USR1\n"
        process.send_signal(signal.SIGTERM)
        assert process.stdout.readline() == b"got TERM\n"
        assert process.wait(15) == 21


def test_stop_asks_first(shared: Tiffin) -> None:
    name = shared.detached(*QUIET, "sh", "-c", TRAP)
    eventually(lambda: "ready" in shared("logs", name).out)
    shared("stop", name)
    assert shared.inspect(name)["State"]["ExitCode"] == 21


def test_stop_kills_when_the_time_is_up(shared: Tiffin) -> None:
    name = shared.detached("--stop-timeout=1", *QUIET, *FOREVER)  # as pid 1 it ignores SIGTERM
    began = time.monotonic()
    shared("stop", name)
    assert time.monotonic() - began > 1
    assert shared.inspect(name)["State"]["ExitCode"] == 137


def test_stop_sends_the_containers_own_signal(shared: Tiffin) -> None:
    script = "trap 'exit 22' USR2; echo ready; while true; do sleep 0.05; done"
    name = shared.detached("--stop-signal=USR2", *QUIET, "sh", "-c", script)
    eventually(lambda: "ready" in shared("logs", name).out)
    shared("stop", name)
    assert shared.inspect(name)["State"]["ExitCode"] == 22


def test_kill_sends_any_signal_and_kills_all(shared: Tiffin) -> None:
    name = shared.detached(*QUIET, "sh", "-c", TRAP)
    other = shared.detached(*QUIET, *FOREVER)
    eventually(lambda: "ready" in shared("logs", name).out)
    for spelling in ("USR1", "SIGUSR1", str(int(signal.SIGUSR1))):
        shared("kill", "-s", spelling, name)
    eventually(lambda: shared("logs", name).out.count("got USR1") >= 1)
    shared("kill", "-a")
    assert shared("wait", name, other).lines == ["137", "137"]


def test_restart_makes_a_new_process(shared: Tiffin) -> None:
    name = shared.detached(*QUIET, *FOREVER)
    before = shared.pid(name)
    shared("restart", "-t", "0", name)
    after = shared.pid(name)
    assert after != before
    assert world.alive(after) and not world.alive(before)


def test_init_forwards_signals_and_reaps(shared: Tiffin) -> None:
    name = shared.detached("--init", *QUIET, *FOREVER)
    command = Path(f"/proc/{shared.pid(name)}/cmdline").read_bytes()
    assert b"init" in command or b"catatonit" in command
    shared("stop", "-t", "10", name)
    assert shared.inspect(name)["State"]["ExitCode"] == 143


# --- logs -----------------------------------------------------------------------------------------


def test_logs_keep_what_was_said(shared: Tiffin) -> None:
    script = "for i in 1 2 3 4; do echo line $i; done; echo oops >&2; sleep 0.1; echo line 5; "
    script += "printf 'no newline'"
    name = shared.detached(*QUIET, "sh", "-c", script)
    shared("wait", name)
    done = shared("logs", name)
    assert done.out.splitlines() == [f"line {n}" for n in range(1, 6)] + ["no newline"]
    assert done.err == "oops\n"
    assert shared("logs", "--tail", "1", name).out.rstrip("\n") == "no newline"
    stamped = shared("logs", "-t", name).lines[0]
    assert re.match(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d.*[Z+-].* line 1$", stamped)
    stamp = shared("logs", "-t", name).lines[4].split()[0]
    assert shared("logs", "--since", stamp, name).lines == ["line 5", "no newline"]
    assert shared("logs", "--since", "1h", name).lines[0] == "line 1"
    assert shared("logs", "--since", "2100-01-01T00:00:00Z", name).out == ""


def test_logs_follow_until_the_end(shared: Tiffin) -> None:
    name = shared.detached("-i", "--name=follow", *QUIET, "cat")
    with (
        shared.start("logs", "-f", name) as process,
        shared.start("attach", name, stdin=subprocess.PIPE) as typist,
    ):
        assert process.stdout is not None and typist.stdin is not None
        for word in (b"first\n", b"second\n"):
            typist.stdin.write(word)
            typist.stdin.flush()
            assert process.stdout.readline() == word
        typist.stdin.close()
        assert process.wait(15) == 0
        assert typist.wait(15) == 0


def test_logs_follow_until_the_end_beside_others_that_use_the_store(shared: Tiffin) -> None:
    """The last to close the database deletes its WAL, which is easily noticed; nobody does here."""
    name = shared.detached(*QUIET, "sh", "-c", "echo there; sleep 1000")
    with (
        contextlib.closing(sqlite3.connect(shared.root / "tiffin.db")) as other,
        shared.start("logs", "-f", name) as process,
    ):
        assert other.execute("SELECT count(*) FROM events").fetchone()
        assert process.stdout is not None and process.stdout.readline() == b"there\n"
        time.sleep(0.5)  # it waits by now
        shared("kill", name)
        assert process.wait(15 * PATIENCE) == 0


# --- what run leaves ------------------------------------------------------------------------------


def test_rm_cleans_up_after_a_detached_container_with_nobody_watching(shared: Tiffin) -> None:
    cid = shared.detached("--rm", BUSYBOX, "sleep", "0.5")
    assert shared("ps", "-q", "--no-trunc").out.count(cid) == 1
    eventually(lambda: cid not in shared("ps", "-a", "-q", "--no-trunc").out)
    eventually(lambda: not world.traces_of(shared.base / "run/containers" / cid, [cid]))
    assert not (shared.root / "containers" / cid).exists()


def test_an_end_that_nobody_watched_is_recorded(shared: Tiffin) -> None:
    cid = shared.detached(BUSYBOX, "sh", "-c", "exit 4")
    eventually(lambda: shared.status(cid) == "exited")
    events = shared.events("--filter", f"container={cid}")
    (exited,) = (e for e in events if e["type"] == "container.exited")
    assert exited["data"]["exit_code"] == 4
    assert shared.inspect(cid)["State"]["ExitCode"] == 4


def test_cidfile_has_the_id(shared: Tiffin, tmp_path: Path) -> None:
    cid = shared.create("--cidfile", tmp_path / "id", *QUIET)
    assert (tmp_path / "id").read_text().strip() == cid
    shared.fails("create", "--cidfile", tmp_path / "id", *QUIET, says=str(tmp_path / "id"))


def test_replace_takes_the_name_of_another(shared: Tiffin) -> None:
    first = shared.detached("--name=replaced", *QUIET, *FOREVER)
    second = shared.detached("--name=replaced", "--replace", *QUIET, *FOREVER)
    assert shared.inspect("replaced")["Id"] == second
    assert first not in shared("ps", "-a", "-q", "--no-trunc").out


def test_a_container_is_found_by_a_prefix_of_its_id(shared: Tiffin) -> None:
    cid = shared.create(*QUIET)
    assert shared.inspect(cid[:20])["Id"] == cid
    assert re.fullmatch("[a-z]+_[a-z]+", shared.inspect(cid)["Name"])
    assert cid[:12] in shared("ps", "-a", "-q").lines
    assert shared("ps", "-l", "-q").lines == [cid[:12]]
    shared("rm", cid[:20])
