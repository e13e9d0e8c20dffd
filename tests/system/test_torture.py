"""An engine that is killed at every step it takes: the next command finishes or undoes the rest.

`make torture` kills at every point of every command with every driver and prints the totals; in the
usual run of the tests it is a few points of each, another few every day.
"""

from __future__ import annotations

import datetime
import os
import random
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import pytest
from support import invariants, world
from support.cli import BUSYBOX, PATIENCE, PROGRESS, Tiffin, eventually

KILLER = Path(__file__).parent / "support/killer.py"
KITCHEN = Path(__file__).parent / "support/kitchen"
"""What `build` builds."""
WHOLE = os.environ.get("TIFFIN_TORTURE", "") == "all"
DRIVERS = [("overlay", "crun"), ("overlay", "runc"), ("vfs", "crun"), ("vfs", "runc")]
A_DAY = 2
"""Points of each command in the usual run of the tests; half as many errors of each kind."""
POINTS_MAX = 1000

RUN = ["run", "-d", "--name=victim", "-p", "127.0.0.1::80", BUSYBOX, "sleep", "1000"]
CREATE = ["create", "--name=victim", "-p", "127.0.0.1::80", BUSYBOX, "sleep", "1000"]
PULL = ["pull", BUSYBOX]


class Scene(NamedTuple):
    """A command, what goes before it, and what it gives when it is done a second time."""

    args: list[str]
    before: Sequence[list[str]] = ()
    again: tuple[int, ...] = (0,)
    """Exit codes of the same command when the first had got to its end."""


SCENES = {
    "pull": Scene(PULL),
    "rmi": Scene(["rmi", BUSYBOX], [PULL], (0, 1)),
    "tag": Scene(["tag", BUSYBOX, "localhost/other:1"], [PULL]),
    "create": Scene(CREATE, [PULL], (0, 125)),
    "create-pull": Scene(CREATE, [], (0, 125)),
    "mount": Scene(["mount", "victim"], [PULL, CREATE]),
    "unmount": Scene(["unmount", "victim"], [PULL, CREATE, ["mount", "victim"]]),
    "init": Scene(["init", "victim"], [PULL, CREATE], (0, 125)),
    "start": Scene(["start", "victim"], [PULL, CREATE]),
    "start-initialized": Scene(["start", "victim"], [PULL, CREATE, ["init", "victim"]]),
    "run": Scene(RUN, [PULL], (0, 125)),
    "run-rm": Scene(
        ["run", "--rm", "--name=victim", "--network=none", BUSYBOX, "true"], [PULL], (0, 125)
    ),
    "run-replace": Scene(["run", "--replace", *RUN[1:]], [PULL, RUN]),
    "exec": Scene(["exec", "victim", "true"], [PULL, RUN]),
    "kill": Scene(["kill", "victim"], [PULL, RUN], (0, 125)),
    "stop": Scene(["stop", "-t", "0", "victim"], [PULL, RUN]),
    "restart": Scene(["restart", "-t", "0", "victim"], [PULL, RUN]),
    "commit": Scene(["commit", "victim", "localhost/victim:1"], [PULL, RUN]),
    "build": Scene(["build", "--network=none", "-t", "victim", str(KITCHEN)], [PULL]),
    "rm": Scene(["rm", "victim"], [PULL, CREATE], (0, 1)),
    "rm-force": Scene(["rm", "-f", "-t", "0", "victim"], [PULL, RUN], (0, 1)),
    "pause": Scene(["pause", "victim"], [PULL, RUN], (0, 125)),
    "unpause": Scene(["unpause", "victim"], [PULL, RUN, ["pause", "victim"]], (0, 125)),
    "rename": Scene(["rename", "victim", "victim2"], [PULL, CREATE], (0, 125)),
    "update": Scene(["update", "--pids-limit=77", "victim"], [PULL, RUN]),
    "cp-in": Scene(["cp", __file__, "victim:/tmp/copied"], [PULL, RUN]),
    "run-volume": Scene(
        ["run", "-d", "--name=victim", "-v", "torture:/etc", BUSYBOX, "sleep", "1000"],
        [PULL],
        (0, 125),
    ),
    "rm-volumes": Scene(
        ["rm", "-f", "-v", "-t", "0", "victim"],
        [PULL, ["run", "-d", "--name=victim", "-v", "/data", BUSYBOX, "sleep", "1000"]],
        (0, 1),
    ),
    "volume-create": Scene(["volume", "create", "torture"], [], (0, 125)),
    "volume-rm": Scene(["volume", "rm", "torture"], [["volume", "create", "torture"]], (0, 1)),
    "network-connect": Scene(
        ["network", "connect", "torture", "victim"],
        [PULL, ["network", "create", "torture"], RUN],
        (0, 125),
    ),
    "network-disconnect": Scene(
        ["network", "disconnect", "torture", "victim"],
        [
            PULL,
            ["network", "create", "torture"],
            RUN,
            ["network", "connect", "torture", "victim"],
        ],
        (0, 125),
    ),
    "network-reload": Scene(["network", "reload", "victim"], [PULL, RUN]),
    "network-create": Scene(["network", "create", "torture"], [], (0, 125)),
    "network-rm": Scene(["network", "rm", "torture"], [["network", "create", "torture"]], (0, 1)),
}


class Total:
    def __init__(self) -> None:
        self.points = 0
        self.commands: set[str] = set()
        self.drivers: set[tuple[str, str]] = set()
        self.errors = 0
        self.leaks = 0


@pytest.fixture(scope="module")
def total(request: pytest.FixtureRequest) -> Iterator[Total]:
    total = Total()
    yield total
    capture = request.config.pluginmanager.getplugin("capturemanager")
    with capture.global_and_fixture_disabled():
        print(
            f"\ntorture: {total.points} points killed, {total.errors} errors met, "
            f"{len(total.commands)} commands, "
            f"{len(total.drivers)} pairs of drivers, leaks found: {total.leaks}"
        )


