"""What the events of containers, their health and their execs do to the read tables."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from .fact import Fact, Rule, Statements, addressed, closes, closing, opening, opens, text


def _set(fact: Fact, **columns: Any) -> tuple[str, Sequence[Any]]:
    names = ", ".join(f"{name}=?" for name in columns)
    return f"UPDATE containers SET {names} WHERE id=?", (*columns.values(), fact.key)  # noqa: S608


def _creation_planned(fact: Fact) -> Statements:
    d = fact.data
    columns = {
        "id": fact.key,
        "name": d["name"],
        "state": "creating",
        "image": d["image"],
        "image_id": d["image_id"],
        "image_name": d["image_name"],
        "command": text(d["command"]),
        "created": fact.time,
        "storage_driver": d["storage_driver"],
        "runtime": d["runtime"],
        "network": d["network"],
        "ports": text(d.get("ports", [])),
        "labels": text(d.get("labels", {})),
        "layers": text(d["layers"]),
        "options": text(d["options"]),
        "directory": d["directory"],
        "stop_signal": d.get("stop_signal", 15),
        "stop_timeout": d.get("stop_timeout", 10),
        "remove": int(d.get("remove", False)),
    }
    given = d.get("security_labels", {})
    if given:
        columns["security_labels"] = text(given)
        for column in ("process_label", "mount_label"):
            columns[column] = next((v[column] for v in given.values() if v.get(column)), "")
    if maps := d.get("id_maps"):
        columns["id_maps"] = text(maps)
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
    return [(insert, tuple(columns.values())), *wishes, *claims, opens(fact, "create")]


def _created(fact: Fact) -> Statements:
    return [_set(fact, state="created"), closes(fact, "create")]


def _mounted(fact: Fact) -> Statements:
    pinned = int(fact.data.get("pinned", False))
    change = (
        "UPDATE containers SET mounted=?, pinned=max(pinned, ?) WHERE id=?",
        (fact.data["path"], pinned, fact.key),
    )
    return [change, closes(fact, "mount")]


def _unmounted(fact: Fact) -> Statements:
    return [_set(fact, mounted="", pinned=0), closes(fact, "unmount")]


def _init_planned(fact: Fact) -> Statements:
    d = fact.data
    attachments = d.get("attachments", [])
    statements = [
        _set(
            fact,
            bundle=d["bundle"],
            cgroup=d.get("cgroup", ""),
            netns=d.get("netns", ""),
            attachments=text(attachments),
            error="",
            spec="",  # config.json is being written anew
        ),
        opens(fact, "init"),
    ]
    for attachment in attachments:
        statements += addressed(fact, attachment)
    return statements


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
    return [change, closes(fact, "init")]


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
        closes(fact, "start"),
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
    return [_while_live(fact, "paused"), closes(fact, "pause")]


def _unpaused(fact: Fact) -> Statements:
    return [_while_live(fact, "running"), closes(fact, "unpause")]


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
        (text(fact.data["resources"]), fact.key),
    )
    return [change, closes(fact, "update")]


def _network_gone(fact: Fact) -> Statements:
    return [
        _set(fact, netns="", attachments="[]", cgroup=""),
        ("DELETE FROM addresses WHERE container=?", (fact.key,)),
    ]


def _connect_planned(fact: Fact) -> Statements:
    d = fact.data
    return [
        _set(fact, attachments=text(d.get("attachments", []))),
        *addressed(fact, d["attachment"]),
        opens(fact, "connect"),
    ]


def _networks(fact: Fact) -> tuple[str, Sequence[Any]]:
    """Names and wishes of all the networks that a container is on."""
    d = fact.data
    return (
        "UPDATE containers SET network=?, options=json_set(options, '$.joins', json(?)) WHERE id=?",
        (d["networks"], text(d.get("joins", [])), fact.key),
    )


def _connected(fact: Fact) -> Statements:
    wished: Statements = [
        (
            "INSERT OR IGNORE INTO leases SELECT id,?,?,? FROM networks WHERE name=?",
            (fact.key, join.get("mac", ""), " ".join(join.get("addresses", ())), join["network"]),
        )
        for join in fact.data.get("joins", ())
    ]
    return [_networks(fact), *wished, closes(fact, "connect")]


def _off(fact: Fact, attachments: list[Any]) -> Statements:
    """Without a network, on others."""
    place = (fact.key, fact.data["network_id"])
    return [
        _set(fact, attachments=text(attachments)),
        ("DELETE FROM addresses WHERE container=? AND network=?", place),
        ("DELETE FROM leases WHERE container=? AND network=?", place),
    ]


def _connect_failed(fact: Fact) -> Statements:
    return [*_off(fact, fact.data.get("before", [])), closes(fact, "connect")]


def _disconnected(fact: Fact) -> Statements:
    gone = _off(fact, fact.data.get("attachments", []))
    return [*gone, _networks(fact), closes(fact, "disconnect")]


def _cleaned_up(fact: Fact) -> Statements:
    unmount = (
        "UPDATE containers SET mounted=CASE WHEN pinned THEN mounted ELSE '' END WHERE id=?",
        (fact.key,),
    )
    return [*_network_gone(fact), unmount, closes(fact, "cleanup")]


def _removal_planned(fact: Fact) -> Statements:
    return [_set(fact, state="removing"), opens(fact, "remove")]


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
    statements = [closes(fact, d["operation"])]
    if d["operation"] == "create":
        return [*statements, *_removed(fact)]
    if d["operation"] == "init":
        statements += _network_gone(fact)
    statements.append(_set(fact, state=d["state"], error=d.get("error", "")))
    return statements


def _recovered(fact: Fact) -> Statements:
    return _failed(fact)


def _exec_planned(fact: Fact) -> Statements:
    d = fact.data
    row = (
        fact.key,
        d["container"],
        text(d["command"]),
        "planned",
        fact.time,
        0,
        0,
        d["directory"],
    )
    return [("INSERT INTO execs VALUES (?,?,?,?,?,?,?,?)", row), opens(fact, "exec")]


def _exec_started(fact: Fact) -> Statements:
    return [("UPDATE execs SET state='running', pid=? WHERE id=?", (fact.data["pid"], fact.key))]


def _exec_detached(fact: Fact) -> Statements:
    return [closes(fact, "exec")]


def _exec_ended(fact: Fact) -> Statements:
    return [("DELETE FROM execs WHERE id=?", (fact.key,)), closes(fact, "exec")]


def _restart_policy_changed(fact: Fact) -> Statements:
    d = fact.data
    change = "json_set(options, '$.restart', ?, '$.restart_limit', ?)"
    values = (d["restart"], d.get("restart_limit", 0), fact.key)
    return [(f"UPDATE containers SET options={change} WHERE id=?", values)]  # noqa: S608


def _runtime_changed(fact: Fact) -> Statements:
    return [_set(fact, runtime=fact.data["runtime"])]


def _storage_switched(fact: Fact) -> Statements:
    return [_set(fact, storage_driver=fact.data["driver"])]


RULES: dict[str, Rule] = {
    "container.creation_planned": _creation_planned,
    "container.created": _created,
    "container.mount_planned": opening("mount"),
    "container.mounted": _mounted,
    "container.unmount_planned": opening("unmount"),
    "container.unmounted": _unmounted,
    "container.init_planned": _init_planned,
    "container.initialized": _initialized,
    "container.start_planned": opening("start"),
    "container.config_rewritten": _config_rewritten,
    "container.started": _started,
    "container.pause_planned": opening("pause"),
    "container.paused": _paused,
    "container.unpause_planned": opening("unpause"),
    "container.unpaused": _unpaused,
    "container.renamed": _renamed,
    "container.update_planned": opening("update"),
    "container.updated": _updated,
    "container.restart_policy_changed": _restart_policy_changed,
    "container.runtime_changed": _runtime_changed,
    "container.migration_planned": opening("migrate"),
    "container.storage_switched": _storage_switched,
    "container.migrated": closing("migrate"),
    "container.exited": _exited,
    "container.network_reload_planned": opening("reload"),
    "container.network_reloaded": closing("reload"),
    "container.connect_planned": _connect_planned,
    "container.connected": _connected,
    "container.connect_failed": _connect_failed,
    "container.disconnect_planned": opening("disconnect"),
    "container.disconnected": _disconnected,
    "container.cleanup_planned": opening("cleanup"),
    "container.cleaned_up": _cleaned_up,
    "container.removal_planned": _removal_planned,
    "container.removed": _removed,
    "container.failed": _failed,
    "container.recovered": _recovered,
    "health.checked": _health_checked,
    "exec.planned": _exec_planned,
    "exec.started": _exec_started,
    "exec.detached": _exec_detached,
    "exec.exited": _exec_ended,
    "exec.failed": _exec_ended,
}
