"""Events of `manifest/NAME`: lists of images for several platforms, made here to be pushed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from .base import Event


class ManifestListChanged(Event, frozen=True, kw_only=True):
    """What is in a list now; the first of these makes it."""

    TYPE: ClassVar[str] = "manifest.changed"

    manifests: tuple[Mapping[str, Any], ...]
    """Descriptors, as an index has them (image-spec, image-index.md)."""


class ManifestListPushed(Event, frozen=True, kw_only=True):
    """A registry has it, and the images in it."""

    TYPE: ClassVar[str] = "manifest.pushed"

    destination: str
    digest: str


class ManifestListRemoved(Event, frozen=True, kw_only=True):
    """The list is gone; the images in it stay."""

    TYPE: ClassVar[str] = "manifest.removed"
