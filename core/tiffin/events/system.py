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
