"""What service managers ask of an engine: readiness, pid files, cgroups; and units for them."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.cli import BUSYBOX, Tiffin, eventually

from tiffin import cgroups

RUN = ("run", "-d", "--network", "none")


class Manager:
    """The end of NOTIFY_SOCKET that a service manager has."""

    def __init__(self, path: Path) -> None:
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(str(path))
        self.socket.settimeout(60)

    def hear(self) -> str:
        return self.socket.recv(4096).decode()

    def nothing_more(self) -> bool:
        self.socket.settimeout(0)
        try:
            self.socket.recv(4096)
        except BlockingIOError:
            return True
        finally:
            self.socket.settimeout(60)
        return False


@pytest.fixture
def manager(shared: Tiffin) -> Iterator[Manager]:
    path = shared.base / "notify.sock"
    made = Manager(path)
    shared.env["NOTIFY_SOCKET"] = str(path)
    yield made
    del shared.env["NOTIFY_SOCKET"]
    made.socket.close()
    path.unlink()
    shared("rm", "-af", "-t", "0")


def conmon_of(tiffin: Tiffin, name: str) -> str:
    return tiffin("inspect", "-f", "{{.State.ConmonPid}}", name).word


def test_conmon_is_ready_when_the_container_runs(shared: Tiffin, manager: Manager) -> None:
    script = 'echo "socket: $NOTIFY_SOCKET."; sleep 1000'
    shared(*RUN, "--name", "c", "--sdnotify", "conmon", BUSYBOX, "sh", "-c", script)
    assert manager.hear() == f"MAINPID={conmon_of(shared, 'c')}\nREADY=1"
    eventually(lambda: shared("logs", "c").word == "socket: .")


def test_a_container_that_says_itself_that_it_is_ready(shared: Tiffin, manager: Manager) -> None:
    script = "[ -S $NOTIFY_SOCKET ] && echo it is there; sleep 1000"
    shared(*RUN, "--name", "c", BUSYBOX, "sh", "-c", script)
    assert manager.hear() == f"MAINPID={conmon_of(shared, 'c')}"
    eventually(lambda: shared("logs", "c").word == "it is there")
    assert manager.nothing_more()
    pid = shared("inspect", "-f", "{{.State.Pid}}", "c").word
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as inside:
        inside.sendto(b"READY=1", f"/proc/{pid}/root/run/notify/notify.sock")
    assert manager.hear() == "READY=1"


def test_nobody_is_told(shared: Tiffin, manager: Manager) -> None:
    shared(*RUN, "--name", "c", "--sdnotify", "ignore", BUSYBOX, "sleep", "1000")
    assert manager.nothing_more()


def test_pid_files(shared: Tiffin, tmp_path: Path) -> None:
    files = [tmp_path / "pid", tmp_path / "conmon"]
    flags = ("--pidfile", str(files[0]), "--conmon-pidfile", str(files[1]))
    shared(*RUN, "--name", "p", *flags, BUSYBOX, "sleep", "1000")
    told = shared("inspect", "-f", "{{.State.Pid}} {{.State.ConmonPid}}", "p").word
    assert " ".join(file.read_text() for file in files) == told
    shared("rm", "-f", "-t", "0", "p")
    shared.fails(*RUN, "--pidfile", "/nowhere/x", BUSYBOX, "true", says="--pidfile /nowhere/x: No")
    assert shared("ps", "-aq").out == ""


def test_a_container_without_a_cgroup_of_its_own(shared: Tiffin) -> None:
    if shutil.which("crun") is None:
        pytest.skip("no crun")
    crun = shared.using("--runtime", "crun")
    crun(*RUN, "--name", "d", "--cgroups", "disabled", BUSYBOX, "sleep", "1000")
    pid = shared("inspect", "-f", "{{.State.Pid}}", "d").word
    assert Path(f"/proc/{pid}/cgroup").read_text() == Path("/proc/self/cgroup").read_text()
    assert "sleep 1000" in shared("top", "d").out
    shared("exec", "d", "true")
    assert shared("stats", "--no-stream", "--format", "{{.Name}}", "d").word == "d"
    shared.fails("update", "--memory", "64m", "d", says="no cgroup of its own")
    shared("stop", "-t", "0", "d")
    shared("rm", "d")
    shared("system", "check")


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (["--cgroups", "disabled", "--memory", "64m"], "--memory: a container without a cgroup"),
        (["--cgroups", "disabled", "--cgroup-parent", "x"], "contradict each other"),
        (["--cgroups", "split", "--cgroup-parent", "x"], "contradict each other"),
        (["--cgroups", "some"], "--cgroups 'some' is not known (allowed: enabled, disabled"),
        (["--sdnotify", "some"], "--sdnotify 'some' is not known (allowed: container, conmon"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_what_cannot_be(shared: Tiffin, args: list[str], says: str) -> None:
    if shutil.which("crun") is None:
        pytest.skip("no crun")
    shared.using("--runtime", "crun").fails(*RUN, *args, BUSYBOX, "true", says=says)
    assert shared("ps", "-aq").out == ""


def test_what_cannot_be_on_this_machine(shared: Tiffin) -> None:
    shared.using("--cgroup-manager", "x").fails(*RUN, BUSYBOX, "true", says="systemd or cgroupfs")
    runc = shared.using("--runtime", "runc")
    if shutil.which("runc"):
        runc.fails(*RUN, "--cgroups", "disabled", BUSYBOX, "true", says="use --runtime crun")
    if not os.path.isdir("/run/systemd/system"):
        by_systemd = shared.using("--cgroup-manager", "systemd")
        by_systemd.fails(*RUN, BUSYBOX, "true", says="systemd does not run here")
    if not cgroups.unified():
        shared.fails(*RUN, "--cgroups", "split", BUSYBOX, "true", says="needs cgroup v2")
    assert shared("ps", "-aq").out == ""


def test_the_manager_can_be_set(shared: Tiffin) -> None:
    shared.env["TIFFIN_CGROUP_MANAGER"] = "nothing"
    try:
        shared.fails(*RUN, BUSYBOX, "true", says="--cgroup-manager 'nothing' is not known")
    finally:
        del shared.env["TIFFIN_CGROUP_MANAGER"]


@pytest.mark.parametrize("address", ["/nope/notify", "@nobody-listens", "/" + "x" * 200])
def test_a_manager_that_is_gone_is_no_reason_not_to_run(shared: Tiffin, address: str) -> None:
    shared.env["NOTIFY_SOCKET"] = address
    try:
        done = shared("run", "--rm", "--network=none", BUSYBOX, "echo", "lunch")
    finally:
        del shared.env["NOTIFY_SOCKET"]
    assert done.out == "lunch\n"
    assert done.err.count("\n") == 1
    assert done.err.startswith(f"Warning: NOTIFY_SOCKET {address[:100]}")


# --- generate systemd -----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def made(shared: Tiffin) -> Iterator[Tiffin]:
    """A container, and a pod with one in it."""
    shared("create", "--name", "web", "-e", "A=two words", BUSYBOX, "sh", "-c", "echo $HOME")
    shared("pod", "create", "--name", "stack")
    shared("create", "--pod", "stack", "--name", "inside", BUSYBOX, "true")
    yield shared
    shared("rm", "-f", "web")
    shared("pod", "rm", "-f", "stack")


def test_units_of_a_container(made: Tiffin, tmp_path: Path) -> None:
    old = made("generate", "systemd", "--name", "web").out
    assert f"ExecStart={made_by(old)} start web\n" in old
    new = made("generate", "systemd", "--new", "--name", "--after", "db.service", "web").out
    assert "After=db.service\n" in new
    assert f'--env "A=two words" {BUSYBOX} sh -c "echo $$HOME"\n' in new
    told = made("generate", "systemd", "--new", "--format", "json", "web").out
    (name,) = json.loads(told)
    assert name == f"container-{made('inspect', '-f', '{{.Id}}', 'web').word}"
    made.fails("generate", "systemd", "nosuch", says="no such container or pod: nosuch")
    made.fails("generate", "systemd", "inside", says="generate the units of the pod")
    made.fails("generate", "systemd", "--restart-policy", "x", "web", says="on-failure")


def made_by(unit: str) -> str:
    """The program and its flags."""
    line = next(line for line in unit.splitlines() if line.startswith("ExecStart="))
    return line.removeprefix("ExecStart=").partition(" start ")[0]


def test_systemd_understands_them(made: Tiffin, tmp_path: Path) -> None:
    for flags in (["--new", "--name"], ["--name"], ["--template", "--name"]):
        made("generate", "systemd", "--files", *flags, "web", cwd=tmp_path)
    done = made("generate", "systemd", "--files", "--new", "--name", "stack", cwd=tmp_path)
    assert [Path(line).name for line in done.lines] == [
        *("pod-stack.service", "container-inside.service"),
    ]
    if shutil.which("systemd-analyze") is None:
        pytest.skip("no systemd-analyze")
    units = sorted(map(str, tmp_path.glob("*.service")))
    assert len(units) == 4
    verified = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", *units], capture_output=True, text=True
    )
    said = [line for line in verified.stderr.splitlines() if str(tmp_path) in line]
    assert not said, verified.stderr


def test_the_unit_makes_the_same_container(made: Tiffin, tmp_path: Path) -> None:
    """ExecStart as systemd would run it: quotes gone, $$ and %% halved, specifiers put in."""
    from tiffin.quadlet import unitfile

    unit = unitfile.parse(made("generate", "systemd", "--new", "--name", "web").out)

    def command(key: str) -> list[str]:
        words = unitfile.split(unit.last("Service", key))
        told = (word.replace("%t/%n", f"{tmp_path}/x") for word in words)
        return [word.replace("%%", "%").replace("$$", "$") for word in told]

    first = made("inspect", "-f", "{{.Id}}", "web").word
    subprocess.run(command("ExecStart"), check=True, capture_output=True)
    assert made("inspect", "-f", "{{.Id}}", "web").word != first
    assert made("inspect", "-f", "{{index .Config.Env 0}}", "web").out
    subprocess.run(command("ExecStop"), check=True, capture_output=True)
    subprocess.run(command("ExecStopPost"), check=True, capture_output=True)
    assert made.attempt("container", "exists", "web").code == 1
    made("create", "--name", "web", "-e", "A=two words", BUSYBOX, "true")
