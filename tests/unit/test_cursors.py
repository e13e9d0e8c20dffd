"""Durable consumers: their cursors, and what `events --consumer` writes."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path

import pytest
import stories

from tiffin.cli import main
from tiffin.errors import Conflict, Corrupt, NotFound, UserError
from tiffin.layout import Layout
from tiffin.store import cursors, sync

Capture = pytest.CaptureFixture[str]


@pytest.fixture
def layout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Layout:
    made = stories.tell(tmp_path)
    monkeypatch.setenv("TIFFIN_ROOT", made.root)
    monkeypatch.setenv("TIFFIN_RUNROOT", made.run)
    return made


def seqs(capsys: Capture, *words: str) -> list[int]:
    assert main.dispatch(["events", "--format", "json", *words]) == 0
    return [json.loads(line)["seq"] for line in capsys.readouterr().out.splitlines()]


def test_what_was_acknowledged_does_not_come_again(layout: Layout, capsys: Capture) -> None:
    everything = list(range(1, 21))
    assert seqs(capsys, "--consumer", "audit") == everything
    assert seqs(capsys, "--consumer", "audit") == everything, "not acknowledged"
    assert seqs(capsys, "--consumer", "audit", "--ack") == everything
    assert seqs(capsys, "--consumer", "audit", "--ack") == []
    (new,) = stories.add(layout, ("network/n", "network.removed", {}), at=200)
    assert seqs(capsys, "--consumer", "audit", "--ack") == [new]
    assert seqs(capsys, "--consumer", "another") == [*everything, new]


def test_a_filter_passes_by_what_it_does_not_want(layout: Layout, capsys: Capture) -> None:
    words = ("--consumer", "exits", "--ack", "--filter", "event=exited")
    assert len(seqs(capsys, *words)) == 2
    assert cursors.read(layout, "exits") is not None
    assert seqs(capsys, "--consumer", "exits") == []


def test_a_consumer_acknowledges_by_itself(layout: Layout, capsys: Capture) -> None:
    assert main.dispatch(["events", "ack", "mine", "15"]) == 0
    assert seqs(capsys, "--consumer", "mine") == [16, 17, 18, 19, 20]
    with pytest.raises(UserError, match="--force goes back"):
        main.dispatch(["events", "ack", "mine", "3"])
    main.dispatch(["events", "ack", "--force", "mine", "3"])
    assert seqs(capsys, "--consumer", "mine")[0] == 4
    with pytest.raises(NotFound, match="no such event: 99"):
        main.dispatch(["events", "ack", "mine", "99"])
    main.dispatch(["events", "consumers"])
    line = capsys.readouterr().out.splitlines()[1]
    assert line.split()[:3] == ["mine", "3", "17"]
    main.dispatch(["events", "forget", "mine"])
    assert seqs(capsys, "--consumer", "mine")[0] == 1
    with pytest.raises(NotFound, match="no such consumer"):
        main.dispatch(["events", "forget", "mine"])


def test_one_process_reads_for_a_consumer(layout: Layout) -> None:
    with cursors.Cursor(layout, "audit"), pytest.raises(Conflict, match="another process"):
        main.dispatch(["events", "--consumer", "audit"])
    with cursors.Cursor(layout, "audit"), cursors.Cursor(layout, "other"):
        pass


def test_another_log_than_the_one_that_was_read_is_noticed(layout: Layout, capsys: Capture) -> None:
    seqs(capsys, "--consumer", "audit", "--ack")
    with contextlib.closing(sync.open_for_append(layout.database)) as connection:
        connection.execute("UPDATE events SET hash='0' WHERE seq=20")
        with pytest.raises(Corrupt, match="not the one that consumer audit read: event 20 is an"):
            main.dispatch(["events", "--consumer", "audit"])
        connection.execute("DELETE FROM events WHERE seq=20")
    with pytest.raises(Corrupt, match="event 20 is missing"):
        main.dispatch(["events", "--consumer", "audit"])


def test_a_damaged_cursor_is_named_and_can_be_set_again(layout: Layout, capsys: Capture) -> None:
    seqs(capsys, "--consumer", "audit", "--ack")
    Path(cursors.folder(layout), "audit.json").write_text('{"seq"')
    with pytest.raises(Corrupt, match="cursor of consumer audit"):
        main.dispatch(["events", "--consumer", "audit"])
    main.dispatch(["events", "ack", "--force", "audit", "19"])
    assert seqs(capsys, "--consumer", "audit") == [20]


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ("--ack", "--ack needs --consumer"),
        ("--consumer ../x", "cannot name a consumer"),
        ("--consumer a --after 3", "--after cannot be used with --consumer"),
        ("--after -1", "not the seq of an event"),
    ],
)
def test_bad_input(words: str, says: str, layout: Layout) -> None:
    with pytest.raises(UserError, match=says):
        main.dispatch(["events", *words.split()])
