"""`explain`: a container's story, layers, mounts, processes, and where its config.json is from."""

from __future__ import annotations

import json
import os
from typing import Any

from ..errors import NotFound
from ..store import queries, sync
from . import printable
from .flags import Call, Command, Flag


def _explain(call: Call) -> int:
    import msgspec

    from ..hooks import Origin
    from ..spec import explain

    connection = sync.open_read_only(call.layout.database)
    if connection is None:
        raise NotFound(f"no such container: {call.arguments[0]}")
    row = queries.find_container(connection, call.arguments[0])
    events = queries.rows(
        connection,
        "SELECT seq, time, type, actor, command, data FROM events WHERE stream=? ORDER BY seq",
        (f"container/{row['id']}",),
    )
    directory = row["directory"]
    document: dict[str, Any] = {}
    origins: dict[str, Origin] = {}
    if os.path.exists(f"{directory}/config.json"):
        with open(f"{directory}/config.json", "rb") as file:
            document = json.load(file)
        with open(f"{directory}/origins.json", "rb") as file:
            origins = msgspec.json.decode(file.read(), type=dict[str, Origin])
    explanation = explain.Explanation(
        container=row,
        events=events,
        layers=_layers(connection, call, row),
        upper=_upper(row),
        mounts=_mounts(row),
        processes=_processes(row["pid"]),
        document=document,
        origins=origins,
    )
    if call.options["format"] == "json":
        print(json.dumps(explain.to_plain(explanation), indent=2))
    elif call.options["format"]:
        from .gotemplate import render

        print(printable.for_terminal(render(call.options["format"], explain.to_plain(explanation))))
    else:
        print(explain.render(explanation), end="")
    return 0


def _layers(connection: Any, call: Call, row: queries.Row) -> list[dict[str, Any]]:
    """With what made each, from the image's history; empty steps have no layer."""
    sizes = dict(
        connection.execute(
            "SELECT chain_id, size FROM layers WHERE driver=?", (row["storage_driver"],)
        ).fetchall()
    )
    made: list[str] = []
    try:
        with open(f"{call.layout.blobs}/sha256/{row['image_id'][7:]}", "rb") as file:
            history = json.load(file).get("history") or []
        made = [h.get("created_by", "") for h in history if not h.get("empty_layer")]
    except (OSError, ValueError, AttributeError):
        made = []
    return [
        {
            "chain_id": chain_id,
            "size": sizes.get(chain_id, 0),
            "created_by": made[number] if number < len(made) else "",
        }
        for number, chain_id in enumerate(row["layers"])
    ]


def _upper(row: queries.Row) -> str:
    """The copy-on-write layer as the mount table names it."""
    for line in _mount_table():
        for option in line[-1].split(","):
            if row["mounted"] and line[4] == row["mounted"] and option.startswith("upperdir="):
                return option.removeprefix("upperdir=")
    return ""


def _mount_table() -> list[list[str]]:
    with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as file:
        return [line.split() for line in file]


def _mounts(row: queries.Row) -> list[str]:
    places = {row["mounted"], row["netns"]} - {""}
    found = []
    for line in _mount_table():
        if line[4] in places:
            kind = line[line.index("-") + 1]
            found.append(f"{kind} on {line[4]}")
    return found


def _processes(pid: int) -> list[tuple[int, str]]:
    """From init down to the container's process."""
    found: list[tuple[int, str]] = []
    while pid > 0:
        try:
            with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:
                text = file.read()
        except OSError:
            break
        name = text[text.index("(") + 1 : text.rindex(")")]
        found.append((pid, name))
        pid = int(text[text.rindex(")") + 2 :].split()[1])
    return found[::-1]


EXPLAIN = Command(
    name="explain",
    usage="CONTAINER",
    summary="Tell a container's story: events, layers, mounts, processes, and every field's origin",
    flags=(Flag("format", "f", kind="str", metavar="FORMAT", help="json, or a Go template"),),
    arguments=(1, 1),
    examples=("tiffin explain web", "tiffin explain web --format json"),
    run=_explain,
)
