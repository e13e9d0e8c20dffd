"""Many containers: started through the Python API with bounded concurrency, listed, stopped,
started again and removed by one command each; beside podman doing the same with the same number.

    .venv/bin/python bench/crowd.py [-n 1000] [--at-once 8] [--without-podman]

Each line has the time that passed and the CPU time of all processes that worked for it: of the
cgroup in which this runs, so best in one of its own (`scripts/apart`). Memory and descriptors are
those of the monitors (conmon), of the one process that starts them all (the Python API) and of the
engine while it stops, starts and removes them. podman has no Python API in-process: its loop is one
`podman run -d` each, as many at a time.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import trio
from engines import IMAGE, Engine, Podman, Tiffin
from network import cpu

from tiffin.engine import create, images, start
from tiffin.engine.base import open_engine
from tiffin.layout import Layout
from tiffin.options import ContainerOptions

RUNTIME = "runc"
"""Of both: Debian's crun refuses to work for podman where both versions of cgroups are mounted."""
PS_GOAL = 50.0
"""Milliseconds for `ps` when 1,000 containers run."""
GLANCE = 0.02
"""Seconds between looks at an engine at work."""


def spent(work: Callable[[], object]) -> tuple[float, float]:
    """Seconds that passed, and of CPU."""
    began, used = time.perf_counter(), cpu()
    work()
    return time.perf_counter() - began, cpu() - used


def conmons(base: Path) -> Iterator[int]:
    for name in filter(str.isdecimal, os.listdir("/proc")):
        try:
            line = Path(f"/proc/{name}/cmdline").read_bytes()
        except OSError:
            continue
        if b"conmon" in line.split(b"\0")[0] and str(base).encode() in line:
            yield int(name)


def memory(pid: int) -> int:
    """KiB that are a process's alone."""
    text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    return sum(int(line.split()[1]) for line in text.splitlines() if line.startswith("Private_"))


def descriptors(pid: int) -> int:
    return len(os.listdir(f"/proc/{pid}/fd"))


def monitors(base: Path) -> tuple[int, float, float]:
    """(processes, MiB of them all, descriptors of one)."""
    count = kib = fds = 0
    for pid in conmons(base):
        with contextlib.suppress(OSError):
            kib += memory(pid)
            fds += descriptors(pid)
            count += 1
    return count, kib / 1024, fds / max(count, 1)


class Most:
    """What an engine held at most while it worked, as far as was seen."""

    def __init__(self) -> None:
        self.mib = 0.0
        self.fds = 0

    def of(self, engine: Engine, *args: str) -> None:
        """Run a command to its end."""
        argv = [*engine.argv, *args]
        process = subprocess.Popen(
            argv, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, env=os.environ | engine.env
        )
        while process.poll() is None:
            with contextlib.suppress(OSError, IndexError):  # it has ended
                self.fds = max(self.fds, descriptors(process.pid))
                self.mib = max(self.mib, peak(process.pid))
            time.sleep(GLANCE)
        if process.returncode:
            raise SystemExit(f"{engine.name} {args}: exit code {process.returncode}")


def peak(pid: int) -> float:
    """MiB of memory that a process had at most."""
    text = Path(f"/proc/{pid}/status").read_text()
    return int(text.partition("VmHWM:")[2].split()[0]) / 1024


async def start_all(base: Path, number: int, at_once: int) -> int:
    """Through the Python API, in this process; the most descriptors that it had open."""
    layout = Layout(f"{base}/tiffin", f"{base}/tiffin-run")
    limit = trio.CapacityLimiter(at_once)
    most = 0

    async def one(index: int) -> None:
        nonlocal most
        options = ContainerOptions(
            image=IMAGE, command=("sleep", "100000"), name=f"c{index}", network="none"
        )
        async with limit:
            await create.create(engine, options, pull=images.Pull())
            await start.start(engine, f"c{index}")
            most = max(most, len(os.listdir("/proc/self/fd")))

    async with open_engine(layout, runtime=RUNTIME) as engine, trio.open_nursery() as nursery:
        for index in range(number):
            nursery.start_soon(one, index)
    return most


