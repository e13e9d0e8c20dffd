"""A consumer with a name: it goes on where it was, however it was stopped."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import pytest
from support.cli import BUSYBOX, Tiffin, eventually


def seqs(text: str) -> list[int]:
    return [json.loads(line)["seq"] for line in text.splitlines()]


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_follower_that_is_stopped_and_started_again_misses_nothing(
    tiffin: Tiffin, tmp_path: Path, how: signal.Signals
) -> None:
    """Stopped and started while others work, three times, writing to one file."""
    kept = tmp_path / "audit.jsonl"
    flags = ("events", "--consumer", "audit", "--ack", "--follow", "--format", "json")
    tiffin("pull", BUSYBOX)
    for number in range(3):
        with kept.open("ab") as file, tiffin.start(*flags, stdout=file) as follower:
            name = tiffin.create("--network=none", BUSYBOX)
            wanted = tiffin.events()[-1]["seq"]
            if number == 0:
                eventually(lambda w=wanted: seqs(kept.read_text())[-1:] == [w])  # type: ignore[misc]
            follower.send_signal(how)
            follower.wait(15)
        tiffin("rm", name)
    with kept.open("ab") as file, tiffin.start(*flags[:4], *flags[5:], stdout=file) as rest:
        assert rest.wait(30) == 0
    assert seqs(kept.read_text()) == [event["seq"] for event in tiffin.events()]


def test_what_could_not_be_written_is_not_acknowledged(tiffin: Tiffin) -> None:
    tiffin.create("--network=none", BUSYBOX)
    with open("/dev/full", "wb") as full:
        words = ("events", "--consumer", "audit", "--ack", "--format", "json")
        with tiffin.start(*words, stdout=full) as process:
            assert process.wait(30) == 125
    got = tiffin(*words)
    assert seqs(got.out) == [event["seq"] for event in tiffin.events()]


def test_two_readers_of_one_consumer(tiffin: Tiffin) -> None:
    tiffin.create("--network=none", BUSYBOX)
    with tiffin.start("events", "--consumer", "one", "--follow") as follower:
        assert follower.stdout is not None and follower.stdout.readline()
        tiffin.fails("events", "--consumer", "one", says="another process")
        follower.kill()
    tiffin("events", "--consumer", "one")
