"""`start` and `stop` of those that match, `update --restart`, and the unit that starts after a
reboot."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

from support import world
from support.cli import BUSYBOX, Tiffin, eventually

UNIT = Path(__file__).parents[2] / "docs/contrib/tiffin-restart.service"


def unit(key: str) -> list[str]:
    """The arguments of a command line of the unit."""
    found = re.search(rf"^{key}=(.*)$", UNIT.read_text(), re.MULTILINE)
    assert found
    program, *words = shlex.split(found[1])
    assert program.endswith("/tiffin")
    return words


def test_those_that_match(tiffin: Tiffin) -> None:
    always = tiffin.create("--network=none", "--restart=always", BUSYBOX, "sleep", "1000")
    other = tiffin.create("--network=none", "--label=a=b", BUSYBOX, "sleep", "1000")
    assert tiffin(*unit("ExecStart")).lines == [always]
    assert (tiffin.status(always), tiffin.status(other)) == ("running", "created")
    assert tiffin("start", "--filter=label=a=b", always, other).lines == [other]
    assert tiffin("ps", "-q", "--no-trunc", "--filter=restart-policy=no").lines == [other]
    assert tiffin("stop", "-t", "0", "--all", "--filter=label=a=b").lines == [other]
    assert tiffin.status(always) == "running"
    assert tiffin("stop", "-t", "0", *unit("ExecStop")[1:]).lines == [always]
    tiffin.fails("start", "--filter=what=1", says="what")


def test_what_ended_unnoticed_is_started_as_after_a_reboot(tiffin: Tiffin) -> None:
    name = tiffin.detached("--network=none", "--restart=always", BUSYBOX, "sleep", "1000")
    pid = tiffin.pid(name)
    world.kill(tiffin.conmon(name))
    world.kill(pid)
    eventually(lambda: not world.alive(pid))
    assert tiffin(*unit("ExecStart")).lines == [name]
    assert tiffin.status(name) == "running" and tiffin.pid(name) != pid
    assert tiffin(*unit("ExecStart")).lines == [], "it runs"


def test_update_restart(tiffin: Tiffin) -> None:
    name = tiffin.create("--network=none", BUSYBOX, "sh", "-c", "exit 3")
    assert tiffin("update", "--restart=on-failure:1", name).word == name
    policy = tiffin.inspect(name)["HostConfig"]["RestartPolicy"]
    assert policy == {"Name": "on-failure", "MaximumRetryCount": 1}
    tiffin("system", "rebuild")
    assert tiffin.inspect(name)["HostConfig"]["RestartPolicy"] == policy
    tiffin("start", name)
    eventually(lambda: tiffin.inspect(name)["RestartCount"] == 1, seconds=30)
    tiffin("wait", name)
    tiffin("update", "--restart=no", name)
    assert tiffin("ps", "-aq", "--no-trunc", "--filter=restart-policy=no").lines == [name]
    tiffin.fails("update", "--restart=sometimes", name, says="sometimes")
    gone = tiffin.create("--rm", "--network=none", BUSYBOX)
    tiffin.fails("update", "--restart=always", gone, says="--rm")
