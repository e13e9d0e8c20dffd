"""Health checks: a command that is run in the container now and then; what it says is an event."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import time
from collections.abc import Mapping
from typing import Any

import msgspec
import trio

from ..attach import connect
from ..errors import Conflict, ImageError, NotFound, RuntimeFailed, UserError
from ..events.health import HealthChanged, HealthChecked
from ..options import ContainerOptions, Health
from ..store import queries
from . import execs
from .base import Engine
from .run import Attach
from .stop import hold_or_gone

SECOND = 1_000_000_000
DEFAULTS = Health(interval=30 * SECOND, timeout=30 * SECOND, start_period=0, retries=3)
KEPT = 5
"""Checks whose output `inspect` shows."""
MOST = 500
"""Characters of it."""
GRACE = 10.0
"""Seconds for the output of a check that was killed to end."""
LARGEST = 32768
"""Bytes that conmon sends at once, with room to spare."""


def settle(options: ContainerOptions, image_config: Mapping[str, Any]) -> ContainerOptions:
    """The options with a complete health check: the user's, over the image's, over the defaults;
    or with none. Errors: UserError, ImageError."""
    asked = options.health
    own = image_config.get("Healthcheck") or {}
    try:
        image = msgspec.convert(
            {
                "test": own.get("Test") or (),
                "interval": own.get("Interval") or -1,
                "timeout": own.get("Timeout") or -1,
                "start_period": own.get("StartPeriod") or -1,
                "retries": own.get("Retries") or 0,
            },
            Health,
        )
    except (msgspec.ValidationError, AttributeError) as error:
        raise ImageError(f"the image's HEALTHCHECK is broken: {error}") from None
    test = asked.test or image.test
    if not test or test[0] == "NONE" or len(test) < 2 or not test[1]:
        if test and test[0] != "NONE":
            raise UserError("the health check has no command", hint="--no-healthcheck for none")
        if not test and asked != Health():
            raise UserError("--health-* without a check: the image has none", hint="--health-cmd")
        return msgspec.structs.replace(options, health=Health())
    if test[0] not in ("CMD", "CMD-SHELL"):
        raise ImageError(f"the image's HEALTHCHECK is a {test[0]!r}", hint="--health-cmd")
    if asked.test:
        image = Health()  # its times are those of another check
    numbers: dict[str, int] = {}
    for name in ("interval", "timeout", "start_period", "retries"):
        unset = getattr(Health(), name)
        offered = (getattr(one, name) for one in (asked, image, DEFAULTS))
        numbers[name] = next(value for value in offered if value != unset)
    health = Health(test, **numbers, on_failure=asked.on_failure)
    return msgspec.structs.replace(options, health=health)


async def scheduled(engine: Engine, given: str) -> bool:
    """For the timer: check if there is something to check. False when the container is over."""
    try:
        row = await engine.container(given)
        if row["state"] == "paused":
            return True
        if row["state"] not in ("running", "initialized"):
            return False
        await check(engine, given)
    except (NotFound, Conflict):
        async with hold_or_gone(engine, given) as held:
            return held is not None and held.state in ("running", "paused")
    return True


async def check(engine: Engine, given: str) -> bool:
    """Run the check of a running container now, and record what it says: True when it succeeded.

    Errors: NotFound, Conflict (not running), UserError (no check is defined).
    """
    row = await engine.container(given)
    if not row["options"].get("health"):
        raise UserError(f"container {row['name']} has no health check", hint="see --health-cmd")
    async with hold_or_gone(engine, row["id"]) as held:
        if held is None or held.state != "running":
            state = held.state if held is not None else "removed"
            raise Conflict(f"container {row['name']} is not running: it is {state}")
        row = held.row
    health = msgspec.convert(row["options"]["health"], Health)
    kind, *words = health.test
    asked = execs.ExecOptions(
        command=tuple(words) if kind == "CMD" else ("/bin/sh", "-c", " ".join(words))
    )
    began = time.time_ns()
    collected = _Collected(health.timeout / SECOND)
    try:
        _, code = await execs.run(engine, row["id"], asked, attach=collected.attach(engine))
    except RuntimeFailed as error:  # there is no such program in it
        code = error.exit_code
        collected.output += str(error).encode()
    if collected.timed_out:
        code = -1
        collected.output += b"\nkilled: it took longer than %g s" % (health.timeout / SECOND)
    if await _record(engine, row, health, began, code, collected.output):
        await _answer(engine, row["id"], health.on_failure)
    return code == 0


async def _answer(engine: Engine, cid: str, what: str) -> None:
    """What --health-on-failure asks for, of a container that has become unhealthy."""
    from . import start, stop

    if what == "kill":
        await stop.kill(engine, cid, signal.SIGKILL)
    elif what == "stop":
        await stop.stop(engine, cid)
    elif what == "restart":
        await start.restart(engine, cid)


async def _record(
    engine: Engine, row: queries.Row, health: Health, began: int, code: int, output: bytes
) -> bool:
    """Note the outcome, unless the container has ended or was started again meanwhile. True when
    it has become unhealthy by it."""
    ended = time.time_ns()
    async with hold_or_gone(engine, row["id"]) as held:
        if held is None or held.state not in ("running", "paused"):
            return False
        was, started = held.row["health"], held.row["started"]
        if started != row["started"]:
            return False
        failing, status = held.row["health_failing"], was
        if code == 0:
            failing, status = 0, "healthy"
        elif ended - started >= health.start_period:
            failing += 1
            if failing >= health.retries:
                status = "unhealthy"
        checked = HealthChecked(exit_code=code, status=status, failing=failing, began=began)
        held.journal.note(held.stream, checked)
        if status != was:
            held.journal.note(held.stream, HealthChanged(status=status, was=was))
        _keep(held.row["directory"], began, ended, code, output)
        await held.journal.flush()
    return bool(status == "unhealthy" != was)


def _keep(directory: str, began: int, ended: int, code: int, output: bytes) -> None:
    """The last checks, for `inspect`: the file is replaced as a whole."""
    path = f"{directory}/health.json"
    checks: list[Any] = []
    with contextlib.suppress(OSError, ValueError), open(path, "rb") as file:
        found = json.load(file)
        checks = found if isinstance(found, list) else []
    text = output.decode(errors="replace").strip()[:MOST]
    start, end = queries.rfc3339(began), queries.rfc3339(ended)
    checks.append({"Start": start, "End": end, "ExitCode": code, "Output": text})
    fd = os.open(f"{path}.new", os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with open(fd, "w", encoding="utf-8") as file:
        json.dump(checks[-KEPT:], file)
    os.replace(f"{path}.new", path)


class _Collected:
    """What a check writes, and whether it had to be killed."""

    def __init__(self, timeout: float) -> None:
        self.timeout = timeout
        self.output = b""
        self.timed_out = False

    def attach(self, engine: Engine) -> Attach:
        async def carry(
            row: queries.Row, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
        ) -> bool:
            with connect(row["directory"]) as connection:
                task_status.started()
                with trio.move_on_after(self.timeout) as scope:
                    await self._read(connection)
                if not scope.cancelled_caught:
                    return False
                self.timed_out = True
                await _kill(engine, os.path.basename(row["directory"]))
                with trio.move_on_after(GRACE) as scope:
                    await self._read(connection)
                return scope.cancelled_caught

        return carry

    async def _read(self, connection: socket.socket) -> None:
        while True:
            try:
                packet = connection.recv(LARGEST)
            except BlockingIOError:
                await trio.lowlevel.wait_readable(connection)
                continue
            except ConnectionResetError:
                return
            if not packet:
                return
            if len(self.output) < 4 * MOST:  # a character has four bytes at most
                self.output += packet[1:]
            await trio.lowlevel.checkpoint()


async def _kill(engine: Engine, exec_id: str) -> None:
    """SIGKILL to a check and to what it has started."""
    pid = 0
    with trio.move_on_after(GRACE):
        while not pid:
            found = await engine.store.rows("SELECT pid FROM execs WHERE id=?", (exec_id,))
            if not found:
                return  # it has ended just now
            pid = found[0]["pid"]
            if not pid:
                await trio.sleep(0.01)
    for one in _descendants(pid) if pid else ():
        with contextlib.suppress(ProcessLookupError):
            os.kill(one, signal.SIGKILL)


def _descendants(pid: int) -> list[int]:
    """A process and those below it, itself first: then it starts no more."""
    found = [pid]
    for parent in found:
        with contextlib.suppress(OSError):
            for task in os.listdir(f"/proc/{parent}/task"):
                with open(f"/proc/{parent}/task/{task}/children", encoding="ascii") as file:
                    found += map(int, file.read().split())
    return found
