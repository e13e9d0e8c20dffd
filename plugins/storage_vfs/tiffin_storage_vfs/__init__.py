"""Storage by plain copies: slow and large, and it works on every file system."""

from __future__ import annotations

from tiffin.hooks import DriverContext, StorageDriver, hookimpl


@hookimpl
def storage_driver(name: str, context: DriverContext) -> StorageDriver | None:
    if name != "vfs":
        return None
    from .driver import VfsDriver

    return VfsDriver(context)
