"""What the events of plugins and of the choice of drivers do to the read tables."""

from __future__ import annotations

from .fact import Fact, Rule, Statements


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


RULES: dict[str, Rule] = {
    "plugin.enabled": _plugin_enabled,
    "plugin.disabled": _plugin_disabled,
    "system.driver_chosen": _driver_chosen,
}
