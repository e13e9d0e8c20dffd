"""Events of `volume/NAME`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from .base import Event


class VolumeCreated(Event, frozen=True, kw_only=True):
    """A volume is defined. Its directory is made when it is first needed. For a name that is
    defined already this changes nothing: two containers may have asked for it at once."""

    TYPE: ClassVar[str] = "volume.created"

    path: str
    """The directory that is mounted into containers."""
    driver: str = "local"
    labels: Mapping[str, str] = {}
    anonymous: bool = False
    """Made for one container, and removed with it by `rm --volumes` and `--rm`."""


class VolumePopulated(Event, frozen=True, kw_only=True):
    """The volume has what the image of its first container had in that place (copy-up)."""

    TYPE: ClassVar[str] = "volume.populated"

    container: str


class VolumeRemovalPlanned(Event, frozen=True, kw_only=True):
    """The volume is no longer defined, and its files are about to go."""

    TYPE: ClassVar[str] = "volume.removal_planned"
    OPENS: ClassVar[str] = "remove"

    path: str


class VolumeRemoved(Event, frozen=True, kw_only=True):
    """Nothing of the volume is left."""

    TYPE: ClassVar[str] = "volume.removed"
    CLOSES: ClassVar[str] = "remove"
