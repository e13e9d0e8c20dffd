"""Who the process is: `USER` and `-u`, resolved in the container's own /etc/passwd and /etc/group.

Both files are the image's, and so hostile: they are opened with the container as root directory
(openat2(2), RESOLVE_IN_ROOT), read up to a limit, and broken lines are passed over.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence

from msgspec import Struct

from .. import syscalls
from ..errors import UserError

LIMIT = 4 * 1024 * 1024
"""Bytes of passwd or group that are read."""

MAX_ID = 2**32 - 2


class User(Struct, frozen=True):
    uid: int
    gid: int
    additional_gids: tuple[int, ...] = ()
    home: str = "/"
    name: str = ""


class Account(Struct, frozen=True):
    """A line of passwd(5)."""

    name: str
    uid: int
    gid: int
    home: str


class Group(Struct, frozen=True):
    """A line of group(5)."""

    name: str
    gid: int
    members: tuple[str, ...]


def read(root: str, path: str) -> str:
    """A file of the container, or nothing when it is not a readable regular file."""
    try:
        fd = syscalls.open_file_in_root(root, path)
    except OSError:
        return ""
    try:
        parts = []
        left = LIMIT
        while left > 0 and (part := os.read(fd, min(left, 1 << 16))):
            parts.append(part)
            left -= len(part)
        return b"".join(parts).decode("utf-8", "surrogateescape")
    finally:
        os.close(fd)


def _number(text: str) -> int | None:
    # Ten digits are enough, and int() refuses thousands of them with an error of its own.
    if not (text.isascii() and text.isdecimal() and len(text) <= 10):
        return None
    return int(text) if int(text) <= MAX_ID else None


def parse_passwd(text: str) -> list[Account]:
    """passwd(5); lines that are none are passed over."""
    accounts = []
    for line in text.split("\n"):
        fields = line.split(":")
        if len(fields) < 4:
            continue
        uid, gid = _number(fields[2]), _number(fields[3])
        if uid is not None and gid is not None and fields[0]:
            home = fields[5] if len(fields) > 5 else ""
            accounts.append(Account(fields[0], uid, gid, home))
    return accounts


def parse_group(text: str) -> list[Group]:
    """group(5); lines that are none are passed over."""
    groups = []
    for line in text.split("\n"):
        fields = line.split(":")
        if len(fields) < 3:
            continue
        gid = _number(fields[2])
        if gid is not None and fields[0]:
            members = fields[3] if len(fields) > 3 else ""
            groups.append(Group(fields[0], gid, tuple(m for m in members.split(",") if m)))
    return groups


def resolve(given: str, passwd: str, group: str, group_add: Sequence[str] = ()) -> User:
    """`name`, `uid`, `name:group`, `uid:gid` or nothing (root), as podman and docker take it.

    With a user alone the supplementary groups are those that list the user; with a group none but
    --group-add. Errors: UserError for a name that the image does not have.
    """
    accounts, groups = parse_passwd(passwd), parse_group(group)
    wanted, colon, wanted_group = given.partition(":")
    uid = _number(wanted) if wanted else 0
    if uid is not None:
        # A number is never a name: an image may call its root `1000` (CVE-2016-3697).
        unknown = Account("", uid, 0, "") if wanted else Account("root", 0, 0, "/root")
        account = next((a for a in accounts if a.uid == uid), unknown)
    else:
        named = next((a for a in accounts if a.name == wanted), None)
        if named is None:
            raise UserError(f"no user {wanted[:64]!r} in the image", hint="see its /etc/passwd")
        account = named
    gid = account.gid
    extra: list[int] = []
    if colon and wanted_group:
        gid = _group(wanted_group, groups)
    elif account.name:
        extra = [g.gid for g in groups if account.name in g.members]
    extra += [_group(name, groups) for name in group_add]
    usable = account.home.startswith("/") and "\0" not in account.home
    # config.json is UTF-8; what is not in the file is shown as what cannot be read.
    plain = account.home.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
    home = plain if usable else "/"
    if account.uid != 0:
        # Without its own group among these, a process could drop that group and so get round files
        # that deny access to it (CVE-2022-2989).
        extra.insert(0, gid)
    unique = tuple(dict.fromkeys(extra))
    return User(account.uid, gid, unique, home, account.name)


def _group(wanted: str, groups: Sequence[Group]) -> int:
    number = _number(wanted)
    if number is None:
        number = next((g.gid for g in groups if g.name == wanted), None)
    if number is None:
        raise UserError(f"no group {wanted[:64]!r} in the image", hint="see its /etc/group")
    return number


def no_pipes(root: str) -> None:
    """The runtime opens both files as well, inside, and would wait for a pipe's other end for ever.
    Error: UserError."""
    for path in ("/etc/passwd", "/etc/group"):
        try:
            fd = syscalls.open_in_root(root, path, os.O_PATH)
        except OSError:
            continue
        try:
            if stat.S_ISFIFO(os.fstat(fd).st_mode):
                raise UserError(
                    f"{path} of the container is a pipe: its runtime would wait for ever",
                    hint="put a file there, with tiffin cp or in the image",
                )
        finally:
            os.close(fd)


def in_container(root: str, given: str, group_add: Sequence[str] = ()) -> User:
    """`resolve` against the files of the container whose root directory is `root`."""
    return resolve(given, read(root, "/etc/passwd"), read(root, "/etc/group"), group_add)
