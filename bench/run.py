"""Times tiffin beside podman and prints the ratios: see README.md.

run.py [-n ROUNDS] [--check] [WORD...]      only what has one of the words in its name
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import engines
import images
from engines import IMAGE, Engine

RUN = ("run", "--rm")
CONTAINERS = 30
"""Containers in the store while `ps -a` is timed."""


class Measurement(NamedTuple):
    name: str
    goal: float | None
    """The most that tiffin's time may be, as a part of podman's."""
    act: Callable[[Engine], object]
    """What is timed."""
    undo: Callable[[Engine], object] = lambda engine: None
    """Run afterwards, not timed."""


def commands() -> list[Measurement]:
    found = [Measurement("create", None, lambda e: e.run("create", IMAGE, "true"))]
    for network, goal in (("none", 1.25), ("host", 1.25), ("bridge", 0.8)):
        for runtime in ("runc", "crun"):

            def act(e: Engine, network: str = network, runtime: str = runtime) -> object:
                return e.run(*RUN, f"--network={network}", IMAGE, "true", runtime=runtime)

            found.append(Measurement(f"run --rm {network} {runtime}", goal, act))
    found.append(
        # With names: aardvark-dns starts with the container and ends with it.
        Measurement(
            "run --rm own network", 0.8, lambda e: e.run(*RUN, "--network=own", IMAGE, "true")
        )
    )
    found += [
        Measurement("run --help", 1.0, lambda e: e.run("run", "--help")),
        Measurement("volume create --help", 1.0, lambda e: e.run("volume", "create", "--help")),
        Measurement("ps -a", 1.0, lambda e: e.run("ps", "-a")),
        Measurement("info", 1.0, lambda e: e.run("info")),
        Measurement("version", 1.0, lambda e: e.run("version")),
        Measurement("images", 1.0, lambda e: e.run("images")),
        Measurement("exec", None, lambda e: e.run("exec", "running", "true")),
        Measurement("inspect", None, lambda e: e.run("inspect", "running")),
        Measurement("logs", None, lambda e: e.run("logs", "running")),
        Measurement("stop + start", None, lambda e: e.run("restart", "-t", "0", "running")),
    ]
    return found


def builds(context: Path) -> list[Measurement]:
    """The first of each is not counted, so that "cached" finds everything."""
    flags = ("build", "-q", "--network=none", "--tag=built")
    return [
        Measurement(
            "build 14 steps", 1.0, lambda e: e.run(*flags, "--no-cache", str(context)),
            lambda e: e.run("image", "prune", "-f"),
        ),
        Measurement("build cached", 1.0, lambda e: e.run(*flags, str(context))),
    ]  # fmt: skip


def pull(reference: str) -> Measurement:
    return Measurement(
        f"pull {images.LAYERS} layers",
        1.0,
        lambda e: e.run("pull", "-q", "--tls-verify=false", reference),
        lambda e: e.run("rmi", reference),
    )


def measure(measurement: Measurement, pair: list[Engine], rounds: int) -> list[float]:
    """Median milliseconds of each engine; they take turns, and take turns at going first."""
    times: dict[str, list[float]] = {engine.name: [] for engine in pair}
    for number in range(rounds + 1):
        for engine in pair if number % 2 else pair[::-1]:
            began = time.perf_counter()
            measurement.act(engine)
            times[engine.name].append((time.perf_counter() - began) * 1000)
            measurement.undo(engine)
    return [statistics.median(times[engine.name][1:]) for engine in pair]


def report(measurement: Measurement, medians: list[float]) -> bool:
    """Print a row; True when the goal is reached."""
    ours, theirs = medians
    ratio = ours / theirs
    goal = measurement.goal
    verdict = "" if goal is None else f"{goal:5.2f}  {'ok' if ratio <= goal else 'MISSED'}"
    print(f"{measurement.name:22} {ours:8.0f} {theirs:8.0f} {ratio:7.2f}  {verdict}", flush=True)
    return goal is None or ratio <= goal


def prepare(pair: list[Engine], base: Path) -> None:
    images.rootfs(base / "rootfs.tar")
    for engine in pair:
        engine.run("import", f"{base}/rootfs.tar", IMAGE)
        engine.run("network", "create", "own")
        engine.run("run", "-d", "--name=running", IMAGE, "sleep", "100000")
        for _ in range(CONTAINERS):
            engine.run("create", IMAGE, "true")


def main() -> int:
    parser = argparse.ArgumentParser(usage=__doc__)
    parser.add_argument("-n", type=int, default=12)
    parser.add_argument("--check", action="store_true")
    parser.add_argument("words", nargs="*")
    args = parser.parse_args()
    if os.geteuid() != 0:
        raise SystemExit("bench: needs root")
    engines.enter_namespace()

    def wanted(measurement: Measurement) -> bool:
        return not args.words or any(word in measurement.name for word in args.words)

    base = Path(tempfile.mkdtemp(prefix="tfb-", dir="/var/tmp"))
    pair: list[Engine] = [engines.Tiffin(base), engines.Podman(base)]
    reached = []
    try:
        prepare(pair, base)
        print(f"{'milliseconds (median)':22} {'tiffin':>8} {'podman':>8} {'ratio':>7}   goal")
        images.kitchen(base / "kitchen", IMAGE)
        for measurement in filter(wanted, [*commands(), *builds(base / "kitchen")]):
            reached.append(report(measurement, measure(measurement, pair, args.n)))
        if wanted(pull("")):
            with images.registry(base) as reference:
                measurement = pull(reference)
                medians = measure(measurement, pair, max(3, args.n // 3))
                reached.append(report(measurement, medians))
    finally:
        for engine in pair:
            engine.remove_all()
        engines.unmount_below(base)
        shutil.rmtree(base)
    return int(args.check and not all(reached))


if __name__ == "__main__":
    raise SystemExit(main())
