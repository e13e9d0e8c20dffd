"""The base of all event types, and how they are written to and read from the log.

The tag is the type (`container.created`), the data is JSON with sorted keys. A type whose fields
change in a way that old data cannot be read gets an upcaster, and its `VERSION` is raised; the
version is written as field `v` when it is not 1.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import msgspec

from ..errors import Corrupt


class Event(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """A fact. `OPENS` and `CLOSES` name the operation whose intent it opens or closes."""

    TYPE: ClassVar[str] = ""
    VERSION: ClassVar[int] = 1
    OPENS: ClassVar[str] = ""
    CLOSES: ClassVar[str] = ""


Upcaster = Callable[[dict[str, Any]], dict[str, Any]]
UPCASTERS: dict[tuple[str, int], Upcaster] = {}
"""(type, version) -> function that turns data of that version into the next version's."""


def registered() -> Mapping[str, type[Event]]:
    """All event types by name; imports every noun."""
    from . import (
        build,
        container,
        execs,
        health,
        image,
        manifest,
        mount,
        network,
        plugin,
        pod,
        secret,
        system,
        volume,
    )

    found: dict[str, type[Event]] = {}
    modules = (
        *(build, container, execs, health, image, manifest, mount),
        *(network, plugin, pod, secret, system, volume),
    )
    for module in modules:
        for value in vars(module).values():
            if isinstance(value, type) and issubclass(value, Event) and value.TYPE:
                found[value.TYPE] = value
    return found


def encode(event: Event) -> tuple[str, str]:
    """(type, data) as the log stores them."""
    data = msgspec.to_builtins(event)
    if event.VERSION != 1:
        data["v"] = event.VERSION
    return event.TYPE, msgspec.json.encode(data, order="sorted").decode()


def decode(type_: str, data: str) -> Event:
    """The struct for what the log stores. Error: Corrupt for an unknown type or bad data."""
    kind = registered().get(type_)
    if kind is None:
        raise Corrupt(f"event type {type_!r} is not known", hint="written by a newer tiffin?")
    try:
        fields = msgspec.json.decode(data, type=dict[str, Any])
        version = fields.pop("v", 1)
        while version < kind.VERSION:
            fields = UPCASTERS[type_, version](fields)
            version += 1
        return msgspec.convert(fields, kind)
    except (msgspec.MsgspecError, KeyError) as error:
        raise Corrupt(f"event of type {type_} cannot be read: {error}") from None
