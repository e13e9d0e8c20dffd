"""Restart policies: a container that ended by itself is started again by who sees to its end.

What is known of earlier tries is in the log: those starts that conmon's exit command made since the
last one that somebody asked for.
"""

from __future__ import annotations

import subprocess
import sys

import trio

from ..errors import NotFound, TiffinError
from ..store import queries
from .base import Engine
from .hold import hold
from .init import prepare
from .start import begin

FIRST_PAUSE = 0.1
LONGEST_PAUSE = 60.0
"""Seconds between an end and the next start; doubled each time."""
GLANCE = 0.5
"""Seconds between looks, during a pause, whether anything has happened to the container."""
QUIET = 10_000_000_000
"""Nanoseconds of running after which the pauses begin anew."""

ASKED = (
    "SELECT coalesce(max(seq), 0) AS seq FROM events WHERE stream=? "
    "AND type='container.start_planned' AND json_extract(actor, '$.front_end')<>'exit'"
)
AGAIN = (
    "SELECT count(*) AS n FROM events WHERE stream=? AND type='container.start_planned' AND seq>?"
)
STARTED = (
    "SELECT coalesce(max(seq), 0) AS seq FROM events WHERE stream=? AND type='container.started'"
)
STOPPED = (
    "SELECT count(*) AS n FROM events WHERE stream=? AND type='container.signal_sent' AND seq>? "
    "AND (json_extract(data, '$.reason') LIKE 'stop%' OR json_extract(data, '$.signal')=9)"
)
LAST = "SELECT max(seq) AS seq FROM events WHERE stream=?"


async def count(engine: Engine, cid: str) -> int:
    """How often it was started again since somebody started it."""
    stream = f"container/{cid}"
    asked = (await engine.store.rows(ASKED, (stream,)))[0]["seq"]
    return int((await engine.store.rows(AGAIN, (stream, asked)))[0]["n"])


async def wanted(engine: Engine, row: queries.Row) -> bool:
    """Whether its policy wants a container that has ended to be started again. Not when somebody
    stopped or killed it."""
    policy = row["options"].get("restart", "")
    if not policy or row["state"] != "exited":
        return False
    if policy == "on-failure":
        limit = row["options"].get("restart_limit", 0)
        if not row["exit_code"] or (limit and await count(engine, row["id"]) >= limit):
            return False
    stream = f"container/{row['id']}"
    started = (await engine.store.rows(STARTED, (stream,)))[0]["seq"]
    return not (await engine.store.rows(STOPPED, (stream, started)))[0]["n"]


async def follow(engine: Engine, cid: str) -> None:
    """Start a container again that has ended and is cleaned up, if its policy says so, after a
    pause in which its lock is free; not if anything happens to it meanwhile."""
    try:
        row = await engine.container_now(cid)
        if not await wanted(engine, row):
            return
        before = await _last(engine, cid)
        ran = row["finished"] - row["started"]
        tries = 0 if ran > QUIET else min(await count(engine, cid), 20)
        until = trio.current_time() + min(FIRST_PAUSE * 2**tries, LONGEST_PAUSE)
        while (left := until - trio.current_time()) > 0:
            await trio.sleep(min(left, GLANCE))
            if await _last(engine, cid) != before:
                return
        async with hold(engine, cid) as held:
            if held.state != "exited" or await _last(engine, cid) != before:
                return
            await prepare(held)
            await begin(held)
            await held.journal.flush()
    except (NotFound, TiffinError):
        return  # gone, or it cannot be started: the log says why


def leave_to_another(engine: Engine, cid: str) -> None:
    """What conmon's exit command does when nobody attends: a process of its own carries on, so
    that a foreground `run` need not wait out the pause."""
    layout = engine.layout
    words = ("--root", layout.root, "--runroot", layout.run, "container", "cleanup", "--ended")
    subprocess.Popen(
        [sys.executable, "-I", "-m", "tiffin.cli.main", *words, cid],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )


async def _last(engine: Engine, cid: str) -> int:
    return int((await engine.store.rows(LAST, (f"container/{cid}",)))[0]["seq"])
