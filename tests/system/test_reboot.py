"""After a reboot (no processes, no mounts, no run directory, no links, no rules) the first command
sees what has ended; and whoever is killed, conmon or the runtime, the next command sees to it."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess

import pytest
from support import invariants, world
from support.cli import BUSYBOX, Tiffin, eventually

WHOLE = os.environ.get("TIFFIN_TORTURE", "") == "all"
PAIRS = [("overlay", "crun"), ("vfs", "runc")]
PROGRAMS = ["crun", "runc"]
SLEEP = [BUSYBOX, "sleep", "1000"]


def reboot(tiffin: Tiffin) -> None:
    """What a boot leaves of a store: the root directory."""
    conmons = {pid for pid, _, line in world.processes() if f"{tiffin.base}/" in line}
    doomed = list(conmons)
    while doomed:
        parent = doomed.pop()
        below = {pid for pid, _, _ in world.processes() if _is_child(pid, parent)}
        doomed += below - conmons
        conmons |= below
    for pid in conmons:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    eventually(lambda: not any(world.alive(pid) for pid in conmons))
    ours = json.loads(tiffin("network", "inspect", *names(tiffin)).out)
    networks = {network["network_interface"] for network in ours}
    for name in world.links() & networks:
        subprocess.run(["ip", "link", "delete", name], check=True)
    subprocess.run(["nft", "delete", "table", "inet", "tiffin"], check=False, capture_output=True)
    world.unmount_below(tiffin.base)
    world.remove(tiffin.run)
    for path in sorted(tiffin.traces(), key=len, reverse=True):
        if path.startswith("cgroup "):
            os.rmdir(path.removeprefix("cgroup "))


def names(tiffin: Tiffin) -> list[str]:
    return tiffin("network", "ls", "-q").lines


def _is_child(pid: int, parent: int) -> bool:
    with contextlib.suppress(OSError):
        return world.parent(pid) == parent
    return False


def settled(tiffin: Tiffin) -> None:
    eventually(
        lambda: not invariants.broken(tiffin.base),
        lambda: "\n".join(invariants.broken(tiffin.base)),
    )


@pytest.mark.parametrize("drivers", PAIRS if WHOLE else PAIRS[:1], ids="-".join)
def test_reboot(tiffin: Tiffin, drivers: tuple[str, str]) -> None:
    storage, runtime = drivers
    tiffin = tiffin.using(f"--storage-driver={storage}", f"--runtime={runtime}")
    tiffin("network", "create", "named")
    tiffin("run", "-d", "--name=web", "-p", "127.0.0.1::80", "--network=named", *SLEEP)
    tiffin("run", "-d", "--name=always", "--restart=always", *SLEEP)
    tiffin("run", "-d", "--name=failing", "--restart=on-failure", "--network=none", *SLEEP)
    tiffin("run", "-d", "--name=stopped", "--restart=always", "--network=none", *SLEEP)
    tiffin("stop", "-t", "0", "stopped")
    tiffin("run", "-d", "--name=gone", "--rm", "--network=none", *SLEEP)
    tiffin("create", "--name=mounted", *SLEEP)
    tiffin("mount", "mounted")
    tiffin("run", "--name=over", "--network=none", BUSYBOX, "sh", "-c", "exit 3", code=3)
    reboot(tiffin)

    listed = dict(
        line.split(" ", 1) for line in tiffin("ps", "-a", "--format", "{{.Names}} {{.State}}").lines
    )
    assert listed["web"] == listed["always"] == listed["failing"] == "exited"
    assert listed["mounted"] == "created"
    assert tiffin.inspect("web")["State"]["ExitCode"] == 255
    assert tiffin.inspect("over")["State"]["ExitCode"] == 3

    lines = tiffin("system", "recover").lines
    assert "container web: running -> exited" in lines
    assert "container gone: running -> removed" in lines
    assert [tiffin.status(name) for name in ("always", "failing")] == ["running"] * 2
    assert [tiffin.status(name) for name in ("web", "stopped", "over")] == ["exited"] * 3
    settled(tiffin)

    tiffin("start", "web", "mounted")
    tiffin("exec", "web", "true")
    tiffin("exec", "mounted", "cat", "/etc/passwd")
    settled(tiffin)
    tiffin("rm", "-a", "-f", "-t", "0")
    tiffin("network", "rm", "named")


def test_conmon_killed_beneath_an_attached_run(tiffin: Tiffin) -> None:
    """The command comes back, and so does its store."""
    with tiffin.start("run", "--name=victim", *SLEEP) as process:
        eventually(lambda: tiffin.attempt("exec", "victim", "true").code == 0)
        pid = tiffin.pid("victim")
        world.kill(tiffin.conmon("victim"))
        world.kill(pid)
        process.wait(timeout=60)
    tiffin("system", "recover")
    assert tiffin.status("victim") == "exited"
    tiffin("start", "victim")
    tiffin("rm", "-f", "-t", "0", "victim")
    settled(tiffin)


def test_conmon_of_an_exec_killed(tiffin: Tiffin) -> None:
    tiffin("run", "-d", "--name=victim", "--network=none", *SLEEP)
    own = tiffin.conmon("victim")
    victim = tiffin.inspect("victim")["Id"]

    def conmons() -> list[int]:
        return [p for p, n, line in world.processes() if n == "conmon" and victim in line]

    with tiffin.start("exec", "victim", "sleep", "500") as process:
        eventually(lambda: set(conmons()) - {own})
        for pid in set(conmons()) - {own}:
            world.kill(pid)
        process.wait(timeout=60)
    tiffin("exec", "victim", "true")
    tiffin("rm", "-f", "-t", "0", "victim")
    tiffin("system", "recover")
    settled(tiffin)


WRAPPER = """#!/bin/sh
for word; do
    case $word in create|start|kill|delete|state|exec|pause|update) break;; esac
