"""Storage by overlayfs: layers are shared, a container's changes lie in a directory of its own."""

from __future__ import annotations

from tiffin.hooks import DriverContext, StorageDriver, hookimpl


@hookimpl
def storage_driver(name: str, context: DriverContext) -> StorageDriver | None:
    if name != "overlay":
        return None
    from .driver import OverlayDriver

    return OverlayDriver(context)
