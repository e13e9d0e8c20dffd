"""`--network slirp4netns`: a container's own network, by slirp4netns(1)."""

from __future__ import annotations

from tiffin.hooks import DriverContext, NetworkDriver, hookimpl


@hookimpl
def network_driver(name: str, context: DriverContext) -> NetworkDriver | None:
    if name != "slirp4netns":
        return None
    from .driver import SlirpDriver

    return SlirpDriver(context)
