"""conmon's exit command: record that a container ended, with nobody watching.

Run as `python -I -S exited.py ROOT RUN CONTAINER PYTHON [EXEC]`: no site, no trio, no msgspec.
While a foreground `run` attends the container it records the end itself, and this does nothing.
Otherwise the end is recorded, and a full engine is started for the clean-up (mount, network, and
--rm). An exec's run directory is all there is of it to clean up.

When many containers end at once one engine cleans up after all of the same login: whoever holds
that login's lock looks for more until there are none, and once again when it has let go. So who
records an end, and then finds the lock taken, may go.
"""

from __future__ import annotations

import os
import sys

if __name__ == "__main__":  # as a script: find our own package beside us
    sys.path.append(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

import fcntl

from tiffin import actor
from tiffin.layout import Layout

LANE = 8
"""Descriptor of the lock that the shell took."""

RECORDED, ALONE, NOT_OURS = "recorded", "alone", ""


def attended(path: str) -> bool:
    """True while a foreground `run` or `exec` holds its lock."""
    try:
        fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(fd)
    return False


def leave_lane() -> None:
    """Let the next exit command begin: the shell before us (`engine.exit_command`) waited for our
    turn."""
    import contextlib

    with contextlib.suppress(OSError):
        os.close(LANE)


def record(layout: Layout, cid: str) -> str:
    """Append `container.exited`. NOT_OURS when the log has it already, or there is no such
    container any more: somebody else sees to the rest. ALONE: its clean-up may last (it is to be
    started again, after a pause), and no other may have to wait for it."""
    import contextlib
    import json
    import sqlite3

    from tiffin import processes
    from tiffin.store import log, sync

    found = processes.recorded_exit(layout, cid)
    if found is None:
        found = (255, False)
    with contextlib.closing(sync.open_for_append(layout.database)) as connection:
        while True:
            row = connection.execute(
                "SELECT c.state, (SELECT max(version) FROM events WHERE stream=?1), "
                "(SELECT max(seq) FROM events WHERE stream=?1 AND type IN "
                "('container.init_planned', 'container.start_planned')), "
                "coalesce(json_extract(c.options, '$.restart'), '') FROM containers c WHERE id=?2",
                (f"container/{cid}", cid),
            ).fetchone()
            if row is None or row[0] not in ("initialized", "running", "paused", "stopping"):
                return NOT_OURS
            data: dict[str, object] = {"exit_code": found[0]}
            if found[1]:
                data["oom"] = True
            stream = f"container/{cid}"
            text = json.dumps(data, sort_keys=True, separators=(",", ":"))
            steps = log.append(
                [log.Record(stream, "container.exited", text)],
                command=os.urandom(8).hex(),
                actor=actor.current("exit", row[2] or 0),
                expect={stream: row[1]},
            )
            try:
                sync.run(connection, steps)
            except log.Stale:
                continue
            except sqlite3.IntegrityError:
                continue
            return ALONE if row[3] else RECORDED


def record_exec(layout: Layout, cid: str, exec_id: str) -> None:
    """Append `exec.exited`, unless the log has it or does not know that it went on by itself."""
    import contextlib
    import sqlite3

    from tiffin import actor, processes
    from tiffin.store import log, sync

    stream = f"exec/{exec_id}"
    with contextlib.closing(sync.open_for_append(layout.database)) as connection:
        row = connection.execute(
            "SELECT directory, (SELECT max(version) FROM events WHERE stream=?1), "
            "(SELECT max(seq) FROM events WHERE stream=?1) FROM execs WHERE id=?2 AND "
            "state='running' AND NOT EXISTS (SELECT 1 FROM intents WHERE stream=?1)",
            (stream, exec_id),
        ).fetchone()
        if row is None:
            return
        code = processes.exit_code(row[0], cid)
        data = f'{{"exit_code":{255 if code is None else code}}}'
        steps = log.append(
            [log.Record(stream, "exec.exited", data)],
            command=os.urandom(8).hex(),
            actor=actor.current("exit", row[2]),
            expect={stream: row[1]},
        )
        with contextlib.suppress(log.Stale, sqlite3.IntegrityError):
            sync.run(connection, steps)
    discard(row[0])


def discard(directory: str) -> None:
    """Take away an exec's run directory: nobody else writes to it any more."""
    import contextlib

    for top, directories, files in os.walk(directory, topdown=False):
        with contextlib.suppress(OSError):
            for name in files:
                os.unlink(f"{top}/{name}")
            for name in directories:
                os.rmdir(f"{top}/{name}")
    with contextlib.suppress(OSError):
        os.rmdir(directory)


def begin_round(layout: Layout) -> int | None:
    """A descriptor that holds the lock, and stays open in the program that follows; None when
    another process has it."""
    from tiffin.lock_file import open_lock

    fd = open_lock(layout.round(*actor.who()[1:]))
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(fd)
        return None
    os.set_inheritable(fd, True)
    return fd


def main(arguments: list[str]) -> None:
    root, run, cid, python, *execs = arguments
    layout = Layout(root, run)
    if execs:
        if not attended(layout.exec_lock(execs[0])):
            record_exec(layout, cid, execs[0])
        return
    if attended(layout.attended(cid)):
        return
    how = record(layout, cid)
    leave_lane()
    if how == NOT_OURS:
        return
    command = ["-m", "tiffin.cli.main", "--root", root, "--runroot", run, "container", "cleanup"]
    if how == RECORDED:
        lock = begin_round(layout)
        if lock is None:
            return
        command.append(f"--round={lock}")
    os.execv(python, [python, "-I", *command, "--ended", cid])  # noqa: S606


if __name__ == "__main__":
    main(sys.argv[1:])
    os._exit(0)  # taking the interpreter down is a third of the time
