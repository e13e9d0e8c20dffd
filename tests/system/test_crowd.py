"""Twenty processes of several users hammer one store: nothing is locked up or lost, and in the end
log, tables and machine agree. `make torture` does it for minutes (TIFFIN_CROWD=SECONDS)."""

from __future__ import annotations

import collections
import contextlib
import json
import os
import random
import resource
import subprocess
import threading
import time
from pathlib import Path
from typing import NamedTuple

from support import images, invariants, registry
from support.cli import BUSYBOX, Tiffin, eventually

WHOLE = os.environ.get("TIFFIN_TORTURE", "") == "all"
SECONDS = float(os.environ.get("TIFFIN_CROWD", "180" if WHOLE else "12"))
PROCESSES = 20


class User(NamedTuple):
    """Who became root to use the store (sudo, su): what of them comes along."""

    login: int
    umask: int
    files: int
    """RLIMIT_NOFILE"""


USERS = (
    User(0, 0o022, 1024),
    User(1000, 0o077, 512),
    User(1001, 0o002, 256),
    User(1002, 0o027, 1024),
)
NAMES = ("a", "b", "c", "d")
FORBIDDEN = ("Traceback", "internal error", "database is locked", "damaged", "no such table")
PATIENT = 300
"""Seconds after which a command is taken to hang, by a machine that has twenty of them at work."""


def command(chance: random.Random) -> list[str]:
    name, other = chance.choice(NAMES), chance.choice(NAMES)
    net = ["--network=none"] if chance.random() < 0.7 else []
    options: list[list[str]] = [
        ["run", "-d", f"--name={name}", *net, BUSYBOX, "sleep", "1000"],
        ["run", "--rm", *net, BUSYBOX, "true"],
        ["run", "--rm", "--user=1000", *net, BUSYBOX, "cat", "/etc/hosts", "/etc/resolv.conf"],
        ["run", "-d", "--replace", f"--name={name}", *net, BUSYBOX, "sleep", "1000"],
        ["create", f"--name={name}", *net, BUSYBOX, "sleep", "1000"],
        ["rm", "-f", "-t", "0", name],
        ["start", name],
        ["stop", "-t", "0", name],
        ["kill", name],
        ["pause", name],
        ["unpause", name],
        ["exec", name, "true"],
        ["rename", name, other],
        ["commit", name, f"localhost/{other}:1"],
        ["run", "--rm", "--network=none", f"localhost/{other}:1", "true"],
        ["rmi", "-f", f"localhost/{other}:1"],
        ["rmi", BUSYBOX],
        ["pull", BUSYBOX],
        ["tag", BUSYBOX, f"localhost/{other}:1"],
        ["mount", name],
        ["unmount", name],
        ["container", "prune", "-f"],
        ["system", "prune", "-f"],
        ["image", "prune", "-f", "-a"],
        ["network", "prune", "-f"],
        ["network", "create", f"net-{other}"],
        ["network", "rm", "-f", "-t", "0", f"net-{other}"],
        ["run", "--rm", f"--network=net-{other}", BUSYBOX, "true"],
        ["run", "--rm", "--network=none", "-v", f"shared-{other}:/etc", BUSYBOX, "true"],
        ["volume", "rm", f"shared-{other}"],
        ["ps", "-a"],
        ["images"],
        ["inspect", name],
        ["logs", name],
        ["system", "recover"],
        ["system", "df"],
    ]
    return chance.choice(options)


