"""What the events of networks do to the read tables."""

from __future__ import annotations

from .fact import Fact, Rule, Statements, closes, opening, opens, text


def _network_created(fact: Fact) -> Statements:
    config = fact.data["config"]
    row = (fact.key, config["name"], config["driver"], fact.time, text(config))
    return [("INSERT INTO networks VALUES (?,?,?,?,?)", row)]


def _network_updated(fact: Fact) -> Statements:
    change = "UPDATE networks SET config=? WHERE id=?", (text(fact.data["config"]), fact.key)
    return [change, closes(fact, "update")]


def _network_removal_planned(fact: Fact) -> Statements:
    return [("DELETE FROM networks WHERE id=?", (fact.key,)), opens(fact, "remove")]


def _network_removed(fact: Fact) -> Statements:
    return [("DELETE FROM networks WHERE id=?", (fact.key,)), closes(fact, "remove")]


RULES: dict[str, Rule] = {
    "network.created": _network_created,
    "network.update_planned": opening("update"),
    "network.updated": _network_updated,
    "network.removal_planned": _network_removal_planned,
    "network.removed": _network_removed,
}
