"""What the commands share that only read: the store, and what people call things."""

from __future__ import annotations

from os import listdir

from ..errors import Corrupt, NotFound
from ..store import queries, sync

TYPE_CHECKING = False  # without importing typing
if TYPE_CHECKING:
    import sqlite3
    from typing import Any

    from ..layout import Layout
    from ..store.queries import Row

LIVE = ("initialized", "running", "paused", "stopping")
LENT = ("ports", "attachments", "netns")
SHORT = 12
"""Digits of an id that lists show."""


def store(layout: Layout) -> sqlite3.Connection | None:
    """The store for reading; None when nothing was ever made."""
    return sync.open_read_only(layout.database)


def rows(
    connection: sqlite3.Connection | None, sql: str, parameters: tuple[Any, ...] = ()
) -> list[Row]:
    return [] if connection is None else queries.rows(connection, sql, parameters)


def container(connection: sqlite3.Connection | None, given: str) -> Row:
    """By name, id or unique prefix. Errors: NotFound, Conflict."""
    if connection is None:
        raise NotFound(f"no such container: {given}")
    return queries.find_container(connection, given)


def notice(layout: Layout, connection: sqlite3.Connection | None, found: list[Row]) -> None:
    """Those that live in the log, and whose run directory is gone, have ended: the machine was
    rebooted, and no command that writes has come by yet. (The log knows of any other end before
    that directory goes.)"""
    live = [row for row in found if row["state"] in LIVE]
    try:
        there = set(listdir(layout.containers_run)) if live else set()
    except OSError:
        there = set()
    gone = [row for row in live if row["id"] not in there]
    again = {row["id"]: row for row in rows(connection, queries.CONTAINERS)} if gone else {}
    for row in gone:
        now = again.get(row["id"], row)
        row.update((column, now[column]) for column in row.keys() & now.keys())
        if row["state"] in LIVE:
            row.update(state="exited", exit_code=255, pid=0, conmon_pid=0)


def lend(connection: sqlite3.Connection | None, found: list[Row]) -> None:
    """Who uses another container's network (`container:ID`), or a pod's, gets its ports and
    attachments, as podman shows them."""
    guests = [row for row in found if row["network"].startswith(("container:", "pod:"))]
    if not guests:
        return
    lenders = {"container:" + row["id"]: row for row in rows(connection, queries.CONTAINERS)}
    lenders |= {"pod:" + row["id"]: row for row in rows(connection, "SELECT * FROM pods")}
    for row in guests:
        owner = row
        while owner["network"].startswith(("container:", "pod:")):
            if owner["network"] not in lenders:
                break  # removed by force
            owner = lenders[owner["network"]]
        row.update((column, owner[column]) for column in LENT if column in owner)


def image(connection: sqlite3.Connection | None, given: str) -> Row:
    """By name, id, unique prefix or digest. Errors: NotFound, Conflict, UserError."""
    from ..images import reference

    found = None
    if connection is not None:
        found = queries.find_image(connection, given, reference.candidates(given))
        if found is None and not given.startswith("embedded:") and reference.is_short(given):
            from ..registry import registries  # only for names that mean nothing otherwise

            found = queries.find_image(connection, given, tuple(registries.names(given)))
    if found is None:
        raise NotFound(f"no such image: {given}", hint="tiffin images lists those there are")
    return found


def blob(layout: Layout, digest: str) -> dict[str, Any]:
    """A small JSON blob of the content store. Errors: NotFound, Corrupt."""
    import json

    name = digest.removeprefix("sha256:")
    if not queries.is_hex(name):
        raise Corrupt(f"{digest!r} is not a digest")
    try:
        with open(f"{layout.blobs}/sha256/{name}", "rb") as file:
            value = json.load(file)
    except FileNotFoundError:
        raise NotFound(f"blob {digest} is not here", hint="pull the image again") from None
    except (ValueError, RecursionError):
        raise Corrupt(f"blob {digest} is damaged", hint="pull the image again") from None
    if not isinstance(value, dict):
        raise Corrupt(f"blob {digest} is damaged", hint="pull the image again")
    return value


rfc3339 = queries.rfc3339


def go_time(nanoseconds: int) -> str:
    """`2026-11-25 06:38:16.571062864 +0000 UTC`, as Go prints a time."""
    text = rfc3339(nanoseconds)
    return f"{text[:-1].replace('T', ' ')} +0000 UTC"


def at(layout: Layout, text: str) -> tuple[sqlite3.Connection | None, int]:
    """(store, the time there): as it is now, or for a TIME|SEQ as it was then."""
    from time import time_ns

    connection, now = store(layout), time_ns()
    if not text:
        return connection, now
    from ..store import past

    seq, then = past.moment(connection, text, now)
    return past.at(connection, seq), then
