"""`diff-state A B`: what became different between two moments, thing by thing."""

from __future__ import annotations

import sys
from time import time_ns

from ..store import past, queries, schema
from . import reads, table
from .event_names import short
from .flags import Call, Command, Flag
from .printable import line

TYPE_CHECKING = False  # without importing typing
if TYPE_CHECKING:
    import sqlite3
    from typing import Any

    Things = dict[tuple[str, ...], dict[str, Any]]

NOUNS = {
    "containers": ("container", ("id",)),
    "execs": ("exec", ("id",)),
    "images": ("image", ("id",)),
    "tags": ("tag", ("name",)),
    "layers": ("layer", ("driver", "chain_id")),
    "networks": ("network", ("id",)),
    "addresses": ("address", ("network", "address")),
    "leases": ("lease", ("network", "container")),
    "label_claims": ("label claim", ("claim",)),
    "image_steps": ("build step", ("key", "image")),
    "manifests": ("manifest list", ("name",)),
    "volumes": ("volume", ("name",)),
    "pods": ("pod", ("id",)),
    "secrets": ("secret", ("id",)),
    "image_mounts": ("image mount", ("id",)),
    "plugins": ("plugin", ("name",)),
    "defaults": ("default", ("kind",)),
    "intents": ("intent", ("seq",)),
}
"""table -> (what a row is, its key); a table of a later version is keyed by its first column."""


def things(connection: sqlite3.Connection) -> Things:
    """All rows of the read tables, by (table, key...)."""
    found: Things = {}
    for name in schema.TABLES:
        for row in queries.rows(connection, f"SELECT * FROM {name}"):  # noqa: S608
            keys = NOUNS[name][1] if name in NOUNS else tuple(row)[:1]
            found[name, *(str(row[key]) for key in keys)] = row
    return found


def difference(before: Things, after: Things) -> list[dict[str, Any]]:
    """One record a thing: kind, key, name, change (`added`, `removed`, `changed`), fields."""
    found = []
    for key in sorted(before.keys() | after.keys()):
        old, new = before.get(key), after.get(key)
        if old == new:
            continue
        some = new or old or {}
        fields = {}
        if old is not None and new is not None:
            fields = {name: [old[name], new[name]] for name in old if old[name] != new[name]}
        found.append(
            {
                "kind": NOUNS[key[0]][0] if key[0] in NOUNS else key[0],
                "key": "/".join(key[1:]),
                "name": str(some.get("name") or some.get("operation") or ""),
                "change": "changed" if fields else "added" if old is None else "removed",
                "fields": fields,
            }
        )
    return found


def text(change: dict[str, Any]) -> str:
    mark = {"added": "+", "removed": "-", "changed": "~"}[change["change"]]
    key = "/".join(short(part) for part in change["key"].split("/"))
    name = change["name"]
    about = f"{name} ({key})" if name and name != change["key"] else key
    fields = "; ".join(
        f"{name} {_value(old)} -> {_value(new)}" for name, (old, new) in change["fields"].items()
    )
    return line(f"{mark} {change['kind']} {about}" + (f": {fields}" if fields else ""))


def _value(value: Any) -> str:
    shown = str(value)
    return f"{shown[:57]}..." if len(shown) > 60 else shown or '""'


def _run(call: Call) -> int:
    connection = reads.store(call.layout)
    now = time_ns()
    states = []
    for given in call.arguments:
        seq, _ = past.moment(connection, given, now)
        memory = past.at(connection, seq)
        states.append(things(memory))
        memory.close()
    if len(states) == 1:
        states.append(things(connection) if connection is not None else {})
    found = difference(*states)
    if call.options["format"] == "json":
        sys.stdout.write(table.json_text(found))
    elif call.options["format"]:
        sys.stdout.write(table.formatted(call.options["format"], found, {}))
    else:
        sys.stdout.write("".join(text(change) + "\n" for change in found))
    return 0


DIFF_STATE = Command(
    "diff-state",
    "TIME|SEQ [TIME|SEQ]",
    "Show what became different between two moments, or since one: containers, images, networks, "
    "volumes, plugins",
    (Flag("format", "", "str", "TEMPLATE", "`json` or a Go template"),),
    (1, 2),
    ("tiffin diff-state 10m", "tiffin diff-state 120 180 --format json"),
    _run,
)
