"""What each event does to the read tables: pure functions from an event to SQL statements.

They run in the transaction that appends the event; folding the whole log again with them must give
identical tables (`tiffin system rebuild`).
"""

from __future__ import annotations

from . import containers, images, networks, pods, system, volumes
from .fact import Fact, Rule, Statements


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


RULES: dict[str, Rule] = {
    **containers.RULES,
    **images.RULES,
    **networks.RULES,
    **pods.RULES,
    **volumes.RULES,
    **system.RULES,
}
"""type -> what it does to the tables. Types that are missing here change nothing."""
