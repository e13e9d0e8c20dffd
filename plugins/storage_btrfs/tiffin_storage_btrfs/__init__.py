"""Storage by subvolumes and snapshots, where the store is on btrfs."""

from __future__ import annotations

from tiffin.hooks import DriverContext, StorageDriver, hookimpl


@hookimpl
def storage_driver(name: str, context: DriverContext) -> StorageDriver | None:
    if name != "btrfs":
        return None
    from .driver import BtrfsDriver

    return BtrfsDriver(context)
