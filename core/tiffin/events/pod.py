"""Events of `pod/ID`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from .base import Event


class PodCreated(Event, frozen=True, kw_only=True):
    """A pod is defined. Its namespaces are made when it, or its first container, is started."""

    TYPE: ClassVar[str] = "pod.created"

    name: str
    share: tuple[str, ...]
    """Namespaces that its containers have in common: net, ipc, uts, pid."""
    network: str
    options: Mapping[str, Any]
    """As a container's: joins, ports, hostname, dns, ..."""
    directory: str
    ports: tuple[Any, ...] = ()
    labels: Mapping[str, str] = {}


class PodStartPlanned(Event, frozen=True, kw_only=True):
    """Its namespaces are about to be made and pinned, and its network attached."""

    TYPE: ClassVar[str] = "pod.start_planned"
    OPENS: ClassVar[str] = "start"

    netns: str = ""
    attachments: tuple[Mapping[str, Any], ...] = ()
    namespaces: Mapping[str, str] = {}
    """{ipc, uts, shm: path}; `pid` is in it when a pause process is to hold that one."""


class PodStarted(Event, frozen=True, kw_only=True):
    """They are there."""

    TYPE: ClassVar[str] = "pod.started"
    CLOSES: ClassVar[str] = "start"

    pause_pid: int = 0
    """The process that holds the shared pid namespace; 0: it shares none, and needs no process."""
    processes: tuple[Mapping[str, Any], ...] = ()
    """`tiffin.hooks.Process` of what its networks have started, as plain data."""


class PodStartFailed(Event, frozen=True, kw_only=True):
    """They could not be made, and nothing of them is left."""

    TYPE: ClassVar[str] = "pod.start_failed"
    CLOSES: ClassVar[str] = "start"

    error: str = ""


class PodNamesChanged(Event, frozen=True, kw_only=True):
    """Its networks know it by other names: those of the containers in it by now."""

    TYPE: ClassVar[str] = "pod.names_changed"

    attachments: tuple[Mapping[str, Any], ...]


class PodStopPlanned(Event, frozen=True, kw_only=True):
    """Its containers have ended, and its namespaces are about to go."""

    TYPE: ClassVar[str] = "pod.stop_planned"
    OPENS: ClassVar[str] = "stop"


class PodStopped(Event, frozen=True, kw_only=True):
    """Nothing of it is on the machine any more but its definition."""

    TYPE: ClassVar[str] = "pod.stopped"
    CLOSES: ClassVar[str] = "stop"

    reason: str = ""


class PodKilled(Event, frozen=True, kw_only=True):
    """`pod kill`: a signal for all its containers."""

    TYPE: ClassVar[str] = "pod.killed"

    signal: int


class PodPaused(Event, frozen=True, kw_only=True):
    """`pod pause`: all its running containers are frozen."""

    TYPE: ClassVar[str] = "pod.paused"


class PodUnpaused(Event, frozen=True, kw_only=True):
    """`pod unpause`: they go on."""

    TYPE: ClassVar[str] = "pod.unpaused"


class PodRemovalPlanned(Event, frozen=True, kw_only=True):
    """It has no containers any more, and is about to go."""

    TYPE: ClassVar[str] = "pod.removal_planned"
    OPENS: ClassVar[str] = "remove"


class PodRemoved(Event, frozen=True, kw_only=True):
    """Nothing of it is left."""

    TYPE: ClassVar[str] = "pod.removed"
    CLOSES: ClassVar[str] = "remove"
