"""The log: chain, versions, optimistic lock, projections that can be folded again."""

from __future__ import annotations

import contextlib
import json
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tiffin.errors import NotFound, UserError
from tiffin.store import log, queries, schema, sync

ACTOR = '{"uid":0}'


@pytest.fixture
def path(tmp_path: Path) -> str:
    name = str(tmp_path / "store" / "tiffin.db")
    sync.create(name)
    return name


@pytest.fixture
def connection(path: str) -> Iterator[sqlite3.Connection]:
    with contextlib.closing(sync.open_for_append(path)) as opened:
        yield opened


def append(
    connection: sqlite3.Connection, *events: tuple[str, str, dict[str, Any]], **more: Any
) -> list[int]:
    records = [log.Record(stream, type_, json.dumps(data)) for stream, type_, data in events]
    return sync.run(connection, log.append(records, command="c", actor=ACTOR, **more))


def network(number: int, name: str = "") -> tuple[str, str, dict[str, Any]]:
    config = {"name": name or f"n{number}", "driver": "x"}
    return f"network/{number}", "network.created", {"config": config}


def creation(cid: str, name: str) -> tuple[str, str, dict[str, Any]]:
    data = {
        "name": name,
        "image": "i",
        "image_id": "sha256:1",
        "image_name": "i",
        "command": ["true"],
        "options": {},
        "storage_driver": "s",
        "runtime": "r",
        "network": "none",
        "layers": [],
        "directory": "/d",
    }
    return f"container/{cid}", "container.creation_planned", data


def test_seqs_and_versions_count_from_one(connection: sqlite3.Connection) -> None:
    assert append(connection, network(1), network(2)) == [1, 2]
    assert append(connection, ("network/1", "network.removed", {})) == [3]
    rows = connection.execute("SELECT stream, version FROM events ORDER BY seq").fetchall()
    assert rows == [("network/1", 1), ("network/2", 1), ("network/1", 2)]


def test_chain_names_the_altered_event(connection: sqlite3.Connection) -> None:
    append(connection, network(1), network(2), network(3))
    assert log.verify(sync.events(connection)) == []
    connection.execute("UPDATE events SET actor='{}' WHERE seq=2")
    assert log.verify(sync.events(connection)) == [(2, "event 2 was altered")]


def test_chain_names_the_removed_event(connection: sqlite3.Connection) -> None:
    append(connection, *(network(n) for n in range(5)))
    connection.execute("DELETE FROM events WHERE seq=3")
    assert log.verify(sync.events(connection)) == [(4, "event 3 was removed before event 4")]


def test_chain_names_an_event_whose_hash_was_made_anew(connection: sqlite3.Connection) -> None:
    append(connection, *(network(n) for n in range(3)))
    row = list(connection.execute("SELECT * FROM events WHERE seq=2").fetchone())
    row[6] = '{"uid":1000}'
    forged = log.digest(row[8], row[:8])
    connection.execute("UPDATE events SET actor=?, hash=? WHERE seq=2", (row[6], forged))
    assert log.verify(sync.events(connection)) == [
        (3, "event 3 does not follow the event before it: event 2 was altered, its hash too")
    ]


def test_optimistic_lock_refuses_a_stream_that_moved_on(connection: sqlite3.Connection) -> None:
    append(connection, network(1), expect={"network/1": 0})
    with pytest.raises(log.Stale):
        append(connection, ("network/1", "network.removed", {}), expect={"network/1": 0})
    assert connection.execute("SELECT count(*) FROM events").fetchone() == (1,)
    append(connection, ("network/1", "network.removed", {}), expect={"network/1": 1})


def test_name_in_use_leaves_no_event(connection: sqlite3.Connection) -> None:
    append(connection, creation("a" * 64, "web"))
    with pytest.raises(sqlite3.IntegrityError, match=r"containers\.name"):
        append(connection, creation("b" * 64, "web"))
    assert connection.execute("SELECT count(*) FROM events").fetchone() == (1,)
    assert not connection.in_transaction


def test_failed_creation_frees_the_name(connection: sqlite3.Connection) -> None:
    append(connection, creation("a" * 64, "web"))
    failed = {"operation": "create", "error": "disk full", "state": "removed"}
    append(connection, ("container/" + "a" * 64, "container.failed", failed))
    append(connection, creation("b" * 64, "web"))
    assert connection.execute("SELECT id FROM containers").fetchall() == [("b" * 64,)]
    assert connection.execute("SELECT stream FROM intents").fetchall() == [
        ("container/" + "b" * 64,)
    ]


def test_an_exit_that_is_quicker_than_started_stays(connection: sqlite3.Connection) -> None:
    stream = "container/" + "a" * 64
    append(
        connection,
        creation("a" * 64, "web"),
        (stream, "container.created", {}),
        (stream, "container.initialized", {"pid": 7, "conmon_pid": 6, "spec": "s"}),
        (stream, "container.exited", {"exit_code": 3}),
        (stream, "container.started", {"pid": 7}),
    )
    state = connection.execute("SELECT state, exit_code FROM containers").fetchone()
    assert state == ("exited", 3)


def test_find_by_name_prefix_and_what_is_ambiguous(connection: sqlite3.Connection) -> None:
    append(connection, creation("ab" + "0" * 62, "web"), creation("ac" + "0" * 62, "abc"))
    assert queries.find_container(connection, "web")["id"].startswith("ab")
    assert queries.find_container(connection, "ac")["name"] == "abc"
    assert queries.find_container(connection, "abc")["id"].startswith("ac")  # a name comes first
    with pytest.raises(UserError):
        queries.find_container(connection, "a")
    with pytest.raises(NotFound):
        queries.find_container(connection, "zz")


OPERATIONS = st.lists(
    st.tuples(
        st.integers(0, 3),
        st.sampled_from(
            [
                ("container.created", {}),
                ("container.mount_planned", {"driver": "s", "path": "/m"}),
                ("container.mounted", {"path": "/m", "pinned": True}),
                ("container.unmounted", {}),
                ("container.initialized", {"pid": 1, "conmon_pid": 2, "spec": "s"}),
                ("container.start_planned", {}),
                ("container.started", {"pid": 1}),
                ("container.exited", {"exit_code": 1, "oom": True}),
                ("container.cleanup_planned", {}),
                ("container.cleaned_up", {}),
                ("container.removal_planned", {}),
                ("container.removed", {}),
                ("container.failed", {"operation": "init", "error": "e", "state": "created"}),
                ("image.tagged", {"name": "x:latest"}),
                ("image.untagged", {"name": "x:latest"}),
                ("unknown.type", {"any": "thing"}),
            ]
        ),
    ),
    max_size=40,
)


@given(OPERATIONS)
@settings(max_examples=60)
def test_rebuild_gives_identical_tables(operations: list[tuple[int, tuple[str, Any]]]) -> None:
    connection = sqlite3.connect(":memory:", isolation_level=None)
    for statement in (schema.LOG + schema.PROJECTIONS).split(";\n"):
        connection.execute(statement)
    for number in range(4):
        append(connection, creation(f"{number}" * 64, f"c{number}"))
    for number, (type_, data) in operations:
        append(connection, (f"container/{str(number) * 64}", type_, data))
    before = tables(connection)
    assert sync.rebuild(connection) == 4 + len(operations)
    assert tables(connection) == before
    assert log.verify(sync.events(connection)) == []


def tables(connection: sqlite3.Connection) -> dict[str, list[Any]]:
    return {
        name: sorted(connection.execute(f"SELECT * FROM {name}").fetchall())
        for name in schema.TABLES
    }
