"""Who is doing this: recorded with every event. Standard library only, and little of it."""

from __future__ import annotations

import json
import os

UNSET = 4294967295
"""The kernel's value of loginuid and sessionid when nobody has logged in (audit, `-1`)."""


def _number(path: str) -> int:
    try:
        with open(path, "rb") as file:
            return int(file.read())
    except (OSError, ValueError):
        return UNSET


def login() -> tuple[int, int]:
    """Login uid and audit session of this process."""
    return _number("/proc/self/loginuid"), _number("/proc/self/sessionid")


def current(front_end: str, cause: int = 0) -> str:
    """JSON text: uid, loginuid and audit session (proc_pid_loginuid), pid, program, front end; and
    for what nobody asked for, the seq of the event that it answers."""
    try:
        program = os.readlink("/proc/self/exe")
    except OSError:
        program = "?"
    loginuid, session = login()
    return json.dumps(
        {
            "uid": os.getuid(),
            "loginuid": loginuid,
            "session": session,
            "pid": os.getpid(),
            "program": program,
            "front_end": front_end,
            **({"cause": cause} if cause else {}),
        },
        sort_keys=True,
        separators=(",", ":"),
    )
