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
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import pytest
from support import invariants, world
from support.cli import BUSYBOX, PATIENCE, PROGRESS, Tiffin, eventually
from support.scenes import BOTH, PULL, SCENES, STORAGE, Scene

KILLER = Path(__file__).parent / "support/killer.py"
WHOLE = os.environ.get("TIFFIN_TORTURE", "") == "all"
DRIVERS = [("overlay", "crun"), ("overlay", "runc"), ("vfs", "crun"), ("vfs", "runc")]
TAG = f"localhost/{BUSYBOX}"
A_DAY = 1
"""Points of each command in the usual run of the tests, and as many errors."""
ERRORS = ["EIO", "ENOSPC"]
ALIKE_MAX = 10
STEP = int(os.environ.get("TIFFIN_TORTURE_STEP", "1"))
"""Of all points, every so many-th."""


def scope(fixture_name: str, config: pytest.Config) -> Literal["function", "module"]:
    """A store for each scene, when all points of it are met: then none suffers from another."""
    return "function" if WHOLE else "module"


@pytest.fixture(scope=scope)
def store() -> Iterator[Tiffin]:
    command = Tiffin.fresh()
    yield command
    command.close()


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


def sweep(tiffin: Tiffin, scene: Scene) -> None:
    """Remove what the scene left, the way its owner would; then nothing of it is left."""
    for args in scene.after:
        tiffin.attempt(*args)
    settle(tiffin)
    for table in ("containers", "pods", "volumes", "secrets", "networks", "tags", "manifests"):
        left = {row["name"] for row in invariants.rows(tiffin.root, f"SELECT name FROM {table}")}
        assert left <= {TAG, "bridge"}, f"{table}: {left}"
    eventually(lambda: not traces(tiffin), lambda: f"left behind: {traces(tiffin)}")


def traces(tiffin: Tiffin) -> list[str]:
    """As `Tiffin.traces`, without tiffin."""
    streams = "SELECT stream FROM events WHERE stream LIKE 'container/%' AND version=1"
    ids = [row["stream"].partition("/")[2] for row in invariants.rows(tiffin.root, streams)]
    return world.traces_of(tiffin.base, ids)


def chosen(name: str, points: list[str], a_day: int = A_DAY) -> list[int]:
    """All points, or some: others tomorrow. A thousand links that are made one after the other are
    no more than the first of them, and each twentieth."""
    seen: dict[str, int] = {}
    for label in points:
        seen[label] = seen.get(label, 0) + 1
    found, met = [], dict.fromkeys(seen, 0)
    for number, label in enumerate(points, 1):
        met[label] += 1
        if met[label] <= ALIKE_MAX or met[label] % 20 == 0 or met[label] == seen[label]:
            found.append(number)
    if WHOLE:
        return found[len(name) % STEP :: STEP]
    today = random.Random(f"{name} {datetime.date.today()}")
    return sorted(today.sample(found, min(a_day, len(found))))


def prepare(tiffin: Tiffin, scene: Scene) -> None:
    """What goes before. The image stays from one point to the next."""
    if ["rmi", "-f", BUSYBOX] in scene.after:
        tiffin.attempt("rmi", "-f", BUSYBOX)
    here = invariants.rows(tiffin.root, "SELECT name FROM tags WHERE name = ?", TAG)
    for step in scene.before:
        if callable(step):
            step(tiffin)
        elif step != PULL or not here:
            tiffin(*worded(tiffin, step))


def script(tiffin: Tiffin, scene: Scene) -> list[str]:
    """The words of its command."""
    return worded(tiffin, scene.args)


def worded(tiffin: Tiffin, args: list[str]) -> list[str]:
    other = "overlay" if "--storage-driver=vfs" in tiffin.flags else "vfs"
    return [word.format(base=tiffin.base, other=other) for word in args]


def cases() -> list[tuple[tuple[str, str], str]]:
    """Each scene with each pair of drivers that is something else to it."""
    pairs = DRIVERS if WHOLE else DRIVERS[:1]
    found = []
    for storage, runtime in pairs:
        for name, scene in SCENES.items():
            first = {BOTH: (storage, runtime), STORAGE: (storage, "crun")}
            if (storage, runtime) == first.get(scene.drivers, DRIVERS[0]):
                found.append(((storage, runtime), name))
    return found


