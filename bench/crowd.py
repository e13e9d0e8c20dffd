"""Many containers: started through the Python API with bounded concurrency, listed, stopped,
started again and removed by one command each; beside podman doing the same with the same number.

    .venv/bin/python bench/crowd.py [-n 1000] [--at-once 8] [--without-podman]

Memory is what the monitors (conmon) and the peak of the one process that starts them all hold; file
descriptors are the most that this process had open. podman has no Python API in-process: its loop
is one `podman run -d` each, as many at a time.
"""

from __future__ import annotations

import argparse
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import trio
from engines import IMAGE, Engine, Podman, Tiffin

from tiffin.engine import create, images, start
from tiffin.engine.base import open_engine
from tiffin.layout import Layout
from tiffin.options import ContainerOptions

RUNTIME = "runc"
"""Of both: Debian's crun refuses to work for podman where both versions of cgroups are mounted."""
PS_GOAL = 50.0
"""Milliseconds for `ps` when 1,000 containers run."""


def timed(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def conmons(base: Path) -> Iterator[int]:
    for name in filter(str.isdecimal, os.listdir("/proc")):
        try:
            line = Path(f"/proc/{name}/cmdline").read_bytes()
        except OSError:
            continue
        if b"conmon" in line.split(b"\0")[0] and str(base).encode() in line:
            yield int(name)


def memory(pids: Iterator[int]) -> tuple[int, int]:
    """(processes, KiB of memory that is theirs alone)."""
    count = total = 0
    for pid in pids:
        try:
            text = Path(f"/proc/{pid}/smaps_rollup").read_text()
        except OSError:
            continue
        count += 1
        total += sum(
            int(line.split()[1]) for line in text.splitlines() if line.startswith("Private_")
        )
    return count, total


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


def ps(engine: Engine) -> float:
    """Median of 9, in ms."""
    return sorted(timed(lambda: engine.run("ps")) for _ in range(9))[4] * 1000


def measure(engine: Engine, begin: Callable[[], object], base: Path) -> dict[str, float]:
    found = {"start them, s": timed(begin)}
    count, kib = memory(conmons(base))
    found |= {"monitors": count, "memory of the monitors, MiB": kib / 1024, "ps, ms": ps(engine)}
    found["stop --all, s"] = timed(lambda: engine.run("stop", "--all", "-t", "0"))
    found["start --all, s"] = timed(lambda: engine.run("start", "--all"))
    found["rm --all --force, s"] = timed(lambda: engine.run("rm", "--all", "-f", "-t", "0"))
    left = engine.run("ps", "-a", "-q").split()
    if left:
        raise SystemExit(f"{engine.name}: {len(left)} containers are left")
    return found


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
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        if not given.without_podman:
            podman = Podman(base)
            archive = f"{base}/image.tar"
            tiffin.run("save", "-o", archive, IMAGE)
            podman.run("load", "-i", archive)
            columns["podman"] = measure(
                podman, lambda: by_loop(podman, given.n, given.at_once), base
            )
        print(f"{given.n} containers, {given.at_once} at a time")
        print(f"{'':30}" + "".join(f"{name:>12}" for name in columns))
        for row in columns["tiffin"]:
            print(f"{row:30}" + "".join(f"{column[row]:>12.1f}" for column in columns.values()))
        print(f"the Python API's process: {peak:.0f} MiB at most, {fds[0]} descriptors")
        if columns["tiffin"]["ps, ms"] > PS_GOAL:
            sys.exit(f"ps took more than {PS_GOAL:.0f} ms")
    finally:
        subprocess.run(f"umount -l {base}/*/overlay 2>/dev/null", shell=True, check=False)
        shutil.rmtree(base, ignore_errors=True)


if __name__ == "__main__":
    main()
