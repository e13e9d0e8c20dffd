"""Whoever runs the command is who the kernel and the log say it was."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
from support import world
from support.cli import BUSYBOX, Tiffin

UNSET = 4294967295


def login_uid(pid: int | str = "self") -> int:
    return int(Path(f"/proc/{pid}/loginuid").read_text())


def can_set_login() -> bool:
    code = "open('/proc/self/loginuid', 'w').write('1234')"
    return subprocess.run(["python3", "-c", code], stderr=-3).returncode == 0


def test_login_uid_of_process_and_events_is_the_callers(tiffin: Tiffin) -> None:
    expected = 1234 if can_set_login() else login_uid()
    if expected == 1234:
        writer = 'printf 1234 > /proc/self/loginuid; exec "$@"'
        subprocess.run(
            [
                "bash",
                "-c",
                writer,
                "-",
                *tiffin.argv("run", "-d", "--name", "who", BUSYBOX),
                "sleep",
                "1000",
            ],
            check=True,
            stdout=subprocess.DEVNULL,
        )
    else:
        tiffin.detached("--name", "who", BUSYBOX, "sleep", "1000")

    assert login_uid(tiffin.pid("who")) == expected
    assert login_uid(tiffin.conmon("who")) == expected
    actors = [e["actor"] for e in tiffin.events() if e["stream"].startswith("container/")]
    assert actors
    for actor in actors:
        assert actor["uid"] == os.geteuid()
        assert actor.get("loginuid", UNSET) in (expected, None if expected == UNSET else expected)


def test_an_event_tells_program_process_and_front_end(tiffin: Tiffin) -> None:
    with tiffin.start("create", "--name", "who", BUSYBOX) as process:
        process.communicate()
    actor = next(e for e in tiffin.events() if e["type"] == "container.created")["actor"]
    assert actor["pid"] == process.pid
    assert "cli" in str(actor)


@pytest.mark.parametrize(
    ("user", "expected"),
    [
        ("", "0:0"),
        ("1000", "1000:0"),
        ("1000:1001", "1000:1001"),
        ("0:7", "0:7"),
    ],
)
def test_the_process_runs_as_the_user_asked_for(shared: Tiffin, user: str, expected: str) -> None:
    flags = ["-u", user] if user else []
    name = shared.detached("--network=none", *flags, BUSYBOX, "sleep", "1000")
    pid = shared.pid(name)
    uid, gid = (world.status(pid, key).split()[1] for key in ("Uid", "Gid"))
    assert f"{uid}:{gid}" == expected


def test_an_unknown_user_is_an_error_of_the_users(shared: Tiffin) -> None:
    shared.fails("run", "--rm", "-u", "nobody-here", BUSYBOX, "true", says="nobody-here")
