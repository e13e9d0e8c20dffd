"""What the events of pods do to the read tables."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from .fact import Fact, Rule, Statements, addressed, closes, opening, opens, text


def _pod_created(fact: Fact) -> Statements:
    d = fact.data
    row = (fact.key, d["name"], fact.time, d["network"], text(d.get("ports", [])),
           text(d.get("labels", {})), text(d["options"]), text(d["share"]),
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
        attachments=text(attachments),
        namespaces=text(d.get("namespaces", {})),
    )
    leased = [one for attachment in attachments for one in addressed(fact, attachment)]
    return [change, *leased, opens(fact, "start")]


def _pod_started(fact: Fact) -> Statements:
    pause = fact.data.get("pause_pid", 0)
    return [_pod_set(fact, up=1, started=fact.time, pause_pid=pause), closes(fact, "start")]


def _pod_down(operation: str) -> Rule:
    def rule(fact: Fact) -> Statements:
        return [
            _pod_set(fact, up=0, netns="", attachments="[]", namespaces="{}", pause_pid=0),
            ("DELETE FROM addresses WHERE container=?", (fact.key,)),
            closes(fact, operation),
        ]

    return rule


def _pod_names(fact: Fact) -> Statements:
    return [_pod_set(fact, attachments=text(fact.data["attachments"]))]


def _pod_removed(fact: Fact) -> Statements:
    return [
        ("DELETE FROM pods WHERE id=?", (fact.key,)),
        ("DELETE FROM addresses WHERE container=?", (fact.key,)),
        ("DELETE FROM leases WHERE container=?", (fact.key,)),
        ("DELETE FROM intents WHERE stream=?", (fact.stream,)),
    ]


RULES: dict[str, Rule] = {
    "pod.created": _pod_created,
    "pod.start_planned": _pod_start_planned,
    "pod.started": _pod_started,
    "pod.start_failed": _pod_down("start"),
    "pod.names_changed": _pod_names,
    "pod.stop_planned": opening("stop"),
    "pod.stopped": _pod_down("stop"),
    "pod.removal_planned": opening("remove"),
    "pod.removed": _pod_removed,
}
