"""Random commands: after each the log, its tables and the machine tell the same."""

from __future__ import annotations

import datetime
import json
import os
import random
import sqlite3

import pytest
from support import invariants
from support.cli import BUSYBOX, Tiffin, eventually

LENGTH = int(os.environ.get("TIFFIN_RANDOM_COMMANDS", "25"))
NAMES = ("one", "two")
ALLOWED = (0, 1, 2, 125)
"""What a command may say when the container is not in the state that it wants."""

FREE = [BUSYBOX, "sleep", "1000"]
COMMANDS = {
    "create": ["create", "--name={name}", "-p", "127.0.0.1::80", *FREE],
    "run": ["run", "-d", "--name={name}", "-v", "{name}:/data", *FREE],
    "short": ["run", "-d", "--name={name}", "--network=none", BUSYBOX, "true"],
    "rm-run": ["run", "--rm", "--network=lunch", BUSYBOX, "true"],
    "init": ["init", "{name}"],
    "start": ["start", "{name}"],
    "stop": ["stop", "-t", "0", "{name}"],
    "restart": ["restart", "-t", "0", "{name}"],
    "kill": ["kill", "{name}"],
    "pause": ["pause", "{name}"],
    "unpause": ["unpause", "{name}"],
    "exec": ["exec", "{name}", "true"],
    "mount": ["mount", "{name}"],
    "unmount": ["unmount", "{name}"],
    "commit": ["commit", "{name}", "localhost/{name}"],
    "connect": ["network", "connect", "lunch", "{name}"],
    "disconnect": ["network", "disconnect", "lunch", "{name}"],
    "reload": ["network", "reload", "{name}"],
    "update": ["update", "--pids-limit=99", "{name}"],
    "runtime": ["update", "--runtime=runc", "{name}"],
    "migrate": ["storage", "migrate", "--to=vfs", "{name}"],
    "migrate-back": ["storage", "migrate", "--to=overlay", "{name}"],
    "rm": ["rm", "{name}"],
    "rm-force": ["rm", "-f", "-v", "-t", "0", "{name}"],
    "prune": ["volume", "prune", "-f"],
    "rmi": ["rmi", "localhost/{name}"],
}


def dump(tiffin: Tiffin) -> str:
    """All tables but the log and what belongs to it."""
    with sqlite3.connect(f"file:{tiffin.root}/tiffin.db?mode=ro", uri=True) as connection:
        names = [
            row[0]
            for row in connection.execute("SELECT name FROM sqlite_master WHERE type='table'")
            if row[0] not in ("events", "compacted", "streams")
        ]
        tables = {
            name: sorted(map(str, connection.execute(f"SELECT * FROM {name}")))
            for name in sorted(names)
        }
    return json.dumps(tables, indent=1)


@pytest.mark.parametrize("seed", range(2))
def test_after_random_commands(tiffin: Tiffin, seed: int) -> None:
    """Mounts, namespaces, processes and directories are those that the fold of the log has."""
    what = random.Random(f"{seed} {datetime.date.today()}")  # others tomorrow
    tiffin("pull", BUSYBOX)
    tiffin("network", "create", "lunch")
    done: list[str] = []
    for _ in range(LENGTH):
        words = [word.format(name=what.choice(NAMES)) for word in COMMANDS[_pick(what)]]
        result = tiffin.attempt(*words)
        done.append(f"{' '.join(words)}: {result.code} {result.err}".strip())
        assert result.code in ALLOWED, "\n".join(done)
        assert "Traceback" not in result.err and "internal error" not in result.err, result.err
        eventually(
            lambda: not invariants.broken(tiffin.base),
            lambda: "\n".join([*done, *invariants.broken(tiffin.base)]),
        )
    before = dump(tiffin)
    tiffin("system", "rebuild")
    assert dump(tiffin) == before
    tiffin("events", "verify")


def _pick(what: random.Random) -> str:
    """Creating ones more often: the others need something to work on."""
    return what.choice([*COMMANDS, "create", "run", "run", "start"])
