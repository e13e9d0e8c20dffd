"""`events`: the log itself, from any point of it, and for as long as one likes."""

from __future__ import annotations

import sys
from time import time_ns

from .. import units
from ..errors import UserError
from ..store import queries
from ..store.follow import FOREVER, Watch, stored
from ..store.records import record
from . import reads, table
from .event_shapes import statuses
from .flags import Call, Command, Flag

TYPE_CHECKING = False  # without importing typing
if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable, Iterator
    from typing import Any

    from ..layout import Layout
    from .consumers import Acknowledged

FILTERS = ("type", "event", "container", "image", "network", "pod", "stream", "command", "label")


def _is_pod(connection: sqlite3.Connection | None, key: str, wanted: list[str]) -> bool:
    name = _first(connection, f"pod/{key}").get("name")
    return any(key.startswith(text) or name == text for text in wanted)


def selector(
    given: dict[str, list[str]], connection: sqlite3.Connection | None
) -> Callable[[dict[str, Any]], bool]:
    """Whether an event passes: every key must match, by any of its values (labels: by all).

    A container is named by name, id or prefix; one that is gone by what its events say.
    """
    containers: list[tuple[str, str]] = []
    for name in given.get("container", ()):
        found = reads.rows(connection, queries.CONTAINER_BY_NAME, (name,))
        containers.append((name, found[0]["id"] if found else ""))
    images = {text: _image_names(text) for text in given.get("image", ())}
    labels: dict[str, dict[str, str]] = {}  # of a stream, as its first event has them
    seen: dict[str, set[str]] = {name: {cid} if cid else set() for name, cid in containers}

    executed: dict[str, str] = {}  # the container of an exec, which its first event names

    def container_of(event: dict[str, Any]) -> str:
        stream: str = event["stream"]
        if stream not in executed:
            data = event["data"] if "container" in event["data"] else _first(connection, stream)
            executed[stream] = data.get("container", "")
        return executed[stream]

    def of_container(event: dict[str, Any]) -> bool:
        kind, _, key = event["stream"].partition("/")
        data = event["data"]
        if kind == "exec":
            key = container_of(event)
        elif kind != "container":
            return False
        passed = False
        for name, ids in seen.items():
            if data.get("name") == name:
                ids.add(key)
            by_prefix = queries.is_hex(name) and key.startswith(name)
            passed = passed or key in ids or by_prefix
        return passed

    def passes(event: dict[str, Any]) -> bool:
        kind, _, key = event["stream"].partition("/")
        type_ = event["type"]
        data = event["data"]
        if containers and not of_container(event):
            return False
        if "type" in given and kind not in given["type"] and type_ not in given["type"]:
            return False
        action = type_.partition(".")[2]
        if "event" in given:
            theirs = statuses(event, lambda stream: _first(connection, stream))
            if not any(n in given["event"] for n in (type_, action, *filter(None, theirs))):
                return False
        if "stream" in given and event["stream"] not in given["stream"]:
            return False
        if "command" in given and event["command"] not in given["command"]:
            return False
        if images and not any(_of_image(kind, key, data, *item) for item in images.items()):
            return False
        if "network" in given and not any(
            (kind == "network" and key.startswith(name))
            or name in str(data.get("network", "")).split(",")
            or data.get("config", {}).get("name") == name
            for name in given["network"]
        ):
            return False
        if "pod" in given and not (kind == "pod" and _is_pod(connection, key, given["pod"])):
            return False
        if "label" not in given:
            return True
        stream = f"container/{container_of(event)}" if kind == "exec" else event["stream"]
        if stream not in labels:
            labels[stream] = data.get("labels") or _first(connection, stream).get("labels", {})
        return table.has_labels(labels[stream], given["label"])

    return passes


def _first(connection: sqlite3.Connection | None, stream: str) -> dict[str, Any]:
    """What the first event of a stream says: the container's labels, the exec's container."""
    import json  # filters only

    first = "SELECT data FROM events WHERE stream=? ORDER BY version LIMIT 1"
    found = connection.execute(first, (stream,)).fetchone() if connection else None
    data: dict[str, Any] = json.loads(found[0]) if found else {}
    return data


def _image_names(given: str) -> set[str]:
    """What a container's creation or an image's tag may call it."""
    from ..images import reference  # filters only

    try:
        return {given, *reference.candidates(given)}
    except UserError:
        return {given}


