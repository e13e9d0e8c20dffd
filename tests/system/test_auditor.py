"""The auditor's scenario: two people, fifty mixed commands, one of them killed half-way, one row of
the database altered by hand. The consumer has every event exactly once across its own restarts,
`verify` names the row, and `history` tells who did what."""

from __future__ import annotations

import contextlib
import json
import random
import signal
import sqlite3
import subprocess
import time
from collections import Counter
from pathlib import Path
from typing import Any

from support.cli import BUSYBOX, Tiffin, eventually

ALICE, BOB = 1001, 1002
COMMANDS = 50
AS_SOMEBODY = 'printf %s "$0" > /proc/self/loginuid; exec "$@"'


def login(user: int, argv: list[str], **options: Any) -> subprocess.Popen[bytes]:
    """A command line of somebody who logged in and became root: the kernel keeps who it was."""
    words = ["bash", "-c", AS_SOMEBODY, str(user), *argv]
    return subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, **options)


class Auditor:
    """A durable consumer that appends to a file. It drops a line whose seq it has: after a SIGKILL
    the last lines may come again (docs/events.md)."""

    def __init__(self, tiffin: Tiffin, kept: Path) -> None:
        self.tiffin = tiffin
        self.kept = kept
        self.repeated = 0
        self.process: subprocess.Popen[bytes] | None = None

    def begin(self) -> None:
        words = ("events", "--consumer", "audit", "--ack", "--follow", "--format", "json")
        with self.kept.open("ab") as file:
            self.process = self.tiffin.start(*words, stdout=file)

    def end(self, how: signal.Signals) -> None:
        if self.process is not None:
            self.process.send_signal(how)
            self.process.communicate()

    def events(self) -> list[dict[str, Any]]:
        """Without what came twice; a line that was cut short by a SIGKILL came again whole."""
        found: dict[int, dict[str, Any]] = {}
        self.repeated = 0
        for line in self.kept.read_text().splitlines():
            for part in line.split('{"seq"')[1:]:
                with contextlib.suppress(ValueError):
                    event = json.loads('{"seq"' + part)
                    self.repeated += event["seq"] in found
                    found.setdefault(event["seq"], event)
        return list(found.values())


class People:
    """Runs commands in turn as both, and remembers who did what to which container."""

    def __init__(self, tiffin: Tiffin) -> None:
        self.tiffin = tiffin
        self.random = random.Random(4)
        self.there: list[str] = []
        self.did: dict[str, list[tuple[int, str]]] = {}
        self.count = 0

    def run(self, user: int, *words: str) -> int:
        self.count += 1
        process = login(user, self.tiffin.argv(*words), env=self.tiffin.environment())
        _, err = process.communicate(timeout=60)
        assert b"Traceback" not in err, err
        return process.returncode

    def step(self) -> None:
        user = self.random.choice((ALICE, BOB))
        number = self.count
        kind = self.random.choice(
            ("new", "new", "job", "old", "old", "old", "rm", "wrong", "other")
        )
        if kind in ("old", "rm") and not self.there:
            kind = "new"
        if kind == "new":
            name = f"c{number}"
            self.there.append(name)
            self.did[name] = [(user, "created")]
            assert self.run(user, "create", f"--name={name}", "--network=none", BUSYBOX, "sleep",
                            "300") == 0  # fmt: skip
        elif kind == "job":
            name = f"job{number}"
            self.did[name] = [(user, "created"), (user, "started"), (user, "removed")]
            assert self.run(user, "run", "--rm", f"--name={name}", "--network=none", BUSYBOX, "sh",
                            "-c", "exit 3") == 3  # fmt: skip
        elif kind == "rm":
            name = self.there.pop(self.random.randrange(len(self.there)))
            self.did[name].append((user, "removed"))
            assert self.run(user, "rm", "-f", "-t", "0", name) == 0
        elif kind == "old":
            name = self.random.choice(self.there)
            state = self.tiffin.status(name)
            if state == "running":
                verb = self.random.choice((["exec", name, "true"], ["kill", name],
                                           ["stop", "-t", "0", name]))  # fmt: skip
                assert self.run(user, *verb) == 0
                if verb[0] == "kill":
                    eventually(lambda: self.tiffin.status(name) == "exited")
            else:
                self.did[name].append((user, "started"))
                assert self.run(user, "start", name) == 0
        elif kind == "wrong":
            assert self.run(user, "start", "nobody") == 125
        else:
            words = self.random.choice((["tag", BUSYBOX, f"t{number}"], ["images"],
                                        ["network", "create", f"n{number}"],
                                        ["system", "recover"]))  # fmt: skip
            assert self.run(user, *words) == 0

    def killed_half_way(self, user: int) -> str:
        """A `run` that is killed between an intent and its outcome."""
        for attempt in range(30):
            name = f"victim{attempt}"
            self.count += 1
            argv = self.tiffin.argv("run", "-d", f"--name={name}", "--network=none", BUSYBOX,
                                    "sleep", "300")  # fmt: skip
            process = login(user, argv, env=self.tiffin.environment())
            end = time.monotonic() + 20
            while time.monotonic() < end and process.poll() is None:
                if self.intents("container/"):
                    process.kill()
                    break
                time.sleep(0.001)
            process.communicate()
            self.did[name] = [(user, "creation_planned")]
            if self.intents("container/"):
                return name
        raise AssertionError("was always quicker than we")

    def intents(self, prefix: str) -> list[tuple[str]]:
        with contextlib.closing(
            sqlite3.connect(f"file:{self.tiffin.root}/tiffin.db?mode=ro", uri=True)
        ) as connection:
            return connection.execute(
                "SELECT stream FROM intents WHERE stream LIKE ? || '%'", (prefix,)
            ).fetchall()


