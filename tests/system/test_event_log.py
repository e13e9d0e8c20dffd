"""The log: what happened, who did it, in which order; and nothing else is the truth."""

from __future__ import annotations

import itertools
import json
import signal
import sqlite3
import subprocess
from typing import Any

import pytest
from support.cli import BUSYBOX, Tiffin, eventually

TABLES_ALWAYS = {"containers", "images"}


@pytest.fixture(scope="module")
def eaten(shared: Tiffin) -> Tiffin:
    """A store with some history."""
    shared("run", "--rm", "--name=starter", "--network=none", BUSYBOX, "true")
    shared.detached("--name=main", "--label=meal=lunch", BUSYBOX, "sleep", "1000")
    shared("exec", "main", "true")
    shared.attempt("run", "--name=failed", "--network=none", BUSYBOX, "no-such-program")
    shared("run", "--name=dessert", "--network=none", BUSYBOX, "false", code=1)
    return shared


def test_events_are_numbered_versioned_and_chained(eaten: Tiffin) -> None:
    events = eaten.events()
    sequence = [event["seq"] for event in events]
    assert sequence == sorted(set(sequence))
    for stream in {event["stream"] for event in events}:
        versions = [event["version"] for event in events if event["stream"] == stream]
        assert versions == list(range(versions[0], versions[0] + len(versions)))
    for earlier, later in itertools.pairwise(events):
        assert later["prev"] == earlier["hash"]
        assert later["time"] >= earlier["time"] or isinstance(later["time"], str)


def test_every_intent_has_an_outcome(eaten: Tiffin) -> None:
    """`x_planned` is followed by another event of that stream and command."""
    events = eaten.events()
    for position, event in enumerate(events):
        if event["type"].endswith("_planned"):
            later = [e for e in events[position + 1 :] if e["stream"] == event["stream"]]
            assert later, event
    with sqlite3.connect(f"file:{eaten.root}/tiffin.db?mode=ro", uri=True) as connection:
        assert connection.execute("SELECT count(*) FROM intents").fetchone() == (0,)


def test_all_events_of_one_command_share_its_id(eaten: Tiffin) -> None:
    events = eaten.events("--filter", "container=starter")
    assert len({event["command"] for event in events}) == 1


def test_a_command_is_one_command_whatever_it_does(tiffin: Tiffin) -> None:
    """Pulling belongs to the `run` that needed it, the image to the `commit` that made it."""
    tiffin("run", "--name=one", "--network=none", BUSYBOX, "touch", "/x")
    tiffin.create("--name=two", "--network=none", BUSYBOX)
    tiffin("commit", "-q", "one", "lunch")
    tiffin("rm", "one", "two")
    found: dict[str, list[str]] = {}
    for event in tiffin.events():
        found.setdefault(event["command"], []).append(event["type"])
    run, create, commit, rm = found.values()
    assert {"system.store_created", "transfer.finished", "container.exited"} <= set(run)
    assert create == ["container.creation_planned", "container.created"]
    assert {"image.tagged", "layer.unpacked", "container.committed"} <= set(commit)
    assert rm.count("container.removed") == 2
    assert tiffin("sql", "--format=csv", "SELECT count(*) FROM commands").lines[1] == "4"


def test_what_nobody_asked_for_has_a_cause(tiffin: Tiffin) -> None:
    once = ("--restart=on-failure:1", BUSYBOX, "sh", "-c", "exit 3")
    name = tiffin.detached("--network=none", *once)

    def told(*types: str) -> list[dict[str, Any]]:
        return [e for e in tiffin.events() if e["type"].removeprefix("container.") in types]

    eventually(lambda: len(told("cleaned_up")) == 2)
    started, again = told("started")
    first, second = told("exited")
    planned, planned_again = told("start_planned")
    assert "cause" not in planned["actor"] and "cause" not in started["actor"]
    assert first["actor"]["cause"] == planned["seq"]
    assert {e["actor"]["cause"] for e in told("cleaned_up")} == {first["seq"], second["seq"]}
    assert planned_again["actor"]["cause"] == again["actor"]["cause"] == first["seq"]
    assert second["actor"]["cause"] == planned_again["seq"]
    assert first["command"] == again["command"] != started["command"], "one process, one command"
    (row,) = json.loads(
        tiffin("sql", "--format=json", f"SELECT cause FROM events WHERE seq={first['seq']}").out
    )
    assert row["cause"] == planned["seq"]
    tiffin("rm", name)


def test_filters(eaten: Tiffin) -> None:
    names = {"starter", "main", "failed", "dessert"}
    streams = {
        name: {e["stream"] for e in eaten.events("--filter", f"container={name}")} for name in names
    }
    assert all(len(found) >= 1 for found in streams.values())
    only = eaten.events("--filter", "type=container.exited")
    assert only and {event["type"] for event in only} == {"container.exited"}
    assert eaten.events("--filter", "label=meal=lunch")
    assert eaten.events("--until", "2001-01-01T00:00:00Z") == []
    assert eaten.events("--since", "1h") == eaten.events()
    last = eaten.events()[-1]["seq"]
    assert [e["seq"] for e in eaten.events("--after", str(last - 2))] == [last - 1, last]


def test_events_for_people_and_go_templates(eaten: Tiffin) -> None:
    lines = eaten("events").lines
    assert len(lines) == len(eaten.events())
    assert any("container.started" in line for line in lines)
    assert eaten("events", "--format", "{{.Type}}").lines == [e["type"] for e in eaten.events()]


