"""`system compact`: what is gone is folded; chain, cursors, checkpoints and tables stay whole."""

from __future__ import annotations

import contextlib
import json
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import stories

from tiffin.cli import check, main
from tiffin.errors import Conflict, Corrupt, NotFound, UserError
from tiffin.layout import Layout
from tiffin.store import compaction, cursors, log, schema, sync

Capture = pytest.CaptureFixture[str]
OLD = f"container/{stories.OLD}"


@pytest.fixture
def layout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Layout:
    made = stories.tell(tmp_path)
    monkeypatch.setenv("TIFFIN_ROOT", made.root)
    monkeypatch.setenv("TIFFIN_RUNROOT", made.run)
    return made


@pytest.fixture
def connection(layout: Layout) -> Iterator[sqlite3.Connection]:
    with contextlib.closing(sync.open_for_append(layout.database)) as opened:
        yield opened


def compact(capsys: Capture, before: str = "0s", *flags: str) -> dict[str, Any]:
    words = ["system", "compact", "--before", before, "--format", "json", *flags]
    assert main.dispatch(words) == 0
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


def tables(connection: sqlite3.Connection) -> list[list[tuple[Any, ...]]]:
    return [sorted(connection.execute(f"SELECT * FROM {t}").fetchall()) for t in schema.TABLES]


def streams(connection: sqlite3.Connection) -> set[str]:
    return {row[0] for row in connection.execute("SELECT DISTINCT stream FROM events")}


def test_what_is_gone_is_folded_and_the_rest_stays(
    layout: Layout, connection: sqlite3.Connection, capsys: Capture
) -> None:
    before = tables(connection)
    found = compact(capsys)
    assert (found["streams"], found["lives"], found["events"]) == (2, 1, 11)
    assert streams(connection) == {
        f"image/sha256:{stories.IMAGE}", f"container/{stories.JOB}", "system",
    }  # fmt: skip
    assert tables(connection) == before
    assert sync.rebuild(connection) == 10
    assert tables(connection) == before
    assert compaction.verify(connection) == []
    assert main.dispatch(["events", "verify"]) == 0
    assert "and 11 that were compacted" in capsys.readouterr().out
    assert check.problems(connection) == []


def test_a_life_is_much_smaller_then(layout: Layout, capsys: Capture) -> None:
    found = compact(capsys)
    assert found["life_after"] * 3 < found["life_before"]
    assert found["database_after"] <= found["database_before"]


def test_a_dry_run_changes_nothing(
    layout: Layout, connection: sqlite3.Connection, capsys: Capture
) -> None:
    assert compact(capsys, "0s", "--dry-run")["events"] == 11
    assert len(list(sync.events(connection))) == 20


def test_only_what_was_over_by_then(
    layout: Layout, connection: sqlite3.Connection, capsys: Capture
) -> None:
    assert compact(capsys, "2026-09-21T14:13:25Z")["streams"] == 1, "the transfer"
    assert compact(capsys)["streams"] == 1, "the container"
    assert compaction.verify(connection) == []
    assert compact(capsys)["streams"] == 0
    kinds = [row[3] for row in sync.events(connection)]
    assert kinds.count("system.compacted") == 2, "nothing to fold, nothing to say"


def test_what_a_consumer_has_not_read_stays(
    layout: Layout, connection: sqlite3.Connection, capsys: Capture
) -> None:
    main.dispatch(["events", "ack", "slow", "6"])
    assert compact(capsys)["streams"] == 1
    assert OLD in streams(connection)


def test_a_cursor_on_a_folded_event_holds(
    layout: Layout, connection: sqlite3.Connection, capsys: Capture
) -> None:
    (row,) = connection.execute("SELECT max(seq) FROM events WHERE stream=?", (OLD,))
    main.dispatch(["events", "ack", "audit", str(row[0])])
    compact(capsys)
    assert connection.execute("SELECT 1 FROM events WHERE seq=?", row).fetchone() is None
    assert main.dispatch(["events", "--consumer", "audit", "--format", "json"]) == 0
    seqs = [json.loads(line)["seq"] for line in capsys.readouterr().out.splitlines()]
    assert seqs == [*range(row[0] + 1, 21), 21]
    with cursors.Cursor(layout, "audit") as cursor:
        cursor.hash = "0" * 64
        with pytest.raises(Corrupt, match="is another"):
            cursor.check(connection)


def test_a_checkpoint_of_a_folded_event_holds(
    layout: Layout, connection: sqlite3.Connection, capsys: Capture
) -> None:
    (seq,) = connection.execute("SELECT max(seq) FROM events WHERE stream=?", (OLD,)).fetchone()
    hash_ = connection.execute("SELECT hash FROM events WHERE seq=?", (seq,)).fetchone()[0]
    compact(capsys)
    assert compaction.hash_of(connection, seq) == hash_
    assert compaction.hash_of(connection, 20) is None


@pytest.mark.parametrize(
    "damage",
    [
        "UPDATE snapshots SET data=replace(data, 'old', 'new')",
        "DELETE FROM snapshots",
        "UPDATE compacted SET hashes=zeroblob(length(hashes))",
        "DELETE FROM compacted",
        "DELETE FROM events WHERE stream LIKE 'image/%'",
        "INSERT INTO compacted VALUES (12, 13, '0', zeroblob(64))",
    ],
)
def test_damage_to_what_is_kept_is_found(
    layout: Layout, connection: sqlite3.Connection, capsys: Capture, damage: str
) -> None:
    compact(capsys)
    connection.execute(damage)
    assert compaction.verify(connection) != []
    assert main.dispatch(["events", "verify"]) == 1


