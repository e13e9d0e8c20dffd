"""`update` and `stats`: limits that change while a container runs, and what it uses."""

from __future__ import annotations

import contextlib
import json
import os

import pytest
from support import world
from support.cli import BUSYBOX, Tiffin, eventually

from tiffin.store import log, sync


def limits(tiffin: Tiffin, name: str) -> tuple[int, int]:
    pid = tiffin.pid(name)
    memory = world.cgroup_file(pid, "memory", "memory.limit_in_bytes", "memory.max")
    return int(memory), int(world.cgroup_file(pid, "pids", "pids.max", "pids.max"))


@pytest.mark.parametrize("runtime", ["runc", "crun"])
def test_limits_change_at_once_and_stay(shared: Tiffin, runtime: str) -> None:
    chosen = shared.using(f"--runtime={runtime}")
    name = chosen.detached("--network=none", "-m=64m", "--pids-limit=50", BUSYBOX, "sleep", "1000")
    assert shared("update", "--memory=96m", "--cpus=0.5", name).word == name
    assert limits(shared, name) == (96 << 20, 50)
    shared("update", "--pids-limit=60", name)
    assert limits(shared, name) == (96 << 20, 60)
    host = shared.inspect(name)["HostConfig"]
    assert (host["Memory"], host["NanoCpus"], host["PidsLimit"]) == (96 << 20, 500_000_000, 60)
    shared("restart", "-t", "0", name)
    assert limits(shared, name) == (96 << 20, 60)
    shared("system", "rebuild")
    assert shared.inspect(name)["HostConfig"]["Memory"] == 96 << 20
    (first, _) = shared.events("--filter", f"container={name}", "--filter", "event=update")
    assert first["data"]["resources"]["memory"] == 96 << 20
    shared("rm", "-f", "-t", "0", name)


def test_one_that_does_not_run_has_them_later(shared: Tiffin) -> None:
    name = shared.create("--network=none", BUSYBOX, "sleep", "1000")
    shared("update", "-m", "80m", name)
    shared("start", name)
    assert limits(shared, name)[0] == 80 << 20
    shared("rm", "-f", "-t", "0", name)


def test_what_makes_no_sense_changes_nothing(shared: Tiffin) -> None:
    name = shared.detached("--network=none", "-m=64m", BUSYBOX, "sleep", "1000")
    before = len(shared.events())
    shared.fails("update", name, says="nothing to change")
    shared.fails("update", "--memory=lots", name, says="lots")
    shared.fails("update", "--memory=1k", name, says="memory")
    shared.fails("update", f"--cpus={(os.cpu_count() or 1) + 1}", name, says="cpus")
    shared.fails("update", "--memory-swap=1g", name, says="--memory")
    shared.fails("update", "-m", "80m", "no-such-box", says="no-such-box")
    assert len(shared.events()) == before
    assert limits(shared, name)[0] == 64 << 20
    shared("rm", "-f", "-t", "0", name)


def test_an_update_whose_command_was_killed_is_finished(shared: Tiffin) -> None:
    name = shared.detached("--network=none", "-m=64m", BUSYBOX, "sleep", "1000")
    planned = json.dumps({"resources": {"memory": 90 << 20}})
    with contextlib.closing(sync.open_for_append(str(shared.root / "tiffin.db"))) as db:
        records = [log.Record(f"container/{name}", "container.update_planned", planned)]
        sync.run(db, log.append(records, command="dead", actor=json.dumps({"pid": 1})))
    shared("system", "recover")
    assert limits(shared, name)[0] == 90 << 20
    assert shared.inspect(name)["HostConfig"]["Memory"] == 90 << 20
    shared("rm", "-f", "-t", "0", name)


def test_stats(shared: Tiffin) -> None:
    busy = "x=; while :; do x=$x; done"
    name = shared.detached("-m=64m", "--name=busy", BUSYBOX, "sh", "-c", busy)
    shared.create("--name=idle", BUSYBOX)
    heading, line = shared("stats", "--no-stream", "busy").lines
    assert heading.split("  ")[0] == "ID" and "MEM USAGE / LIMIT" in heading
    assert line.startswith(name[:12]) and "/ 67.1MB" in line

    def used() -> dict[str, str]:
        (found,) = json.loads(shared("stats", "--no-stream", "--format=json", "busy").out)
        return dict(found)

    eventually(lambda: float(used()["cpu_percent"].rstrip("%")) > 5)
    assert used()["pids"] == "1" and used()["id"] == name[:12]
    assert shared("stats", "--no-stream", "--format", "{{.Name}}").lines == ["busy"]
    assert "idle" in shared("stats", "--no-stream", "-a").out
    assert "0.00%" in shared("stats", "--no-stream", "idle").lines[1]  # as podman has it
    streaming = shared.start("stats", "--interval=1", "--format", "{{.Name}}")
    assert streaming.stdout is not None
    assert [streaming.stdout.readline() for _ in range(2)] == [b"busy\n", b"busy\n"]
    streaming.terminate()
    streaming.communicate()
    shared("rm", "-f", "-t", "0", "busy", "idle")
