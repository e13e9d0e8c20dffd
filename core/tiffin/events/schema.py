"""The published JSON Schema of `tiffin events --format json`, generated from the event types.

Each version is a file under `schemas/`; the newest is what this engine writes. A minor version adds
(types, optional fields); whatever would break a program that reads by an earlier version of the
same major is found by `broken`, and a test compares all versions with it.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import msgspec

from . import registered

VERSION = "1.0"
FOLDER = f"{os.path.dirname(__file__)}/schemas"
DRAFT = "https://json-schema.org/draft/2020-12/schema"

HASH = {"type": "string", "pattern": "^[0-9a-f]{64}$"}
ENVELOPE: dict[str, Any] = {
    "seq": {"type": "integer", "minimum": 1, "description": "Global number, in order of commit"},
    "stream": {"type": "string", "description": "What it is about: container/ID, image/ID, ..."},
    "version": {"type": "integer", "minimum": 1, "description": "Number in its stream"},
    "type": {"type": "string"},
    "time": {"type": "string", "description": "RFC 3339, UTC, nanoseconds"},
    "timeNano": {"type": "integer", "description": "The same as nanoseconds since 1970"},
    "command": {"type": "string", "description": "Shared by all events of one command"},
    "actor": {
        "type": "object",
        "description": "Who did it",
        "properties": {
            "uid": {"type": "integer"},
            "loginuid": {"type": "integer", "description": "4294967295: nobody logged in"},
            "session": {"type": "integer", "description": "Audit session"},
            "pid": {"type": "integer"},
            "program": {"type": "string"},
            "front_end": {"type": "string"},
            "cause": {
                "type": "integer",
                "description": "seq of the event that this answers, when nobody asked for it",
            },
        },
        "required": ["uid", "loginuid", "session", "pid", "program", "front_end"],
    },
    "data": {"type": "object"},
    "prev": HASH | {"description": "`hash` of the event before it"},
    "hash": HASH | {"description": "SHA-256 over `prev` and all fields"},
}


def document() -> dict[str, Any]:
    """The schema of one line, from the types as they are now."""
    definitions: dict[str, Any] = {}
    choices = []
    for name, kind in sorted(registered().items()):
        _, components = msgspec.json.schema_components([kind], ref_template="#/$defs/{name}")
        for title, component in components.items():
            if title == kind.__name__:
                data = _described(component)
            else:
                definitions[title] = _described(component)
        if kind.VERSION != 1:
            data["properties"]["v"] = {"const": kind.VERSION}
        definitions[name] = data
        choices.append(
            {
                "if": {"properties": {"type": {"const": name}}},
                "then": {"properties": {"data": {"$ref": f"#/$defs/{name}"}}},
            }
        )
    found = {
        "$schema": DRAFT,
        "$id": f"https://tiffin.invalid/schemas/events-{VERSION}.json",
        "title": f"An event of tiffin, version {VERSION}",
        "description": "One line of `tiffin events --format json`. Types that are not listed may "
        "come with a later minor version: a reader must let them pass.",
        "type": "object",
        "properties": ENVELOPE,
        "required": list(ENVELOPE),
        "allOf": choices,
        "$defs": definitions,
    }
    plain: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(found))  # tuples as arrays
    return plain


def _described(component: dict[str, Any]) -> dict[str, Any]:
    """Without titles, which are Python's names; descriptions as one paragraph."""
    found = {key: value for key, value in component.items() if key != "title"}
    if "description" in found:
        found["description"] = " ".join(found["description"].split())
    return found


def published() -> dict[str, dict[str, Any]]:
    """All versions that are checked in, oldest first."""
    found = {}
    for name in os.listdir(FOLDER):
        if name.startswith("events-") and name.endswith(".json"):
            with open(f"{FOLDER}/{name}", "rb") as file:
                found[name[7:-5]] = msgspec.json.decode(file.read(), type=dict[str, Any])
    return dict(sorted(found.items(), key=lambda item: [int(n) for n in item[0].split(".")]))


def text(schema: dict[str, Any]) -> str:
    return msgspec.json.format(msgspec.json.encode(schema), indent=1).decode() + "\n"


def broken(old: dict[str, Any], new: dict[str, Any]) -> list[str]:
    """What a program that reads by the schema `old` cannot rely on any more, one line each."""
    problems = list(_lost(old, new, "event"))
    for name, before in old["$defs"].items():
        after = new["$defs"].get(name)
        if after is None:
            problems.append(f"{name} is gone")
        else:
            problems += _lost(before, after, name)
    return problems


def _lost(old: dict[str, Any], new: dict[str, Any], where: str) -> Iterator[str]:
    """Fields that are gone, that need not be there any more, or that hold something else."""
    fields = new.get("properties", {})
    for name, before in old.get("properties", {}).items():
        after = fields.get(name)
        if after is None:
            yield f"{where}: field {name} is gone"
            continue
        if name in old.get("required", ()) and name not in new.get("required", ()):
            yield f"{where}: field {name} may be missing"
        meaning = ("type", "items", "additionalProperties", "anyOf", "$ref", "enum", "const")
        if any(before.get(key) != after.get(key) for key in meaning):
            yield f"{where}: field {name} is of another type"
        if "properties" in before:
            yield from _lost(before, after, f"{where}.{name}")


def write() -> str:
    """Write the file of the current version; returns its path."""
    path = f"{FOLDER}/events-{VERSION}.json"
    os.makedirs(FOLDER, exist_ok=True)
    with open(path, "w", encoding="utf-8") as file:
        file.write(text(document()))
    return path


if __name__ == "__main__":
    print(write())