CASES = pytest.mark.parametrize(
    ("drivers", "name"),
    cases(),
    ids=lambda value: value if isinstance(value, str) else "-".join(value),
)


@pytest.fixture(scope="module")
def traced() -> dict[tuple[tuple[str, str], str], list[str]]:
    """The points of each scene, once they are known."""
    return {}


def points_of(
    tiffin: Tiffin, traced: dict[tuple[tuple[str, str], str], list[str]],
    drivers: tuple[str, str], name: str,
) -> list[str]:  # fmt: skip
    if (drivers, name) not in traced:
        prepare(tiffin, SCENES[name])
        code, points, told = run_until(tiffin, 0, script(tiffin, SCENES[name]))
        assert code == 0, told
        sweep(tiffin, SCENES[name])
        traced[drivers, name] = points
    return traced[drivers, name]


@CASES
def test_killed_at_each_point(
    store: Tiffin, total: Total, traced: Any, drivers: tuple[str, str], name: str
) -> None:
    storage, runtime = drivers
    tiffin = store.using(f"--storage-driver={storage}", f"--runtime={runtime}")
    scene = SCENES[name]
    words = script(tiffin, scene)
    links = world.links()
    points = points_of(tiffin, traced, drivers, name)
    total.commands.add(name)
    total.drivers.add(drivers)
    for number in chosen(name, points):
        prepare(tiffin, scene)
        code, passed, _ = run_until(tiffin, number, words)
        where = f"killed at {number}: {passed[-1]}"
        killed = code == -signal.SIGKILL
        total.points += killed
        try:
            check(tiffin, scene, recover_first=number % 2 == 0)
            sweep(tiffin, scene)
        except (AssertionError, subprocess.SubprocessError) as error:
            total.leaks += 1
            raise AssertionError(f"{where}\n{error}") from error
    eventually(lambda: not WHOLE or world.links() == links, lambda: f"{world.links() - links}")
    tiffin("events", "verify")


def error_cases() -> list[tuple[tuple[str, str], str, str]]:
    """In the usual run one of the errors, the other tomorrow."""
    day = datetime.date.today().toordinal()
    return [
        (drivers, name, error)
        for number, (drivers, name) in enumerate(cases())
        for error in (ERRORS if WHOLE else [ERRORS[(number + day) % 2]])
    ]


@pytest.mark.parametrize(
    ("drivers", "name", "error"),
    error_cases(),
    ids=lambda value: value if isinstance(value, str) else "-".join(value),
)
def test_an_error_at_each_write(
    store: Tiffin, total: Total, traced: Any, drivers: tuple[str, str], name: str, error: str
) -> None:
    """The command fails with one line, or does without; the next one works."""
    storage, runtime = drivers
    tiffin = store.using(f"--storage-driver={storage}", f"--runtime={runtime}")
    scene = SCENES[name]
    words = script(tiffin, scene)
    points = points_of(tiffin, traced, drivers, name)
    writes = [label for label in points if label.startswith(("before os.", "before log "))]
    for number in chosen(f"{name} {error}", writes):
        prepare(tiffin, scene)
        code, passed, told = run_until(tiffin, number, words, error)
        where = f"{error} at {number}: {passed[-1]}; exit code {code}; {told}"
        total.errors += 1
        try:
            errors = [line for line in told.splitlines() if not PROGRESS.match(line)]
            assert code == 0 or len(errors) == 1, "not one line"
            assert "internal error" not in told
            check(tiffin, scene, recover_first=number % 2 == 0)
            sweep(tiffin, scene)
        except (AssertionError, subprocess.SubprocessError) as failure:
            total.leaks += 1
            raise AssertionError(f"{where}\n{failure}") from failure
    tiffin("events", "verify")


def check(tiffin: Tiffin, scene: Scene, *, recover_first: bool) -> None:
    """After the kill: `system recover`, or just the same command again, mends everything."""
    if recover_first:
        tiffin("system", "recover")
        settle(tiffin)
    again = tiffin.attempt(*script(tiffin, scene), timeout=60)
    assert "Traceback" not in again.err
    assert again.code in scene.again, f"the same again: {again.code} {again.err}"
    if invariants.broken(tiffin.base):
        tiffin("system", "recover")
        settle(tiffin)
