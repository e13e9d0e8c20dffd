"""The runsc driver under the conformance suite for OCI runtimes, as far as gVisor goes, and a
container's life with it."""

from __future__ import annotations

import shutil
import signal
import subprocess
from pathlib import Path

import pytest
import trio
from support.cli import BUSYBOX, Tiffin

import tiffin.cgroups
import tiffin_runtime_runsc
from tiffin.errors import Conflict, DriverError, RuntimeFailed
from tiffin.hooks import DriverContext, OCIRuntime, RuntimeState
from tiffin.testing.boxes import MakeBox, cgroups, processes_of, until
from tiffin.testing.runtime import RuntimeConformance

if shutil.which("runsc") is None:
    pytest.skip("runsc is not installed: apt install runsc", allow_module_level=True)


def make(tmp_path: Path, name: str = "runsc") -> OCIRuntime:
    context = DriverContext(root=str(tmp_path / "root"), run=str(tmp_path / "runtime"))
    runtime = tiffin_runtime_runsc.oci_runtime(name, context)
    assert runtime is not None
    return runtime


class TestRunsc(RuntimeConformance):
    """What gVisor does otherwise is said here, test by test."""

    @pytest.fixture
    def runtime(self, tmp_path: Path) -> OCIRuntime:
        return make(tmp_path)

    async def test_the_stages_of_a_life(self, box: MakeBox, runtime: OCIRuntime) -> None:
        """The process that the host sees is the container's kernel, not its command."""
        it = box("sleep", "100")
        assert await runtime.state(it.id) is None
        await it.create()
        assert await runtime.state(it.id) == RuntimeState("created", it.pid)
        await runtime.start(it.id)
        assert await runtime.state(it.id) == RuntimeState("running", it.pid)
        assert Path(f"/proc/{it.pid}/cmdline").read_bytes().startswith(b"runsc-sandbox\0")
        assert cgroups(it)
        await runtime.kill(it.id, signal.SIGKILL)
        assert await it.ended() == 137
        state = await runtime.state(it.id)
        assert state is not None and state.status == "stopped"
        await runtime.delete(it.id)
        assert await runtime.state(it.id) is None

    async def test_what_is_created_and_not_started_can_be_killed(
        self, box: MakeBox, runtime: OCIRuntime
    ) -> None:
        it = box("sleep", "100")
        await it.create()
        with pytest.raises(Conflict, match="not running"):
            await runtime.kill(it.id, signal.SIGTERM)
        await runtime.kill(it.id, signal.SIGKILL)
        assert await it.ended() == 137

    @pytest.mark.parametrize("after", [0.01, 0.03, 0.05, 0.07, 0.1])
    async def test_a_create_that_is_killed_leaves_nothing(
        self, box: MakeBox, runtime: OCIRuntime, after: float
    ) -> None:
        """At any point: its sandbox may be there already, and nothing that names it."""
        it = box("sleep", "100")
        with trio.move_on_after(after):
            await it.create()
        await runtime.delete(it.id, force=True)
        await until(lambda: processes_of(it) == [])
        assert not list(Path(runtime.arguments()[1]).glob(f"{it.id}*"))
        await tiffin.cgroups.remove(it.cgroup)

    async def test_limits_can_be_changed(self, box: MakeBox, runtime: OCIRuntime) -> None:
        """They cannot; and who wants to is told so."""
        it = box("sleep", "100")
        await it.create()
        with pytest.raises(DriverError, match="cannot change the limits"):
            await runtime.update(it.id, {"pids": {"limit": 33}})

    @pytest.mark.parametrize(
        ("command", "code"), [("exit 0", 0), ("exit 3", 3), ("kill -TERM $$; :", 143)]
    )
    async def test_exit_codes(self, box: MakeBox, command: str, code: int) -> None:
        """In gVisor, process 1 is no exception."""
        assert await box("sh", "-c", command).run() == code

    async def test_a_bad_mount_is_not_the_fault_of_the_command(self, box: MakeBox) -> None:
        """The cgroup stays: the engine removes it."""
        it = box("true", mounts=[{"destination": "/x", "source": "/nosuch", "options": ["bind"]}])
        with pytest.raises(RuntimeFailed, match="/nosuch") as caught:
            await it.run()
        assert caught.value.exit_code == 125
        await tiffin.cgroups.remove(it.cgroup)

    @pytest.mark.skip(reason="gVisor's /proc/PID/status does not show signals")
    async def test_signals_that_we_block_or_ignore_are_the_containers_own(
        self, box: MakeBox
    ) -> None: ...

    async def test_a_shared_volume_propagates_to_the_host(
        self, box: MakeBox, tmp_path: Path
    ) -> None:
        """runsc has no shared mounts, and says so."""
        with pytest.raises(RuntimeFailed, match="propagation") as caught:
            await box("true", propagation="rshared").run()
        assert caught.value.exit_code == 125


