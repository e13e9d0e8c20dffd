"""`sql`: what can be asked, what cannot, and that the documented tables are those there are."""

from __future__ import annotations

import csv
import io
import json
import re
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import stories

from tiffin.cli import main
from tiffin.errors import UserError
from tiffin.layout import Layout
from tiffin.store import reports, schema

Capture = pytest.CaptureFixture[str]
ENDLESS = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM n) SELECT count(*) FROM n"
PAGE = Path(__file__).parents[2] / "docs/sql.md"


@pytest.fixture
def layout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Layout:
    made = stories.tell(tmp_path)
    monkeypatch.setenv("TIFFIN_ROOT", made.root)
    monkeypatch.setenv("TIFFIN_RUNROOT", made.run)
    return made


def ask(capsys: Capture, query: str, *flags: str) -> list[dict[str, Any]]:
    assert main.dispatch(["sql", "--format", "json", *flags, query]) == 0
    found: list[dict[str, Any]] = json.loads(capsys.readouterr().out)
    return found


def test_every_table_has_the_columns_that_the_page_promises(layout: Layout) -> None:
    promised = {}
    for name, columns in re.findall(r"^\| `(\w+)` \| ((?:`\w+` ?)+)\|", PAGE.read_text(), re.M):
        promised[name] = tuple(re.findall(r"\w+", columns))
    assert promised == reports.columns()


def test_whatever_the_store_knows_of_can_be_asked() -> None:
    """Except for what only serves the engine itself."""
    inner = {"leases", "label_claims", "image_mounts", "image_steps", "defaults"}
    assert set(schema.TABLES) - set(reports.VIEWS) == inner


def test_every_table_can_be_asked(layout: Layout, capsys: Capture) -> None:
    for name, columns in reports.columns().items():
        rows = ask(capsys, f"SELECT * FROM {name}")
        assert all(tuple(row) == columns for row in rows), name
        ((count,),) = (row.values() for row in ask(capsys, f"SELECT count(*) FROM {name}"))
        assert count == len(rows), name


def test_a_life_and_who_ended_it(layout: Layout, capsys: Capture) -> None:
    old, job = ask(capsys, "SELECT * FROM lives ORDER BY created_ns")
    assert (old["name"], old["exit_code"], old["removed_by"]) == ("old", 0, 0)
    assert old["created"] == "2026-09-21T14:13:30.000000000Z"
    assert old["created_ns"] == stories.START + 10 * stories.SECOND
    assert (job["name"], job["exit_code"], job["removed"]) == ("job", 3, None)
    assert json.loads(job["labels"]) == {"meal": "lunch"}


def test_events_by_noun_and_actor(layout: Layout, capsys: Capture) -> None:
    query = "SELECT noun, count(*) AS n FROM events WHERE loginuid=1000 GROUP BY noun ORDER BY n"
    found = {row["noun"]: row["n"] for row in ask(capsys, query)}
    assert found == {"transfer": 2, "image": 2, "container": 16}


def test_a_parameter_is_a_value_and_never_sql(layout: Layout, capsys: Capture) -> None:
    query = "SELECT name FROM lives WHERE name=:n"
    assert ask(capsys, query, "--param", "n=old") == [{"name": "old"}]
    assert ask(capsys, query, "--param", "n=old' OR '1'='1") == []
    with pytest.raises(UserError, match="the query is wrong"):
        main.dispatch(["sql", query])
    with pytest.raises(UserError, match="'=old' is no NAME=VALUE"):
        main.dispatch(["sql", query, "--param", "=old"])


def test_csv_and_table(layout: Layout, capsys: Capture) -> None:
    query = "SELECT name, removed IS NULL AS here, 'a,\"b\"' AS odd, x'00ff' AS b FROM lives"
    main.dispatch(["sql", "-f", "csv", query])
    rows = list(csv.reader(io.StringIO(capsys.readouterr().out)))
    assert rows[0] == ["name", "here", "odd", "b"]
    assert ["job", "1", 'a,"b"', "00ff"] in rows
    main.dispatch(["sql", "--noheading", "SELECT name, NULL, char(27) FROM lives ORDER BY name"])
    assert [line.split() for line in capsys.readouterr().out.splitlines()] == [
        ["job", "\\x1b"],
        ["old", "\\x1b"],
    ]


