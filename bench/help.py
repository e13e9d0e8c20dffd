"""How long `--help` of every command takes, beside podman's where it has the command.

    .venv/bin/python bench/help.py [-n ROUNDS]

The medians of each command, in milliseconds of CPU (of the process, not of the clock: others may be
at work on the same cores), and the share of podman's. Exit code 1 when a median is above the goal.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import sys
from pathlib import Path

from tiffin.cli import commands

GOAL = 40.0
PROGRAM = str(Path(sys.executable).parent / "tiffin")


def once(argv: list[str]) -> tuple[float, int]:
    """(milliseconds of CPU, exit code)."""
    null = os.open(os.devnull, os.O_RDWR)
    actions = [(os.POSIX_SPAWN_DUP2, null, fd) for fd in (0, 1, 2)]
    pid = os.posix_spawnp(argv[0], argv, os.environ, file_actions=actions)
    _, status, usage = os.wait4(pid, 0)
    os.close(null)
    return 1000 * (usage.ru_utime + usage.ru_stime), os.waitstatus_to_exitcode(status)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-n", type=int, default=5, metavar="ROUNDS")
    rounds = parser.parse_args().n
    podman = shutil.which("podman")
    found: list[tuple[float, float | None, str]] = []
    for name in sorted(commands.COMMANDS):
        ours, theirs = [], []
        for _ in range(rounds):
            ours.append(once([PROGRAM, *name.split(), "--help"])[0])
            if podman:
                spent, code = once([podman, *name.split(), "--help"])
                theirs += [spent] if code == 0 else []
        found.append((statistics.median(ours), statistics.median(theirs) if theirs else None, name))
    print(f"{'command':<24}{'tiffin':>8}{'podman':>8}{'ratio':>7}   ms of CPU, {rounds} rounds")
    for mine, other, name in sorted(found, reverse=True):
        beside = f"{other:8.1f}{mine / other:7.2f}" if other else ""
        print(f"{name:<24}{mine:8.1f}{beside}")
    worst, _, name = max(found)
    ratios = [mine / other for mine, other, _ in found if other]
    print(f"slowest: {name} {worst:.1f} ms (goal {GOAL:.0f})")
    if ratios:
        print(f"ratio: median {statistics.median(ratios):.2f}, worst {max(ratios):.2f}")
    return int(worst > GOAL)


if __name__ == "__main__":
    sys.exit(main())
