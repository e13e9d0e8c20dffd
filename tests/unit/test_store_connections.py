"""Both connections of the engine to its store: aiosqlite for long lives, else a thread."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trio

from tiffin.engine.base import open_engine
from tiffin.errors import Conflict, TiffinError
from tiffin.events.network import NetworkCreated
from tiffin.layout import Layout
from tiffin.store import aio, log, sync, threads

Opener = Callable[[str], AbstractAsyncContextManager[Any]]


@asynccontextmanager
async def open_aio(path: str) -> AsyncIterator[Any]:
    async with aio.open_store(path) as store:
        yield store


@pytest.fixture(params=[open_aio, threads.open_store], ids=["aiosqlite", "threads"])
def opener(request: pytest.FixtureRequest) -> Opener:
    opened: Opener = request.param
    return opened


def network(number: int, name: str) -> log.Record:
    data = f'{{"config":{{"name":"{name}","driver":"x"}}}}'
    return log.Record(f"network/{number}", "network.created", data)


async def test_append_and_read(opener: Opener, tmp_path: Path) -> None:
    async with opener(str(tmp_path / "s" / "db")) as store:
        assert await store.append([network(1, "a")], command="c", actor="{}") == [1]
        rows = await store.rows("SELECT name, config FROM networks")
        assert rows == [{"name": "a", "config": {"name": "a", "driver": "x"}}]


async def test_taken_name_and_stale_version_leave_nothing(opener: Opener, tmp_path: Path) -> None:
    async with opener(str(tmp_path / "db")) as store:
        await store.append([network(1, "a")], command="c", actor="{}")
        with pytest.raises(sqlite3.IntegrityError):
            await store.append([network(2, "b"), network(3, "a")], command="c", actor="{}")
        with pytest.raises(log.Stale):
            await store.append([network(1, "c")], command="c", actor="{}", expect={"network/1": 0})
        rows = await store.rows("SELECT count(*) AS n FROM events")
        assert rows == [{"n": 1}]


async def test_many_tasks_at_once(opener: Opener, tmp_path: Path) -> None:
    async with opener(str(tmp_path / "db")) as store:

        async def one(number: int) -> None:
            await store.append([network(number, f"n{number}")], command="c", actor="{}")
            assert await store.rows("SELECT id FROM networks WHERE id=?", (str(number),))

        async with trio.open_nursery() as nursery:
            for number in range(30):
                nursery.start_soon(one, number)
    connection = sync.open_for_append(str(tmp_path / "db"))
    assert log.verify(sync.events(connection)) == []
    connection.close()


async def test_cancelled_append_is_whole_or_not_at_all(opener: Opener, tmp_path: Path) -> None:
    async with opener(str(tmp_path / "db")) as store:
        with trio.CancelScope() as scope:
            scope.cancel()
            await store.append([network(1, "a"), network(2, "b")], command="c", actor="{}")
        assert (await store.rows("SELECT count(*) AS n FROM events"))[0]["n"] in (0, 2)
        await store.append([network(3, "c")], command="c", actor="{}")


async def test_two_processes_worth_of_connections(opener: Opener, tmp_path: Path) -> None:
    path = str(tmp_path / "db")
    async with opener(path) as one, threads.open_store(path) as two:
        async with trio.open_nursery() as nursery:
            for number in range(20):
                store = one if number % 2 else two
                nursery.start_soon(
                    lambda s, n: s.append([network(n, f"n{n}")], command="c", actor="{}"),
                    store,
                    number,
                )
        assert (await two.rows("SELECT max(seq) AS n FROM events")) == [{"n": 20}]


@pytest.mark.parametrize("short_lived", [True, False])
async def test_unusable_place_is_one_clear_error(tmp_path: Path, short_lived: bool) -> None:
    (tmp_path / "file").write_text("not a folder")
    layout = Layout(str(tmp_path / "file"), str(tmp_path / "run"))
    with pytest.raises(TiffinError, match="cannot make"):
        async with open_engine(layout, short_lived=short_lived):
            pass


async def test_an_append_waits_for_another_process_without_stopping_the_others(
    opener: Opener, tmp_path: Path
) -> None:
    path = str(tmp_path / "db")
    other = sync.open_or_create(path)[0]
    async with opener(path) as store, trio.open_nursery() as nursery:
        other.execute("BEGIN IMMEDIATE")

        async def let_go() -> None:
            for _ in range(20):  # these happen while the append waits
                await trio.sleep(0.01)
            other.execute("COMMIT")

        nursery.start_soon(let_go)
        assert await store.append([network(1, "a")], command="c", actor="{}") == [1]
        assert not other.in_transaction
    other.close()


async def test_an_append_leaves_reads_their_patience(tmp_path: Path) -> None:
    async with threads.open_store(str(tmp_path / "db")) as store:
        await store.append([network(1, "a")], command="c", actor="{}")
        assert await store.rows("PRAGMA busy_timeout") == [{"timeout": 60_000}]


def test_what_a_command_left_open_is_there_for_the_next(tmp_path: Path) -> None:
    path = str(tmp_path / "db")
    code = """
import os, sys, trio
from tiffin.store import log, threads
async def main():
    async with threads.open_store(sys.argv[1]) as store:
        record = log.Record("network/1", "network.created", '{"config":{"name":"a","driver":"x"}}')
        await store.append([record], command="c", actor="{}")
trio.run(main)
os._exit(0)
"""
    subprocess.run([sys.executable, "-c", code, path], check=True)
    assert (tmp_path / "db-wal").stat().st_size > 0
    reading = sync.open_read_only(path)
    assert reading is not None
    assert reading.execute("SELECT name FROM networks").fetchall() == [("a",)]
    reading.close()
    writing, fresh = sync.open_or_create(path)
    assert not fresh
    assert writing.execute("SELECT count(*) FROM events").fetchone() == (1,)
    writing.close()


async def test_a_store_of_an_older_tiffin_is_folded_anew(opener: Opener, tmp_path: Path) -> None:
    path = str(tmp_path / "db")
    async with opener(path) as store:
        await store.append([network(1, "a")], command="c", actor="{}")
    with sqlite3.connect(path) as connection:
        connection.executescript("DROP TABLE leases; DROP TABLE networks; PRAGMA user_version=1")
    async with opener(path) as store:
        assert not store.fresh
        assert await store.rows("SELECT name FROM networks") == [{"name": "a"}]
        assert await store.rows("SELECT * FROM leases") == []


async def test_a_store_of_a_newer_tiffin_is_left_alone(opener: Opener, tmp_path: Path) -> None:
    path = str(tmp_path / "db")
    async with opener(path) as store:
        await store.append([network(1, "a")], command="c", actor="{}")
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA user_version=99")
    with pytest.raises(TiffinError, match="newer tiffin"):
        async with opener(path):
            pass


async def test_outcomes_noted_before_a_conflict_are_written_by_the_next_try(tmp_path: Path) -> None:
    def created(name: str) -> NetworkCreated:
        return NetworkCreated(config={"name": name, "driver": "x"})

    layout = Layout(str(tmp_path / "root"), str(tmp_path / "run"))
    async with open_engine(layout) as engine:
        journal = engine.journal()
        await journal.write("network/1", created("a"))
        journal.note("network/2", created("b"))
        with pytest.raises(Conflict):
            await journal.write("network/3", created("a"))
        await journal.write("network/4", created("c"))
        rows = await engine.store.rows("SELECT name FROM networks ORDER BY id")
        assert [row["name"] for row in rows] == ["a", "b", "c"]