def run_until(
    tiffin: Tiffin, number: int, args: list[str], error: str = ""
) -> tuple[int, list[str], str]:
    """Run a command that kills itself at its point `number`, or meets an error there: its exit
    code, the points it passed, and its stderr."""
    trace = tiffin.base / "trace"
    trace.unlink(missing_ok=True)
    argv = [sys.executable, str(KILLER), f"{number}:{error}", str(trace), *tiffin.argv(*args)[1:]]
    done = subprocess.run(
        argv, capture_output=True, stdin=subprocess.DEVNULL, timeout=120 * PATIENCE, check=False
    )
    points = trace.read_text().splitlines() if trace.exists() else []
    return done.returncode, points, done.stderr.decode(errors="replace")


def settle(tiffin: Tiffin) -> None:
    """Until the machine agrees with the log: an exit command may still be at work."""
    eventually(
        lambda: not invariants.broken(tiffin.base),
        lambda: "\n".join(invariants.broken(tiffin.base)),
    )


def sweep(tiffin: Tiffin) -> None:
    """Remove the victim, the way its owner would; then nothing of it is left."""
    tiffin.attempt("rm", "-f", "-t", "0", "victim")
    tiffin.attempt("rm", "-f", "-t", "0", "victim2")
    tiffin.attempt("network", "rm", "torture")
    tiffin.attempt("volume", "rm", "torture")
    if tiffin.attempt("rmi", "-f", "victim").code == 0:
        tiffin("image", "prune", "-f")
    settle(tiffin)
    eventually(lambda: not tiffin.traces(), lambda: f"left behind: {tiffin.traces()}")
    assert tiffin("ps", "-a", "-q").out == ""


def chosen(name: str, count: int, a_day: int = A_DAY) -> list[int]:
    """All points, or some: others tomorrow."""
    if WHOLE:
        return list(range(1, count + 1))
    today = random.Random(f"{name} {datetime.date.today()}")
    return sorted(today.sample(range(1, count + 1), min(a_day, count)))


def prepare(tiffin: Tiffin, scene: Scene) -> None:
    for args in scene.before:
        tiffin(*args)
    if PULL not in scene.before:
        tiffin.attempt("rmi", "-f", BUSYBOX)


@pytest.mark.parametrize("name", SCENES)
@pytest.mark.parametrize("drivers", DRIVERS if WHOLE else DRIVERS[:1], ids="-".join)
def test_killed_at_each_point(
    tiffin: Tiffin, total: Total, drivers: tuple[str, str], name: str
) -> None:
    storage, runtime = drivers
    tiffin = tiffin.using(f"--storage-driver={storage}", f"--runtime={runtime}")
    scene = SCENES[name]
    links = world.links()

    prepare(tiffin, scene)
    code, points, _ = run_until(tiffin, 0, scene.args)
    assert code == 0
    sweep(tiffin)

    total.commands.add(name)
    total.drivers.add(drivers)
    for number in chosen(name, min(len(points), POINTS_MAX)):
        prepare(tiffin, scene)
        code, passed, _ = run_until(tiffin, number, scene.args)
        where = f"killed at {number}: {passed[-1]}"
        killed = code == -signal.SIGKILL
        total.points += killed
        try:
            check(tiffin, scene, recover_first=number % 2 == 0)
            sweep(tiffin)
        except (AssertionError, subprocess.SubprocessError) as error:
            total.leaks += 1
            raise AssertionError(f"{where}\n{error}") from error
    eventually(lambda: world.links() == links, lambda: f"{world.links() - links}")
    tiffin("events", "verify")


@pytest.mark.parametrize("name", SCENES)
@pytest.mark.parametrize("error", ["EIO", "ENOSPC"])
@pytest.mark.parametrize("drivers", DRIVERS if WHOLE else DRIVERS[:1], ids="-".join)
def test_an_error_at_each_write(
    tiffin: Tiffin, total: Total, drivers: tuple[str, str], error: str, name: str
) -> None:
    """The command fails with one line, or does without; the next one works."""
    storage, runtime = drivers
    tiffin = tiffin.using(f"--storage-driver={storage}", f"--runtime={runtime}")
    scene = SCENES[name]
    prepare(tiffin, scene)
    code, points, _ = run_until(tiffin, 0, scene.args, error)
    assert code == 0
    sweep(tiffin)
    for number in chosen(f"{name} {error}", min(len(points), POINTS_MAX), A_DAY // 2):
        prepare(tiffin, scene)
        code, passed, told = run_until(tiffin, number, scene.args, error)
        where = f"{error} at {number}: {passed[-1]}; exit code {code}; {told}"
        total.errors += 1
        try:
            errors = [line for line in told.splitlines() if not PROGRESS.match(line)]
            assert code == 0 or len(errors) == 1, "not one line"
            assert "internal error" not in told
            check(tiffin, scene, recover_first=number % 2 == 0)
            sweep(tiffin)
        except (AssertionError, subprocess.SubprocessError) as failure:
            total.leaks += 1
            raise AssertionError(f"{where}\n{failure}") from failure
    tiffin("events", "verify")


def check(tiffin: Tiffin, scene: Scene, *, recover_first: bool) -> None:
    """After the kill: `system recover`, or just the same command again, mends everything."""
    if recover_first:
        tiffin("system", "recover")
        settle(tiffin)
    again = tiffin.attempt(*scene.args, timeout=60)
    assert "Traceback" not in again.err
    assert again.code in scene.again, f"the same again: {again.code} {again.err}"
    tiffin("system", "recover")
    settle(tiffin)