def test_follow_gets_what_comes_later_without_gap_or_repetition(tiffin: Tiffin) -> None:
    tiffin.create("--name=before", BUSYBOX)
    seen = tiffin.events()[-1]["seq"]
    flags = ("events", "--format", "json", "--follow", "--after", str(seen))
    with tiffin.start(*flags) as follower:
        assert follower.stdout is not None
        first = json.loads(_next(tiffin, follower))
        used = _cpu(follower.pid)
        tiffin("rm", "before")
        expected = [e["seq"] for e in tiffin.events("--after", str(seen))]
        got = [first["seq"]]
        while got[-1] != expected[-1]:
            got.append(json.loads(follower.stdout.readline())["seq"])
        assert got == expected
        assert _cpu(follower.pid) - used < 50, "it waits without work"
        follower.send_signal(signal.SIGINT)
        follower.wait(15)


def _next(tiffin: Tiffin, follower: subprocess.Popen[bytes]) -> bytes:
    """Make something happen and read the first line of it."""
    tiffin.create("--name=after", BUSYBOX)
    assert follower.stdout is not None
    return follower.stdout.readline()


def _cpu(pid: int) -> int:
    """Clock ticks that a process has used."""
    with open(f"/proc/{pid}/stat") as file:
        fields = file.read().rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12])


def test_verify_finds_a_row_that_somebody_changed(tiffin: Tiffin) -> None:
    tiffin.create("--name=honest", BUSYBOX)
    tiffin("events", "verify")
    with sqlite3.connect(tiffin.root / "tiffin.db") as connection:
        (seq,) = connection.execute(
            "SELECT seq FROM events WHERE type='container.created'"
        ).fetchone()
        old = connection.execute("SELECT actor FROM events WHERE seq=?", (seq,)).fetchone()
        forged = old[0].replace('"uid":0', '"uid":1')
        assert forged != old[0]
        connection.execute("UPDATE events SET actor=? WHERE seq=?", (forged, seq))
    connection.close()
    assert f"event {seq}" in tiffin("events", "verify", code=1).out
    with sqlite3.connect(tiffin.root / "tiffin.db") as connection:
        connection.execute("UPDATE events SET actor=? WHERE seq=?", (*old, seq))
    connection.close()
    tiffin("events", "verify")


def test_verify_finds_a_row_that_somebody_deleted(tiffin: Tiffin) -> None:
    tiffin.create(BUSYBOX)
    with sqlite3.connect(tiffin.root / "tiffin.db") as connection:
        (row,) = connection.execute("SELECT * FROM events WHERE seq=2").fetchall()
        connection.execute("DELETE FROM events WHERE seq=2")
    connection.close()
    assert "event 2" in tiffin("events", "verify", code=1).out
    with sqlite3.connect(tiffin.root / "tiffin.db") as connection:
        marks = ",".join("?" * len(row))
        connection.execute(f"INSERT INTO events VALUES ({marks})", row)
    connection.close()


def tables(tiffin: Tiffin) -> dict[str, list[tuple[Any, ...]]]:
    """The rows of all tables but the log itself, which remembers the rebuilding."""
    """The read tables. The log itself gets one more event by a rebuild, which says so."""
    with sqlite3.connect(f"file:{tiffin.root}/tiffin.db?mode=ro", uri=True) as connection:
        names = [
            name
            for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type='table'")
            if name != "events"
        ]
        return {
            name: sorted(connection.execute(f"SELECT * FROM {name}").fetchall(), key=repr)
            for name in names
            if name != "events"
        }


def test_rebuild_folds_the_log_into_identical_tables(eaten: Tiffin) -> None:
    before = tables(eaten)
    assert set(before) >= TABLES_ALWAYS
    eaten("system", "rebuild")
    assert tables(eaten) == before


def test_twenty_runs_at_once(tiffin: Tiffin) -> None:
    tiffin("pull", BUSYBOX)
    started = [
        tiffin.start("run", "-d", "--name", f"guest{n}", BUSYBOX, "sleep", "1000")
        for n in range(20)
    ]
    ids = set()
    for process in started:
        out, err = process.communicate(timeout=120)
        assert process.returncode == 0, err.decode()
        ids.add(out.decode().strip())
    assert len(ids) == 20
    assert len(tiffin("ps", "-q").lines) == 20
    addresses = {
        found["NetworkSettings"]["IPAddress"] for found in json.loads(tiffin("inspect", *ids).out)
    }
    assert len(addresses) == 20
    tiffin("events", "verify")
    before = tables(tiffin)
    tiffin("system", "rebuild")
    assert tables(tiffin) == before

    stopped = [tiffin.start("rm", "-f", "-t", "0", name) for name in ids]
    for process in stopped:
        _, err = process.communicate(timeout=120)
        assert process.returncode == 0, err.decode()
    assert tiffin("ps", "-a", "-q").out == ""


def test_two_commands_about_one_container_at_once(tiffin: Tiffin) -> None:
    """One of them wins, the other says so or finds it done; the container is in one state."""
    name = tiffin.create("--network=none", BUSYBOX, "sleep", "1000")
    for command in ("start", "kill", "rm"):
        both = [tiffin.start(command, name) for _ in range(2)]
        codes = []
        for process in both:
            _, err = process.communicate(timeout=60)
            assert b"Traceback" not in err, err.decode()
            codes.append(process.returncode)
        assert 0 in codes and set(codes) <= {0, 1, 125}
        if command == "kill":
            tiffin("wait", name)
    assert tiffin("ps", "-a", "-q").out == ""
