"""Events of `plugin/KIND.NAME`."""

from __future__ import annotations

from typing import ClassVar

from .base import Event


class PluginEnabled(Event, frozen=True, kw_only=True):
    """A plugin may be used again; or the package was chosen whose plugin of that name is used."""

    TYPE: ClassVar[str] = "plugin.enabled"

    package: str = ""
    """Chosen among several that have a plugin of this name."""


class PluginDisabled(Event, frozen=True, kw_only=True):
    """Nothing uses the plugin from now on."""

    TYPE: ClassVar[str] = "plugin.disabled"

    forced: bool = False
    """Although something depended on it."""
