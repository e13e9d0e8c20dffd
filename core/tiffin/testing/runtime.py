"""The conformance suite for OCI runtime drivers: real containers, under a real conmon.

    class TestMine(RuntimeConformance):
        @pytest.fixture
        def runtime(self, tmp_path):
            return ...  # your driver, with tmp_path/"runtime" as `DriverContext.run`

Needs root, conmon and a static busybox. Tests are async: pytest-trio in trio mode.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import signal
import subprocess
from pathlib import Path

import pytest
import trio

from tiffin import attach, conmon, syscalls
from tiffin import cgroups as cgroups_of_ours
from tiffin.errors import Conflict, RuntimeFailed
from tiffin.hooks import OCIRuntime

from . import bundles
from .boxes import (
    PATIENCE,
    BoxSuite,
    MakeBox,
    ancestors,
    cgroups,
    exec_attached,
    parent,
    processes_of,
    run_attached,
    terminal,
    until,
)


class RuntimeConformance(BoxSuite):
    """Subclass it, and give it the fixture `runtime`."""

    # --- a container's life ---

    async def test_the_stages_of_a_life(self, box: MakeBox, runtime: OCIRuntime) -> None:
        it = box("sleep", "100")
        assert await runtime.state(it.id) is None
        await it.create()
        state = await runtime.state(it.id)
        assert state is not None and (state.status, state.pid) == ("created", it.pid)
        await runtime.start(it.id)
        state = await runtime.state(it.id)
        assert state is not None and (state.status, state.pid) == ("running", it.pid)
        assert Path(f"/proc/{it.pid}/comm").read_text() == "sleep\n"
        assert cgroups(it)
        await runtime.kill(it.id, signal.SIGKILL)
        assert await it.ended() == 137
        state = await runtime.state(it.id)
        assert state is not None and state.status == "stopped"
        await runtime.delete(it.id)
        assert await runtime.state(it.id) is None

    async def test_delete_is_idempotent(self, box: MakeBox, runtime: OCIRuntime) -> None:
        it = box("true")
        await runtime.delete(it.id)
        await runtime.delete(it.id, force=True)
        assert await it.run() == 0
        await runtime.delete(it.id)
        await runtime.delete(it.id)

    async def test_delete_by_force_kills(self, box: MakeBox, runtime: OCIRuntime) -> None:
        it = box("sleep", "100")
        await it.create()
        await it.start()
        await runtime.delete(it.id, force=True)
        assert await it.ended() == 137
        assert await runtime.state(it.id) is None

    async def test_a_signal_to_what_has_ended_is_a_conflict(
        self, box: MakeBox, runtime: OCIRuntime
    ) -> None:
        it = box("true")
        await it.run()
        with pytest.raises(Conflict, match="not running"):
            await runtime.kill(it.id, signal.SIGTERM)
        await runtime.delete(it.id)
        with pytest.raises(Conflict, match="not running"):
            await runtime.kill(it.id, signal.SIGTERM)

    async def test_pause_and_resume(self, box: MakeBox, runtime: OCIRuntime) -> None:
        it = box("sleep", "100")
        await it.create()
        await it.start()
        await runtime.pause(it.id)
        state = await runtime.state(it.id)
        assert state is not None and state.status == "paused"
        await runtime.resume(it.id)
        state = await runtime.state(it.id)
        assert state is not None and state.status == "running"

    async def test_limits_can_be_changed(self, box: MakeBox, runtime: OCIRuntime) -> None:
        it = box("sleep", "100")
        await it.create()
        await runtime.update(it.id, {"pids": {"limit": 33}})
        limits = [
            Path(f"{place}/pids.max").read_text().strip()
            for place in cgroups(it)
            if os.path.exists(f"{place}/pids.max")
        ]
        assert "33" in limits

    async def test_version_names_itself(self, runtime: OCIRuntime) -> None:
        assert "version" in await runtime.version()

    # --- exit codes and errors ---

    @pytest.mark.parametrize(
        ("command", "code"), [("exit 0", 0), ("exit 3", 3), ("kill -TERM $$; :", 0)]
    )
    async def test_exit_codes(self, box: MakeBox, command: str, code: int) -> None:
        assert await box("sh", "-c", command).run() == code  # pid 1 ignores signals of its own

    async def test_an_end_by_a_signal_is_128_and_its_number(
        self, box: MakeBox, runtime: OCIRuntime
    ) -> None:
        it = box("sh", "-c", "trap 'exit 7' USR1; echo ready; while :; do sleep 0.01; done")
        await it.create()
        await it.start()
        await until(lambda: b"ready" in it.log())
        await runtime.kill(it.id, signal.SIGUSR1)
        assert await it.ended() == 7

    @pytest.mark.parametrize(
        ("command", "code"),
        [("nosuch", 127), ("/bin/nosuch", 127), ("/noexec", 126), ("/tmp", 126)],
    )
    async def test_a_command_that_cannot_be_run(
        self, box: MakeBox, tmp_path: Path, command: str, code: int
    ) -> None:
        (tmp_path / "rootfs" / "noexec").write_text("no")
        it = box(command)
        with pytest.raises(RuntimeFailed) as caught:
            await it.run()
        assert caught.value.exit_code == code
        assert len(str(caught.value).splitlines()) == 1
        assert "level=" not in str(caught.value)
        await until(lambda: processes_of(it) == [])

    async def test_a_bad_mount_is_not_the_fault_of_the_command(self, box: MakeBox) -> None:
        it = box("true", mounts=[{"destination": "/x", "source": "/nosuch", "options": ["bind"]}])
        with pytest.raises(RuntimeFailed, match="/nosuch") as caught:
            await it.run()
        assert caught.value.exit_code == 125

    async def test_an_exit_file_of_an_earlier_life_does_not_count(self, box: MakeBox) -> None:
        it = box("sh", "-c", "exit 4")
        os.makedirs(os.path.dirname(it.monitor.exit_file))
        Path(it.monitor.exit_file).write_text("77")
        await it.create()
        assert not os.path.exists(it.monitor.exit_file)
        await it.start()
        assert await it.ended() == 4

    async def test_a_create_that_is_cancelled_leaves_no_conmon(
        self, box: MakeBox, runtime: OCIRuntime
    ) -> None:
        given_up = 0
        for milliseconds in range(1, 9):  # before its fork, between that and the pid file, after
            it = box("sleep", "100")
            with trio.move_on_after(milliseconds / 1000) as scope:
                await it.create()
            given_up += scope.cancelled_caught
            await it.remove()
            await cgroups_of_ours.remove(it.cgroup)  # the engine's part: runc had not noted it yet
            await until(lambda it=it: processes_of(it) == [])  # type: ignore[misc]
        assert given_up

    # --- conmon ---

    async def test_conmon_hangs_off_init_with_nothing_of_ours(
        self, box: MakeBox, tmp_path: Path
    ) -> None:
        with open(tmp_path / "lock", "w") as lock:
            os.set_inheritable(lock.fileno(), True)  # as `exec 9>lock` in a shell script
            it = box("sleep", "100")
            await it.create()
            await it.start()
            assert parent(it.pid) == it.conmon_pid
            # the parent is init or the nearest subreaper: an ancestor of ours, and not ourselves
            assert parent(it.conmon_pid) in ancestors(os.getpid())
            for pid in (it.conmon_pid, it.pid):
                held = [os.readlink(f"/proc/{pid}/fd/{fd}") for fd in os.listdir(f"/proc/{pid}/fd")]
                assert str(tmp_path / "lock") not in held
            assert [os.readlink(f"/proc/{it.conmon_pid}/fd/{fd}") for fd in range(3)] == [
                "/dev/null"
            ] * 3
            assert os.readlink(f"/proc/{it.conmon_pid}/cwd") == it.monitor.persist
            for pid in (it.conmon_pid, it.pid):
                assert os.getsid(pid) != os.getsid(0)
                assert (
                    Path(f"/proc/{pid}/loginuid").read_text()
                    == Path("/proc/self/loginuid").read_text()
                )

    async def test_signals_that_we_block_or_ignore_are_the_containers_own(
        self, box: MakeBox
    ) -> None:
        before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR2})
        for number in syscalls.LIBRARY_SIGNALS:  # as a parent without glibc may leave them
            syscalls.ignore_signal(number, True)
        try:
            it = box("cat", "/proc/self/status")
            await it.run()
        finally:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGUSR2})
            signal.signal(signal.SIGHUP, before)
        lines = dict(line.split(b":\t", 1) for line in it.log().splitlines() if b":\t" in line)
        signals = [int(lines[name], 16) for name in (b"SigBlk", b"SigIgn")]
        assert signals == [0, 0], f"blocked {signals[0]:x}, ignored {signals[1]:x}"

    async def test_the_exit_command_is_run_at_the_end(self, box: MakeBox, tmp_path: Path) -> None:
        note = tmp_path / "note"
        # the bundle's directory is named after the container
        script = 'echo "$1 $(cat "$2"/*/run/exits/*)" > "$0"'
        command = ("/bin/sh", "-c", script, str(note), "the id", str(tmp_path / "boxes"))
        it = box("sh", "-c", "exit 9", exit_command=command)
        await it.run()
        assert note.read_text() == "the id 9\n"

    async def test_running_out_of_memory_is_noted(self, box: MakeBox) -> None:
        it = box("tail", "/dev/zero", memory=16 << 20)
        assert await it.run() == 137
        assert os.path.exists(f"{it.monitor.persist}/oom")

    async def test_a_shared_volume_propagates_to_the_host(
        self, box: MakeBox, tmp_path: Path
    ) -> None:
        volume = tmp_path / "volume"
        volume.mkdir()
        (volume / "inner").mkdir()
        subprocess.run(["mount", "--bind", volume, volume], check=True)
        try:
            subprocess.run(["mount", "--make-shared", volume], check=True)
            volumes = [
                {
                    "destination": "/mnt",
                    "type": "bind",
                    "source": str(volume),
                    "options": ["rbind", "rshared"],
                }
            ]
            it = box(
                *("sh", "-c", "mount -t tmpfs x /mnt/inner && touch /mnt/inner/seen"),
                mounts=volumes,
                capabilities=["CAP_SYS_ADMIN"],
                propagation="rshared",
            )
            assert await it.run() == 0, it.log("stderr")
            assert (volume / "inner" / "seen").exists()
            subprocess.run(["umount", volume / "inner"], check=True)
        finally:
            subprocess.run(["umount", "-R", volume], check=True)

    # --- log ---

    async def test_the_log_has_both_streams_and_unfinished_lines(self, box: MakeBox) -> None:
        it = box("sh", "-c", "printf 'one\\ntwo\\377'; echo oops >&2; echo; printf end")
        await it.run()
        assert it.log("stdout").removesuffix(b"\n") == b"one\ntwo\xff\nend"
        assert it.log("stderr") == b"oops\n"

    # --- attach ---

    async def test_attached_from_the_start_nothing_is_lost(self, box: MakeBox) -> None:
        it = box("sh", "-c", "echo out; echo err >&2; exit 5")
        assert await run_attached(it) == (5, b"out\n", b"err\n")

    async def test_twenty_megabytes_through_cat(self, box: MakeBox) -> None:
        data = os.urandom(20 << 20)
        code, out, err = await run_attached(box("cat", stdin=True), feed=data)
        assert (code, err) == (0, b"")
        assert hashlib.sha256(out).digest() == hashlib.sha256(data).digest()

    async def test_stdin_can_be_longer_than_what_is_read(self, box: MakeBox) -> None:
        it = box("head", "-c", "5", stdin=True)
        code, out, _ = await run_attached(it, feed=b"hello" + bytes(4 << 20))
        assert (code, out) == (0, b"hello")

    async def test_signals_are_passed_on(self, box: MakeBox, runtime: OCIRuntime) -> None:
        it = box("sh", "-c", "trap 'echo term; exit 0' TERM; echo r; while :; do sleep 0.01; done")

        async def on_signal(number: int) -> None:
            await runtime.kill(it.id, number)

        async with trio.open_nursery() as nursery:

            def ready() -> bool:
                caught = signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL
                return caught and os.path.exists(it.monitor.log) and b"r\n" in it.log()

            async def send() -> None:
                await until(ready)
                os.kill(os.getpid(), signal.SIGTERM)

            nursery.start_soon(send)
            code, out, _ = await run_attached(it, on_signal=on_signal)
        assert (code, out) == (0, b"r\nterm\n")

    async def test_a_reader_that_goes_away_does_not_end_the_container(self, box: MakeBox) -> None:
        it = box("sh", "-c", "while :; do echo y; sleep 0.01; done")
        await it.create()
        read, write = os.pipe()
        session = attach.AttachSession(
            directory=str(it.directory), stdin=False, stdout_fd=write, stderr_fd=write
        )
        with attach.connect(str(it.directory)) as connection:
            await it.start()
            os.close(read)
            with trio.fail_after(PATIENCE):
                assert await attach.attach(connection, session) is attach.Outcome.OUTPUT_CLOSED
        os.close(write)
        assert os.path.exists(f"/proc/{it.pid}")

    async def test_attach_to_what_is_not_there(self, tmp_path: Path) -> None:
        for directory in (tmp_path, tmp_path / "none"):
            with pytest.raises(Conflict, match="cannot attach"), attach.connect(str(directory)):
                pass

    async def test_a_terminal_with_its_size_keys_and_detaching(self, box: MakeBox) -> None:
        it = box(
            "sh", "-c", "stty size; while read x; do stty size; echo got-$x; done", terminal=True
        )
        await it.create()
        with terminal(33, 99) as term:
            before = term.mode()
            flags = fcntl.fcntl(term.fd, fcntl.F_GETFL)
            session = attach.AttachSession(
                directory=str(it.directory), terminal=True, stdin_fd=term.fd, stdout_fd=term.fd
            )
            outcomes: list[attach.Outcome] = []

            async def client() -> None:
                with attach.connect(str(it.directory)) as connection:
                    attach.fit_window(session)
                    if not outcomes:
                        await it.start()
                    outcomes.append(await attach.attach(connection, session))

            async with trio.open_nursery() as nursery:
                nursery.start_soon(client)
                await term.shows(b"33 99\r\n")
                assert term.mode() != before  # raw
                term.resize(44, 111)
                os.kill(os.getpid(), signal.SIGWINCH)
                with trio.fail_after(PATIENCE):  # conmon gets to it in its own time
                    while b"44 111\r\ngot-one\r\n" not in term.screen:
                        term.type(b"one\r")
                        answers = term.screen.count(b"got-one\r\n")
                        while term.screen.count(b"got-one\r\n") == answers:
                            await term.more()
                term.type(b"\x10")
                await trio.sleep(0.05)
                term.type(b"\x11")
            assert outcomes == [attach.Outcome.DETACHED]
            assert term.mode() == before
            assert fcntl.fcntl(term.fd, fcntl.F_GETFL) == flags
            async with trio.open_nursery() as nursery:  # and the terminal is still alive
                nursery.start_soon(client)
                term.type(b"two\r")
                await term.shows(b"got-two\r\n")
                term.type(b"\x04")
            assert outcomes[1] is attach.Outcome.ENDED
            assert term.mode() == before
        assert await it.ended() == 0

    # --- exec ---

    async def test_exec_enters_the_containers_namespaces(self, box: MakeBox) -> None:
        it = box("sleep", "100")
        await it.create()
        await it.start()
        code, out, err = await exec_attached(
            it, ["sh", "-c", "cat /proc/1/comm; echo e >&2; exit 3"]
        )
        assert (code, out, err) == (3, b"sleep\n", b"e\n")

    async def test_exec_takes_stdin(self, box: MakeBox) -> None:
        it = box("sleep", "100")
        await it.create()
        await it.start()
        data = os.urandom(1 << 20)
        assert await exec_attached(it, ["cat"], feed=data) == (0, data, b"")

    @pytest.mark.parametrize(
        ("command", "code"),
        [("nosuch", 127), ("/bin/nosuch", 127), ("/noexec", 126), ("/tmp", 126)],
    )
    async def test_exec_of_a_command_that_cannot_be_run(
        self, box: MakeBox, tmp_path: Path, command: str, code: int
    ) -> None:
        (tmp_path / "rootfs" / "noexec").write_text("no")
        it = box("sleep", "100")
        await it.create()
        await it.start()
        with pytest.raises(RuntimeFailed) as caught:
            await exec_attached(it, [command])
        assert caught.value.exit_code == code, caught.value

    async def test_exec_in_the_background(self, box: MakeBox) -> None:
        it = box("sleep", "100")
        await it.create()
        await it.start()
        monitor = it.exec_monitor()
        spec = bundles.process(["sh", "-c", "sleep 0.05; exit 6"])
        async with conmon.execute(monitor, spec, attach=False) as process:
            pid = await process.start()
            assert parent(pid) == process.conmon_pid
        assert not os.path.exists(f"{monitor.run}/process.json")
        await until(lambda: os.path.exists(monitor.exit_file))
        assert Path(monitor.exit_file).read_text() == "6"

    async def test_exec_on_a_terminal(self, box: MakeBox) -> None:
        it = box("sleep", "100")
        await it.create()
        await it.start()
        with terminal(20, 60) as term:
            monitor = it.exec_monitor(terminal=True)
            spec = bundles.process(["sh", "-c", "read x; stty size; exit 2"], terminal=True)
            async with conmon.execute(monitor, spec, attach=True) as process:
                session = attach.AttachSession(
                    directory=process.directory, terminal=True, stdin_fd=term.fd, stdout_fd=term.fd
                )
                with attach.connect(process.directory) as connection:
                    attach.fit_window(session)
                    await process.start()
                    term.type(b"\r")
                    with trio.fail_after(PATIENCE):
                        await attach.attach(connection, session)
                assert await process.wait() == 2
            await term.shows(b"20 60\r\n")

    async def test_an_exec_that_is_given_up_does_not_run(
        self, box: MakeBox, tmp_path: Path
    ) -> None:
        it = box("sleep", "100")
        await it.create()
        await it.start()
        monitor = it.exec_monitor()
        spec = bundles.process(["touch", "/ran"])
        async with conmon.execute(monitor, spec, attach=True) as process:
            assert process.directory == monitor.bundle
        await until(lambda: monitor.run not in "".join(processes_of(it)))
        assert not (tmp_path / "rootfs" / "ran").exists()
