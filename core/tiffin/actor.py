"""Who is doing this: recorded with every event. Standard library only, and little of it."""

from __future__ import annotations

import json
import os

from . import USER_MARK

UNSET = 4294967295
"""The kernel's value of loginuid and sessionid when nobody has logged in (audit, `-1`)."""


def _number(path: str) -> int:
    try:
        with open(path, "rb") as file:
            return int(file.read())
    except (OSError, ValueError):
        return UNSET


def who() -> tuple[int, int, int]:
    """uid, login uid and audit session of this process; within an ordinary user's namespace as
    they are outside of it."""
    uid = os.getuid()
    if uid == 0 and USER_MARK in os.environ:
        from .rootless import person

        if (found := person()) is not None:
            return found
    return uid, _number("/proc/self/loginuid"), _number("/proc/self/sessionid")


def current(front_end: str, cause: int = 0) -> str:
    """JSON text: uid, loginuid and audit session (proc_pid_loginuid), pid, program, front end; and
    for what nobody asked for, the seq of the event that it answers."""
    try:
        program = os.readlink("/proc/self/exe")
    except OSError:
        program = "?"
    uid, loginuid, session = who()
    return json.dumps(
        {
            "uid": uid,
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
