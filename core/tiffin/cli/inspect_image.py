"""An image as `inspect` shows it, by podman's names: from the config and manifest blobs, which are
kept as they came."""

from __future__ import annotations

from . import reads
from .gotemplate import Record
from .images import digests

TYPE_CHECKING = False  # without importing typing
if TYPE_CHECKING:
    import sqlite3
    from typing import Any

    from ..layout import Layout
    from ..store.queries import Row

TAGS = "SELECT name FROM tags WHERE image=? ORDER BY name"


def image(layout: Layout, connection: sqlite3.Connection, row: Row) -> dict[str, Any]:
    """Errors: NotFound and Corrupt when the config blob is gone or damaged."""
    config = reads.blob(layout, row["id"])
    names = [tag["name"] for tag in reads.rows(connection, TAGS, (row["id"],))]
    settings = config.get("config") or {}
    history = config.get("history") or []
    rootfs = config.get("rootfs") or {}
    manifest = reads.json_file(f"{layout.blobs}/sha256/{row['manifest'].removeprefix('sha256:')}")
    return Record(
        Id=row["id"].removeprefix("sha256:"),
        Digest=row["manifest"],
        RepoTags=[name for name in names if "@" not in name],
        RepoDigests=digests(names, row["manifest"]),
        Parent="",
        Comment=history[-1].get("comment", "") if history else "",
        Created=config.get("created") or reads.rfc3339(0),
        Config=settings,
        Version=config.get("docker_version", ""),
        Author=config.get("author", ""),
        Architecture=config.get("architecture", ""),
        Variant=config.get("variant", ""),
        Os=config.get("os", ""),
        Size=row["size"],
        VirtualSize=row["size"],
        GraphDriver=Record(Name="", Data={"Layers": [each["chain_id"] for each in row["layers"]]}),
        RootFS=Record(Type=rootfs.get("type", "layers"), Layers=rootfs.get("diff_ids") or []),
        Labels=settings.get("Labels"),
        Annotations=manifest.get("annotations") or {},
        ManifestType=row["media_type"],
        User=settings.get("User", ""),
        History=history,
        NamesHistory=names,
        Layers=row["layers"],
        Index=row["index_digest"],
    )