done
if [ "$(cat {base}/deadly 2>/dev/null)" = "$word" ]; then
    rm {base}/deadly
    [ {when} = after ] && {real} "$@"
    kill -9 $$
fi
exec {real} "$@"
"""


@pytest.mark.parametrize("when", ["after", "before"] if WHOLE else ["after"])
@pytest.mark.parametrize("real", PROGRAMS if WHOLE else PROGRAMS[:1])
def test_runtime_killed_in_the_middle(tiffin: Tiffin, real: str, when: str) -> None:
    """The command fails with one line, or does without; then the same again works."""
    directory = tiffin.base / "bin"
    directory.mkdir()
    program = shutil.which(real)
    assert program is not None
    wrapper = directory / real
    wrapper.write_text(WRAPPER.format(base=tiffin.base, real=program, when=when))
    wrapper.chmod(0o755)
    tiffin = tiffin.using(f"--runtime={wrapper}")
    run = ["run", "-d", "--name=victim", *SLEEP]
    for deadly, args, again in (
        ("create", run, (0, 125)),
        ("start", run, (0, 125)),
        ("pause", ["pause", "victim"], (0, 125)),
        ("update", ["update", "--pids-limit=88", "victim"], (0,)),
        ("exec", ["exec", "victim", "true"], (0,)),
        ("kill", ["stop", "-t", "0", "victim"], (0,)),
        ("delete", ["rm", "-f", "-t", "0", "victim"], (0,)),
    ):
        if args is not run and args[0] != "rm":
            tiffin.attempt(*run)
            tiffin.attempt("start", "victim")
            tiffin.attempt("unpause", "victim")
        (tiffin.base / "deadly").write_text(deadly)
        first = tiffin.attempt(*args)
        assert "Traceback" not in first.err
        assert first.code == 0 or len(first.err.splitlines()) == 1, first.err
        (tiffin.base / "deadly").unlink(missing_ok=True)
        second = tiffin.attempt(*args)
        assert second.code in again, f"{deadly}: {second.err}"
        tiffin("system", "recover")
        settled(tiffin)
        if args is run:
            tiffin("rm", "-f", "-t", "0", "victim")
    tiffin("rm", "-f", "-t", "0", "victim")