def test_columns_of_one_name_are_all_shown(layout: Layout, capsys: Capture) -> None:
    assert ask(capsys, "SELECT 1 AS a, 2 AS a, 3 AS a") == [{"a": 1, "a_2": 2, "a_3": 3}]


def test_a_store_from_before_there_was_compaction(layout: Layout, capsys: Capture) -> None:
    with sqlite3.connect(layout.database) as connection:
        connection.execute("DROP TABLE snapshots")
        connection.execute("PRAGMA user_version=1")
    connection.close()
    assert [row["name"] for row in ask(capsys, "SELECT name FROM lives")] == ["old", "job"]


def test_nothing_was_ever_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    monkeypatch.setenv("TIFFIN_ROOT", str(tmp_path / "nowhere"))
    assert ask(capsys, "SELECT * FROM containers") == []
    assert not (tmp_path / "nowhere").exists()


@pytest.mark.parametrize(
    "query",
    [
        "DELETE FROM events",
        "INSERT INTO tags VALUES ('a', 'b')",
        "UPDATE main.events SET hash='0'",
        "CREATE TEMP TABLE t (a)",
        "DROP VIEW events",
        "ATTACH ':memory:' AS other",
        "DETACH main",
        "PRAGMA user_version",
        "PRAGMA query_only=0",
        "SELECT * FROM pragma_table_info('events')",
        "BEGIN",
        "VACUUM INTO '/dev/null'",
        "REINDEX",
        "EXPLAIN DELETE FROM main.events",
        "SELECT options FROM main.containers",
        "SELECT name FROM defaults",
        "SELECT sql FROM sqlite_schema",
        "SELECT sql FROM temp.sqlite_temp_schema",
        "SELECT load_extension('x')",
    ],
)
def test_whatever_is_no_query_of_the_tables_is_refused(layout: Layout, query: str) -> None:
    before = Path(layout.database).read_bytes()
    with pytest.raises(UserError, match="the query is refused"):
        main.dispatch(["sql", query])
    assert Path(layout.database).read_bytes() == before


@pytest.mark.parametrize(
    ("query", "says"),
    [
        ("SELEC", "the query is wrong"),
        ("", "no query"),
        ("/* nothing */", "no query"),
        ("SELECT 1; SELECT 2", "more than one statement"),
        ("SELECT * FROM contaners", "no such table: contaners; did you mean containers"),
        ("SELECT nam FROM containers", "no such column: nam"),
        ("SELECT zeroblob(1000000000)", "too big"),
        ("SELECT '\0'", "zero byte"),
    ],
)
def test_a_query_that_is_wrong_is_one_line(layout: Layout, query: str, says: str) -> None:
    with pytest.raises(UserError, match=says) as error:
        main.dispatch(["sql", query])
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["SELECT 1", "--format", "xml"], "'xml' is not known"),
        (["SELECT 1", "--timeout", "-1"], "less than nothing"),
        ([], "no query was given"),
    ],
)
def test_bad_flags(layout: Layout, words: list[str], says: str) -> None:
    with pytest.raises(UserError, match=says):
        main.dispatch(["sql", *words])


def test_json_functions_work(layout: Layout, capsys: Capture) -> None:
    query = "SELECT j.value AS v FROM containers, json_each(command) AS j"
    assert [row["v"] for row in ask(capsys, query)] == ["sh", "-c", "true"]


def test_a_heavy_query_can_be_interrupted(layout: Layout) -> None:
    code = "from tiffin.cli.main import main; main()"
    with subprocess.Popen(
        [sys.executable, "-c", code, "sql", ENDLESS],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        time.sleep(1)
        assert process.poll() is None
        process.send_signal(signal.SIGINT)
        assert process.wait(10) == 130
        assert process.stderr is not None and process.stderr.read() == ""


def test_a_heavy_query_can_be_given_a_time(layout: Layout) -> None:
    began = time.monotonic()
    with pytest.raises(UserError, match="took more than 1 s"):
        main.dispatch(["sql", "--timeout", "1", ENDLESS])
    assert time.monotonic() - began < 10
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_from_standard_input(
    layout: Layout, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO("SELECT 5 AS n"))
    assert ask(capsys, "-") == [{"n": 5}]
