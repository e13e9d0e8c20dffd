"""Events of `mount/ID`: the tree of an image, mounted for somebody to look at."""

from __future__ import annotations

from typing import ClassVar

from .base import Event


class ImageMountPlanned(Event, frozen=True, kw_only=True):
    """The layers of an image are about to be mounted at `path`, under this id."""

    TYPE: ClassVar[str] = "mount.planned"
    OPENS: ClassVar[str] = "mount"

    image_id: str
    driver: str
    layers: tuple[str, ...]
    path: str
    container: str = ""
    """Whose `--mount type=image` it is; empty: somebody is to look at it."""


class ImageMounted(Event, frozen=True, kw_only=True):
    """The tree is there: until `image unmount`, or until the container has ended."""

    TYPE: ClassVar[str] = "mount.made"
    CLOSES: ClassVar[str] = "mount"


class ImageUnmounted(Event, frozen=True, kw_only=True):
    """The tree is gone."""

    TYPE: ClassVar[str] = "mount.removed"
    CLOSES: ClassVar[str] = "mount"
