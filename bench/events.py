"""The log of events: how soon a follower has an event, what waiting costs, and whether a long log
slows commands down.

events.py [-n ROUNDS] [-e EVENTS]      no podman here: its log is a file without any of it
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path

import engines
from engines import IMAGE

from tiffin.store import log, sync

PEOPLE = "embedded:busybox"
KIND = "system.projections_rebuilt"
SAMPLES = 300
IDLE = 5.0
"""Seconds for which a follower is watched that has nothing to do."""


def append(database: Path, count: int, ago: int = 0, batch: int = 1000) -> None:
    """Events of a plain kind, of now or `ago` seconds before, as the exit command writes them."""
    now = time.time_ns() - ago * 10**9
    with closing(sync.open_for_append(str(database))) as connection:
        for start in range(0, count, batch):
            records = [
                log.Record("system", KIND, f'{{"events":{number}}}')
                for number in range(start, min(count, start + batch))
            ]
            actor = '{"uid":0,"pid":1,"executable":"bench","front_end":"bench"}'
            sync.run(connection, log.append(records, command="0" * 16, actor=actor, now=now))


@contextmanager
def following(engine: engines.Engine) -> Iterator[subprocess.Popen[str]]:
    argv = [*engine.argv, "events", "--follow", "--format", "json", "--filter", "type=system"]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def cpu(pid: int) -> float:
    """Milliseconds of CPU that a process has used (proc_pid_stat(5))."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) * 1000 / os.sysconf("SC_CLK_TCK")


def delays(engine: engines.Engine, database: Path) -> tuple[list[float], float]:
    """Milliseconds from the end of a commit until a reader of the follower's output has the event;
    and the CPU, in ms, that the follower uses while nothing happens."""
    append(database, 1)  # events 0: the last of what there was before
    with following(engine) as follower:
        assert follower.stdout is not None

        def wait() -> None:
            while json.loads(follower.stdout.readline())["type"] != KIND:  # type: ignore[union-attr]
                pass

        wait()
        time.sleep(1)
        before = cpu(follower.pid)
        time.sleep(IDLE)
        idle = cpu(follower.pid) - before
        found = []
        for _ in range(SAMPLES):
            append(database, 1)
            committed = time.perf_counter()
            wait()
            found.append((time.perf_counter() - committed) * 1000)
            time.sleep(0.01)
    return found, idle


def commands() -> dict[str, tuple[str, ...]]:
    return {
        "run --rm, no network": ("run", "--rm", "--network=none", IMAGE, "true"),
        "ps -a": ("ps", "-a"),
        "images": ("images",),
        "events, the last hour": ("events", "--since", "1h", "--filter", "type=image"),
    }


def timed(pair: Sequence[engines.Engine], rounds: int) -> dict[str, tuple[float, float]]:
    """Median milliseconds of each command, with the one store and the other by turns."""
    found: dict[str, tuple[list[float], list[float]]] = {name: ([], []) for name in commands()}
    for _ in range(rounds):
        for name, argv in commands().items():
            for engine, times in zip(pair, found[name], strict=True):
                began = time.perf_counter()
                engine.run(*argv)
                times.append((time.perf_counter() - began) * 1000)
    return {
        name: (statistics.median(short), statistics.median(long))
        for name, (short, long) in found.items()
    }


def main() -> int:
    parser = argparse.ArgumentParser(usage=__doc__)
    parser.add_argument("-n", type=int, default=15)
    parser.add_argument("-e", type=int, default=100_000)
    args = parser.parse_args()
    engines.enter_namespace()
    base = Path(tempfile.mkdtemp(prefix="tfb-", dir="/var/tmp"))
    short, long = engines.Tiffin(base / "short"), engines.Tiffin(base / "long")
    try:
        database = base / "long/tiffin/tiffin.db"  # a log in the order of its times, as logs are
        database.parent.mkdir(parents=True)
        sync.create(str(database))
        append(database, args.e, ago=86400)
        for engine in (short, long):
            engine.run("pull", PEOPLE)
            engine.run("tag", PEOPLE, IMAGE)
        found, idle = delays(short, base / "short/tiffin/tiffin.db")
        print(f"commit to follower: median {statistics.median(found):.2f} ms, goal below 5;")
        print(f"  95 of 100 below {statistics.quantiles(found, n=20)[18]:.2f} ms")
        print(f"CPU of a follower that waits {IDLE:.0f} s: {idle:.0f} ms, goal 0")
        print(f"{'milliseconds (median)':24} {'short log':>10} {f'+{args.e:,}':>10} {'ratio':>7}")
        for name, (before, after) in timed((short, long), args.n).items():
            print(f"{name:24} {before:10.1f} {after:10.1f} {after / before:7.2f}")
    finally:
        for engine in (short, long):
            engine.remove_all()
        engines.unmount_below(base)
        shutil.rmtree(base)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
