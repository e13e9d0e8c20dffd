"""`exec`: another process in the namespaces of a running container."""

from __future__ import annotations

import json
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import trio
from msgspec import Struct

from .. import conmon, ids, processes
from ..errors import Conflict, RuntimeFailed, TiffinError, UserError
from ..events.execs import ExecDetached, ExecExited, ExecFailed, ExecPlanned, ExecStarted
from ..layer.remove import discard_tree
from ..spec import facts, users
from ..store import queries
from . import cgroup_places, exit_command
from .base import Engine, Journal
from .hold import hold
from .locks import try_lock
from .run import Attach

DETACHED = (
    "SELECT * FROM execs WHERE state='running' "
    "AND NOT EXISTS (SELECT 1 FROM intents WHERE stream='exec/'||execs.id)"
)


class ExecOptions(Struct, frozen=True, omit_defaults=True):
    """What a user may ask of `exec`."""

    command: tuple[str, ...]
    env: tuple[tuple[str, str], ...] = ()
    workdir: str = ""
    user: str = ""
    tty: bool = False
    interactive: bool = False
    privileged: bool = False
    detach: bool = False
    preserve_fds: int = 0
    """So many of our caller's descriptors, from 3 on, the process gets as well."""


def process(
    config: dict[str, Any], options: ExecOptions, user: users.User | None
) -> dict[str, Any]:
    """The `process` object for exec (runtime-spec, config.md#process): the container's own, with
    what was asked for put over it."""
    base = dict(config["process"])
    env = dict(item.partition("=")[::2] for item in base.get("env", []))
    if options.tty:
        env.setdefault("TERM", "xterm")
    env.update(options.env)
    if user is not None:
        base["user"] = {"uid": user.uid, "gid": user.gid}
        if user.additional_gids:
            base["user"]["additionalGids"] = list(user.additional_gids)
        env["HOME"] = user.home
        if user.uid != 0 and not options.privileged:
            # A process that is not root has no capabilities but those it may regain by set-uid.
            capabilities = dict(base.get("capabilities", {}))
            for kind in ("effective", "permitted", "ambient"):
                capabilities[kind] = []
            base["capabilities"] = capabilities
    if options.privileged:
        everything = sorted(facts.available_capabilities())
        base["capabilities"] = {
            "bounding": everything,
            "effective": everything,
            "permitted": everything,
            "inheritable": [],
            "ambient": [],
        }
        base.pop("apparmorProfile", None)
    base["args"] = list(options.command)
    base["env"] = [f"{name}={value}" for name, value in env.items()]
    base["terminal"] = options.tty
    base.pop("consoleSize", None)
    if options.workdir:
        if not options.workdir.startswith("/"):
            raise UserError(f"--workdir {options.workdir!r} is not an absolute path")
        base["cwd"] = options.workdir
    return base


async def run(
    engine: Engine, given: str, options: ExecOptions, *, attach: Attach | None = None
) -> tuple[str, int]:
    """Run a process in a running container: (exec id, exit code). Without `attach` it returns when
    the process runs, with code 0.

    Errors: NotFound, Conflict (not running), UserError, RuntimeFailed (126, 127).
    """
    if not options.command or not options.command[0]:
        raise UserError("no command given", hint="tiffin exec CONTAINER COMMAND [ARG...]")
    async with hold(engine, given) as held:
        held.need("exec in", "running")
        row = held.row
    exec_id = ids.new_id()
    stream = f"exec/{exec_id}"
    journal = engine.journal()
    directory = f"{engine.layout.container_run(row['id'])}/execs/{exec_id}"
    with open(f"{row['directory']}/config.json", encoding="utf-8") as file:
        config = json.load(file)
    described = process(config, options, _user(config, options))
    if row["options"].get("secrets"):
        from . import secrets

        own = {name for name, _ in options.env}
        secret = secrets.environment(engine, row)
        described["env"] += [f"{k}={v}" for k, v in secret.items() if k not in own]
    planned = ExecPlanned(
        container=row["id"],
        command=options.command,
        user=options.user,
        workdir=options.workdir,
        tty=options.tty,
        privileged=options.privileged,
        directory=directory,
    )
    async with _at_work(engine, exec_id):
        code = await _carry_out(engine, row, options, journal, stream, planned, described, attach)
    if code is None:
        await _ended_meanwhile(engine, exec_id)
    return exec_id, code or 0


async def _ended_meanwhile(engine: Engine, exec_id: str) -> None:
    """The exit command leaves the end of an exec to whoever is at it, as we were until now."""
    for row in await engine.store.rows("SELECT * FROM execs WHERE id=?", (exec_id,)):
        code = processes.exit_code(row["directory"], row["container"])
        if code is not None:
            await _record_end(engine, row, code)


