"""Health checks: run by a timer that ends with the container, recorded, and waited for."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
from support import images, world
from support.cli import BUSYBOX, Tiffin, eventually

READY = ("--network=none", "--health-cmd=echo looked; test -e /ready", "--health-interval=500ms")
BY_HAND = ("--network=none", "--health-interval=disable")


def health(tiffin: Tiffin, name: str) -> str:
    return tiffin("inspect", "-f", "{{.State.Health.Status}}", name).word


def watches(pid: int) -> bool:
    """The process waits for what the log will say."""
    places = [f"/proc/{pid}/fd/{fd}" for fd in os.listdir(f"/proc/{pid}/fd")]
    return any("inotify" in os.readlink(place) for place in places if os.path.islink(place))


def timers(tiffin: Tiffin, name: str) -> list[int]:
    return [
        pid
        for pid, program, line in world.processes()
        if program in ("sh", "dash", "sleep") and "tiffin-health" in line and name in line
    ]


def test_by_its_timer(tiffin: Tiffin) -> None:
    name = tiffin.detached(*READY, "--health-retries=2", BUSYBOX, "sleep", "1000")
    assert tiffin("wait", "--condition=unhealthy", name).word == "-1"
    assert "(unhealthy)" in tiffin("ps", "--filter=health=unhealthy").out
    tiffin("exec", name, "touch", "/ready")
    tiffin("wait", "--condition=healthy,exited", name)
    assert tiffin("ps", "-q", "--filter=health=unhealthy").out == ""
    found = tiffin.inspect(name)["State"]["Health"]
    assert found["FailingStreak"] == 0 and 2 < len(found["Log"]) <= 5
    assert found["Log"][-1]["ExitCode"] == 0 and found["Log"][-1]["Output"] == "looked"
    story = tiffin.events("--filter", f"container={name}")
    changes = [e["data"]["status"] for e in story if e["type"] == "health.changed"]
    assert changes == ["unhealthy", "healthy"]
    checks = [e["data"] for e in story if e["type"] == "health.checked"]
    assert [c["failing"] for c in checks[:2]] == [1, 2] and checks[0]["status"] == "starting"
    assert "looked" not in str([e for e in story if e["type"].startswith("health.")])
    before = tiffin("inspect", "-f", "{{.State.Health.Status}}", name).word
    tiffin("system", "rebuild")
    assert health(tiffin, name) == before
    assert len(timers(tiffin, name)) == 1
    tiffin("stop", "-t", "0", name)
    eventually(lambda: not timers(tiffin, name))
    tiffin("start", name)
    eventually(lambda: health(tiffin, name) == "healthy")
    assert len(timers(tiffin, name)) == 1


def test_a_timer_that_nobody_ends_ends_by_itself(tiffin: Tiffin) -> None:
    name = tiffin.detached(*READY, BUSYBOX, "sleep", "1000")
    eventually(lambda: timers(tiffin, name))
    os.kill(tiffin.conmon(name), signal.SIGKILL)
    world.kill(tiffin.pid(name))
    eventually(lambda: not timers(tiffin, name), seconds=30)
    assert tiffin.status(name) == "exited", "the check noticed it"


def test_a_paused_one_is_left_alone(tiffin: Tiffin) -> None:
    name = tiffin.detached(*BY_HAND, "--health-cmd=true", BUSYBOX, "sleep", "1000")
    tiffin("pause", name)
    tiffin.fails("healthcheck", "run", name, says="paused")
    tiffin("healthcheck", "run", "--scheduled", name)
    tiffin("unpause", name)
    assert health(tiffin, name) == "starting"
    tiffin("stop", "-t", "0", name)
    tiffin("healthcheck", "run", "--scheduled", name, code=3)


def test_by_hand_and_what_takes_too_long_is_killed(tiffin: Tiffin) -> None:
    hangs = ("--health-cmd=echo begun; sleep 900 & sleep 901", "--health-timeout=1s")
    name = tiffin.detached(*BY_HAND, *hangs, "--health-retries=1", BUSYBOX, "sleep", "1000")
    assert not timers(tiffin, name)
    assert tiffin("healthcheck", "run", name, code=1).word == "unhealthy"
    last = tiffin.inspect(name)["State"]["Health"]["Log"][-1]
    assert last["ExitCode"] == -1
    assert last["Output"].startswith("begun\n") and "1 s" in last["Output"]
    assert tiffin("top", name, "args").lines[1:] == ["sleep 1000"]
    assert tiffin("sql", "SELECT * FROM intents").lines[1:] == []


def test_failures_in_the_start_period_do_not_count(tiffin: Tiffin) -> None:
    early = ("--health-cmd=false", "--health-start-period=1h", "--health-retries=1")
    name = tiffin.detached(*BY_HAND, *early, BUSYBOX, "sleep", "1000")
    tiffin("healthcheck", "run", name, code=1)
    assert health(tiffin, name) == "starting"


def test_the_images_own(tiffin: Tiffin, tmp_path: Path) -> None:
    check = {"Test": ["CMD", "nosuch"], "Interval": 3600 * 10**9, "Retries": 1}
    image = images.simple(tmp_path / "image", config={"Healthcheck": check})
    loaded = tiffin("load", "-i", image.path).word.rpartition(": ")[2]
    name = tiffin.detached("--network=none", loaded, "sleep", "1000")
    assert tiffin.inspect(name)["Config"]["Healthcheck"]["Test"] == ["CMD", "nosuch"]
    tiffin("wait", "--condition=unhealthy", name)
    assert tiffin.inspect(name)["State"]["Health"]["Log"][0]["ExitCode"] == 127
    none = tiffin.detached("--network=none", "--no-healthcheck", loaded, "sleep", "1000")
    assert health(tiffin, none) == ""
    tiffin.fails("healthcheck", "run", none, says="no health check")


@pytest.mark.parametrize(
    ("condition", "code"),
    [("running", "-1"), ("paused,running", "-1")],
)
def test_wait_for_a_state(tiffin: Tiffin, condition: str, code: str) -> None:
    name = tiffin.create("--network=none", BUSYBOX, "sleep", "1000")
    assert tiffin("wait", "--condition=created", name).word == "0"
    with tiffin.start("wait", f"--condition={condition}", name) as waiting:
        tiffin("start", name)
        assert waiting.communicate(timeout=60)[0].decode().strip() == code
    with tiffin.start("wait", "--condition=removing", name) as waiting:
        eventually(lambda: watches(waiting.pid))
        tiffin("rm", "-f", "-t", "0", name)
        assert waiting.communicate(timeout=60)[0].decode().strip() == "137"


@pytest.mark.parametrize(
    ("flags", "state"),
    [
        (["--health-on-failure=kill"], "exited unhealthy"),
        (["--health-on-failure=stop", "--stop-timeout=0"], "exited unhealthy"),
        (["--health-on-failure=restart", "--stop-timeout=0"], "running starting"),
        (["--health-on-failure=none"], "running unhealthy"),
    ],
)
def test_what_is_done_with_an_unhealthy_one(tiffin: Tiffin, flags: list[str], state: str) -> None:
    check = ["--health-cmd=test -e /well", "--health-interval=disable", "--health-retries=2"]
    given = ["-d", "--name=web", "--network=none", *check, *flags]
    tiffin("run", *given, BUSYBOX, "sleep", "inf")
    tiffin("healthcheck", "run", "web", code=1)
    assert tiffin("inspect", "-f", "{{.State.Status}}", "web").word == "running"
    tiffin("healthcheck", "run", "web", code=1)
    shown = "{{.State.Status}} {{.State.Health.Status}}"
    assert tiffin("inspect", "-f", shown, "web").word == state


def test_bad_input(tiffin: Tiffin) -> None:
    name = tiffin.create("--network=none", "--health-cmd=true", BUSYBOX)
    tiffin.fails("healthcheck", "run", name, says="not running")
    tiffin.fails("healthcheck", "run", "nosuch", says="no such container")
    tiffin.fails("wait", "--condition=bogus", name, says="bogus")
    tiffin.fails("ps", "--filter=health=fine", says="fine")
