"""Events of `system`: the store itself."""

from __future__ import annotations

from typing import ClassVar

from .base import Event


class StoreCreated(Event, frozen=True, kw_only=True):
    """The first event of every log."""

    TYPE: ClassVar[str] = "system.store_created"

    tiffin: str
    """Version of the engine that made it."""
    root: str


class ProjectionsRebuilt(Event, frozen=True, kw_only=True):
    """The read tables were thrown away and folded again from the log."""

    TYPE: ClassVar[str] = "system.projections_rebuilt"

    events: int


class Compacted(Event, frozen=True, kw_only=True):
    """Old streams of the log were folded into snapshots; the hashes of their events are kept."""

    TYPE: ClassVar[str] = "system.compacted"

    before: int
    """UTC ns: what was over by then."""
    streams: int
    events: int
    digest: str
    """SHA-256 over all that is kept of compacted events."""


class DamageRepaired(Event, frozen=True, kw_only=True):
    """`system check --repair` mended something. What it did to containers, images and layers has
    events of its own."""

    TYPE: ClassVar[str] = "system.damage_repaired"

    kind: str
    """One word, as `system check --format json` has it."""
    subject: str
    problem: str
    how: str


class DriverChosen(Event, frozen=True, kw_only=True):
    """Nobody said which driver to use, so the best that works here was taken, from now on."""

    TYPE: ClassVar[str] = "system.driver_chosen"

    kind: str
    name: str
    reason: str = ""
    """Why the preferred ones were passed over."""
