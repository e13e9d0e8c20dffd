"""Storage by fuse-overlayfs(1): overlays for ordinary users, without the kernel's."""

from __future__ import annotations

from tiffin.hooks import DriverContext, StorageDriver, hookimpl


@hookimpl
def storage_driver(name: str, context: DriverContext) -> StorageDriver | None:
    if name != "fuse-overlayfs":
        return None
    from .driver import FuseOverlayDriver

    return FuseOverlayDriver(context)
