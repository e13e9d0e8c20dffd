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


def current(front_end: str, cause: int = 0) -> str:
    """JSON text: uid, loginuid and audit session (proc_pid_loginuid), pid, program, front end; and
    for what nobody asked for, the seq of the event that it answers."""
    try:
        program = os.readlink("/proc/self/exe")
    except OSError:
        program = "?"
    uid, login, session = os.getuid(), None, None
    if uid == 0 and USER_MARK in os.environ:
        from .rootless import person

        uid, login, session = person() or (uid, login, session)
    return json.dumps(
        {
            "uid": uid,
            "loginuid": _number("/proc/self/loginuid") if login is None else login,
            "session": _number("/proc/self/sessionid") if session is None else session,
            "pid": os.getpid(),
            "program": program,
            "front_end": front_end,
            **({"cause": cause} if cause else {}),
        },
        sort_keys=True,
        separators=(",", ":"),
    )
