"""`system check` on a whole store, a forged log, and a damaged file."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path

import pytest

from tiffin.cli import main
from tiffin.store import log, sync


@pytest.fixture
def database(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("TIFFIN_ROOT", str(tmp_path))
    monkeypatch.setenv("TIFFIN_RUNROOT", str(tmp_path / "run"))
    path = str(tmp_path / "tiffin.db")
    sync.create(path)
    made = [
        log.Record(
            f"network/{number}",
            "network.created",
            json.dumps({"config": {"name": f"n{number}", "driver": "x"}}),
        )
        for number in range(300)
    ]
    with contextlib.closing(sync.open_for_append(path)) as connection:
        sync.run(connection, log.append(made, command="c", actor="{}"))
    return path


def check(capsys: pytest.CaptureFixture[str]) -> tuple[int, str]:
    code = main.dispatch(["system", "check"])
    return code, capsys.readouterr().out


def test_a_whole_store(database: str, capsys: pytest.CaptureFixture[str]) -> None:
    code, out = check(capsys)
    assert code == 0
    assert out.splitlines() == [
        "OK: the database is whole, and so is the chain of 300 events",
        "OK: images, layers and containers are as the log says",
    ]


def test_an_altered_table(database: str, capsys: pytest.CaptureFixture[str]) -> None:
    with contextlib.closing(sync.open_for_append(database)) as connection:
        connection.execute("DELETE FROM networks WHERE id='7'")
    told = "table networks: 7 is not what the log says"
    assert check(capsys) == (1, f"{told}\n")
    assert main.dispatch(["system", "check", "--repair"]) == 0
    out = capsys.readouterr().out
    assert f"mended: {told}: folded again from the log" in out
    assert check(capsys)[0] == 0


def test_a_forged_event(database: str, capsys: pytest.CaptureFixture[str]) -> None:
    with contextlib.closing(sync.open_for_append(database)) as connection:
        connection.execute("UPDATE events SET type='network.removed' WHERE seq=7")
    assert check(capsys) == (1, "event 7 was altered\n")


def test_a_damaged_file(database: str, capsys: pytest.CaptureFixture[str]) -> None:
    with open(database, "r+b") as file:
        file.seek(3 * 4096)
        file.write(b"\xff" * 4096)
    code, out = check(capsys)
    assert code == 1
    assert all(line.startswith("tiffin.db: ") for line in out.splitlines())


def test_no_store(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("TIFFIN_ROOT", str(tmp_path / "none"))
    assert check(capsys) == (0, f"OK: nothing is stored in {tmp_path}/none\n")
    assert not (tmp_path / "none").exists()
