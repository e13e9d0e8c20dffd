"""A power cut at a random moment of each command: what was acknowledged before is there, what was
interrupted is finished or undone, and nothing that is half there is taken for whole.

The store lies on a disk of its own (`support.disk`), which after the cut has what had reached the
block layer. `make torture` goes through the whole story many times; the usual tests cut the power
in a few of its steps, in others every day.
"""

from __future__ import annotations

import contextlib
import datetime
import json
import os
import random
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from support import images, invariants, world
from support.cli import BUSYBOX, Tiffin, eventually
from support.disk import Disk, disk

WHOLE = os.environ.get("TIFFIN_TORTURE", "") == "all"
TIMES = int(os.environ.get("TIFFIN_POWER", "5")) if WHOLE else 1
CUTS = 2
"""In the usual run of the tests; in torture every step."""
STRAY = {f"stray-{what}" for what in ("blob", "layer", "layer-of", "directory", "run")}
HALVES = {"unfinished", "ended"} | STRAY
"""Damage that an interrupted command may leave: it is named, and taken away."""


class Step(NamedTuple):
    args: list[str]
    fact: str
    """What it is about: a later step about the same makes the earlier fact void."""
    holds: Callable[[Tiffin], bool]
    """True once it is done."""


def image(name: str) -> Callable[[Tiffin], bool]:
    """It can be run, and is whole."""

    def holds(tiffin: Tiffin) -> bool:
        if tiffin.attempt("image", "exists", name).code:
            return False
        tiffin("run", "--rm", "--network=none", name, "ls", "/")
        return True

    return holds


def listed(name: str, *args: str) -> Callable[[Tiffin], bool]:
    return lambda tiffin: name in tiffin(*args).out.split()


def absent(holds: Callable[[Tiffin], bool]) -> Callable[[Tiffin], bool]:
    return lambda tiffin: not holds(tiffin)


def created(name: str) -> Callable[[Tiffin], bool]:
    def holds(tiffin: Tiffin) -> bool:
        if not listed(name, "ps", "-a", "--format={{.Names}}")(tiffin):
            return False
        tiffin("start", name)
        tiffin("stop", "-t", "0", name)
        return True

    return holds


def populated(tiffin: Tiffin) -> bool:
    path = tiffin.root / "volumes/filled/_data/passwd"
    return path.exists() and "root" in path.read_text()


def story(remote: str) -> list[Step]:
    sleep = [BUSYBOX, "sleep", "1000"]
    networks = ("network", "ls", "--format={{.Name}}")
    volumes = ("volume", "ls", "-q")
    return [
        Step(["pull", BUSYBOX], "busybox", image(BUSYBOX)),
        Step(["pull", remote], "remote", image(remote)),
        Step(["create", "--name=one", "--network=none", *sleep], "one", created("one")),
        Step(["run", "-d", "--name=two", "--network=none", *sleep], "two", created("two")),
        Step(["volume", "create", "mine"], "mine", listed("mine", *volumes)),
        Step(["network", "create", "net"], "net", listed("net", *networks)),
        Step(
            ["run", "--rm", "--network=none", "-v", "filled:/etc", BUSYBOX, "true"],
            "filled", populated,
        ),
        Step(["commit", "one", "localhost/made:1"], "made", image("localhost/made:1")),
        Step(["tag", BUSYBOX, "localhost/also:1"], "also", image("localhost/also:1")),
        Step(["storage", "migrate", "--to=vfs", "one"], "one", created("one")),
        Step(["rmi", "localhost/made:1"], "made", absent(image("localhost/made:1"))),
        Step(["rm", "-f", "-t", "0", "two"], "two", absent(created("two"))),
        Step(["volume", "rm", "mine"], "mine", absent(listed("mine", *volumes))),
        Step(["network", "rm", "net"], "net", absent(listed("net", *networks))),
        Step(["rmi", remote], "remote", absent(image(remote))),
    ]  # fmt: skip


@pytest.fixture
def powered() -> Iterator[tuple[Tiffin, Disk]]:
    tiffin = Tiffin.fresh()
    with contextlib.ExitStack() as stack:
        stack.callback(world.remove, tiffin.base)
        stack.callback(world.unmount_below, tiffin.base)
        power = stack.enter_context(disk(tiffin.base, tiffin.root))
        stack.callback(_remains, tiffin)
        yield tiffin, power


def _remains(tiffin: Tiffin) -> None:
    tiffin.attempt("rm", "-a", "-f", "-t", "0")
    eventually(lambda: not world.traces_of(tiffin.base / "run", []))
    end_processes(tiffin)
    for mount in reversed(world.mounts_below(tiffin.root)):
        if mount.target != str(tiffin.root):
            subprocess.run(["umount", "-l", mount.target], check=True)


