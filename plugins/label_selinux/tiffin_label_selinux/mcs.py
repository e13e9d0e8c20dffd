"""Multi-category security: every container has two categories of its own, so that none reads what
another wrote though both run in the same domain.

A level is `SENSITIVITY[:CATEGORIES]`, a range `LEVEL-LEVEL` (mls(8), the kernel's mls.c): `s0`,
`s0:c1,c7`, `s0:c0.c1023`, `s0-s0:c0.c1023`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Iterable

from tiffin.errors import DriverError

CATEGORIES = 1024
"""c0 to c1023: what policies define (`mcs_num_cats`)."""

Pair = tuple[int, int]

RESERVED: Pair = (CATEGORIES - 2, CATEGORIES - 1)
"""For the files of containers that run without a label: no labelled container may read them."""

PAIRS = math.comb(CATEGORIES, 2)

LEVEL = re.compile(r"s\d{1,3}(:c\d{1,4}([.,]c\d{1,4})*)?")


def pair_at(index: int) -> Pair:
    """The pairs (a, b), a < b, in order of b and then a: 0 -> (0, 1), PAIRS - 1 -> RESERVED."""
    b = (1 + math.isqrt(1 + 8 * index)) // 2
    return index - math.comb(b, 2), b


def choose(taken: Collection[Pair], start: int) -> Pair:
    """The first free pair from a (random) place on. Error: DriverError when none is free."""
    for step in range(PAIRS):
        pair = pair_at((start + step) % PAIRS)
        if pair != RESERVED and pair not in taken:
            return pair
    raise DriverError("SELinux: every pair of categories is in use", hint="remove containers")


def level(sensitivity: str, pair: Pair) -> str:
    return f"{sensitivity}:c{pair[0]},c{pair[1]}"


def sensitivity(text: str) -> str:
    """`s0:c1,c2` -> `s0`."""
    return text.partition(":")[0].partition("-")[0] or "s0"


def pairs(levels: Iterable[str]) -> set[Pair]:
    """The pairs among these levels; others, such as `s0:c0.c9`, can be no container's by chance."""
    found = set()
    for text in levels:
        match = re.fullmatch(r"s\d+:c(\d{1,4}),c(\d{1,4})", text)
        if match is not None:
            low, high = sorted((int(match[1]), int(match[2])))
            found.add((low, high))
    return found


def is_level(text: str) -> bool:
    """Whether that can be a level or a range of levels."""
    parts = text.split("-")
    return len(parts) <= 2 and all(
        LEVEL.fullmatch(part) and all(int(n) < CATEGORIES for n in re.findall(r"c(\d+)", part))
        for part in parts
    )