# --- through the command line ---------------------------------------------------------------------


@pytest.fixture
def gvisor(tiffin: Tiffin) -> Tiffin:
    return tiffin.using("--runtime", "runsc")


def test_nobody_gets_it_unasked(tiffin: Tiffin) -> None:
    tiffin("create", "--name", "one", "--network", "none", BUSYBOX)
    assert tiffin.inspect("one")["OCIRuntime"] != "runsc"


def test_it_is_gvisors_kernel(gvisor: Tiffin) -> None:
    script = "dmesg; touch /file; exit 7"
    done = gvisor("run", "--name", "one", "--network", "none", BUSYBOX, "sh", "-c", script, code=7)
    assert "Starting gVisor" in done.out
    assert gvisor.inspect("one")["OCIRuntime"] == "runsc"
    assert "A /file" in gvisor("diff", "one").lines
    gvisor("commit", "one", "mine")
    assert gvisor("run", "--rm", "--network", "none", "mine", "ls", "/file").out == "/file\n"


@pytest.mark.parametrize(
    ("command", "code"), [("nosuch", 127), ("/bin/nosuch", 127), ("/tmp", 126)]
)
def test_a_command_that_cannot_be_run_leaves_nothing(
    gvisor: Tiffin, command: str, code: int
) -> None:
    gvisor("pull", BUSYBOX)
    gvisor.fails("run", "--rm", "--network", "none", BUSYBOX, command, says=command, code=code)
    assert gvisor("ps", "-aq").out == ""


def test_a_life_from_create_to_rm(gvisor: Tiffin, tmp_path: Path) -> None:
    script = "trap 'exit 5' TERM; while :; do sleep 0.1; done"
    gvisor("create", "--name", "one", "--network", "none", BUSYBOX, "sh", "-c", script)
    gvisor("init", "one")
    gvisor("start", "one")
    assert gvisor.status("one") == "running"
    assert gvisor("exec", "one", "sh", "-c", "echo in; exit 3", code=3).out == "in\n"
    gvisor("exec", "one", "nosuch", code=127)
    gvisor("pause", "one")
    assert gvisor.status("one") == "paused"
    gvisor("unpause", "one")
    (tmp_path / "file").write_text("from the host")
    gvisor("cp", tmp_path / "file", "one:/new")
    assert gvisor("exec", "one", "cat", "/new").out == "from the host"
    gvisor("exec", "one", "sh", "-c", "echo from it >/new")
    assert (
        b"from it"
        in subprocess.run(
            gvisor.argv("cp", "one:/new", "-"), capture_output=True, check=True
        ).stdout
    )
    gvisor.fails("update", "--pids-limit", "50", "one", says="cannot change the limits")
    gvisor("stop", "one")
    assert gvisor("wait", "one").word == "5"
    gvisor("start", "one")
    gvisor("kill", "one")
    assert gvisor("wait", "one").word == "137"
    gvisor("init", "one")
    gvisor("rm", "-f", "one")


def test_a_container_on_a_bridge_is_reached_and_reaches(gvisor: Tiffin) -> None:
    """Its network stack takes over what the engine put into its namespace; each time it starts."""
    gvisor("network", "create", "--subnet", "198.51.100.0/24", "own")
    try:
        script = "echo hello | nc -l -p 80"
        one = ("--network", "own", "--ip", "198.51.100.7", BUSYBOX, "sh", "-c", script)
        gvisor("run", "-d", "--name", "one", *one)
        for _ in range(2):
            shown = gvisor("exec", "one", "ip", "addr").out
            assert "198.51.100.7/24" in shown
            client = ("nc", "-w", "10", "198.51.100.7", "80")
            done = gvisor("run", "--rm", "--network", "own", BUSYBOX, *client)
            assert done.out == "hello\n"
            gvisor("wait", "one")
            gvisor("start", "one")
        gvisor("rm", "-f", "-t", "0", "one")
    finally:
        gvisor("network", "rm", "-f", "own")


def test_the_hosts_network_is_refused(gvisor: Tiffin) -> None:
    gvisor("pull", BUSYBOX)
    host = ("--network", "host", BUSYBOX, "true")
    gvisor.fails("run", "--rm", *host, says="no container the host's network")
    assert gvisor("ps", "-aq").out == ""


def test_a_platform_that_is_none_is_refused(gvisor: Tiffin) -> None:
    config = gvisor.base / "tiffin.toml"
    config.write_text('[runtime.runsc]\nplatform = "no such"\n')
    says = "runtime.runsc: platform is 'no such'"
    gvisor.env["TIFFIN_CONFIG"] = str(config)
    gvisor("pull", BUSYBOX)
    gvisor.fails("run", "--rm", "--network", "none", BUSYBOX, "true", says=says)
    assert gvisor("ps", "-aq").out == ""
