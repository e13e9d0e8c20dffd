"""Ordinary users: their namespace, in which they are root over what is theirs.

A command that changes something enters it (`enter`) before the engine is imported; it is made
(`make`) when there is none. Within, the effective uid is 0: who somebody really is stands in the
environment, because conmon's exit command must know it as well, when nobody watches.
Standard library only, and next to nothing of it. docs/rootless.md, docs/adr/010-*.md.
"""

from __future__ import annotations

import os

from .. import USER_MARK

# The mark is `UID:LOGINUID:SESSION` of who is within, as they are outside: in there /proc shows a
# login uid that is nobody's of the namespace as none.


def person() -> tuple[int, int, int] | None:
    """(uid, login uid, audit session) of whose namespace this is; None outside of one. A mark that
    was carried elsewhere (by sudo, say) says nothing: there, 0 is somebody else."""
    parts = os.environ.get(USER_MARK, "").split(":")
    if len(parts) != 3 or not all(part.isdecimal() for part in parts) or os.geteuid() != 0:
        return None
    uid, loginuid, session = map(int, parts)
    return (uid, loginuid, session) if uid and outside(0) == uid else None


def outside(inside: int) -> int:
    """What a user id of this namespace is called in the one around it; -1 for none."""
    with open("/proc/self/uid_map", encoding="ascii") as file:
        for line in file:
            first, start, size = map(int, line.split())
            if first <= inside < first + size:
                return start + inside - first
    return -1


def ids(kind: str) -> int:
    """How many ids (`uid`, `gid`) this namespace has; a user's begin with 0, without a gap."""
    with open(f"/proc/self/{kind}_map", encoding="ascii") as file:
        return sum(int(line.split()[2]) for line in file)


def real_uid() -> int:
    """The effective uid; within a user's namespace that of the user."""
    found = os.geteuid()
    if found == 0 and USER_MARK in os.environ and (who := person()) is not None:
        return who[0]
    return found


def within() -> bool:
    """True within an ordinary user's namespace."""
    return USER_MARK in os.environ and person() is not None
