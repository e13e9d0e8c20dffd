"""Networks as Linux bridges, with published ports by nftables."""

from __future__ import annotations

from tiffin.hooks import DriverContext, NetworkDriver, hookimpl


@hookimpl
def network_driver(name: str, context: DriverContext) -> NetworkDriver | None:
    if name != "bridge":
        return None
    from .driver import BridgeDriver

    return BridgeDriver(context)
