"""`pause`, `unpause`, `rename`: seen in the freezer, in lists, and in the log."""

from __future__ import annotations

import contextlib
import json
import os
import time
from pathlib import Path

import pytest
from support import world
from support.cli import BUSYBOX, Tiffin, eventually

from tiffin.store import log, sync

COUNT = ("sh", "-c", "while :; do echo x >> /count; usleep 10000; done")


@pytest.fixture(params=["runc", "crun"])
def running(shared: Tiffin, request: pytest.FixtureRequest) -> str:
    chosen = shared.using(f"--runtime={request.param}")
    name = chosen.detached("--network=none", BUSYBOX, *COUNT)
    eventually(lambda: size(shared, name) > 0)
    return name


def size(tiffin: Tiffin, name: str) -> int:
    path = Path(f"/proc/{tiffin.pid(name)}/root/count")
    return path.stat().st_size if path.exists() else 0


def test_a_paused_container_stands_still_and_goes_on(shared: Tiffin, running: str) -> None:
    assert shared("pause", running).word == running
    assert shared.status(running) == "paused"
    assert shared("ps", "-a", "--filter", f"id={running}", "--format", "{{.Status}}").word == (
        "Paused"
    )
    state = shared.inspect(running)["State"]
    assert state["Paused"] and not state["Running"]
    before = size(shared, running)
    time.sleep(0.2)
    assert size(shared, running) == before
    shared("unpause", running)
    assert shared.status(running) == "running"
    eventually(lambda: size(shared, running) > before)
    types = [e["type"] for e in shared.events("--filter", f"container={running}")]
    assert types[-4:] == [
        "container.pause_planned",
        "container.paused",
        "container.unpause_planned",
        "container.unpaused",
    ]
    shared("rm", "-f", "-t", "0", running)


def test_what_a_paused_container_refuses(shared: Tiffin, running: str) -> None:
    shared.fails("unpause", running, says="running")
    shared("pause", running)
    shared.fails("pause", running, says="paused already")
    for command in ("stop", "restart", "start", "attach", "top"):
        shared.fails(command, running, says="paused")
    shared.fails("exec", running, "true", says="paused")
    shared.fails("rm", running, code=2, says="paused")
    shared("kill", "-s", "TERM", running)
    assert shared.status(running) == "paused"
    shared("kill", running)
    assert shared.status(running) == "exited"
    assert shared("wait", running).word == "137"
    shared.fails("pause", running, says="exited")
    shared("rm", running)


def test_a_paused_container_is_removed_by_force(shared: Tiffin, running: str) -> None:
    pid = shared.pid(running)
    shared("pause", running)
    shared("rm", "-f", running)
    assert not world.alive(pid)


def test_all_of_them(tiffin: Tiffin) -> None:
    ids = [tiffin.detached("--network=none", BUSYBOX, "sleep", "1000") for _ in range(2)]
    tiffin.create("--network=none", BUSYBOX)
    assert tiffin("unpause", "-a").lines == []
    assert sorted(tiffin("pause", "--all").lines) == sorted(ids)  # several at a time
    assert tiffin("pause", "-a").lines == []
    assert sorted(tiffin("unpause", "-a").lines) == sorted(ids)


def test_a_pause_whose_command_was_killed_is_settled(shared: Tiffin, running: str) -> None:
    """The runtime knows what became of it."""
    stream = f"container/{running}"
    for intent, meanwhile, state in (
        ("container.pause_planned", (), "running"),
        ("container.unpause_planned", ("pause",), "paused"),
    ):
        for command in meanwhile:
            shared(command, running)
        with contextlib.closing(sync.open_for_append(str(shared.root / "tiffin.db"))) as db:
            records = [log.Record(stream, intent, "{}")]
            sync.run(db, log.append(records, command="dead", actor=json.dumps({"pid": 1})))
        shared("system", "recover")
        assert shared.status(running) == state
        last = shared.events("--filter", f"container={running}")[-1]
        assert (last["type"], last["data"]["how"]) == ("container.recovered", "finished")
    shared("rm", "-f", "-t", "0", running)


def test_a_new_name_is_the_only_one(shared: Tiffin) -> None:
    cid = shared.detached("--name=lunch", "--network=none", BUSYBOX, "sleep", "1000")
    shared("rename", "lunch", "dinner")
    assert shared.inspect("dinner")["Id"] == cid
    assert shared("ps", "--filter=name=dinner", "--format", "{{.Names}}").word == "dinner"
    shared.fails("inspect", "-f", "{{.Id}}", "lunch", says="lunch")
    shared("rename", cid[:12], "dinner")
    shared.create("--name=lunch", BUSYBOX)
    shared.fails("rename", "dinner", "lunch", says="lunch")
    shared.fails("rename", "dinner", "no spaces", says="no spaces")
    shared.fails("rename", "nobody", "x", says="nobody")
    (event,) = shared.events("--filter", "event=rename", "--filter", f"container={cid}")
    assert event["data"] == {"name": "dinner", "was": "lunch"}
    shared("system", "rebuild")
    assert shared.inspect("dinner")["Id"] == cid
    shared("rm", "-f", "-t", "0", "dinner", "lunch")
    assert cid[:12] in shared("history", "dinner").lines[0]
    assert "dinner" in shared("history", cid).lines[0]


def test_events_call_a_renamed_container_by_the_name_of_then(shared: Tiffin) -> None:
    cid = shared.create("--name=before", BUSYBOX)
    shared("rename", "before", "after")
    shared("rm", "after")
    lines = shared(
        "events", "--filter", f"container={cid}", "--format", "{{.Type}} {{.Name}}"
    ).lines
    assert lines[1:3] == ["container.created before", "container.renamed after"]
    assert lines[-1] == "container.removed after"


def test_exists_is_an_exit_code(shared: Tiffin) -> None:
    cid = shared.create("--name=there", BUSYBOX)
    for given in ("there", cid, cid[:12]):
        assert shared("container", "exists", given).out == ""
    shared("container", "exists", "nowhere", code=1)
    shared("rm", "there")
    shared("container", "exists", "there", code=1)
    shared("image", "exists", BUSYBOX)
    shared("image", "exists", "no-such-image", code=1)
    assert os.listdir(shared.root / "containers") == []
