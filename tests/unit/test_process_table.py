"""What `top` and `stats` make of /proc and of cgroups' counters."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tiffin import consumption, process_table


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0s"), (1.5, "1.5s"), (0.012, "12ms"), (59.25, "59.25s"), (61, "1m1s"),
        (3723.5, "1h2m3.5s"), (2.231155725, "2.231155725s"),
    ],
)  # fmt: skip
def test_durations_are_gos(seconds: float, text: str) -> None:
    assert process_table.go_duration(seconds) == text


@pytest.mark.parametrize(
    ("words", "found"),
    [
        (["pid", "args"], ["pid", "args"]),
        (["pid,%C"], ["pid", "pcpu"]),
        (["-o", "pid"], None),
        (["pid,lunch"], None),
    ],
)
def test_descriptors_or_words_for_ps(words: list[str], found: list[str] | None) -> None:
    assert process_table.descriptors(words) == found


def test_our_own_process() -> None:
    (process,) = process_table.processes([os.getpid(), 2**22 + 1])
    assert process.pid == os.getpid()
    table = process_table.Table([process], "/")
    ((hpid, ppid, state),) = table.rows(["hpid", "ppid", "state"])
    assert (hpid, ppid) == (str(os.getpid()), "0"), "its parent is not in the table"
    assert state == "R"
    for name in process_table.DESCRIPTORS:
        assert table.rows([name])[0][0] is not None, name


def test_broken_lines_of_passwd_are_passed_over(tmp_path: Path) -> None:
    text = "broken\n:::\ncook:x:7:7::/:/bin/sh\nlater:x:7:7::/:\nx:x:no:1::/:\n"
    (tmp_path / "passwd").write_text(text)
    assert process_table.names(str(tmp_path), "passwd") == {7: "cook"}
    assert process_table.names(str(tmp_path), "none") == {}


V1 = {
    "cpu/cpuacct.usage": "1500000000\n",
    "memory/memory.usage_in_bytes": "5000\n",
    "memory/memory.limit_in_bytes": "9000\n",
    "memory/memory.stat": "cache 1\ntotal_inactive_file 2000\n",
    "blkio/blkio.throttle.io_service_bytes_recursive": "8:0 Read 10\n8:0 Write 20\nTotal 30\n",
    "pids/pids.current": "4\n",
}
V2 = {
    "one/cpu.stat": "usage_usec 1500000\nuser_usec 1\n",
    "one/memory.current": "5000\n",
    "one/memory.max": "9000\n",
    "one/memory.stat": "inactive_file 2000\n",
    "one/io.stat": "8:0 rbytes=10 wbytes=20 rios=1 wios=1 dbytes=0 dios=0\n",
    "one/pids.current": "4\n",
}


@pytest.mark.parametrize("files", [V1, V2], ids=["v1", "v2"])
def test_both_versions_of_cgroups_say_the_same(tmp_path: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    used = consumption.measure([str(path) for path in sorted(tmp_path.iterdir())], pid=0)
    assert used == (1_500_000_000, 3000, 9000, 0, 0, 10, 20, 4)


def test_no_limit_is_all_of_the_machines_memory(tmp_path: Path) -> None:
    (tmp_path / "memory.current").write_text("1\n")
    (tmp_path / "memory.max").write_text("max\n")
    assert consumption.measure([str(tmp_path)], 0).limit == consumption.machine_memory()
