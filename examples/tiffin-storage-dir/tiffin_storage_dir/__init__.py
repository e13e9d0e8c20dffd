"""The storage driver `dir`."""

from __future__ import annotations

from tiffin.hooks import DriverContext, StorageDriver, hookimpl

TIFFIN_HOOK_VERSION = 1


@hookimpl
def storage_driver(name: str, context: DriverContext) -> StorageDriver | None:
    if name != "dir":
        return None
    from .driver import DirDriver  # only when it is used

    return DirDriver(context)
