"""The tables of `tiffin sql`: views over log and projections whose columns are a promise.

The tables beneath change as the engine does; these views only ever gain columns (docs/sql.md lists
them, a test compares). They are temporary, so they live in the reader's connection and the file
stays as it is. An authoriser lets a query read the views and nothing else.
"""

from __future__ import annotations

from . import schema

try:  # as in `sync`
    import _sqlite3 as sqlite3
except ImportError:
    import sqlite3  # type: ignore[no-redef]

TYPE_CHECKING = False  # without importing typing
if TYPE_CHECKING:
    from sqlite3 import Connection

STEPS = 100_000
"""Steps of SQLite's machine between two looks at whether a query is to be stopped: ~ 1 ms."""
LONGEST = 64 << 20
"""Bytes of one value or row."""


def _time(column: str) -> str:
    """RFC 3339 with nanoseconds, as `events --format json` has it; NULL for never."""
    return (
        f"CASE WHEN {column}>0 THEN strftime('%Y-%m-%dT%H:%M:%S', {column}/1000000000, 'unixepoch')"
        f" || printf('.%09dZ', {column}%1000000000) END"
    )


def _actor(field: str) -> str:
    return f"json_extract(actor, '$.{field}')"


def _first(field: str) -> str:
    return f"json_extract(first.data, '$.{field}')"


def _of_life(type_: str, what: str) -> str:
    """Something of the last event of a type in the stream of `first`."""
    return (
        f"(SELECT {what} FROM main.events AS e WHERE e.stream=first.stream "  # noqa: S608
        f"AND e.type='container.{type_}' ORDER BY e.version DESC LIMIT 1)"
    )


def _kept(path: str) -> str:
    """What is kept of a stream that was folded."""
    return f"json_extract(data, '$.{path}')"


def _if_removed(what: str) -> str:
    return f"CASE WHEN {_kept('types[1]')}='container.removed' THEN {what} END"


_EVENT = {
    "time": _time("time"),
    "time_ns": "time",
    "command": "command",
    "uid": _actor("uid"),
    "loginuid": f"nullif({_actor('loginuid')}, 4294967295)",
    "session": f"nullif({_actor('session')}, 4294967295)",
    "front_end": _actor("front_end"),
    "cause": _actor("cause"),
}

VIEWS: dict[str, tuple[dict[str, str], str]] = {
    "events": (
        {
            "seq": "seq",
            "stream": "stream",
            "noun": "substr(stream, 1, instr(stream || '/', '/') - 1)",
            "key": "substr(stream, instr(stream || '/', '/') + 1)",
            "version": "version",
            "type": "type",
            **_EVENT,
            "pid": _actor("pid"),
            "program": _actor("program"),
            "data": "data",
            "prev": "prev",
            "hash": "hash",
        },
        "main.events",
    ),
    "commands": (
        {
            "id": "command",
            "first_seq": "min(seq)",
            "last_seq": "max(seq)",
            "events": "count(*)",
            "began": _time("min(time)"),
            "began_ns": "min(time)",
            "ended_ns": "max(time)",
            "duration_ms": "(max(time) - min(time)) / 1000000.0",
            **{name: _EVENT[name] for name in ("uid", "loginuid", "session", "front_end", "cause")},
        },
        "main.events GROUP BY command",
    ),
    "lives": (
        {
            "id": "substr(first.stream, 11)",
            "name": _first("name"),
            "image": _first("image_name"),
            "image_id": _first("image_id"),
            "labels": f"ifnull({_first('labels')}, '{{}}')",
            "created": _time("first.time"),
            "created_ns": "first.time",
            "created_by": "json_extract(first.actor, '$.uid')",
            "started": _time(_of_life("started", "e.time")),
            "exited": _time(_of_life("exited", "e.time")),
            "exit_code": _of_life("exited", "json_extract(e.data, '$.exit_code')"),
            "removed": _time(_of_life("removed", "e.time")),
            "removed_by": _of_life("removed", "json_extract(e.actor, '$.uid')"),
        },
        "main.events AS first WHERE first.type='container.creation_planned'",
    ),
    "snapshots": (
        {
            "stream": "stream",
            "events": "version",
            "first_seq": "first",
            "last_seq": "last",
            "began": _time("began"),
            "began_ns": "began",
            "ended": _time("ended"),
            "ended_ns": "ended",
            "data": "data",
        },
        "main.snapshots",
    ),
    "containers": (
        {
            **{
                name: name
                for name in (
                    "id", "name", "state", "image", "image_id", "image_name", "command", "labels"
                )
            },
            "created": _time("created"),
            "created_ns": "created",
            "started": _time("started"),
            "started_ns": "nullif(started, 0)",
            "finished": _time("finished"),
            "finished_ns": "nullif(finished, 0)",
            "exit_code": "CASE WHEN state='exited' THEN exit_code END",
            "oom": "oom",
            "error": "error",
            "pid": "nullif(pid, 0)",
            "conmon_pid": "nullif(conmon_pid, 0)",
            **{
                name: name
                for name in ("storage_driver", "runtime", "network", "ports", "layers", "directory")
            },
            "mounted": "nullif(mounted, '')",
            "attachments": "attachments",
            "process_label": "nullif(process_label, '')",
            "mount_label": "nullif(mount_label, '')",
        },
        "main.containers",
    ),
    "execs": (
        {
            **{name: name for name in ("id", "container", "command", "state")},
            "started": _time("started"),
            "started_ns": "started",
            "pid": "nullif(pid, 0)",
        },
        "main.execs",
    ),
    "images": (
        {
            "id": "id",
            "manifest": "manifest",
            "index_digest": "nullif(index_digest, '')",
            "media_type": "media_type",
            "architecture": "architecture",
            "os": "os",
            "created": _time("created"),
            "created_ns": "nullif(created, 0)",
            "added": _time("added"),
            "added_ns": "added",
            "size": "size",
            "labels": "labels",
            "layers": "layers",
        },
        "main.images",
    ),
    "tags": ({"name": "name", "image": "image"}, "main.tags"),
    "layers": ({n: n for n in ("driver", "chain_id", "size", "entries")}, "main.layers"),
    "networks": (
        {
            **{name: name for name in ("id", "name", "driver")},
            "created": _time("created"),
            "created_ns": "created",
            "config": "config",
        },
        "main.networks",
    ),
    "addresses": ({n: n for n in ("network", "address", "container")}, "main.addresses"),
    "manifests": (
        {
            "name": "name",
            "manifests": "manifests",
            "created": _time("created"),
            "created_ns": "created",
        },
        "main.manifests",
    ),
    "pods": (
        {
            **{n: n for n in ("id", "name", "network", "ports", "labels", "share", "netns")},
            **{n: n for n in ("namespaces", "pause_pid")},
            "created": _time("created"),
            "created_ns": "created",
        },
        "main.pods",
    ),
    "volumes": (
        {
            **{name: name for name in ("name", "driver", "path", "labels", "anonymous")},
            **{name: name for name in ("options", "mounted", "pinned")},
            "created": _time("created"),
            "created_ns": "created",
        },
        "main.volumes",
    ),
    "secrets": (
        {
            **{name: name for name in ("id", "name", "labels")},
            "created": _time("created"),
            "created_ns": "created",
        },
        "main.secrets WHERE complete",
    ),
    "plugins": (
        {
            "name": "name",
            "enabled": "enabled",
            "package": "nullif(package, '')",
            "changed": _time("changed"),
            "changed_ns": "changed",
        },
        "main.plugins",
    ),
    "intents": (
        {
            **{name: name for name in ("seq", "stream", "operation")},
            **_EVENT,
            "data": "data",
        },
        "main.intents",
    ),
}  # fmt: skip
"""view -> ({column: expression}, what it is selected from)"""

