"""An event as the world sees it: one JSON object, by the published schema (`events.schema`)."""

from __future__ import annotations

import json

from ..errors import Corrupt
from .queries import rfc3339

TYPE_CHECKING = False  # without importing typing
if TYPE_CHECKING:
    from typing import Any


def record(row: tuple[Any, ...]) -> dict[str, Any]:
    """A row of `events` with its JSON decoded. Error: Corrupt that names the event."""
    seq, stream, version, type_, time, command, actor, data, prev, hash_ = row
    try:
        actor, data = json.loads(actor), json.loads(data)
    except (ValueError, RecursionError):
        raise Corrupt(f"event {seq} cannot be read", hint="see tiffin events verify") from None
    return {
        "seq": seq,
        "stream": stream,
        "version": version,
        "type": type_,
        "time": rfc3339(time),
        "timeNano": time,
        "command": command,
        "actor": actor,
        "data": data,
        "prev": prev,
        "hash": hash_,
    }