def test_the_auditors_scenario(tiffin: Tiffin, tmp_path: Path) -> None:
    tiffin("pull", BUSYBOX)
    auditor = Auditor(tiffin, tmp_path / "audit.jsonl")
    people = People(tiffin)
    try:
        auditor.begin()
        victim = ""
        while people.count < COMMANDS:
            if people.count >= COMMANDS // 2 and not victim:
                victim = people.killed_half_way(ALICE)
                assert people.run(BOB, "system", "recover") == 0
                assert people.intents("") == []
            people.step()
            if people.count % 8 == 0:
                auditor.end(signal.SIGKILL if people.count % 16 == 0 else signal.SIGTERM)
                auditor.begin()
        for name in people.there:
            tiffin("rm", "-f", "-t", "0", name)
        log = tiffin.events()
        eventually(lambda: auditor.events()[-1]["seq"] == log[-1]["seq"])
    finally:
        auditor.end(signal.SIGTERM)

    # Every event, exactly once, in order, as it is in the log.
    assert auditor.events() == log
    assert [event["seq"] for event in log] == list(range(1, len(log) + 1))
    assert tiffin("events", "--consumer", "audit", "--format", "json").out == ""
    assert Counter(event["actor"]["loginuid"] for event in log).keys() >= {ALICE, BOB}

    # Who did what: by the history of every container, all of which are gone.
    for name, did in people.did.items():
        life = json.loads(tiffin("history", "--format", "json", name).out)
        told = [
            (event["actor"]["loginuid"], event["type"].removeprefix("container."))
            for event in life["events"]
        ]
        for user, what in did:
            assert (user, what) in told, f"{name}: {user} {what} is not in {told}"
    life = json.loads(tiffin("history", "--format", "json", victim).out)
    outcome = [e for e in life["events"] if e["type"].endswith((".recovered", ".failed"))]
    assert outcome, f"nothing tells what became of {victim}: {life['events']}"
    assert outcome[0]["actor"]["loginuid"] == BOB
    assert outcome[0]["command"] != life["events"][0]["command"]

    # One row altered by hand: somebody makes Alice's deed Bob's.
    assert tiffin("events", "verify").code == 0
    deed = next(e for e in log[len(log) // 2 :] if e["actor"]["loginuid"] == ALICE)
    with contextlib.closing(sqlite3.connect(tiffin.root / "tiffin.db")) as connection:
        connection.execute(
            "UPDATE events SET actor=replace(actor, ?, ?) WHERE seq=?",
            (str(ALICE), str(BOB), deed["seq"]),
        )
        connection.commit()
    verdict = tiffin("events", "verify", code=1)
    assert verdict.lines == [f"event {deed['seq']} was altered"]
    kept = next(event for event in auditor.events() if event["seq"] == deed["seq"])
    assert kept["actor"]["loginuid"] == ALICE, "the auditor knows better"
