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
    options: Mapping[str, str] = {}
    """Of driver `local`: type, device and o as mount(8) takes them. Then the directory is a mount
    for as long as a container with it runs, or somebody has it mounted by `volume mount`."""
    anonymous: bool = False
    """Made for one container, and removed with it by `rm --volumes` and `--rm`."""


class VolumePopulated(Event, frozen=True, kw_only=True):
    """The volume has what the image of its first container had in that place (copy-up)."""

    TYPE: ClassVar[str] = "volume.populated"

    container: str


class VolumeMountPlanned(Event, frozen=True, kw_only=True):
    """A volume that has options is about to be mounted at its directory."""

    TYPE: ClassVar[str] = "volume.mount_planned"
    OPENS: ClassVar[str] = "mount"

    path: str
    container: str = ""
    """For which container; empty for `volume mount`."""


class VolumeMounted(Event, frozen=True, kw_only=True):
    """It is mounted, or, of a volume without options, to stay where it is."""

    TYPE: ClassVar[str] = "volume.mounted"
    CLOSES: ClassVar[str] = "mount"

    pinned: bool = False
    """By `volume mount`: it stays until `volume unmount`, whether a container uses it or not."""


class VolumeUnpinned(Event, frozen=True, kw_only=True):
    """`volume unmount`: it stays mounted only for the containers that use it."""

    TYPE: ClassVar[str] = "volume.unpinned"


class VolumeUnmounted(Event, frozen=True, kw_only=True):
    """It is mounted no longer: nobody used it any more."""

    TYPE: ClassVar[str] = "volume.unmounted"
    CLOSES: ClassVar[str] = "mount"


class VolumeImported(Event, frozen=True, kw_only=True):
    """Files came into the volume out of a tar (`volume import`)."""

    TYPE: ClassVar[str] = "volume.imported"

    source: str
    """Path of the tar; `-` for standard input."""


class VolumeRemovalPlanned(Event, frozen=True, kw_only=True):
    """The volume is no longer defined, and its files are about to go."""

    TYPE: ClassVar[str] = "volume.removal_planned"
    OPENS: ClassVar[str] = "remove"

    path: str


class VolumeRemoved(Event, frozen=True, kw_only=True):
    """Nothing of the volume is left."""

    TYPE: ClassVar[str] = "volume.removed"
    CLOSES: ClassVar[str] = "remove"
