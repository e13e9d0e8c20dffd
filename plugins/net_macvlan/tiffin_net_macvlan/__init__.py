"""Networks straight on an interface of the host: macvlan and ipvlan links."""

from __future__ import annotations

from tiffin.hooks import DriverContext, NetworkDriver, hookimpl


@hookimpl
def network_driver(name: str, context: DriverContext) -> NetworkDriver | None:
    if name not in ("macvlan", "ipvlan"):
        return None
    from .driver import KINDS, LinkDriver

    return LinkDriver(KINDS[name], rootless=context.rootless)
