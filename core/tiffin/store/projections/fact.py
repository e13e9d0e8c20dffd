"""An event as the projections see it, and the statements that all of them share."""

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


Rule = Callable[[Fact], Statements]
"""What an event does to the tables."""


def text(value: Any) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"))


def opens(fact: Fact, operation: str) -> tuple[str, Sequence[Any]]:
    return (
        "INSERT INTO intents VALUES (?,?,?,?,?,?,?)",
        (fact.seq, fact.stream, operation, fact.command, fact.actor, fact.time, text(fact.data)),
    )


def closes(fact: Fact, operation: str) -> tuple[str, Sequence[Any]]:
    return "DELETE FROM intents WHERE stream=? AND operation=?", (fact.stream, operation)


def addressed(fact: Fact, attachment: dict[str, Any]) -> Statements:
    network = attachment["network"]["id"]
    plain = [address.partition("/")[0] for address in attachment["addresses"]]
    lease = (network, fact.key, attachment["mac"], " ".join(plain))
    return [
        *(("INSERT INTO addresses VALUES (?,?,?)", (network, a, fact.key)) for a in plain),
        ("INSERT OR REPLACE INTO leases VALUES (?,?,?,?)", lease),
    ]


def opening(operation: str) -> Rule:
    return lambda fact: [opens(fact, operation)]


def closing(operation: str) -> Rule:
    return lambda fact: [closes(fact, operation)]
