"""`events export`: every event at least once, in order, whatever the consumer does."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import stories
import trio
from trio.testing import MockClock

from tiffin.cli import main
from tiffin.engine import export
from tiffin.errors import Conflict, DriverError, TiffinError, UserError
from tiffin.layout import Layout
from tiffin.plugins import Plugins
from tiffin.store import cursors

EVERYTHING = list(range(1, 21))


@pytest.fixture
def layout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Layout:
    made = stories.tell(tmp_path)
    monkeypatch.setenv("TIFFIN_ROOT", made.root)
    monkeypatch.setenv("TIFFIN_RUNROOT", made.run)
    monkeypatch.setenv("TIFFIN_CONFIG", str(tmp_path / "tiffin.toml"))
    return made


class Consumer:
    """Remembers what it got; does what its plan says for each call."""

    name = "test"

    def __init__(self, *plan: Exception | int | None) -> None:
        self.plan = list(plan)
        self.got: list[int] = []
        self.calls: list[str] = []
        self.closed = False

    def _next(self, call: str) -> int | None:
        self.calls.append(call)
        step = self.plan.pop(0) if self.plan else None
        if isinstance(step, Exception):
            raise step
        return step

    async def deliver(self, events: Sequence[Mapping[str, Any]]) -> int | None:
        needed = self._next("deliver")
        self.got += [event["seq"] for event in events]
        return needed

    async def settle(self, *, last: bool) -> int | None:
        return self._next("last" if last else "settle")

    async def close(self) -> None:
        self.closed = True


async def carry(
    layout: Layout, consumer: Consumer, *, forever: bool = False, **more: Any
) -> export.Export:
    with cursors.Cursor(layout, "test") as cursor:
        work = export.Export(layout, consumer, cursor, **more)
        await work.run(forever=forever)
    return work


def position(layout: Layout) -> int:
    kept = cursors.read(layout, "test")
    return kept[0] if kept else 0


async def test_everything_once_and_then_nothing(layout: Layout) -> None:
    consumer = Consumer()
    await carry(layout, consumer)
    await carry(layout, consumer)
    assert consumer.got == EVERYTHING
    assert consumer.closed
    assert position(layout) == 20


async def test_a_failure_brings_the_same_events_again(
    layout: Layout, autojump_clock: MockClock
) -> None:
    consumer = Consumer(DriverError("away"), OSError("still away"), OSError("still away"))
    said: list[str] = []
    await carry(layout, consumer, report=said.append)
    assert consumer.got == EVERYTHING
    assert said == [
        "consumer test: away; trying again",
        "consumer test: still away; trying again",
        "consumer test: delivered after 3 failures",
    ]


async def test_after_so_many_tries_it_ends_and_nothing_is_skipped(
    layout: Layout, autojump_clock: MockClock
) -> None:
    consumer = Consumer(*[OSError("away")] * 3)
    with pytest.raises(TiffinError, match="consumer test: away"):
        await carry(layout, consumer, tries=3)
    assert position(layout) == 0 and consumer.closed
    await carry(layout, consumer)
    assert consumer.got == EVERYTHING


async def test_what_only_a_person_can_mend_ends_it_at_once(layout: Layout) -> None:
    with pytest.raises(UserError, match="wrong password"):
        await carry(layout, Consumer(UserError("wrong password")), forever=True)
    assert position(layout) == 0


async def test_events_that_are_still_needed_come_again_after_a_restart(layout: Layout) -> None:
    consumer = Consumer(5, 5, 7)  # what it needs after `deliver`, then, and at the end
    await carry(layout, consumer)
    assert position(layout) == 6
    again = Consumer()
    await carry(layout, again)
    assert again.got == list(range(7, 21))


async def test_a_consumer_that_needs_time_is_asked_until_it_is_done(
    layout: Layout, autojump_clock: MockClock
) -> None:
    consumer = Consumer(1, 1, 9, None)
    with trio.move_on_after(60):
        await carry(layout, consumer, forever=True)
    assert consumer.calls == ["deliver", "settle", "settle", "settle"], "and then left alone"
    assert position(layout) == 20


async def test_what_a_filter_leaves_out_is_passed_by(layout: Layout) -> None:
    consumer = Consumer()
    await carry(layout, consumer, passes=lambda event: event["stream"].startswith("image/"))
    assert consumer.got == [2, 3]
    assert position(layout) == 20


async def test_it_follows_other_processes(layout: Layout) -> None:
    consumer = Consumer()
    async with trio.open_nursery() as nursery:

        async def work() -> None:
            await carry(layout, consumer, forever=True)

        nursery.start_soon(work)
        with trio.fail_after(10):
            while len(consumer.got) < 20:
                await trio.sleep(0.01)
            stories.add(layout, ("network/n", "network.removed", {}), at=200)
            while len(consumer.got) < 21:
                await trio.sleep(0.01)
        nursery.cancel_scope.cancel()
    assert consumer.got == [*EVERYTHING, 21]


async def test_engine_events_are_an_async_iterator(layout: Layout) -> None:
    seen = []
    with trio.fail_after(10):
        async for event in export.events(layout, after=17):
            seen.append(event["seq"])
            if len(seen) == 3:
                stories.add(layout, ("network/n", "network.removed", {}), at=200)
            if len(seen) == 4:
                break
    assert seen == [18, 19, 20, 21]


# --- plugins and programs -------------------------------------------------------------------------


def plugin(plugins: Plugins, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: str) -> str:
    name = f"plug{os.urandom(4).hex()}"
    (tmp_path / f"{name}.py").write_text("from tiffin.hooks import hookimpl\n" + source)
    monkeypatch.syspath_prepend(str(tmp_path))
    plugins.index.plugins["consumer.mine"] = name
    return name


async def test_a_plugin_with_on_event_gets_what_it_failed_on_again(
    layout: Layout, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, autojump_clock: MockClock
) -> None:
    plugins = Plugins(layout)
    source = """
