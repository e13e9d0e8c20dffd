"""Appends of several tasks share transactions; each has its own outcome all the same."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing

from tiffin.store import aio, log, sync, threads

MANY = 24


def network(number: int, name: str) -> log.Record:
    data = f'{{"config":{{"name":"{name}","driver":"x"}}}}'
    return log.Record(f"network/{number}", "network.created", data)


@pytest.fixture(params=["aiosqlite", "threads"])
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Any]:
    """One whose transactions are counted in `commits`."""
    opened: Any = aio.open_store if request.param == "aiosqlite" else threads.open_store
    async with opened(str(tmp_path / "db")) as store:
        store.expect_many()
        store.commits = 0
        store.path_of_it = str(tmp_path / "db")
        commit = store._gathering._commit

        async def counted(requests: Any) -> Any:
            store.commits += 1
            return await commit(requests)

        store._gathering._commit = counted
        yield store


def whole(path: str) -> int:
    """Number of events of a log whose chain is right."""
    with contextlib.closing(sync.open_for_append(path)) as connection:
        assert log.verify(sync.events(connection)) == []
        return int(connection.execute("SELECT count(*) FROM events").fetchone()[0])


async def test_appends_that_come_together_are_synced_together(store: Any) -> None:
    seqs: list[int] = []

    async def one(number: int) -> None:
        records = [network(number, f"n{number}"), network(number + MANY, f"m{number}")]
        seqs.extend(await store.append(records, command=f"c{number}", actor="{}"))

    async with trio.open_nursery() as nursery:
        for number in range(MANY):
            nursery.start_soon(one, number)
    assert sorted(seqs) == list(range(1, 2 * MANY + 1))
    assert store.commits < MANY / 4, store.commits
    told = await store.rows("SELECT command, count(*) AS n FROM events GROUP BY command")
    assert {row["command"]: row["n"] for row in told} == {f"c{n}": 2 for n in range(MANY)}
    assert whole(store.path_of_it) == 2 * MANY


async def test_one_that_cannot_be_written_keeps_no_other_from_it(store: Any) -> None:
    failed: list[tuple[int, type]] = []
    await store.append([network(1000, "taken")], command="c", actor="{}")

    async def one(number: int) -> None:
        name = "taken" if number == 5 else f"n{number}"
        expect = {"network/7": 3} if number == 7 else None
        try:
            await store.append([network(number, name)], command="c", actor="{}", expect=expect)
        except (sqlite3.IntegrityError, log.Stale) as error:
            failed.append((number, type(error)))

    async with trio.open_nursery() as nursery:
        for number in range(MANY):
            nursery.start_soon(one, number)
    assert sorted(failed) == [(5, sqlite3.IntegrityError), (7, log.Stale)]
    assert whole(store.path_of_it) == MANY - 1


async def test_of_two_that_expect_the_same_version_one_is_stale(store: Any) -> None:
    outcomes: list[str] = []

    async def one(name: str) -> None:
        try:
            record = network(1, name)
            await store.append([record], command="c", actor="{}", expect={"network/1": 0})
        except (log.Stale, sqlite3.IntegrityError) as error:
            outcomes.append(type(error).__name__)
        else:
            outcomes.append("written")

    async with trio.open_nursery() as nursery:
        nursery.start_soon(one, "a")
        nursery.start_soon(one, "b")
    assert sorted(outcomes) == ["Stale", "written"]


async def test_cancelled_before_it_begins_nothing_is_written(store: Any) -> None:
    with trio.CancelScope() as scope:
        scope.cancel()
        await store.append([network(1, "a")], command="c", actor="{}")
    assert scope.cancelled_caught
    await store.append([network(2, "b")], command="c", actor="{}")
    assert whole(store.path_of_it) == 1


async def test_reads_do_not_wait_for_the_transaction_of_another_process(tmp_path: Path) -> None:
    path = str(tmp_path / "db")
    async with threads.open_store(path) as store:
        await store.append([network(1, "a")], command="c", actor="{}")
        other = sync.open_for_append(path)
        other.execute("BEGIN IMMEDIATE")
        with trio.fail_after(30):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(lambda: store.append([network(2, "b")], command="c", actor="{}"))
                await trio.testing.wait_all_tasks_blocked()
                assert await store.rows("SELECT name FROM networks") == [{"name": "a"}]
                other.execute("COMMIT")
        assert len(await store.rows("SELECT name FROM networks")) == 2
        other.close()
