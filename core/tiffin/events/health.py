"""Events of `container/ID` about its health: each check, and each change of what they say.

What a check wrote is not here: it may hold what nobody should keep. `inspect` shows the last ones
from a file in the container's own directory.
"""

from __future__ import annotations

from typing import ClassVar

from .base import Event


class HealthChecked(Event, frozen=True, kw_only=True):
    """The container's health check was run, by its timer or by hand."""

    TYPE: ClassVar[str] = "health.checked"

    exit_code: int
    """0 is healthy; -1: it was killed because it took too long."""
    status: str
    """What the container is called from now on: `starting`, `healthy` or `unhealthy`."""
    failing: int = 0
    """Failures in a row."""
    began: int
    """UTC ns; the event's time is that of its end."""


class HealthChanged(Event, frozen=True, kw_only=True):
    """The container is called something else than before the check."""

    TYPE: ClassVar[str] = "health.changed"

    status: str
    was: str
