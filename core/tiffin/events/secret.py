"""Events of `secret/ID`. Nothing of a secret's value is in them, not even its length."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from .base import Event


class SecretCreationPlanned(Event, frozen=True, kw_only=True):
    """A secret's file is about to be written. Its name is taken from now on."""

    TYPE: ClassVar[str] = "secret.creation_planned"
    OPENS: ClassVar[str] = "create"

    name: str
    labels: Mapping[str, str] = {}


class SecretCreated(Event, frozen=True, kw_only=True):
    """The secret can be used."""

    TYPE: ClassVar[str] = "secret.created"
    CLOSES: ClassVar[str] = "create"


class SecretCreationFailed(Event, frozen=True, kw_only=True):
    """The secret could not be written; nothing of it is left."""

    TYPE: ClassVar[str] = "secret.creation_failed"
    CLOSES: ClassVar[str] = "create"

    error: str


class SecretRemovalPlanned(Event, frozen=True, kw_only=True):
    """The secret is no longer there for new starts, and its file is about to go."""

    TYPE: ClassVar[str] = "secret.removal_planned"
    OPENS: ClassVar[str] = "remove"

    name: str


class SecretRemoved(Event, frozen=True, kw_only=True):
    """Nothing of the secret is left in the store."""

    TYPE: ClassVar[str] = "secret.removed"
    CLOSES: ClassVar[str] = "remove"