def _of_image(kind: str, key: str, data: dict[str, Any], wanted: str, may_be: set[str]) -> bool:
    names = [data.get(field) for field in ("image", "image_name", "image_id", "reference", "name")]
    if kind == "image" and key.removeprefix("sha256:").startswith(wanted.removeprefix("sha256:")):
        return True
    return kind in ("image", "container", "transfer") and not may_be.isdisjoint(names)


def follow(
    layout: Layout,
    after: int,
    since: int,
    until: int,
    idle: Callable[[], None] = lambda: None,
) -> Iterator[tuple[Any, ...]]:
    """`stored`, and then whatever is added, until the time `until`. `idle` is called when there is
    nothing more for now."""
    with Watch(layout) as watch:
        connection = None
        while True:
            if connection is None:
                connection = watch.opened()
            for row in stored(connection, after, since, until):
                after = row[0]
                yield row
            idle()
            left = (until - time_ns()) / units.SECOND
            if left <= 0:
                return
            watch.wait(left)


def run(call: Call) -> int:
    options = call.options
    if options["all_users"]:
        from . import all_users

        return all_users.run(call.layout, options)
    if options["consumer"]:
        from ..store import cursors
        from . import consumers

        if options["after"] is not None:
            raise UserError("--after cannot be used with --consumer", hint="tiffin events ack")
        with cursors.Cursor(call.layout, options["consumer"]) as cursor:
            cursor.check(reads.store(call.layout))
            acknowledged = consumers.Acknowledged(cursor) if options["ack"] else None
            return _print(call, cursor.seq, acknowledged)
    if options["ack"]:
        raise UserError("--ack needs --consumer", hint="a cursor belongs to a name")
    after = options["after"] or 0
    if after < 0:
        raise UserError(f"--after {after} is not the seq of an event")
    return _print(call, after, None)


def _print(call: Call, after: int, acknowledged: Acknowledged | None) -> int:
    """Write the events that were asked for, and acknowledge them."""
    from .event_lines import writer

    options = call.options
    given = table.filters(options["filter"], FILTERS)
    now = time_ns()
    since = units.parse_time(options["since"], now, "--since") if options["since"] else 0
    until = units.parse_time(options["until"], now, "--until") if options["until"] else FOREVER
    connection = reads.store(call.layout)
    passes = selector(given, connection)
    line = writer(options["format"], call.layout)
    settle = acknowledged.settle if acknowledged else lambda: None
    if options["follow"]:
        rows = follow(call.layout, after, since, until, settle)
    else:
        rows = stored(connection, after, since, until)
    for row in rows:
        event = record(row)
        shown = line(event) if passes(event) else None
        if shown is not None:
            if acknowledged:
                acknowledged.before()
            sys.stdout.write(shown + "\n")
            if options["follow"]:
                sys.stdout.flush()
        if acknowledged:
            acknowledged.passed(row)
    settle()
    return 0


EVENTS = Command(
    "events",
    "",
    "Print the log of events: all that was planned, done, and by whom",
    (
        Flag("since", "", "str", "TIME", "Only from this time on: 10m, or RFC 3339"),
        Flag("until", "", "str", "TIME", "Only up to this time"),
        Flag("after", "", "int", "SEQ", "Only events with a higher seq: a cursor"),
        Flag("consumer", "", "str", "NAME", "Only what this durable consumer has not acknowledged"),
        Flag("ack", help="With --consumer: acknowledge what was written"),
        Flag("filter", "f", "list", "KEY=VALUE", f"Show only what matches: {', '.join(FILTERS)}"),
        Flag(
            "format",
            "",
            "str",
            "TEMPLATE",
            "`json` (one object a line), `podman` or `docker` (in their shapes), a Go template, or "
            "`podman TEMPLATE`, `docker TEMPLATE` over their fields",
        ),
        Flag("follow", help="Wait for more"),
        Flag("all-users", help="Of everybody on the machine, each with its owner: for root"),
    ),
    (0, 0),
    (
        "tiffin events --since 1h",
        "tiffin events --follow --after 120 --format json",
        "tiffin events --filter container=web --filter event=exited",
        "tiffin events --consumer audit --ack --follow --format json",
        "tiffin events --format 'docker {{.Type}} {{.Action}} {{.Actor.ID}}'",
        "tiffin events --all-users --follow",
        "tiffin events verify",
    ),
    run,
)