async def _record_end(engine: Engine, row: queries.Row, code: int) -> None:
    with suppress(Conflict):  # the exit command was first
        await engine.journal().write(f"exec/{row['id']}", ExecExited(exit_code=code))
    discard_tree(row["directory"])


@asynccontextmanager
async def _at_work(engine: Engine, exec_id: str) -> AsyncIterator[None]:
    """Hold the lock that tells others that somebody sees to this exec."""
    path = engine.layout.exec_lock(exec_id)
    async with engine.locks.named(path):
        try:
            yield
        finally:
            with suppress(FileNotFoundError):
                os.unlink(path)


async def recover(engine: Engine) -> list[str]:
    """Close the intents of execs whose command is dead, and record the ends of detached ones that
    nobody recorded. Returns a line for each."""
    mended = []
    for row in await engine.store.rows(DETACHED):
        code = processes.exit_code(row["directory"], row["container"])
        if code is None and not processes.alive(row["pid"]):
            code = 255
        if code is not None:
            await _record_end(engine, row, code)
            mended.append(f"exec {row['id'][:40]}: running -> ended")
    for intent in await engine.store.rows("SELECT * FROM intents WHERE stream LIKE 'exec/%'"):
        path = engine.layout.exec_lock(intent["stream"].partition("/")[2])
        fd = try_lock(path)
        if fd is None:
            continue  # somebody is at it
        try:
            still = "SELECT * FROM intents WHERE seq=?"
            if await engine.store.rows(still, (intent["seq"],)):
                failed = ExecFailed(error="the command was killed")
                await engine.journal().write(intent["stream"], failed)
                mended.append(f"{intent['stream'].replace('/', ' ', 1)[:45]}: closed")
            with suppress(FileNotFoundError):
                os.unlink(path)
        finally:
            os.close(fd)
    return mended


async def _carry_out(
    engine: Engine,
    row: queries.Row,
    options: ExecOptions,
    journal: Journal,
    stream: str,
    planned: ExecPlanned,
    described: dict[str, Any],
    attach: Attach | None,
) -> int | None:
    """The exit code; None when nobody waits for it."""
    exec_id, directory = stream.partition("/")[2], planned.directory
    await journal.write(stream, planned)
    runtime = engine.runtime(row["runtime"])
    unit, slice = cgroup_places.exec_unit(engine, row["cgroup"], exec_id)
    monitor = conmon.Monitor(
        container=row["id"],
        session=exec_id,
        runtime=runtime.program(),
        failure=runtime.failure,
        arguments=runtime.arguments(),
        bundle=directory,
        run=directory,
        name=row["name"],
        terminal=options.tty,
        stdin=options.interactive,
        preserve_fds=options.preserve_fds,
        unit=unit,
        slice=slice,
        uid=engine.layout.uid,
        exit_command=exit_command.of(engine.layout, row["id"], exec_id)
        if attach is None or options.tty
        else (),
    )
    try:
        os.makedirs(directory, mode=0o700)
        code = await _carry(journal, stream, monitor, described, attach)
    except BaseException as error:
        with trio.CancelScope(shield=True):
            discard_tree(directory)
            while isinstance(error, BaseExceptionGroup):
                error = error.exceptions[0]
            why = str(error) or type(error).__name__
            code = error.exit_code if isinstance(error, TiffinError) else 125
            await journal.write(stream, ExecFailed(error=why, exit_code=code))
        if isinstance(error, RuntimeFailed):
            raise error.naming(options.command[0]) from error
        raise
    if code is None:
        await journal.write(stream, ExecDetached())
        return None
    await journal.write(stream, ExecExited(exit_code=code))
    discard_tree(directory)
    return code


async def _carry(
    journal: Journal,
    stream: str,
    monitor: conmon.Monitor,
    described: dict[str, Any],
    attach: Attach | None,
) -> int | None:
    """The exit code, or None when nobody waits for it."""
    async with conmon.execute(monitor, described, attach=attach is not None) as started:
        if attach is None:
            pid = await started.start()
            journal.note(stream, ExecStarted(pid=pid, conmon_pid=started.conmon_pid))
            return None
        row = {"directory": started.directory}
        async with trio.open_nursery() as nursery:
            detached = False

            async def carry(
                *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
            ) -> None:
                nonlocal detached
                detached = await attach(row, task_status=task_status)
                if detached:
                    nursery.cancel_scope.cancel()

            await nursery.start(carry)
            pid = await started.start()
            await journal.write(stream, ExecStarted(pid=pid, conmon_pid=started.conmon_pid))
            code = await started.wait()
        return None if detached else code


def _user(config: dict[str, Any], options: ExecOptions) -> users.User | None:
    """Resolved in the container's own files; None: the container's own user."""
    users.no_pipes(config["root"]["path"])
    if not options.user:
        return None
    return users.in_container(config["root"]["path"], options.user)
