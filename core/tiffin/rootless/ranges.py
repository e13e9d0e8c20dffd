"""The ids that an ordinary user has besides their own: /etc/subuid and /etc/subgid (subuid(5))."""

from __future__ import annotations

from collections.abc import Iterable

from ..errors import UserError

FILES = {"uid": "/etc/subuid", "gid": "/etc/subgid"}
LARGEST = 2**32 - 2
USUAL = 65536
"""Ids that distributions hand out, and that images count on."""

Range = tuple[int, int]
"""(first id, how many)."""


def lines(text: str) -> list[tuple[str, int, int]]:
    """(user, first, count) of each line; what is no range is passed over."""
    found = []
    for line in text.splitlines():
        user, _, rest = line.strip().partition(":")
        first, _, count = rest.partition(":")
        if not (user and first.isascii() and first.isdecimal() and count.isascii()):
            continue
        if count.isdecimal() and int(count) and int(first) + int(count) - 1 <= LARGEST:
            found.append((user, int(first), int(count)))
    return found


def of_user(kind: str, name: str, uid: int) -> list[Range]:
    """All ranges of a user, by name or number, lowest first. Error: UserError for a range that
    overlaps another, of whomever it is: what is in both would belong to two."""
    path = FILES[kind]
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            given = lines(file.read())
    except FileNotFoundError:
        return []
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}") from None
    own = {name, str(uid)} - {""}
    mine = sorted({(first, count) for user, first, count in given if user in own})
    others = [(first, count) for user, first, count in given if user not in own]
    for number, one in enumerate(mine):
        if one[0] <= uid < one[0] + one[1] and kind == "uid":
            raise UserError(
                f"{path}: the range {_shown(one)} of {name or uid} has their own id {uid} in it",
                hint="an administrator gives another range: usermod --add-subuids",
            )
        if (other := _overlapping(one, [*mine[number + 1 :], *others])) is not None:
            raise UserError(
                f"{path}: the range {_shown(one)} of {name or uid} overlaps {_shown(other)}",
                hint=f"an administrator removes one of them: usermod --del-sub{kind}s",
            )
    return mine


def _overlapping(one: Range, others: Iterable[Range]) -> Range | None:
    return next(
        (o for o in others if one[0] < o[0] + o[1] and o[0] < one[0] + one[1]),
        None,
    )


def _shown(one: Range) -> str:
    return f"{one[0]}:{one[1]}"


def mapping(own: int, ranges: Iterable[Range]) -> list[tuple[int, int, int]]:
    """(inside, outside, count): the user is root in there, and the ranges follow from 1 on."""
    found = [(0, own, 1)]
    inside = 1
    for first, count in ranges:
        found.append((inside, first, count))
        inside += count
    return found
