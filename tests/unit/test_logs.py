"""The log reader, on files written as conmon writes them."""

import os
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tiffin import logs
from tiffin.logs import Record
from tiffin.units import SECOND

START = 1_700_000_000 * SECOND


def line(record: Record) -> bytes:
    seconds, fraction = divmod(record.time, SECOND)
    stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds))
    tag = b"P" if record.partial else b"F"
    head = f"{stamp}.{fraction:09d}+00:00 {record.stream} ".encode()
    return head + tag + b" " + record.data + b"\n"


def out(text: bytes, at: int = 0, *, partial: bool = False, stream: str = "stdout") -> Record:
    return Record(START + at, stream, partial, text)


records = st.lists(
    st.builds(
        Record,
        st.integers(0, 4_000_000_000 * SECOND),
        st.sampled_from(["stdout", "stderr"]),
        st.booleans(),
        st.binary().map(lambda data: data.replace(b"\n", b"")),
    )
)


@given(records)
def test_what_was_written_is_read(
    tmp_path_factory: pytest.TempPathFactory, found: list[Record]
) -> None:
    path = tmp_path_factory.getbasetemp() / "round-trip.log"
    path.write_bytes(b"".join(map(line, found)))
    assert list(logs.read(str(path))) == found


def tail_of(found: list[Record], lines: int) -> list[Record]:
    """The specification of `tail`, for a single stream."""
    grouped: list[list[Record]] = [[]]
    for record in found:
        grouped[-1].append(record)
        if not record.partial:
            grouped.append([])
    kept = [group for group in grouped if group]
    return [record for group in kept[len(kept) - min(lines, len(kept)) :] for record in group]


@given(
    st.lists(
        st.builds(
            Record,
            st.just(START),
            st.just("stdout"),
            st.booleans(),
            st.sampled_from([b"", b"x", b"y z", b"\xff" * 40]),
        ),
        max_size=12,
    ),
    st.integers(0, 14),
    st.integers(16, 200),
)
def test_tail_is_found_from_the_end(
    tmp_path_factory: pytest.TempPathFactory, found: list[Record], lines: int, block: int
) -> None:
    path = tmp_path_factory.getbasetemp() / "tail.log"
    path.write_bytes(b"".join(map(line, found)))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(logs, "BLOCK", block)
        assert list(logs.read(str(path), tail=lines)) == tail_of(found, lines)


def test_the_tail_of_a_huge_log_reads_only_its_end(tmp_path: Path) -> None:
    path = tmp_path / "log"
    with open(path, "wb") as file:
        file.truncate(1 << 30)  # a hole: reading it all would show
        file.seek(0, os.SEEK_END)
        file.write(b"\n" + b"".join(line(out(b"%d" % n)) for n in range(20)))
    read_before = int(Path("/proc/self/io").read_text().split("rchar: ")[1].split()[0])
    found = list(logs.read(str(path), tail=10))
    read_after = int(Path("/proc/self/io").read_text().split("rchar: ")[1].split()[0])
    assert [record.data for record in found] == [b"%d" % n for n in range(10, 20)]
    assert read_after - read_before < 1 << 20


def test_since_and_until_choose_by_time(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_bytes(b"".join(line(out(b"%d" % n, n * SECOND)) for n in range(10)))
    found = logs.read(str(path), since=START + 3 * SECOND, until=START + 5 * SECOND)
    assert [record.data for record in found] == [b"3", b"4", b"5"]


def test_damaged_lines_are_left_out(tmp_path: Path) -> None:
    path = tmp_path / "log"
    good = line(out(b"good"))
    path.write_bytes(b"cut off\n" + good + b"\n2026 stdout F x\n" + good[:-1])
    assert [record.data for record in logs.read(str(path))] == [b"good", b"good"]


def test_a_log_that_does_not_exist_is_empty(tmp_path: Path) -> None:
    assert list(logs.read(str(tmp_path / "none"))) == []


class Follower:
    """Follows a log in a thread."""

    def __init__(self, path: Path, exit_file: Path, tail: int | None = None) -> None:
        self.found: list[bytes] = []
        self._changed = threading.Condition()
        self._thread = threading.Thread(
            target=self._run, args=(str(path), str(exit_file), tail), daemon=True
        )
        self._thread.start()

    def _run(self, path: str, exit_file: str, tail: int | None) -> None:
        for record in logs.read(path, follow=True, stop=exit_file, tail=tail):
            with self._changed:
                self.found.append(record.data)
                self._changed.notify_all()

    def wait(self, ready: Callable[[list[bytes]], bool]) -> None:
        with self._changed:
            assert self._changed.wait_for(lambda: ready(self.found), timeout=20), self.found

    def end(self) -> list[bytes]:
        self._thread.join(20)
        assert not self._thread.is_alive()
        return self.found


def append(path: Path, *texts: bytes) -> None:
    with open(path, "ab") as file:
        for text in texts:
            file.write(line(out(text)))


def test_follow_ends_when_the_exit_file_is_there_and_all_was_read(tmp_path: Path) -> None:
    path, exits = tmp_path / "log", tmp_path / "exits"
    exits.mkdir()
    append(path, b"one")
    follower = Follower(path, exits / "id")
    follower.wait(lambda found: found == [b"one"])
    append(path, b"two")
    follower.wait(lambda found: found == [b"one", b"two"])
    append(path, b"three")
    (exits / "id").write_text("0")
    assert follower.end() == [b"one", b"two", b"three"]


def test_follow_of_an_ended_container_does_not_wait(tmp_path: Path) -> None:
    append(tmp_path / "log", b"one")
    found = logs.read(str(tmp_path / "log"), follow=True, stop=str(tmp_path / "gone" / "id"))
    assert [record.data for record in found] == [b"one"]


def test_follow_waits_for_a_log_that_is_not_there_yet(tmp_path: Path) -> None:
    follower = Follower(tmp_path / "log", tmp_path / "exit")
    append(tmp_path / "log", b"first")
    follower.wait(lambda found: found == [b"first"])
    (tmp_path / "exit").touch()
    follower.end()


def test_follow_goes_on_in_a_rotated_log(tmp_path: Path) -> None:
    path = tmp_path / "log"
    append(path, b"1")
    follower = Follower(path, tmp_path / "exit", tail=5)
    follower.wait(lambda found: found == [b"1"])
    append(path, b"2")
    append(tmp_path / "new", b"3")
    os.rename(tmp_path / "new", path)
    follower.wait(lambda found: found[-1] == b"3")
    append(path, b"4")
    follower.wait(lambda found: found[-1] == b"4")
    (tmp_path / "exit").touch()
    assert follower.end() == [b"1", b"2", b"3", b"4"]


def test_follow_goes_on_in_a_truncated_log(tmp_path: Path) -> None:
    path = tmp_path / "log"
    append(path, b"long enough to be noticed")
    follower = Follower(path, tmp_path / "exit")
    follower.wait(lambda found: len(found) == 1)
    os.truncate(path, 0)
    append(path, b"b")
    follower.wait(lambda found: found[-1] == b"b")
    (tmp_path / "exit").touch()
    follower.end()


def test_follow_ends_at_until(tmp_path: Path) -> None:
    until = time.time_ns() + SECOND // 5
    found = logs.read(
        str(tmp_path / "log"), follow=True, until=until, stop=lambda: False, wake=str(tmp_path)
    )
    assert list(found) == []
    assert time.time_ns() > until
