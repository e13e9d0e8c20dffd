"""`--network pasta`: a container's own network, by pasta(1)."""

from __future__ import annotations

from tiffin.hooks import DriverContext, NetworkDriver, hookimpl


@hookimpl
def network_driver(name: str, context: DriverContext) -> NetworkDriver | None:
    if name != "pasta":
        return None
    from .driver import PastaDriver

    return PastaDriver(context)
