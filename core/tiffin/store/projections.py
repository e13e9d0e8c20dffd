"""What each event does to the read tables: pure functions from an event to SQL statements.

They run in the transaction that appends the event; folding the whole log again with them must give
identical tables (`tiffin system rebuild`).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any

Statements = list[tuple[str, Sequence[Any]]]


class Fact:
    """An event as the projections see it: `key` is what follows the first `/` of the stream."""

    __slots__ = ("actor", "command", "data", "key", "seq", "stream", "time", "type")

    def __init__(
        self, seq: int, stream: str, type_: str, time: int, command: str, actor: str, data: str
    ) -> None:
        self.seq = seq
        self.stream = stream
        self.key = stream.partition("/")[2]
        self.type = type_
        self.time = time
        self.command = command
        self.actor = actor
        self.data: dict[str, Any] = json.loads(data)


def project(
    seq: int,
    stream: str,
    version: int,
    type_: str,
    time: int,
    command: str,
    actor: str,
    data: str,
) -> Statements:
    """Statements for one event; an unknown type changes nothing."""
    rule = RULES.get(type_)
    if rule is None:
        return []
    return rule(Fact(seq, stream, type_, time, command, actor, data))


def _text(value: Any) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"))


def _opens(fact: Fact, operation: str) -> tuple[str, Sequence[Any]]:
    return (
        "INSERT INTO intents VALUES (?,?,?,?,?,?,?)",
        (fact.seq, fact.stream, operation, fact.command, fact.actor, fact.time, _text(fact.data)),
    )


def _closes(fact: Fact, operation: str) -> tuple[str, Sequence[Any]]:
    return "DELETE FROM intents WHERE stream=? AND operation=?", (fact.stream, operation)


def _set(fact: Fact, **columns: Any) -> tuple[str, Sequence[Any]]:
    names = ", ".join(f"{name}=?" for name in columns)
    return f"UPDATE containers SET {names} WHERE id=?", (*columns.values(), fact.key)  # noqa: S608


# --- containers -----------------------------------------------------------------------------------


def _creation_planned(fact: Fact) -> Statements:
    d = fact.data
    columns = {
        "id": fact.key,
        "name": d["name"],
        "state": "creating",
        "image": d["image"],
        "image_id": d["image_id"],
        "image_name": d["image_name"],
        "command": _text(d["command"]),
        "created": fact.time,
        "storage_driver": d["storage_driver"],
        "runtime": d["runtime"],
        "network": d["network"],
        "ports": _text(d.get("ports", [])),
        "labels": _text(d.get("labels", {})),
        "layers": _text(d["layers"]),
        "options": _text(d["options"]),
        "directory": d["directory"],
        "stop_signal": d.get("stop_signal", 15),
        "stop_timeout": d.get("stop_timeout", 10),
        "remove": int(d.get("remove", False)),
    }
    given = d.get("security_labels", {})
    if given:
        columns["security_labels"] = _text(given)
        for column in ("process_label", "mount_label"):
            columns[column] = next((v[column] for v in given.values() if v.get(column)), "")
    if maps := d.get("id_maps"):
        columns["id_maps"] = _text(maps)
    marks = ",".join("?" * len(columns))
    insert = f"INSERT INTO containers ({', '.join(columns)}) VALUES ({marks})"  # noqa: S608
    wishes: Statements = [
        (
            "INSERT INTO leases SELECT id,?,?,? FROM networks WHERE name=?",
            (fact.key, join.get("mac", ""), " ".join(join.get("addresses", ())), join["network"]),
        )
        for join in d["options"].get("joins", ())
    ]
    claims = [
        ("INSERT INTO label_claims VALUES (?,?)", (f"{provider} {labels['claim']}", fact.key))
        for provider, labels in given.items()
        if labels.get("claim")
    ]
    return [(insert, tuple(columns.values())), *wishes, *claims, _opens(fact, "create")]


def _created(fact: Fact) -> Statements:
    return [_set(fact, state="created"), _closes(fact, "create")]


def _mounted(fact: Fact) -> Statements:
    pinned = int(fact.data.get("pinned", False))
    change = (
        "UPDATE containers SET mounted=?, pinned=max(pinned, ?) WHERE id=?",
        (fact.data["path"], pinned, fact.key),
    )
    return [change, _closes(fact, "mount")]


def _unmounted(fact: Fact) -> Statements:
    return [_set(fact, mounted="", pinned=0), _closes(fact, "unmount")]


def _init_planned(fact: Fact) -> Statements:
    d = fact.data
    attachments = d.get("attachments", [])
    statements = [
        _set(
            fact,
            bundle=d["bundle"],
            cgroup=d.get("cgroup", ""),
            netns=d.get("netns", ""),
            attachments=_text(attachments),
            error="",
        ),
        _opens(fact, "init"),
    ]
    for attachment in attachments:
        statements += _addressed(fact, attachment)
    return statements


def _addressed(fact: Fact, attachment: dict[str, Any]) -> Statements:
    network = attachment["network"]["id"]
    plain = [address.partition("/")[0] for address in attachment["addresses"]]
    lease = (network, fact.key, attachment["mac"], " ".join(plain))
    return [
        *(("INSERT INTO addresses VALUES (?,?,?)", (network, a, fact.key)) for a in plain),
        ("INSERT OR REPLACE INTO leases VALUES (?,?,?,?)", lease),
    ]


def _initialized(fact: Fact) -> Statements:
    d = fact.data
    change = _set(
        fact,
        state="initialized",
        pid=d["pid"],
        conmon_pid=d["conmon_pid"],
        spec=d["spec"],
        exit_code=0,
        oom=0,
    )
    return [change, _closes(fact, "init")]


def _config_rewritten(fact: Fact) -> Statements:
    return [_set(fact, spec=fact.data["spec"])]


def _started(fact: Fact) -> Statements:
    # The exit command may have been quicker: a container that has ended stays ended.
    return [
        (
            "UPDATE containers SET started=?, finished=0, health_failing=0, "
            "health=CASE WHEN json_extract(options, '$.health.test') IS NULL THEN '' "
            "ELSE 'starting' END, "
            "state=CASE WHEN state='initialized' THEN 'running' ELSE state END WHERE id=?",
            (fact.time, fact.key),
        ),
        _closes(fact, "start"),
    ]


def _exited(fact: Fact) -> Statements:
    d = fact.data
    change = _set(
        fact,
        state="exited",
        exit_code=d["exit_code"],
        oom=int(d.get("oom", False)),
        finished=fact.time,
        pid=0,
        conmon_pid=0,
    )
    return [change]


def _paused(fact: Fact) -> Statements:
    return [_while_live(fact, "paused"), _closes(fact, "pause")]


def _unpaused(fact: Fact) -> Statements:
    return [_while_live(fact, "running"), _closes(fact, "unpause")]


def _while_live(fact: Fact, state: str) -> tuple[str, Sequence[Any]]:
    """As in `_started`: the exit command may have been quicker."""
    return (
        "UPDATE containers SET state=? WHERE id=? AND state IN ('running','paused')",
        (state, fact.key),
    )


def _health_checked(fact: Fact) -> Statements:
    return [_set(fact, health=fact.data["status"], health_failing=fact.data.get("failing", 0))]


def _renamed(fact: Fact) -> Statements:
    return [_set(fact, name=fact.data["name"])]


def _updated(fact: Fact) -> Statements:
    change = (
        "UPDATE containers SET options=json_set(options, '$.resources', json(?)) WHERE id=?",
        (_text(fact.data["resources"]), fact.key),
    )
    return [change, _closes(fact, "update")]


def _network_gone(fact: Fact) -> Statements:
    return [
        _set(fact, netns="", attachments="[]", cgroup=""),
        ("DELETE FROM addresses WHERE container=?", (fact.key,)),
    ]


def _connect_planned(fact: Fact) -> Statements:
    d = fact.data
    return [
        _set(fact, attachments=_text(d.get("attachments", []))),
        *_addressed(fact, d["attachment"]),
        _opens(fact, "connect"),
    ]


def _networks(fact: Fact) -> tuple[str, Sequence[Any]]:
    """Names and wishes of all the networks that a container is on."""
    d = fact.data
    return (
        "UPDATE containers SET network=?, options=json_set(options, '$.joins', json(?)) WHERE id=?",
        (d["networks"], _text(d.get("joins", [])), fact.key),
    )


def _connected(fact: Fact) -> Statements:
    wished: Statements = [
        (
            "INSERT OR IGNORE INTO leases SELECT id,?,?,? FROM networks WHERE name=?",
            (fact.key, join.get("mac", ""), " ".join(join.get("addresses", ())), join["network"]),
        )
        for join in fact.data.get("joins", ())
    ]
    return [_networks(fact), *wished, _closes(fact, "connect")]


def _off(fact: Fact, attachments: list[Any]) -> Statements:
    """Without a network, on others."""
    place = (fact.key, fact.data["network_id"])
    return [
        _set(fact, attachments=_text(attachments)),
        ("DELETE FROM addresses WHERE container=? AND network=?", place),
        ("DELETE FROM leases WHERE container=? AND network=?", place),
    ]


def _connect_failed(fact: Fact) -> Statements:
    return [*_off(fact, fact.data.get("before", [])), _closes(fact, "connect")]


def _disconnected(fact: Fact) -> Statements:
    gone = _off(fact, fact.data.get("attachments", []))
    return [*gone, _networks(fact), _closes(fact, "disconnect")]


def _cleaned_up(fact: Fact) -> Statements:
    unmount = (
        "UPDATE containers SET mounted=CASE WHEN pinned THEN mounted ELSE '' END WHERE id=?",
        (fact.key,),
    )
    return [*_network_gone(fact), unmount, _closes(fact, "cleanup")]


def _removal_planned(fact: Fact) -> Statements:
    return [_set(fact, state="removing"), _opens(fact, "remove")]


def _removed(fact: Fact) -> Statements:
    return [
        ("DELETE FROM containers WHERE id=?", (fact.key,)),
        ("DELETE FROM addresses WHERE container=?", (fact.key,)),
        ("DELETE FROM leases WHERE container=?", (fact.key,)),
        ("DELETE FROM label_claims WHERE container=?", (fact.key,)),
        ("DELETE FROM execs WHERE container=?", (fact.key,)),
        ("DELETE FROM intents WHERE stream=?", (fact.stream,)),
    ]


def _failed(fact: Fact) -> Statements:
    d = fact.data
    statements = [_closes(fact, d["operation"])]
    if d["operation"] == "create":
        return [*statements, *_removed(fact)]
    if d["operation"] == "init":
        statements += _network_gone(fact)
    statements.append(_set(fact, state=d["state"], error=d.get("error", "")))
    return statements


def _recovered(fact: Fact) -> Statements:
    return _failed(fact)


# --- execs ----------------------------------------------------------------------------------------


def _exec_planned(fact: Fact) -> Statements:
    d = fact.data
    row = (
        fact.key,
        d["container"],
        _text(d["command"]),
        "planned",
        fact.time,
        0,
        0,
        d["directory"],
    )
    return [("INSERT INTO execs VALUES (?,?,?,?,?,?,?,?)", row), _opens(fact, "exec")]


def _exec_started(fact: Fact) -> Statements:
    return [("UPDATE execs SET state='running', pid=? WHERE id=?", (fact.data["pid"], fact.key))]


def _exec_ended(fact: Fact) -> Statements:
    return [("DELETE FROM execs WHERE id=?", (fact.key,)), _closes(fact, "exec")]


# --- images, layers, networks ---------------------------------------------------------------------


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
        _text(d.get("labels", {})),
        _text(d["layers"]),
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
        _opens(fact, "remove"),
    ]


def _mount_planned(fact: Fact) -> Statements:
    d = fact.data
    row = (fact.key, d["image_id"], d["driver"], _text(d["layers"]), d["path"], 0,
           d.get("container", ""))  # fmt: skip
    return [("INSERT INTO image_mounts VALUES (?,?,?,?,?,?,?)", row), _opens(fact, "mount")]


def _mount_made(fact: Fact) -> Statements:
    change = ("UPDATE image_mounts SET complete=1 WHERE id=?", (fact.key,))
    return [change, _closes(fact, "mount")]


def _mount_removed(fact: Fact) -> Statements:
    return [("DELETE FROM image_mounts WHERE id=?", (fact.key,)), _closes(fact, "mount")]


def _layer_unpacked(fact: Fact) -> Statements:
    d = fact.data
    row = (d["driver"], d["chain_id"], d["size"], d["entries"])
    return [("INSERT OR REPLACE INTO layers VALUES (?,?,?,?)", row), _closes(fact, "unpack")]


def _layer_removed(fact: Fact) -> Statements:
    d = fact.data
    return [("DELETE FROM layers WHERE driver=? AND chain_id=?", (d["driver"], d["chain_id"]))]


def _network_created(fact: Fact) -> Statements:
    config = fact.data["config"]
    row = (fact.key, config["name"], config["driver"], fact.time, _text(config))
    return [("INSERT INTO networks VALUES (?,?,?,?,?)", row)]


def _network_updated(fact: Fact) -> Statements:
    change = "UPDATE networks SET config=? WHERE id=?", (_text(fact.data["config"]), fact.key)
    return [change, _closes(fact, "update")]


def _network_removal_planned(fact: Fact) -> Statements:
    return [("DELETE FROM networks WHERE id=?", (fact.key,)), _opens(fact, "remove")]


def _network_removed(fact: Fact) -> Statements:
    return [("DELETE FROM networks WHERE id=?", (fact.key,)), _closes(fact, "remove")]


def _list_changed(fact: Fact) -> Statements:
    row = (fact.key, fact.time, _text(fact.data["manifests"]))
    insert = (
        "INSERT INTO manifests VALUES (?,?,?) "
        "ON CONFLICT (name) DO UPDATE SET manifests=excluded.manifests"
    )
    return [(insert, row)]


def _list_removed(fact: Fact) -> Statements:
    return [("DELETE FROM manifests WHERE name=?", (fact.key,))]


def _pod_created(fact: Fact) -> Statements:
    d = fact.data
    row = (fact.key, d["name"], fact.time, d["network"], _text(d.get("ports", [])),
           _text(d.get("labels", {})), _text(d["options"]), _text(d["share"]),
           d["directory"])  # fmt: skip
    insert = (
        "INSERT INTO pods (id, name, created, network, ports, labels, options, share, directory) "
        "VALUES (?,?,?,?,?,?,?,?,?)"
    )
    return [(insert, row)]


def _pod_set(fact: Fact, **columns: Any) -> tuple[str, Sequence[Any]]:
    names = ", ".join(f"{name}=?" for name in columns)
    return f"UPDATE pods SET {names} WHERE id=?", (*columns.values(), fact.key)  # noqa: S608


def _pod_start_planned(fact: Fact) -> Statements:
    d = fact.data
    attachments = d.get("attachments", [])
    change = _pod_set(
        fact,
        netns=d.get("netns", ""),
        attachments=_text(attachments),
        namespaces=_text(d.get("namespaces", {})),
    )
    addressed = [one for attachment in attachments for one in _addressed(fact, attachment)]
    return [change, *addressed, _opens(fact, "start")]


def _pod_started(fact: Fact) -> Statements:
    pause = fact.data.get("pause_pid", 0)
    return [_pod_set(fact, up=1, started=fact.time, pause_pid=pause), _closes(fact, "start")]


def _pod_down(operation: str) -> Callable[[Fact], Statements]:
    def rule(fact: Fact) -> Statements:
        return [
            _pod_set(fact, up=0, netns="", attachments="[]", namespaces="{}", pause_pid=0),
            ("DELETE FROM addresses WHERE container=?", (fact.key,)),
            _closes(fact, operation),
        ]

    return rule


def _pod_names(fact: Fact) -> Statements:
    return [_pod_set(fact, attachments=_text(fact.data["attachments"]))]


def _pod_removed(fact: Fact) -> Statements:
    return [
        ("DELETE FROM pods WHERE id=?", (fact.key,)),
        ("DELETE FROM addresses WHERE container=?", (fact.key,)),
        ("DELETE FROM leases WHERE container=?", (fact.key,)),
        ("DELETE FROM intents WHERE stream=?", (fact.stream,)),
    ]


def _volume_created(fact: Fact) -> Statements:
    d = fact.data
    row = (fact.key, d.get("driver", "local"), d["path"], fact.time, _text(d.get("labels", {})),
           int(d.get("anonymous", False)), _text(d.get("options", {})))  # fmt: skip
    return [("INSERT OR IGNORE INTO volumes VALUES (?,?,?,?,?,?,0,?,0,0)", row)]


def _volume_populated(fact: Fact) -> Statements:
    return [("UPDATE volumes SET populated=1 WHERE name=?", (fact.key,))]


def _volume_mount_planned(fact: Fact) -> Statements:
    # Mounted from here on, as far as anybody who is to undo it is concerned.
    return [
        ("UPDATE volumes SET mounted=1 WHERE name=?", (fact.key,)),
        _opens(fact, "mount"),
    ]


def _volume_mounted(fact: Fact) -> Statements:
    pinned = int(fact.data.get("pinned", False))
    change = ("UPDATE volumes SET pinned=max(pinned, ?) WHERE name=?", (pinned, fact.key))
    return [change, _closes(fact, "mount")]


def _volume_unpinned(fact: Fact) -> Statements:
    return [("UPDATE volumes SET pinned=0 WHERE name=?", (fact.key,))]


def _volume_unmounted(fact: Fact) -> Statements:
    change = ("UPDATE volumes SET mounted=0, pinned=0 WHERE name=?", (fact.key,))
    return [change, _closes(fact, "mount")]


def _volume_removal_planned(fact: Fact) -> Statements:
    return [("DELETE FROM volumes WHERE name=?", (fact.key,)), _opens(fact, "remove")]


def _secret_planned(fact: Fact) -> Statements:
    d = fact.data
    row = (fact.key, d["name"], _text(d.get("labels", {})), fact.time, 0)
    return [("INSERT INTO secrets VALUES (?,?,?,?,?)", row), _opens(fact, "create")]


def _secret_created(fact: Fact) -> Statements:
    change = ("UPDATE secrets SET complete=1 WHERE id=?", (fact.key,))
    return [change, _closes(fact, "create")]


def _secret_failed(fact: Fact) -> Statements:
    return [("DELETE FROM secrets WHERE id=?", (fact.key,)), _closes(fact, "create")]


def _secret_removal_planned(fact: Fact) -> Statements:
    return [("DELETE FROM secrets WHERE id=?", (fact.key,)), _opens(fact, "remove")]


def _driver_chosen(fact: Fact) -> Statements:
    d = fact.data
    row = (d["kind"], d["name"], d.get("reason", ""))
    return [("INSERT OR REPLACE INTO defaults VALUES (?,?,?)", row)]


def _plugin_enabled(fact: Fact) -> Statements:
    row = (fact.key, 1, fact.data.get("package", ""), fact.time)
    return [("INSERT OR REPLACE INTO plugins VALUES (?,?,?,?)", row)]


def _plugin_disabled(fact: Fact) -> Statements:
    return [
        (
            "INSERT INTO plugins VALUES (?,0,'',?) ON CONFLICT (name) DO UPDATE SET "
            "enabled=0, changed=excluded.changed",
            (fact.key, fact.time),
        )
    ]


def _opening(operation: str) -> Callable[[Fact], Statements]:
    return lambda fact: [_opens(fact, operation)]


def _closing(operation: str) -> Callable[[Fact], Statements]:
    return lambda fact: [_closes(fact, operation)]


def _restart_policy_changed(fact: Fact) -> Statements:
    d = fact.data
    change = "json_set(options, '$.restart', ?, '$.restart_limit', ?)"
    values = (d["restart"], d.get("restart_limit", 0), fact.key)
    return [(f"UPDATE containers SET options={change} WHERE id=?", values)]  # noqa: S608


def _runtime_changed(fact: Fact) -> Statements:
    return [_set(fact, runtime=fact.data["runtime"])]


def _storage_switched(fact: Fact) -> Statements:
    return [_set(fact, storage_driver=fact.data["driver"])]


RULES: dict[str, Callable[[Fact], Statements]] = {
    "container.creation_planned": _creation_planned,
    "container.created": _created,
    "container.mount_planned": _opening("mount"),
    "container.mounted": _mounted,
    "container.unmount_planned": _opening("unmount"),
    "container.unmounted": _unmounted,
    "container.init_planned": _init_planned,
    "container.initialized": _initialized,
    "container.start_planned": _opening("start"),
    "container.config_rewritten": _config_rewritten,
    "container.started": _started,
    "container.pause_planned": _opening("pause"),
    "container.paused": _paused,
    "container.unpause_planned": _opening("unpause"),
    "container.unpaused": _unpaused,
    "container.renamed": _renamed,
    "container.update_planned": _opening("update"),
    "container.updated": _updated,
    "container.restart_policy_changed": _restart_policy_changed,
    "container.runtime_changed": _runtime_changed,
    "container.migration_planned": _opening("migrate"),
    "container.storage_switched": _storage_switched,
    "container.migrated": _closing("migrate"),
    "container.exited": _exited,
    "container.network_reload_planned": _opening("reload"),
    "container.network_reloaded": _closing("reload"),
    "container.connect_planned": _connect_planned,
    "container.connected": _connected,
    "container.connect_failed": _connect_failed,
    "container.disconnect_planned": _opening("disconnect"),
    "container.disconnected": _disconnected,
    "container.cleanup_planned": _opening("cleanup"),
    "container.cleaned_up": _cleaned_up,
    "container.removal_planned": _removal_planned,
    "container.removed": _removed,
    "container.failed": _failed,
    "container.recovered": _recovered,
    "health.checked": _health_checked,
    "exec.planned": _exec_planned,
    "exec.started": _exec_started,
    "exec.exited": _exec_ended,
    "exec.failed": _exec_ended,
    "build.started": _opening("build"),
    "build.finished": _closing("build"),
    "build.failed": _closing("build"),
    "transfer.planned": _opening("transfer"),
    "transfer.finished": _closing("transfer"),
    "transfer.failed": _closing("transfer"),
    "image.added": _image_added,
    "image.tagged": _image_tagged,
    "image.untagged": _image_untagged,
    "image.step": _image_step,
    "image.removal_planned": _image_removal_planned,
    "image.removed": _closing("remove"),
    "mount.planned": _mount_planned,
    "mount.made": _mount_made,
    "mount.removed": _mount_removed,
    "layer.unpack_planned": _opening("unpack"),
    "layer.unpacked": _layer_unpacked,
    "layer.unpack_failed": _closing("unpack"),
    "layer.removed": _layer_removed,
    "network.created": _network_created,
    "network.update_planned": _opening("update"),
    "network.updated": _network_updated,
    "network.removal_planned": _network_removal_planned,
    "network.removed": _network_removed,
    "plugin.enabled": _plugin_enabled,
    "plugin.disabled": _plugin_disabled,
    "manifest.changed": _list_changed,
    "manifest.removed": _list_removed,
    "pod.created": _pod_created,
    "pod.start_planned": _pod_start_planned,
    "pod.started": _pod_started,
    "pod.start_failed": _pod_down("start"),
    "pod.names_changed": _pod_names,
    "pod.stop_planned": _opening("stop"),
    "pod.stopped": _pod_down("stop"),
    "pod.removal_planned": _opening("remove"),
    "pod.removed": _pod_removed,
    "volume.created": _volume_created,
    "volume.populated": _volume_populated,
    "volume.mount_planned": _volume_mount_planned,
    "volume.mounted": _volume_mounted,
    "volume.unpinned": _volume_unpinned,
    "volume.unmounted": _volume_unmounted,
    "volume.removal_planned": _volume_removal_planned,
    "volume.removed": _closing("remove"),
    "secret.creation_planned": _secret_planned,
    "secret.created": _secret_created,
    "secret.creation_failed": _secret_failed,
    "secret.removal_planned": _secret_removal_planned,
    "secret.removed": _closing("remove"),
    "system.driver_chosen": _driver_chosen,
}
"""type -> what it does to the tables. Types that are missing here change nothing."""