def test_a_log_that_was_altered_is_not_compacted(
    layout: Layout, connection: sqlite3.Connection
) -> None:
    connection.execute("UPDATE events SET data='{\"a\":1}' WHERE seq=6")
    with pytest.raises(Corrupt, match="not compacted: event 6 was altered"):
        main.dispatch(["system", "compact", "--before", "0s"])


def test_tables_that_are_not_the_log_are_not_compacted(
    layout: Layout, connection: sqlite3.Connection
) -> None:
    connection.execute("UPDATE containers SET state='running'")
    with pytest.raises(Conflict, match="tiffin system rebuild"):
        main.dispatch(["system", "compact", "--before", "0s"])


def test_an_image_whose_name_would_come_back_stays(
    layout: Layout, connection: sqlite3.Connection, capsys: Capture
) -> None:
    other = f"image/sha256:{'2' * 64}"
    added = {"manifest": "sha256:" + "3" * 64, "size": 1, "layers": []}
    stories.add(
        layout,
        (other, "image.added", added),
        (other, "image.tagged", {"name": "localhost/bb:latest"}),  # taken from the first image
        (other, "image.removal_planned", {"blobs": [], "layers": []}),
        (other, "image.removed", {}),
        at=300,
    )
    before = tables(connection)
    assert compact(capsys)["streams"] == 2
    assert other in streams(connection)
    sync.rebuild(connection)
    assert tables(connection) == before


def test_a_folded_stream_goes_on_where_it_was(
    layout: Layout, connection: sqlite3.Connection, capsys: Capture
) -> None:
    (count,) = connection.execute(
        "SELECT max(version) FROM events WHERE stream=?", (OLD,)
    ).fetchone()
    compact(capsys)
    stories.add(layout, (OLD, "container.signal_sent", {"signal": 9}), at=400)
    found = connection.execute("SELECT version FROM events WHERE stream=?", (OLD,)).fetchall()
    assert found == [(count + 1,)]


def test_the_past_that_is_gone_is_not_made_up(layout: Layout, capsys: Capture) -> None:
    compact(capsys)
    for words in (["ps", "-a", "--at", "3"], ["diff-state", "3", "20"]):
        with pytest.raises(NotFound, match="the log is compacted up to event 13"):
            main.dispatch(words)
    assert main.dispatch(["ps", "-a", "--at", "20"]) == 0
    with pytest.raises(
        NotFound, match=r"container old was compacted .*localhost/bb:latest.*exit code 0"
    ):
        main.dispatch(["history", "old"])
    assert main.dispatch(["sql", "-f", "json", "SELECT data FROM snapshots"]) == 0
    assert '\\"name\\":\\"old\\"' in capsys.readouterr().out


def test_a_report_of_lives_is_the_same(layout: Layout, capsys: Capture) -> None:
    def lives() -> Any:
        assert main.dispatch(["sql", "-f", "json", "SELECT * FROM lives ORDER BY created_ns"]) == 0
        return json.loads(capsys.readouterr().out)

    stories.add(
        layout,
        ("container/" + "ae" * 32, "container.creation_planned", stories.creation("never")),
        at=300,
    )
    failed = {"operation": "create", "error": "no room", "state": "removed"}
    stories.add(layout, ("container/" + "ae" * 32, "container.failed", failed), at=301)
    stories.life(layout, "ad" + "0c" * 31, "last", 500)
    before = lives()
    assert [life["name"] for life in before] == ["old", "job", "never", "last"]
    assert compact(capsys)["lives"] == 2
    assert lives() == before


def test_the_past_that_is_gone_is_told_from_what_never_was(layout: Layout, capsys: Capture) -> None:
    compact(capsys)
    with pytest.raises(NotFound, match="event 6 is no longer known: the log is compacted"):
        main.dispatch(["ps", "-a", "--at", "6"])
    with pytest.raises(NotFound, match="no such event: 600"):
        main.dispatch(["ps", "-a", "--at", "600"])


def test_the_last_event_stays_so_that_no_seq_is_used_twice(
    layout: Layout, connection: sqlite3.Connection, capsys: Capture
) -> None:
    stories.life(layout, "ad" + "0c" * 31, "last", 500)
    (last,) = connection.execute("SELECT max(seq) FROM events").fetchone()
    compact(capsys)
    assert [row[0] for row in sync.events(connection)][-2:] == [last, last + 1]
    assert compact(capsys)["lives"] == 1, "now it is not the last any more"
    assert compaction.verify(connection) == []


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ("", "--before TIME is needed"),
        ("--before soon", "soon"),
        ("--before 1h --format xml", "'xml' is not known"),
    ],
)
def test_bad_input(layout: Layout, words: str, says: str) -> None:
    with pytest.raises(UserError, match=says):
        main.dispatch(["system", "compact", *words.split()])


def test_runs_that_touch_become_one() -> None:
    made = compaction._runs([(5, "a", bytes(64))], [(7, "b", bytes(32)), (20, "c", bytes(32))])
    assert [(first, last, prev, len(h)) for first, last, prev, h in made] == [
        (5, 7, "a", 96),
        (20, 20, "c", 32),
    ]
    assert log.GENESIS