def by_loop(engine: Engine, number: int, at_once: int) -> None:
    def one(index: int) -> None:
        words = ("--network=none", IMAGE, "sleep", "100000")
        engine.run("run", "-d", f"--name=c{index}", *words, runtime=RUNTIME)

    with ThreadPoolExecutor(at_once) as pool:
        list(pool.map(one, range(number)))


def ps(engine: Engine) -> tuple[float, float]:
    """Medians of 15, in ms."""
    found = [spent(lambda: engine.run("ps")) for _ in range(15)]
    passed, used = zip(*found, strict=True)
    return statistics.median(passed) * 1000, statistics.median(used) * 1000


Rows = dict[str, tuple[float, ...]]


def measure(engine: Engine, begin: Callable[[], object], base: Path) -> Rows:
    """Told as it goes, with the load of that moment: it lasts long."""
    found: Rows = {}

    def note(row: str, *values: float) -> None:
        found[row] = values
        told = "".join(f"{value:10.1f}" for value in pair(values))
        print(f"{engine.name:8}{row:36}{told}  load {os.getloadavg()[0]:.0f}", flush=True)

    most = Most()
    note("start them, s", *spent(begin))
    count, mib, fds = monitors(base)
    note("monitors, and descriptors of each", count, fds)
    note("memory of the monitors, MiB", mib)
    note("ps, ms", *ps(engine))
    note("stop --all, s", *spent(lambda: most.of(engine, "stop", "--all", "-t", "0")))
    note("start --all, s", *spent(lambda: most.of(engine, "start", "--all")))
    note("rm --all --force, s", *spent(lambda: most.of(engine, "rm", "--all", "-f", "-t", "0")))
    note("the engine, MiB and descriptors", most.mib, most.fds)
    left = engine.run("ps", "-a", "-q").split()
    if left:
        raise SystemExit(f"{engine.name}: {len(left)} containers are left")
    return found


def pair(values: tuple[float, ...]) -> tuple[float, float]:
    return values[0], values[1] if len(values) > 1 else float("nan")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("-n", type=int, default=1000)
    parser.add_argument("--at-once", type=int, default=8)
    parser.add_argument("--without-podman", action="store_true")
    given = parser.parse_args()
    base = Path(tempfile.mkdtemp(prefix="crowd-", dir="/tmp"))
    try:
        tiffin = Tiffin(base)
        tiffin.run("pull", "embedded:busybox")
        tiffin.run("tag", "embedded:busybox", IMAGE)
        fds: list[int] = []
        columns = {
            "tiffin": measure(
                tiffin,
                lambda: fds.append(trio.run(start_all, base, given.n, given.at_once)),
                base,
            )
        }
        most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        if not given.without_podman:
            podman = Podman(base)
            archive = f"{base}/image.tar"
            tiffin.run("save", "-o", archive, IMAGE)
            podman.run("load", "-i", archive)
            columns["podman"] = measure(
                podman, lambda: by_loop(podman, given.n, given.at_once), base
            )
        print(f"{given.n} containers, {given.at_once} at a time")
        print(f"{'':36}" + "".join(f"{name:>10}{'(CPU)':>10}" for name in columns))
        for row in columns["tiffin"]:
            cells = [f"{value:10.1f}" for column in columns.values() for value in pair(column[row])]
            print(f"{row:36}" + "".join(cells))
        print(f"the Python API's process: {most:.0f} MiB at most, {fds[0]} descriptors")
        if columns["tiffin"]["ps, ms"][0] > PS_GOAL:
            sys.exit(f"ps took more than {PS_GOAL:.0f} ms")
    finally:
        subprocess.run(f"umount -l {base}/*/overlay 2>/dev/null", shell=True, check=False)
        shutil.rmtree(base, ignore_errors=True)


if __name__ == "__main__":
    main()
