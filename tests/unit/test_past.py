"""Time travel: the store as it was, what changed, and a container's life after its removal."""

from __future__ import annotations

import json
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
import stories
from hypothesis import given
from hypothesis import strategies as st
from stories import JOB, OLD, SECOND, START, tell

from tiffin import lives
from tiffin.cli import diff_state, life_story, main, reads, timeline
from tiffin.errors import NotFound, UserError
from tiffin.layout import Layout
from tiffin.store import past, schema

NOW = START + 1000 * SECOND


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    return tell(tmp_path)


def call(layout: Layout, capsys: pytest.CaptureFixture[str], *words: str) -> str:
    assert main.dispatch(["--root", layout.root, "--runroot", layout.run, *words]) == 0
    return capsys.readouterr().out


def dump(connection: Any) -> dict[str, list[Any]]:
    return {
        table: sorted(connection.execute(f"SELECT * FROM {table}").fetchall())
        for table in schema.TABLES
    }


def test_the_present_is_what_the_log_says(layout: Layout) -> None:
    live = reads.store(layout)
    assert live is not None
    assert dump(past.at(live, 10**9)) == dump(live)


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> Layout:
    return tell(tmp_path_factory.mktemp("story"))


@given(st.lists(st.integers(0, 19), max_size=4))
def test_folding_in_pieces_is_folding_at_once(told: Layout, cuts: list[int]) -> None:
    live = reads.store(told)
    memory, after = past.empty(), 0
    for cut in [*sorted(cuts), 19]:
        past.apply(memory, past.between(live, after, cut))  # type: ignore[arg-type]
        after = cut
    assert dump(memory) == dump(past.at(live, 19))


