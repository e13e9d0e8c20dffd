"""What events of images, layers, mounts, manifest lists and transfers do to the read tables."""

from __future__ import annotations

from .fact import Fact, Rule, Statements, closes, closing, opening, opens, text


def _image_added(fact: Fact) -> Statements:
    d = fact.data
    row = (
        fact.key,
        d["manifest"],
        d.get("index", ""),
        d.get("media_type", ""),
        d.get("architecture", ""),
        d.get("os", ""),
        d.get("created", 0),
        fact.time,
        d["size"],
        text(d.get("labels", {})),
        text(d["layers"]),
    )
    return [("INSERT OR REPLACE INTO images VALUES (?,?,?,?,?,?,?,?,?,?,?)", row)]


def _image_tagged(fact: Fact) -> Statements:
    return [("INSERT OR REPLACE INTO tags VALUES (?,?)", (fact.data["name"], fact.key))]


def _image_untagged(fact: Fact) -> Statements:
    return [("DELETE FROM tags WHERE name=? AND image=?", (fact.data["name"], fact.key))]


def _image_step(fact: Fact) -> Statements:
    row = (fact.data["key"], fact.key, fact.data.get("parent", ""), fact.seq)
    return [("INSERT OR REPLACE INTO image_steps VALUES (?,?,?,?)", row)]


def _image_removal_planned(fact: Fact) -> Statements:
    return [
        ("DELETE FROM image_steps WHERE image=?", (fact.key,)),
        ("DELETE FROM images WHERE id=?", (fact.key,)),
        ("DELETE FROM tags WHERE image=?", (fact.key,)),
        opens(fact, "remove"),
    ]


def _mount_planned(fact: Fact) -> Statements:
    d = fact.data
    row = (fact.key, d["image_id"], d["driver"], text(d["layers"]), d["path"], 0,
           d.get("container", ""))  # fmt: skip
    return [("INSERT INTO image_mounts VALUES (?,?,?,?,?,?,?)", row), opens(fact, "mount")]


def _mount_made(fact: Fact) -> Statements:
    change = ("UPDATE image_mounts SET complete=1 WHERE id=?", (fact.key,))
    return [change, closes(fact, "mount")]


def _mount_removed(fact: Fact) -> Statements:
    return [("DELETE FROM image_mounts WHERE id=?", (fact.key,)), closes(fact, "mount")]


def _layer_unpacked(fact: Fact) -> Statements:
    d = fact.data
    row = (d["driver"], d["chain_id"], d["size"], d["entries"])
    return [("INSERT OR REPLACE INTO layers VALUES (?,?,?,?)", row), closes(fact, "unpack")]


def _layer_removed(fact: Fact) -> Statements:
    d = fact.data
    return [("DELETE FROM layers WHERE driver=? AND chain_id=?", (d["driver"], d["chain_id"]))]


def _list_changed(fact: Fact) -> Statements:
    row = (fact.key, fact.time, text(fact.data["manifests"]))
    insert = (
        "INSERT INTO manifests VALUES (?,?,?) "
        "ON CONFLICT (name) DO UPDATE SET manifests=excluded.manifests"
    )
    return [(insert, row)]


def _list_removed(fact: Fact) -> Statements:
    return [("DELETE FROM manifests WHERE name=?", (fact.key,))]


RULES: dict[str, Rule] = {
    "build.started": opening("build"),
    "build.finished": closing("build"),
    "build.failed": closing("build"),
    "transfer.planned": opening("transfer"),
    "transfer.finished": closing("transfer"),
    "transfer.failed": closing("transfer"),
    "image.added": _image_added,
    "image.tagged": _image_tagged,
    "image.untagged": _image_untagged,
    "image.step": _image_step,
    "image.removal_planned": _image_removal_planned,
    "image.removed": closing("remove"),
    "mount.planned": _mount_planned,
    "mount.made": _mount_made,
    "mount.removed": _mount_removed,
    "layer.unpack_planned": opening("unpack"),
    "layer.unpacked": _layer_unpacked,
    "layer.unpack_failed": closing("unpack"),
    "layer.removed": _layer_removed,
    "manifest.changed": _list_changed,
    "manifest.removed": _list_removed,
}
