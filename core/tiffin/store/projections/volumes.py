"""What the events of volumes and secrets do to the read tables."""

from __future__ import annotations

from .fact import Fact, Rule, Statements, closes, closing, opens, text


def _volume_created(fact: Fact) -> Statements:
    d = fact.data
    row = (fact.key, d.get("driver", "local"), d["path"], fact.time, text(d.get("labels", {})),
           int(d.get("anonymous", False)), text(d.get("options", {})))  # fmt: skip
    return [("INSERT OR IGNORE INTO volumes VALUES (?,?,?,?,?,?,0,?,0,0)", row)]


def _volume_populated(fact: Fact) -> Statements:
    return [("UPDATE volumes SET populated=1 WHERE name=?", (fact.key,))]


def _volume_mount_planned(fact: Fact) -> Statements:
    # Mounted from here on, as far as anybody who is to undo it is concerned.
    return [
        ("UPDATE volumes SET mounted=1 WHERE name=?", (fact.key,)),
        opens(fact, "mount"),
    ]


def _volume_mounted(fact: Fact) -> Statements:
    pinned = int(fact.data.get("pinned", False))
    change = ("UPDATE volumes SET pinned=max(pinned, ?) WHERE name=?", (pinned, fact.key))
    return [change, closes(fact, "mount")]


def _volume_unpinned(fact: Fact) -> Statements:
    return [("UPDATE volumes SET pinned=0 WHERE name=?", (fact.key,))]


def _volume_unmounted(fact: Fact) -> Statements:
    change = ("UPDATE volumes SET mounted=0, pinned=0 WHERE name=?", (fact.key,))
    return [change, closes(fact, "mount")]


def _volume_removal_planned(fact: Fact) -> Statements:
    return [("DELETE FROM volumes WHERE name=?", (fact.key,)), opens(fact, "remove")]


def _secret_planned(fact: Fact) -> Statements:
    d = fact.data
    row = (fact.key, d["name"], text(d.get("labels", {})), fact.time, 0)
    return [("INSERT INTO secrets VALUES (?,?,?,?,?)", row), opens(fact, "create")]


def _secret_created(fact: Fact) -> Statements:
    change = ("UPDATE secrets SET complete=1 WHERE id=?", (fact.key,))
    return [change, closes(fact, "create")]


def _secret_failed(fact: Fact) -> Statements:
    return [("DELETE FROM secrets WHERE id=?", (fact.key,)), closes(fact, "create")]


def _secret_removal_planned(fact: Fact) -> Statements:
    return [("DELETE FROM secrets WHERE id=?", (fact.key,)), opens(fact, "remove")]


RULES: dict[str, Rule] = {
    "volume.created": _volume_created,
    "volume.populated": _volume_populated,
    "volume.mount_planned": _volume_mount_planned,
    "volume.mounted": _volume_mounted,
    "volume.unpinned": _volume_unpinned,
    "volume.unmounted": _volume_unmounted,
    "volume.removal_planned": _volume_removal_planned,
    "volume.removed": closing("remove"),
    "secret.creation_planned": _secret_planned,
    "secret.created": _secret_created,
    "secret.creation_failed": _secret_failed,
    "secret.removal_planned": _secret_removal_planned,
    "secret.removed": closing("remove"),
}