got, failed = [], []
@hookimpl
def on_event(event):
    if event["seq"] == 7 and not failed:
        failed.append(True)
        raise RuntimeError("not now")
    got.append(event["seq"])
"""
    name = plugin(plugins, tmp_path, monkeypatch, source)
    await export.export(layout, plugins, "mine", forever=False)
    assert __import__(name).got == EVERYTHING


async def test_a_hook_may_have_another_name_but_must_be_marked(
    layout: Layout, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plugins = Plugins(layout)
    source = """
got = []
@hookimpl(specname="on_event")
def told(event):
    if not got:
        got.append(0)
        raise KeyError("oops")
    got.append(event["seq"])
"""
    name = plugin(plugins, tmp_path, monkeypatch, source)
    monkeypatch.setattr(export, "FIRST_PAUSE", 0.01)
    said: list[str] = []
    await export.export(layout, plugins, "mine", forever=False, report=said.append)
    assert __import__(name).got == [0, *EVERYTHING]
    assert said[0] == "consumer mine: KeyError: 'oops'; trying again"
    plugins = Plugins(layout)
    plugin(plugins, tmp_path, monkeypatch, "def on_event(event): ...")
    with pytest.raises(DriverError, match="implements neither event_consumer nor on_event"):
        export.consumer(plugins, "mine")


async def test_a_consumer_may_have_another_name_than_its_plugin(
    layout: Layout, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plugins = Plugins(layout, {"consumer": {"alerts": {"plugin": "mine", "x": 5}}})
    source = """
made = []
@hookimpl
def event_consumer(name, context):
    made.append((name, context.settings["x"]))
    return None
"""
    name = plugin(plugins, tmp_path, monkeypatch, source)
    with pytest.raises(DriverError, match=r"plugin consumer\.mine makes no consumer driver"):
        export.consumer(plugins, "alerts")
    assert __import__(name).made == [("alerts", 5)]


def program(tmp_path: Path, text: str) -> str:
    path = tmp_path / "sink"
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return str(path)


async def test_a_program_gets_json_lines_and_its_exit_code_decides(
    layout: Layout, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    sink = program(
        tmp_path,
        f"[ -e {out}.ready ] || {{ touch {out}.ready; echo no >&2; exit 3; }}\ncat >> {out}",
    )
    plugins = Plugins(layout, {"consumer": {"mine": {"program": [sink]}}})
    said: list[str] = []
    await export.export(layout, plugins, "mine", forever=False, report=said.append)
    assert [json.loads(line)["seq"] for line in out.read_text().splitlines()] == EVERYTHING
    assert said[0] == f"consumer mine: {sink} ended with 3: no; trying again"


@pytest.mark.parametrize(
    ("table", "says"),
    [
        ({"program": "cat"}, "must be a list of words"),
        ({"program": []}, "must be a list of words"),
        ({"program": ["cat"]}, "no absolute path of a program"),
        ({"program": ["/bin/cat"], "timeot": 3}, "'timeot' is not known"),
        ({"program": ["/bin/cat"], "timeout": 0}, "timeout must be"),
        ("x", "is no table"),
        ({"plugin": "nosuch"}, "no consumer driver 'nosuch'"),
    ],
)
def test_bad_tables(layout: Layout, table: Any, says: str) -> None:
    with pytest.raises(UserError, match=says):
        export.consumer(Plugins(layout, {"consumer": {"mine": table}}), "mine")


# --- the command line -----------------------------------------------------------------------------


def test_all_that_tiffin_toml_names(
    layout: Layout, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sink = program(tmp_path, f"cat >> {tmp_path}/$1")
    (tmp_path / "tiffin.toml").write_text(
        f'[consumer.one]\nprogram = ["{sink}", "one"]\n'
        f'[consumer.two]\nprogram = ["{sink}", "two"]\nfilter = ["type=image"]\n'
        '[consumer.bad]\nprogram = ["nothing"]\n'
    )
    assert main.dispatch(["events", "export", "--all"]) == 125
    assert "consumer bad: consumer.bad in tiffin.toml: 'nothing'" in capsys.readouterr().err
    assert len((tmp_path / "one").read_text().splitlines()) == 20
    assert len((tmp_path / "two").read_text().splitlines()) == 2


def test_one_process_exports_for_a_consumer(layout: Layout, tmp_path: Path) -> None:
    sink = program(tmp_path, "cat > /dev/null")
    (tmp_path / "tiffin.toml").write_text(f'[consumer.one]\nprogram = ["{sink}"]\n')
    with cursors.Cursor(layout, "one"):
        with pytest.raises(BaseExceptionGroup) as group:
            main.dispatch(["events", "export", "one"])
    assert group.group_contains(Conflict, depth=2) or group.group_contains(Conflict)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ("", "no consumer was named"),
        ("--all one", "exclude each other"),
        ("--all", "has no"),
        ("one --tries 0", "less than one"),
    ],
)
def test_bad_input(layout: Layout, words: str, says: str) -> None:
    with pytest.raises(UserError, match=says):
        main.dispatch(["events", "export", *words.split()])
