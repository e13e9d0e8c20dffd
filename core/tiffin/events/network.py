"""Events of `network/ID`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from .base import Event


class NetworkCreated(Event, frozen=True, kw_only=True):
    """A network is defined. Its interface is made when the first container is attached."""

    TYPE: ClassVar[str] = "network.created"

    config: Mapping[str, Any]
    """`tiffin.hooks.NetworkConfig` as plain data."""


class NetworkUpdatePlanned(Event, frozen=True, kw_only=True):
    """The name servers of a network are about to be others, for the containers on it as well."""

    TYPE: ClassVar[str] = "network.update_planned"
    OPENS: ClassVar[str] = "update"

    config: Mapping[str, Any]


class NetworkUpdated(Event, frozen=True, kw_only=True):
    """The network is defined anew."""

    TYPE: ClassVar[str] = "network.updated"
    CLOSES: ClassVar[str] = "update"

    config: Mapping[str, Any]


class NetworkRemovalPlanned(Event, frozen=True, kw_only=True):
    """A network is no longer defined, and what its driver made for it is about to go."""

    TYPE: ClassVar[str] = "network.removal_planned"
    OPENS: ClassVar[str] = "remove"

    config: Mapping[str, Any]


class NetworkRemoved(Event, frozen=True, kw_only=True):
    """Nothing of the network is left."""

    TYPE: ClassVar[str] = "network.removed"
    CLOSES: ClassVar[str] = "remove"
