"""Names for the ids in events, from the log itself: also of what is gone."""

from __future__ import annotations

from ..store import queries
from . import reads

TYPE_CHECKING = False  # without importing typing
if TYPE_CHECKING:
    import sqlite3
    from typing import Any

    from ..layout import Layout

FIRST = "SELECT data FROM events WHERE stream=? AND version=1"
RENAMED = "SELECT seq, data FROM events WHERE stream=? AND type='container.renamed' ORDER BY seq"
TAG = "SELECT data FROM events WHERE stream=? AND type='image.tagged' AND seq<=? ORDER BY seq DESC"


class Names:
    """Looks up the first event of a stream, once: it says what a thing is called."""

    def __init__(self, layout: Layout) -> None:
        self._layout = layout
        self._connection: sqlite3.Connection | None = None
        self._first: dict[str, dict[str, Any]] = {}
        self._renamed: dict[str, list[tuple[int, str]]] = {}

    def _one(self, sql: str, parameters: tuple[Any, ...]) -> dict[str, Any]:
        if self._connection is None:
            self._connection = reads.store(self._layout)
        found = reads.rows(self._connection, f"{sql} LIMIT 1", parameters)
        if not found and sql is FIRST and self._connection is not None:
            folded = "SELECT data FROM snapshots WHERE stream=?"
            found = reads.rows(self._connection, folded, parameters)
        data = found[0]["data"] if found else {}
        return data if isinstance(data, dict) else {}

    def first(self, stream: str) -> dict[str, Any]:
        """The data of the event that a stream began with; {} when it is not there."""
        if stream not in self._first:
            if len(self._first) > 10_000:  # a follower may run for months
                self._first.clear()
                self._renamed.clear()
            self._first[stream] = self._one(FIRST, (stream,))
        return self._first[stream]

    def container(self, event: dict[str, Any]) -> str:
        """The id of the container that an event is about; "" for none."""
        kind, _, key = str(event["stream"]).partition("/")
        if kind == "exec":
            key = str(self.first(event["stream"]).get("container", ""))
        return key if kind in ("container", "exec") else ""

    def _container_name(self, event: dict[str, Any]) -> str:
        """As it was called then: the last of its names up to this event."""
        stream = f"container/{self.container(event)}"
        name = str(self.first(stream).get("name", ""))
        if stream not in self._renamed:
            connection = self._connection or reads.store(self._layout)
            self._renamed[stream] = [
                (row["seq"], str(row["data"]["name"]))
                for row in reads.rows(connection, RENAMED, (stream,))
            ]
        if event["type"] == "container.renamed":  # perhaps newer than what we have read
            self._renamed[stream].append((event["seq"], str(event["data"]["name"])))
        for seq, later in self._renamed[stream]:
            if seq <= event["seq"]:
                name = later
        return name

    def creation(self, event: dict[str, Any]) -> dict[str, Any]:
        """What its container was created with: name, image_name, labels, ..."""
        cid = self.container(event)
        return self.first(f"container/{cid}") if cid else {}

    def name(self, event: dict[str, Any]) -> str:
        """What people call the thing that the event is about; "" when it has no name."""
        kind, _, key = str(event["stream"]).partition("/")
        if kind in ("container", "exec"):
            return self._container_name(event)
        if kind == "image":
            own = event["data"].get("name") if event["type"] != "image.added" else ""
            return str(own or self._one(TAG, (event["stream"], event["seq"])).get("name", ""))
        if kind == "transfer":
            return str(self.first(event["stream"]).get("reference", ""))
        if kind == "secret":
            return str(self.first(event["stream"]).get("name", ""))
        if kind == "network":
            return str(self.first(event["stream"]).get("config", {}).get("name", ""))
        if kind == "pod":
            return str(self.first(event["stream"]).get("name", ""))
        if kind == "mount":
            image = f"image/{self.first(event['stream']).get('image_id', '')}"
            return str(self._one(TAG, (image, event["seq"])).get("name", ""))
        return key if kind in ("plugin", "volume") else ""


def short(key: str) -> str:
    """An id as lists show it."""
    bare = key.removeprefix("sha256:")
    return bare[: reads.SHORT] if queries.is_hex(bare) else bare


def about(event: dict[str, Any], names: Names) -> str:
    """`container web (f3b0c1a2d4e5)`: kind, name and id of what an event is about."""
    kind, _, key = str(event["stream"]).partition("/")
    name = names.name(event)
    shown = f"({short(key)})" if name else short(key)
    if name == key:
        shown = ""
    return " ".join(filter(None, (kind, name, shown)))
