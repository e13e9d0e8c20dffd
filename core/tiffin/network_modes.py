"""What the words of `--network` mean, before anything of the engine is loaded."""

from __future__ import annotations

from .errors import UserError
from .plugins import Plugins

DEFAULT = "bridge"
"""What `--network` means when it is not given, and the name of the default network."""

NO_NETWORK = ("none", "host")
"""Modes that are not networks."""


def names(network: str) -> list[str]:
    """`--network` as a list. Error: UserError for a combination that makes no sense."""
    found = [name for name in network.split(",") if name] or [DEFAULT]
    if len(found) > 1 and any(name in NO_NETWORK for name in found):
        raise UserError(f"--network {network}: none and host cannot be combined with others")
    return found


def warm_up(plugins: Plugins, network: str) -> None:
    """Let the drivers of these networks start loading, if the networks need one."""
    if any(name not in NO_NETWORK for name in names(network)):
        plugins.driver("network", DEFAULT).warm_up()
