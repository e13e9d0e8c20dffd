"""Lists of many containers: not a query, nor a look at the disk, for each of them."""

from __future__ import annotations

import contextlib
import json
import os
from pathlib import Path
from typing import Any

import pytest

from tiffin.cli import main, reads, table
from tiffin.layout import Layout
from tiffin.store import log, sync

NUMBER = 200
OWNER = f"{0:064x}"
POD = "f" * 64
PUBLISHED = [{"container_port": 80, "host_port": 8080}]
Capture = pytest.CaptureFixture[str]


@pytest.fixture
def crowd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Layout:
    """Running containers: every third in the network of the first, every third in a pod."""
    monkeypatch.setenv("TIFFIN_ROOT", str(tmp_path / "root"))
    monkeypatch.setenv("TIFFIN_RUNROOT", str(tmp_path / "run"))
    layout = Layout.find()
    sync.create(layout.database)
    pod: dict[str, Any] = {"name": "p", "network": "bridge", "share": ["net"]}
    pod |= {"ports": PUBLISHED, "directory": str(tmp_path), "labels": {}, "options": {}}
    found = [log.Record(f"pod/{POD}", "pod.created", json.dumps(pod))]
    for number in range(NUMBER):
        network = ("bridge", f"container:{OWNER}", f"pod:{POD}")[number % 3]
        plan: dict[str, Any] = {
            "name": f"c{number}",
            "image": "bb",
            "image_id": "sha256:" + "1" * 64,
            "image_name": "localhost/bb:latest",
            "command": ["sleep", "1000"],
            "options": {"image": "bb"} | ({"pod": POD} if number % 3 == 2 else {}),
            "storage_driver": "vfs",
            "runtime": "crun",
            "network": network,
            "layers": ["sha256:c"],
            "ports": [] if number else PUBLISHED,
            "directory": str(tmp_path / "c"),
        }
        stream = f"container/{number:064x}"
        for type_, data in (
            ("creation_planned", plan),
            ("created", {}),
            ("initialized", {"pid": 7, "conmon_pid": 6, "spec": ""}),
            ("started", {"pid": 7}),
        ):
            found.append(log.Record(stream, f"container.{type_}", json.dumps(data)))
        os.makedirs(layout.container_run(f"{number:064x}"))
    with contextlib.closing(sync.open_for_append(layout.database)) as connection:
        sync.run(connection, log.append(found, command="c1", actor='{"uid":0}', now=1))
    return layout


class Watched:
    """What a command asks of the store and of the file system."""

    def __init__(self) -> None:
        self.queries: list[str] = []
        self.looks: list[str] = []


@pytest.fixture
def watched(monkeypatch: pytest.MonkeyPatch) -> Any:
    seen = Watched()
    opened = sync.open_read_only

    def tracing(path: str) -> Any:
        connection = opened(path)
        assert connection is not None
        connection.set_trace_callback(seen.queries.append)
        return connection

    def looking(path: Any, *arguments: Any, **options: Any) -> Any:
        seen.looks.append(str(path))
        return stat(path, *arguments, **options)

    stat = os.stat
    monkeypatch.setattr(os, "stat", looking)  # which os.path.isdir and others call
    monkeypatch.setattr(sync, "open_read_only", tracing)
    return seen


@pytest.mark.parametrize(
    ("words", "queries"),
    [
        ("ps", 3),  # the containers, and for those that share a network: all, and the pods
        ("ps -q", 3),
        ("ps -a --format json", 4),
        ("ps --pod", 4),
        ("ps --filter name=c1 --format {{.Names}}", 4),
    ],
)
def test_queries_of_a_list_do_not_grow_with_it(
    words: str, queries: int, crowd: Layout, watched: Watched, capsys: Capture
) -> None:
    assert main.dispatch(words.split()) == 0
    assert len(capsys.readouterr().out.splitlines()) >= NUMBER / 3
    assert len(watched.queries) <= queries, watched.queries
    below = [look for look in watched.looks if crowd.run in look]
    assert len(below) < 5, below


def test_a_plain_list_reads_only_the_columns_that_it_shows(
    crowd: Layout, watched: Watched, capsys: Capture
) -> None:
    assert main.dispatch(["ps"]) == 0
    assert "options" not in watched.queries[0] and "*" not in watched.queries[0]


def test_after_a_restart_of_the_machine_all_are_noticed_at_once(
    crowd: Layout, watched: Watched, capsys: Capture
) -> None:
    os.rename(crowd.containers_run, crowd.containers_run + ".gone")
    assert main.dispatch(["ps", "-a"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert sum("Exited (255)" in line for line in lines) == NUMBER
    assert len(watched.queries) <= 4, watched.queries


def test_ports_are_lent_by_the_container_or_the_pod_whose_network_it_is(
    crowd: Layout, capsys: Capture
) -> None:
    assert main.dispatch(["ps", "--format", "{{.Names}} {{.Ports}}"]) == 0
    ports = dict(line.partition(" ")[::2] for line in capsys.readouterr().out.splitlines())
    assert ports["c0"] == ports["c1"] == ports["c2"] == "0.0.0.0:8080->80/tcp"
    assert ports["c3"] == ""
    plain = reads.rows(reads.store(crowd), "SELECT name, network, ports FROM containers")
    reads.lend(reads.store(crowd), plain)
    assert all(bool(row["ports"]) == bool(ports[row["name"]]) for row in plain)


def test_ports_of_a_removed_owner_are_not_lent(crowd: Layout) -> None:
    row = {"id": "1", "network": "container:gone", "ports": []}
    reads.lend(reads.store(crowd), [row])
    assert row["ports"] == []


def test_a_table_has_rows_of_different_lengths_and_none_that_reaches_the_terminal() -> None:
    rows = [("a", "b"), ("a" * 20, "b\x1b[2J", "c"), ("", "x" * 30, "")]
    assert table.table((), rows) == (
        f"a{' ' * 21}b\n{'a' * 20}  b\\x1b[2J{' ' * 24}c\n{' ' * 22}{'x' * 30}  \n"
    )
    assert table.table((), []) == "" and table.table(("A",), []) == "A\n"
