"""Checking the chain of hashes, and saying which event somebody altered, removed or inserted.

The chain alone convicts whoever changes rows without writing all later ones anew. Who does write
them all anew is convicted by a checkpoint (`seal`) that lies elsewhere.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from .log import GENESIS, digest

Gap = tuple[int, str, str]
"""Last seq, `prev` of the first event, hash of the last one."""
Problems = list[tuple[int, str]]


class _Walk:
    """The state of one walk over the log."""

    def __init__(self, gaps: Mapping[int, Gap]) -> None:
        self.gaps = gaps
        self.problems: Problems = []
        self.expected = 1
        self.hashes = (GENESIS, GENESIS)
        """Of the two rows before, the nearer one last."""
        self.shift = 0
        """What must be added to a row's seq for the seq that it was written with."""

    def say(self, seq: int, what: str) -> None:
        self.problems.append((seq, what))

    def step(self, row: tuple[Any, ...]) -> None:
        seq, prev, hash_ = row[0], row[8], row[9]
        missing = self.missing(seq)
        shift = self.shift_of(row)
        if shift is None:
            self.say(seq, f"event {seq} was altered")
        elif shift < self.shift:
            if self.problems and self.problems[-1][0] == seq - 1:
                self.problems.pop()  # whatever else was said of the event that does not belong
            self.say(seq - 1, f"event {seq - 1} was inserted, and those after it numbered anew")
            self.shift = shift
        elif shift > self.shift:
            self.say(
                seq, f"an event was removed before event {seq}, and those after it numbered anew"
            )
            self.shift = shift
        elif prev != self.hashes[1] and not missing:
            self.say(
                seq,
                f"event {seq} does not follow the event before it: event {seq - 1} was altered, "
                "its hash too",
            )
        self.hashes = (self.hashes[1], hash_)
        self.expected = seq + 1

    def missing(self, seq: int) -> bool:
        """Pass what was compacted; True when events are gone that nobody compacted."""
        while gap := self.gaps.get(self.expected):
            last, prev, hash_ = gap
            if prev != self.hashes[1]:
                self.say(last, f"the compacted events {self.expected}..{last} do not follow")
            self.hashes = (prev, hash_)
            self.expected = last + 1
        if seq == self.expected:
            return False
        first = self.expected
        gone = f"{first}" if seq == first + 1 else f"{first}..{seq - 1}"
        self.say(seq, f"event {gone} was removed before event {seq}")
        return True

    def shift_of(self, row: tuple[Any, ...]) -> int | None:
        """The shift under which the row's own hash is right; None: under none, it was altered."""
        for shift in (self.shift, self.shift - 1, self.shift + 1):
            if digest(row[8], (row[0] + shift, *row[1:8])) == row[9]:
                return shift
        return None


def verify(
    rows: Iterable[tuple[Any, ...]], gaps: Mapping[int, Gap] | None = None
) -> list[tuple[int, str]]:
    """Check the chain over rows of `events` in order of seq: [(seq, what is wrong)].

    `gaps` are the runs of events that were compacted, by their first seq.
    """
    walk = _Walk(gaps or {})
    for row in rows:
        walk.step(row)
    return walk.problems