FOLDED: dict[str, tuple[tuple[str, ...], str]] = {
    "lives": (
        (
            "substr(stream, 11)", _kept("name"), _kept("image_name"), _kept("image_id"),
            f"ifnull({_kept('labels')}, '{{}}')", _time("began"), "began", _kept("uids[0]"),
            _time(_kept("started")), _time(_kept("exited")), _kept("exit_code"),
            _if_removed(_time("ended")), _if_removed(_kept("uids[1]")),
        ),
        "main.snapshots WHERE stream LIKE 'container/%'",
    )
}  # fmt: skip
"""view -> (its columns, where they are) of what was compacted"""

BASE = frozenset((*schema.TABLES, "events", "snapshots", "compacted"))
"""What the views may read, and nobody else."""


def columns() -> dict[str, tuple[str, ...]]:
    return {name: tuple(view) for name, (view, _) in VIEWS.items()}


def empty() -> Connection:
    """A store in memory with nothing in it, for reports before anything was made."""
    connection: Connection = sqlite3.connect(":memory:", isolation_level=None)
    for statement in (schema.LOG + schema.PROJECTIONS).split(";\n"):
        connection.execute(statement)
    return connection


def restrict(connection: Connection) -> None:
    """Make the views, and from now on refuse everything but queries of them."""
    known = "SELECT 1 FROM main.sqlite_master WHERE name='snapshots'"
    can_be_folded = connection.execute(known).fetchone() is not None  # not in the oldest stores
    for name, (view, source) in VIEWS.items():
        chosen = ", ".join(f"{expression} AS {column}" for column, expression in view.items())
        query = f"SELECT {chosen} FROM {source}"  # noqa: S608
        if name in FOLDED and can_be_folded:
            more, place = FOLDED[name]
            query += f" UNION ALL SELECT {', '.join(more)} FROM {place}"  # noqa: S608
        connection.execute(f"CREATE TEMP VIEW {name} AS {query}")
    # Their first use enters them in the schema, which is refused later on.
    connection.execute("SELECT 1 FROM json_each('[]'), json_tree('[]')")
    connection.execute("PRAGMA query_only=1")
    connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, LONGEST)
    connection.setlimit(sqlite3.SQLITE_LIMIT_ATTACHED, 0)
    connection.set_authorizer(_authorise)


def _authorise(
    action: int, one: str | None, two: str | None, database: str | None, view: str | None
) -> int:
    """sqlite.org/c3ref/c_alter_table.html has the actions and their arguments."""
    allowed = False
    if action in (sqlite3.SQLITE_SELECT, sqlite3.SQLITE_RECURSIVE):
        allowed = True
    elif action == sqlite3.SQLITE_FUNCTION:
        allowed = two != "load_extension"
    elif action == sqlite3.SQLITE_READ:
        # A table of the file is read through one of our views only. A query's own tables (WITH,
        # json_each, a view itself) are in none, or in the temporary database. No column: count(*).
        allowed = one not in BASE or database != "main" or view in VIEWS or not two
        allowed = allowed and not str(one).startswith("sqlite_")
    return sqlite3.SQLITE_OK if allowed else sqlite3.SQLITE_DENY
