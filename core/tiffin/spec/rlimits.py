"""Resource limits: defaults clamped to what the caller may set, explicit ones refused instead."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ..errors import UserError
from ..options import Ulimit

INFINITY = 2**64 - 1
"""RLIM_INFINITY as config.json has it (uint64)."""

NAMES = (
    "as core cpu data fsize locks memlock msgqueue nice nofile nproc rss rtprio rttime sigpending "
    "stack"
).split()
"""getrlimit(2), without RLIMIT_."""

DEFAULTS = {"nofile": 1048576, "nproc": 4194304}
"""What podman's default is for root."""


def limits(
    asked: Sequence[Ulimit], hard: Mapping[str, int], *, may_raise: bool
) -> list[tuple[dict[str, Any], str]]:
    """[(rlimit of config.json, flag that asked for it or "")], sorted by type.

    `hard` has the caller's hard limits (-1: unlimited). Raising one above them needs
    CAP_SYS_RESOURCE (`may_raise`): a default is clamped, an explicit limit is a UserError.
    """
    chosen: dict[str, tuple[int, int, str]] = {}
    inherited = any(limit.name == "host" for limit in asked)
    for name, value in () if inherited else DEFAULTS.items():
        top = hard.get(name, -1)
        clamped = value if may_raise or top < 0 else min(value, top)
        chosen[name] = (clamped, clamped, "")
    for limit in (one for one in asked if one.name != "host"):
        if limit.name not in NAMES:
            raise UserError(f"--ulimit {limit.name!r} is not a limit", hint=", ".join(NAMES))
        flag = f"--ulimit {limit.name}={_show(limit.soft)}:{_show(limit.hard)}"
        top = hard.get(limit.name, -1)
        if not may_raise and top >= 0 and (limit.hard < 0 or limit.hard > top):
            raise UserError(
                f"{flag}: above your own hard limit {top}",
                hint="raising it needs CAP_SYS_RESOURCE",
            )
        if limit.hard >= 0 and (limit.soft < 0 or limit.soft > limit.hard):
            raise UserError(f"{flag}: the soft limit is above the hard one")
        chosen[limit.name] = (_plain(limit.soft), _plain(limit.hard), flag)
    return [
        ({"type": f"RLIMIT_{name.upper()}", "soft": soft, "hard": high}, flag)
        for name, (soft, high, flag) in sorted(chosen.items())
    ]


def _plain(value: int) -> int:
    return INFINITY if value < 0 else value


def _show(value: int) -> str:
    return "unlimited" if value < 0 else str(value)
