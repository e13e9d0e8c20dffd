"""Running the engine for one command line: trio, the engine, terminals. Imported by writes only."""

from __future__ import annotations

import gc
import os
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, TypeVar

from ..engine.base import Engine, open_engine
from ..engine.run import Attach
from ..errors import Conflict, NotFound, TiffinError
from ..plugins import Plugins
from ..store import queries
from ..store.log import Record
from . import printable
from .flags import Call

if TYPE_CHECKING:  # in functions, so that the engine is first, which loads it lean (`..lean`)
    import trio

    from ..attach import OnSignal

T = TypeVar("T")
AT_ONCE = 8
"""Containers that a command with --all works at, at the same time."""
LOUD = ("info", "debug", "trace")
"""Levels of --log-level that tell each event."""


def drive(call: Call, work: Callable[[Engine], Awaitable[T]], plugins: Plugins | None = None) -> T:
    """Run an engine command to its end."""
    import trio

    async def main() -> T:
        async with open_engine(
            call.layout,
            front_end=_front_end(call),
            storage_driver=call.storage_driver,
            runtime=call.runtime,
            cgroup_manager=call.cgroup_manager,
            short_lived=True,
            plugins=plugins,
        ) as engine:
            # Collection was off while modules were loaded; an attached `run` may last for days.
            given = os.environ.pop("NOTIFY_SOCKET", "")  # and nobody's further down
            engine.notify_socket = _listened_to(given) if given else ""
            gc.freeze()
            gc.enable()
            if call.log_level in LOUD:
                engine.watch = _log(call.log_level)
            return await work(engine)

    return trio.run(main)


def _listened_to(address: str) -> str:
    """A service manager's socket; empty for one that is left over from another: what is to run is
    no worse for it."""
    import socket
    import sys

    where = "\0" + address[1:] if address.startswith("@") else address
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as probe:
            probe.connect(where)
    except OSError as error:
        text = printable.line(f"NOTIFY_SOCKET {address}: {error.strerror}; nobody is told")
        sys.stderr.write(f"Warning: {text}\n")
        return ""
    return address


def _front_end(call: Call) -> str:
    """Who acts: a person, conmon's exit command, or the timer of a health check."""
    if call.options.get("ended"):
        return "exit"
    return "timer" if call.options.get("scheduled") else "cli"


def _log(level: str) -> Callable[[int, Record], None]:
    """Writes a line to stderr for each event, in the form of podman's log; with the event's data
    unless the level is `info`."""
    import json
    import sys
    import time

    def write(seq: int, record: Record) -> None:
        data = "" if level == "info" else f" {record.data}"
        text = printable.line(f"{seq} {record.type} {record.stream}{data}")
        quoted = json.dumps(text, ensure_ascii=False)
        stamp = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        sys.stderr.write(f'time="{stamp}" level={level} msg={quoted}\n')

    return write


def each(
    call: Call,
    names: Sequence[str],
    work: Callable[[Engine, str], Awaitable[str | None]],
    codes: Callable[[TiffinError], int] = lambda error: error.exit_code,
    *,
    together: Sequence[str] = (),
    plugins: Plugins | None = None,
) -> int:
    """Do something to several containers or images, one after the other, then to those that may go
    `together`, a few at a time; one that fails does not keep the others from it. Prints what `work`
    returns; the exit code is that of the last failure."""
    import trio

    async def all_of_them(engine: Engine) -> int:
        code = 0
        limit = trio.CapacityLimiter(AT_ONCE)

        async def one(name: str) -> None:
            nonlocal code
            try:
                said = await work(engine, name)
            except* TiffinError as group:
                error = _first(group)
                printable.failure(printable.line(str(error)), group, call.debug)
                code = codes(error)
            else:
                if said is not None:
                    print(said, flush=True)

        async def limited(name: str) -> None:
            async with limit:
                await one(name)

        for name in names:
            await one(name)
        if len(together) > 1:
            engine.store.expect_many()
        async with trio.open_nursery() as nursery:
            for name in together:
                nursery.start_soon(limited, name)
        return code

    return drive(call, all_of_them, plugins)


def _first(group: BaseExceptionGroup[TiffinError]) -> TiffinError:
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    assert isinstance(error, TiffinError)
    return error


def removal_codes(error: TiffinError) -> int:
    """podman-rm(1), podman-rmi(1): 1 not there, 2 in use, 125 anything else."""
    if isinstance(error, NotFound):
        return 1
    return 2 if isinstance(error, Conflict) else 125


async def unconnected(engine: Engine, names: Sequence[str]) -> list[str]:
    """Those of these containers (ids) that need no other, and that nobody needs: all the others
    have an order."""
    from ..engine import dependencies

    rows = await engine.store.rows("SELECT id, network, options FROM containers")
    needs = {row["id"]: needed for row in rows if (needed := dependencies.of(row))}
    tied = needs.keys() | {other for needed in needs.values() for other in needed}
    return [name for name in names if name not in tied]


async def chosen(engine: Engine, call: Call, *, states: tuple[str, ...] = ()) -> list[str]:
    """The containers that the arguments, `--latest` or `--all` name."""
    options = call.options
    if options.get("all"):
        rows = await engine.store.rows("SELECT id, state FROM containers ORDER BY created")
        return [row["id"] for row in rows if not states or row["state"] in states]
    if options.get("latest"):
        rows = await engine.store.rows("SELECT id FROM containers ORDER BY created DESC LIMIT 1")
        if not rows:
            raise NotFound("there are no containers")
        return [rows[0]["id"]]
    return list(call.arguments)


def attacher(
    engine: Engine,
    *,
    terminal: bool,
    stdin: bool,
    stdout: bool = True,
    stderr: bool = True,
    detach: str | None = None,
    proxy: bool = True,
    outputs: tuple[int, int] = (1, 2),
) -> Attach:
    """The engine's `Attach` with this process's stdin, and stdout and stderr or other `outputs`."""
    import trio

    from .. import detach_keys
    from ..attach import AttachSession, Outcome, attach, connect, fit_window
    from ..engine import stop

    keys = detach_keys.parse(detach_keys.DEFAULT if detach is None else detach)

    async def carry(
        row: queries.Row, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
    ) -> bool:
        session = AttachSession(
            directory=row["directory"],
            terminal=terminal,
            stdin=stdin,
            stdout=stdout,
            stderr=stderr,
            detach=keys,
            stdout_fd=outputs[0],
            stderr_fd=outputs[1],
        )

        async def on_signal(number: int) -> None:
            # The container may be ending at this very moment: then there is nobody to tell.
            try:
                await stop.kill(engine, row["id"], number, reason="proxy")
            except TiffinError:
                return

        handler = on_signal if proxy and "id" in row else None
        if row.get("options", {}).get("log_driver") == "passthrough":
            task_status.started()
            await _until_its_end(engine, row, handler)
            return False
        with connect(session.directory) as connection:
            fit_window(session)
            task_status.started()
            outcome = await attach(connection, session, on_signal=handler)
        # When nobody reads our output any more we go, as after a detach: the container stays.
        return outcome is not Outcome.ENDED

    return carry


async def _until_its_end(engine: Engine, row: queries.Row, on_signal: OnSignal | None) -> None:
    """For a container that has our own streams: `--log-driver passthrough`."""
    import trio

    from ..attach import pass_signals
    from ..engine import stop

    async with trio.open_nursery() as nursery:
        if on_signal is not None:
            nursery.start_soon(pass_signals, on_signal)
        await stop.wait_exit(engine, row)
        nursery.cancel_scope.cancel()
