"""conmon's exit command: record that a container ended, with nobody watching.

Run as `python -I -S exited.py ROOT RUN CONTAINER PYTHON [EXEC]`: no site, no trio, no msgspec.
While a foreground `run` attends the container it records the end itself, and this does nothing.
Otherwise the end is recorded, and a full engine is started for the clean-up (mount, network, and
--rm). An exec's run directory is all there is of it to clean up.
"""

from __future__ import annotations

import os
import sys

if __name__ == "__main__":  # as a script: find our own package beside us
    sys.path.append(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

import fcntl

from tiffin.layout import Layout


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


def record(layout: Layout, cid: str) -> bool:
    """Append `container.exited`. Returns False when the log has it already, or there is no such
    container any more: then somebody else sees to the rest."""
    import contextlib
    import json
    import sqlite3

    from tiffin import actor, processes
    from tiffin.store import log, sync

    found = processes.recorded_exit(layout, cid)
    if found is None:
        found = (255, False)
    with contextlib.closing(sync.open_for_append(layout.database)) as connection:
        while True:
            row = connection.execute(
                "SELECT c.state, (SELECT max(version) FROM events WHERE stream=?1), "
                "(SELECT max(seq) FROM events WHERE stream=?1 AND type IN "
                "('container.init_planned', 'container.start_planned')) "
                "FROM containers c WHERE id=?2",
                (f"container/{cid}", cid),
            ).fetchone()
            if row is None:
                return False
            if row[0] not in ("initialized", "running", "paused", "stopping"):
                return False
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
            return True


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


def main(arguments: list[str]) -> int:
    root, run, cid, python, *execs = arguments
    layout = Layout(root, run)
    if execs:
        if not attended(layout.exec_lock(execs[0])):
            record_exec(layout, cid, execs[0])
        return 0
    if attended(layout.attended(cid)) or not record(layout, cid):
        return 0
    command = ["-m", "tiffin.cli.main", "--root", root, "--runroot", run, "container", "cleanup"]
    os.execv(python, [python, "-I", *command, "--ended", cid])  # noqa: S606
    return 0


if __name__ == "__main__":
    os._exit(main(sys.argv[1:]))  # taking the interpreter down is a third of the time