class Crowd:
    def __init__(self, tiffin: Tiffin) -> None:
        self.tiffin = tiffin
        self.end = time.monotonic() + SECONDS
        self.done: collections.Counter[str] = collections.Counter()
        self.succeeded = 0
        self.wrong: list[str] = []
        self.acknowledged: list[str] = []

    def work(self, number: int) -> None:
        chance = random.Random(f"{time.time_ns()} {number}")
        mine = 0
        while time.monotonic() < self.end and not self.wrong:
            args = command(chance)
            if chance.random() < 0.1:
                mine += 1
                args = ["volume", "create", f"kept-{number}-{mine}"]
            code, err = self.run(args, USERS[number % len(USERS)])
            self.done[args[0]] += 1
            self.succeeded += code == 0
            if args[:2] == ["volume", "create"]:
                self.acknowledged.append(args[2])
                if code:
                    self.wrong.append(f"{' '.join(args)}: {err}")
            if any(word in err for word in FORBIDDEN):
                self.wrong.append(f"{' '.join(args)}: {code}: {err}")

    def home(self, user: User) -> Path:
        path = self.tiffin.base / f"home-{user.login}"
        path.mkdir(exist_ok=True)
        return path

    def run(self, args: list[str], user: User) -> tuple[int, str]:
        def login() -> None:
            with contextlib.suppress(OSError):  # where the kernel audits, and lets us
                Path("/proc/self/loginuid").write_text(str(user.login))
            os.umask(user.umask)
            hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
            resource.setrlimit(resource.RLIMIT_NOFILE, (user.files, hard))

        try:
            done = subprocess.run(
                self.tiffin.argv(*args),
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                errors="replace",
                timeout=PATIENT,
                env=self.tiffin.environment({"HOME": str(self.home(user))}),
                preexec_fn=login,
                start_new_session=True,
            )
        except subprocess.TimeoutExpired:
            self.wrong.append(f"{' '.join(args)}: hangs")
            return 1, ""
        return done.returncode, done.stderr


def test_many_at_once(tiffin: Tiffin) -> None:
    tiffin("pull", BUSYBOX)
    crowd = Crowd(tiffin)
    threads = [threading.Thread(target=crowd.work, args=(n,)) for n in range(PROCESSES)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    print(f"\ncrowd: {sum(crowd.done.values())} commands, {crowd.succeeded} succeeded")
    assert not crowd.wrong, "\n".join(crowd.wrong)
    tiffin("system", "recover")
    eventually(
        lambda: not invariants.broken(tiffin.base),
        lambda: "\n".join(invariants.broken(tiffin.base)),
        30,
    )
    tiffin("events", "verify")
    there = set(tiffin("volume", "ls", "-q").lines)
    assert set(crowd.acknowledged) <= there, set(crowd.acknowledged) - there
    damage = json.loads(tiffin.attempt("system", "check", "--format=json").out)["damage"]
    assert not damage
    tiffin("rm", "-a", "-f", "-t", "0")
    tiffin("pull", BUSYBOX)
    readable = ("cat", "/etc/hosts", "/etc/resolv.conf", "/etc/passwd")
    for user in USERS:  # whoever made image and files, every container's users can read them
        code, err = crowd.run(
            ["run", "--rm", "--user=1000", "--network=none", BUSYBOX, *readable], user
        )
        assert code == 0, (user, err)
    tiffin("network", "prune", "-f")
    tiffin("volume", "prune", "-f")


def test_parallel_pulls_fetch_each_blob_once(tiffin: Tiffin, layout: images.Layout) -> None:
    with registry.serving(layout) as server:
        pulls = [tiffin.start("pull", f"{server.address}/many:latest") for _ in range(8)]
        for pull in pulls:
            with pull:
                assert pull.wait(timeout=PATIENT) == 0
        blobs = [path for path in server.requests if "/blobs/" in path]
        assert len(blobs) == len(set(blobs)) == 3, blobs
        tiffin("run", "--rm", "--network=none", f"{server.address}/many:latest", "true")


def test_all_at_once_but_those_that_need_an_order(shared: Tiffin) -> None:
    """`--all` works at several; who uses another's network starts after it and goes before it."""
    names = [f"c{number}" for number in range(6)]
    for name in names:
        shared("create", f"--name={name}", "--network=none", BUSYBOX, "sleep", "1000")
    shared("create", "--name=owner", BUSYBOX, "sleep", "1000")
    shared("create", "--name=guest", "--network=container:owner", BUSYBOX, "sleep", "1000")
    for command, state in (("start", "running"), ("stop", "exited"), ("start", "running")):
        flags = ["-t", "0"] if command == "stop" else []
        assert len(shared(command, "--all", *flags).lines) == 8
        listed = shared("ps", "-a", "--format={{.State}}").lines
        assert listed == [state] * 8
    assert len(shared("rm", "--all", "-f", "-t", "0").lines) == 8
    eventually(
        lambda: not invariants.broken(shared.base),
        lambda: "\n".join(invariants.broken(shared.base)),
    )
