"""`events schema`: what the json lines of `events` promise."""

from __future__ import annotations

import sys

from .flags import Call, Command


def _schema(call: Call) -> int:
    from ..events import schema

    with open(f"{schema.FOLDER}/events-{schema.VERSION}.json", encoding="utf-8") as file:
        sys.stdout.write(file.read())
    return 0


SCHEMA = Command(
    "events schema",
    "",
    "Print the JSON Schema that every line of `events --format json` follows",
    (),
    (0, 0),
    ("tiffin events schema > events.schema.json",),
    _schema,
)
