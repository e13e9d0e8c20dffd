"""All that is known of an image, by podman's names and nesting."""

from __future__ import annotations

from ..errors import NotFound
from . import reads

TYPE_CHECKING = False  # without importing typing
if TYPE_CHECKING:
    import sqlite3
    from typing import Any

    from ..layout import Layout
    from ..store.queries import Row


IMAGE_SETTINGS: dict[str, Any] = {
    "User": "",
    "ExposedPorts": {},
    "Env": [],
    "Entrypoint": [],
    "Cmd": [],
    "Volumes": {},
    "WorkingDir": "",
    "Labels": {},
    "StopSignal": "",
}
"""What a template sees of an image's config that is not in it."""


def document(
    layout: Layout, connection: sqlite3.Connection | None, row: Row, *, past: bool = False
) -> dict[str, Any]:
    """An image's row with its config blob, which may be gone for one of the `past`.
    Errors: NotFound, Corrupt."""
    try:
        blob = reads.blob(layout, row["id"])
    except NotFound:
        if not past:
            raise
        blob = {}
    tags = reads.rows(connection, "SELECT name FROM tags WHERE image=? ORDER BY name", (row["id"],))
    names = [tag["name"] for tag in tags]
    repositories = dict.fromkeys(_repository(name) for name in names)
    settings = blob.get("config") or {}
    rootfs = blob.get("rootfs") or {}
    history = blob.get("history") or []
    return {
        "Id": row["id"].removeprefix("sha256:"),
        "Digest": row["manifest"],
        "RepoTags": names,
        "RepoDigests": [f"{repository}@{row['manifest']}" for repository in repositories],
        "Parent": "",
        "Comment": (history[-1].get("comment") or "") if history else "",
        "Created": blob.get("created") or reads.rfc3339(row["created"]),
        "Config": settings,
        "Version": "",
        "Author": blob.get("author") or "",
        "Architecture": row["architecture"],
        "Os": row["os"],
        "Size": row["size"],
        "VirtualSize": row["size"],
        "GraphDriver": _image_driver(connection, row),
        "RootFS": {"Type": "layers", "Layers": rootfs.get("diff_ids") or []},
        "Labels": row["labels"] or None,
        "Annotations": {},
        "ManifestType": row["media_type"],
        "User": settings.get("User") or "",
        "History": history,
        "NamesHistory": names,
    }


def _repository(name: str) -> str:
    head, slash, last = name.partition("@")[0].rpartition("/")
    return f"{head}{slash}{last.partition(':')[0]}"


def _image_driver(connection: sqlite3.Connection | None, row: Row) -> dict[str, Any]:
    """The storage drivers that hold the image's top layer."""
    chain = row["layers"][-1]["chain_id"] if row["layers"] else ""
    found = reads.rows(connection, "SELECT driver FROM layers WHERE chain_id=?", (chain,))
    return {"Name": ",".join(layer["driver"] for layer in found), "Data": {}}