def end_processes(tiffin: Tiffin) -> None:
    """All that belongs to the store, and what runs below it, at once."""

    def ours() -> set[int]:
        found = {
            pid
            for pid, _, line in world.processes()
            if pid != os.getpid() and (f"{tiffin.base}/" in line or uses(pid, tiffin.base))
        }
        while more := {
            pid for pid, _, _ in world.processes() if pid not in found and _parent(pid) in found
        }:
            found |= more
        return found

    def killed() -> bool:
        for pid in ours():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        return not any(world.alive(pid) for pid in ours())

    eventually(killed)


def uses(pid: int, directory: Path) -> bool:
    """Whether a process stands, or has a file open, below a directory."""
    links = [f"/proc/{pid}/cwd"]
    with contextlib.suppress(OSError):
        links += [f"/proc/{pid}/fd/{name}" for name in os.listdir(f"/proc/{pid}/fd")]
    for link in links:
        with contextlib.suppress(OSError):
            if os.readlink(link).startswith(f"{directory}/"):
                return True
    return False


def _parent(pid: int) -> int:
    with contextlib.suppress(OSError):
        return world.parent(pid)
    return 0


def cut(tiffin: Tiffin, power: Disk) -> None:
    """Nothing but the disk is left."""
    end_processes(tiffin)
    ids = {path.name for path in (tiffin.root / "containers").glob("*")}

    def let_go() -> None:
        for mount in reversed(world.mounts_below(tiffin.base)):
            if mount.target != str(tiffin.root):
                subprocess.run(["umount", "-l", mount.target], check=True)

    power.cut(let_go)
    world.remove(tiffin.run) if tiffin.run.exists() else None
    for path in sorted(world.cgroups(), key=len, reverse=True):
        if any(cid in path for cid in ids):
            os.rmdir(path)


def interrupted(tiffin: Tiffin, args: list[str], moment: float) -> None:
    with tiffin.start(*args, start_new_session=True) as process:
        time.sleep(moment)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)


def examine(tiffin: Tiffin, facts: dict[str, Step], doing: Step) -> None:
    tiffin("events", "verify")
    told = tiffin.attempt("system", "check", "--format=json")
    wrong = [d for d in json.loads(told.out)["damage"] if d["kind"] not in HALVES]
    assert not wrong, wrong
    tiffin("system", "recover")
    tiffin("system", "check", "--repair")
    for name, step in facts.items():
        if name != doing.fact:
            assert step.holds(tiffin), f"{' '.join(step.args)} was acknowledged, and is lost"
    eventually(lambda: not broken(tiffin), lambda: "\n".join(broken(tiffin)))


def broken(tiffin: Tiffin) -> list[str]:
    return [line for line in invariants.broken(tiffin.base) if not line.endswith(f" {tiffin.root}")]


@pytest.mark.parametrize("turn", range(TIMES))
def test_power_cut(
    powered: tuple[Tiffin, Disk], layout: images.Layout, registry_address: str, turn: int
) -> None:
    tiffin, power = powered
    tiffin = tiffin.using("--storage-driver=overlay")
    remote = f"{registry_address}/power:1"
    images.copy(f"oci:{layout.path}:latest", f"docker://{remote}")
    seed = f"{datetime.date.today()} {turn} {time.time_ns() if WHOLE else ''}"
    chance = random.Random(seed)
    steps = story(remote)
    chosen = range(len(steps)) if WHOLE else chance.sample(range(len(steps)), CUTS)
    facts: dict[str, Step] = {}
    for number, step in enumerate(steps):
        where = f"seed {seed!r}, step {number}: {' '.join(step.args)}"
        try:
            if number in chosen:
                interrupted(tiffin, step.args, chance.uniform(0.05, 1.2))
                cut(tiffin, power)
                examine(tiffin, facts, step)
            if not (number in chosen and step.holds(tiffin)):
                tiffin(*step.args)
            if number in chosen:
                # And once more directly after it was acknowledged.
                cut(tiffin, power)
                examine(tiffin, {**facts, step.fact: step}, NOTHING)
        except (AssertionError, subprocess.SubprocessError) as error:
            raise AssertionError(f"{where}\n{error}") from error
        facts[step.fact] = step


def test_config_json_is_there_after_a_cut_right_after_the_start(
    powered: tuple[Tiffin, Disk],
) -> None:
    tiffin, power = powered
    tiffin("pull", BUSYBOX)
    (tiffin.base / "word").write_text("cardamom")
    tiffin("secret", "create", "word", str(tiffin.base / "word"))
    for name, *flags in (["plain"], ["secretive", "--secret=word,type=env,target=WORD"]):
        tiffin("run", "-d", "--name", name, "--network=none", *flags, BUSYBOX, "sleep", "1000")
        cut(tiffin, power)
        told = json.loads(tiffin.attempt("system", "check", "--format=json").out)
        assert [d for d in told["damage"] if d["kind"] not in {"ended"} | STRAY] == []
        assert "sleep" in tiffin("explain", name).out
        tiffin("system", "recover")


NOTHING = Step([], "", lambda tiffin: True)