def test_a_moment_is_a_seq_or_a_time(layout: Layout) -> None:
    live = reads.store(layout)
    assert past.moment(live, "6", NOW) == (6, START + 10 * SECOND)
    assert past.moment(live, "0", NOW)[0] == 0
    assert past.moment(live, str(START // SECOND + 12), NOW)[0] == 6
    assert past.moment(live, "10m", START + 610 * SECOND)[0] == 6
    assert past.moment(live, "2001-01-01T00:00:00Z", NOW)[0] == 0
    with pytest.raises(NotFound, match="no such event: 99"):
        past.moment(live, "99", NOW)
    with pytest.raises(UserError):
        past.moment(live, "yesterday-ish", NOW)


def test_ps_inspect_and_images_of_then(layout: Layout, capsys: pytest.CaptureFixture[str]) -> None:
    names = ("--format", "{{.Names}} {{.State}}")
    assert call(layout, capsys, "ps", "-a", *names) == "job exited\n"
    assert call(layout, capsys, "ps", "-a", "--at", "10", *names) == "old running\n"
    assert call(layout, capsys, "ps", "-a", "--at", "4", *names) == ""
    told = call(layout, capsys, "inspect", "--at", "10", "--format", "{{.State.Status}}", "old")
    assert told == "running\n"
    assert call(layout, capsys, "images", "-q", "--at", "1") == ""
    assert call(layout, capsys, "images", "-q", "--at", "4") == stories.IMAGE[:12] + "\n"


def test_history_of_what_was_removed(layout: Layout, capsys: pytest.CaptureFixture[str]) -> None:
    told = call(layout, capsys, "history", "old")
    assert told.startswith("old (ac0d0d0d0d0d), localhost/bb:latest: sh -c true\n")
    assert "container.removed" in told
    assert "running 10 s, exited 20 s" in told.splitlines()[-1]
    told = json.loads(call(layout, capsys, "history", "--format", "json", OLD[:8]))
    assert (told["state"], told["until"] - told["since"]) == ("removed", 35 * SECOND)
    by = {event["type"]: event for event in told["events"]}
    assert by["container.created"]["took"] == 0
    assert by["container.created"]["actor"]["loginuid"] == 1000
    assert call(layout, capsys, "history", "-q", "old").splitlines()[-1] == "container.removed"


@pytest.mark.parametrize("gone", [True, False])
def test_a_whole_name_goes_before_the_beginning_of_an_id(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], gone: bool
) -> None:
    layout = Layout(str(tmp_path / "root"), str(tmp_path / "run"))
    stories.life(layout, stories.WEB, "web", 0)
    stories.life(layout, stories.JOB, "aa", 100)
    stories.life(layout, "aa" + "7" * 62, "other", 200, gone=gone)
    assert call(layout, capsys, "history", "aa").startswith("aa (ab0e")
    assert call(layout, capsys, "history", "aa777").startswith("other (aa777")


def test_history_says_why_it_ended(layout: Layout, capsys: pytest.CaptureFixture[str]) -> None:
    assert "exit code 3" in call(layout, capsys, "container", "history", "job")
    with pytest.raises(NotFound, match="nosuch"):
        call(layout, capsys, "container", "history", "nosuch")


def test_the_page_is_whole_and_escaped(tmp_path: Path) -> None:
    layout = Layout(str(tmp_path / "root"), str(tmp_path / "run"))
    evil = '<script>alert("x")</script>'
    stories.add(
        layout,
        (f"container/{JOB}", "container.creation_planned",
         stories.creation("bad", command=["sh", "-c", evil])),
        (f"container/{JOB}", "container.failed", {"operation": "create", "error": evil}),
        at=0,
    )  # fmt: skip
    connection = reads.store(layout)
    assert connection is not None
    page = timeline.page(life_story.life(connection, JOB), NOW)
    assert "<script" not in page

    open_tags: list[str] = []

    class Balanced(HTMLParser):
        def handle_starttag(self, tag: str, attrs: Any) -> None:
            if tag not in ("meta",):
                open_tags.append(tag)
            assert not any(name in ("src", "href") for name, _ in attrs)

        def handle_endtag(self, tag: str) -> None:
            assert open_tags.pop() == tag

    Balanced().feed(page)
    assert open_tags == []


def test_what_changed_between_two_moments(
    layout: Layout, capsys: pytest.CaptureFixture[str]
) -> None:
    told = call(layout, capsys, "diff-state", "4", "10").splitlines()
    assert told == ["+ container old (ac0d0d0d0d0d)"]
    told = call(layout, capsys, "diff-state", "10", "11").splitlines()
    assert len(told) == 1
    assert told[0].startswith("~ container old")
    assert "state running -> exited" in told[0]
    (gone,) = json.loads(call(layout, capsys, "diff-state", "11", "13", "--format", "json"))
    assert (gone["change"], gone["name"]) == ("removed", "old")
    assert call(layout, capsys, "diff-state", "19", "19") == ""


def test_a_row_of_any_table_is_told_from_the_others_and_has_a_noun() -> None:
    """Two containers on one network each have their lease."""
    connection = past.empty()
    for table in schema.TABLES:
        rows = connection.execute(f"PRAGMA table_info({table})").fetchall()
        key = [name for _, name, _, _, _, number in sorted(rows, key=lambda r: r[5]) if number]
        noun, keys = diff_state.NOUNS[table]
        assert list(keys) == key, table
        assert (noun and not noun.endswith("s")) or noun == "address", table
    assert diff_state.NOUNS.keys() == set(schema.TABLES)


def test_difference_of_equal_states_is_nothing() -> None:
    thing = {("containers", "a"): {"id": "a", "name": "n", "state": "running"}}
    assert diff_state.difference(thing, dict(thing)) == []


@pytest.mark.parametrize(
    ("nanoseconds", "text"),
    [
        (0, "0 us"), (999_999, "999 us"), (12_340_000, "12.3 ms"), (4_050_000_000, "4.05 s"),
        (125 * SECOND, "2 min 05 s"), (3900 * SECOND, "1 h 05 min"),
        (60 * 3600 * SECOND, "2 d 12 h"), (-5_000_000, "-5 ms"),
    ],
)  # fmt: skip
def test_durations_can_be_compared(nanoseconds: int, text: str) -> None:
    assert lives.exact(nanoseconds) == text
