"""Events of `build/ID`: one run of `build`. Secrets are in none of them."""

from __future__ import annotations

from typing import ClassVar

from .base import Event


class BuildStarted(Event, frozen=True, kw_only=True):
    """An image is about to be built. Containers of its steps have the label `io.tiffin.build` with
    the build's id; what it puts on disk for itself is in `directories`."""

    TYPE: ClassVar[str] = "build.started"
    OPENS: ClassVar[str] = "build"

    context: str
    """Directory, or `-` for a tar or a Dockerfile on standard input."""
    file: str = ""
    names: tuple[str, ...] = ()
    target: str = ""
    storage_driver: str
    directories: tuple[str, ...] = ()


class BuildStepStarted(Event, frozen=True, kw_only=True):
    """A step is at work: it is not in the cache."""

    TYPE: ClassVar[str] = "build.step_started"

    stage: int
    """From 1, among those that are built."""
    step: int
    """From 1; the FROM is one."""
    line: int
    instruction: str


class BuildStepFinished(Event, frozen=True, kw_only=True):
    """A step has given an image."""

    TYPE: ClassVar[str] = "build.step_finished"

    stage: int
    step: int
    line: int
    instruction: str
    image_id: str
    cached: bool = False
    """An earlier build had done it."""
    layer: str = ""
    """Diff id of the layer that it added, if any."""


class BuildFinished(Event, frozen=True, kw_only=True):
    """The image is there, under its names; nothing else of the build is left but the images of its
    steps, which later builds use."""

    TYPE: ClassVar[str] = "build.finished"
    CLOSES: ClassVar[str] = "build"

    image_id: str
    cached: int = 0
    """How many steps an earlier build had done."""
    steps: int


class BuildFailed(Event, frozen=True, kw_only=True):
    """The build failed, or was killed. Containers and files of its own are gone; the images of the
    steps that were done are kept for the next try."""

    TYPE: ClassVar[str] = "build.failed"
    CLOSES: ClassVar[str] = "build"

    error: str
    exit_code: int = 125
