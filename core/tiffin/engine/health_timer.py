"""What runs a container's health check again and again, as long as the container runs.

With systemd: a transient timer, which starts a process for each check and holds none between them.
Without: one /bin/sh, that sleeps. It is named by a file in the container's run directory, and ends
with that directory: by `end`, and if that could not be, when it wakes up and its name is not there.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys

from .. import programs, systemd
from ..errors import DriverError
from ..store import queries
from .base import Engine

TIMER = """
file=$1/health.pid pause=$2 nap=
trap '[ -n "$nap" ] && kill "$nap"; exit' TERM
echo $$ 2>/dev/null >"$file" || exit
shift 2
while "$@"; do
    sleep "$pause" & nap=$!
    wait "$nap"
    nap=
    [ "$(cat "$file" 2>/dev/null)" = $$ ] || exit
done
"""


def _unit(cid: str) -> str:
    return f"tiffin-health-{cid}"


async def begin(engine: Engine, row: queries.Row) -> None:
    """Start the timer of a container that has just been started: the first check is at once."""
    cid, layout = row["id"], engine.layout
    with contextlib.suppress(FileNotFoundError):  # what was checked in its last life
        os.unlink(f"{row['directory']}/health.json")
    interval = row["options"]["health"]["interval"] / 1e9
    if not interval:
        return
    check = [sys.executable, "-I", "-m", "tiffin.cli.main", "--root", layout.root]
    check += ["--runroot", layout.run, "healthcheck", "run", "--scheduled", cid]
    if systemd.reachable(layout.uid) and await _by_systemd(layout.uid, cid, interval, check):
        return
    words = ("tiffin-health", layout.container_run(cid), f"{interval:g}", *check)
    subprocess.Popen(
        ["/bin/sh", "-c", TIMER, *words],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env={"PATH": os.environ.get("PATH", os.defpath)},
        cwd="/",
        start_new_session=True,
    )


def _manager(uid: int) -> list[str]:
    """Whose systemd: the machine's, or the user's."""
    return [] if uid == 0 else ["--user"]


async def _by_systemd(uid: int, cid: str, interval: float, check: list[str]) -> bool:
    try:
        await programs.run(
            [
                *("systemd-run", *_manager(uid), "--quiet", "--collect", f"--unit={_unit(cid)}"),
                *("--on-active=1ms", f"--on-unit-inactive={round(interval * 1000)}ms"),
                *(
                    "--timer-property=AccuracySec=100ms",
                    f"--description=health check of {cid[:12]}",
                ),
                *("--", *check),
            ],
            package="systemd",
            env={**os.environ, **systemd.environment(uid)},
        )
    except DriverError:
        return False  # no bus, or no systemd that would do this for us
    return True


async def end(engine: Engine, row: queries.Row) -> None:
    """No more checks. One that is at work ends by itself: it may be who calls this."""
    cid = row["id"]
    uid = engine.layout.uid
    if systemd.reachable(uid):
        with contextlib.suppress(DriverError):
            await programs.run(
                ["systemctl", *_manager(uid), "stop", f"{_unit(cid)}.timer"],
                check=False,
                env={**os.environ, **systemd.environment(uid)},
            )
    with contextlib.suppress(OSError, ValueError):
        with open(f"{engine.layout.container_run(cid)}/health.pid", encoding="ascii") as file:
            pid = int(file.read())
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            ours = cid.encode() in file.read()  # and no later process
        if ours and pid > 1:
            os.kill(pid, signal.SIGTERM)
