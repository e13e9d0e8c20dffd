"""Directories in which something is being made or removed, outside of what counts.

A store's `tmp/` holds what is not complete (yet, or any more). Each directory there is locked by
the processes that use it; what is not locked was left by a process that died, and is swept away by
the next one that comes along.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import tempfile
from collections.abc import AsyncIterator, Iterator

import trio

from ..errors import DriverError, StorageFull
from .remove import remove_tree


@contextlib.contextmanager
def _locked(path: str) -> Iterator[None]:
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)


def _sweep(tmp: str) -> None:
    for name in os.listdir(tmp):
        with contextlib.suppress(OSError):  # in use, or somebody else was quicker
            fd = os.open(f"{tmp}/{name}", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                remove_tree(f"{tmp}/{name}")
            finally:
                os.close(fd)


def _stage(store: str) -> tuple[str, int]:
    tmp = f"{store}/tmp"
    os.makedirs(store, mode=0o700, exist_ok=True)
    os.makedirs(tmp, mode=0o700, exist_ok=True)
    with _locked(tmp):  # between making and locking, nobody else may sweep
        _sweep(tmp)
        path = tempfile.mkdtemp(dir=tmp, prefix="")
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        fcntl.flock(fd, fcntl.LOCK_SH)
    os.chown(path, 0, 0)  # in case the store is set-group-id
    os.chmod(path, 0o755)
    return path, fd


def _unstage(path: str, fd: int) -> None:
    try:
        remove_tree(path)
    finally:
        os.close(fd)


@contextlib.asynccontextmanager
async def staged(store: str) -> AsyncIterator[str]:
    """A new directory `store/tmp/...`, 0755, root's; gone at the end unless `publish` moved it.
    Errors: StorageFull, DriverError."""
    try:
        path, fd = await trio.to_thread.run_sync(_stage, store)
    except OSError as error:
        raise store_error(error, store) from error
    try:
        yield path
    finally:
        with trio.CancelScope(shield=True):
            await trio.to_thread.run_sync(_unstage, path, fd)


def store_error(error: OSError, store: str) -> DriverError | StorageFull:
    """An error of the file system under a store, as one of ours."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return StorageFull(f"no space left on {store}")
    return DriverError(f"storage {store} cannot be written: {error}")


def publish(path: str, final: str) -> None:
    """Move a complete, durable directory to where it counts, durably. When another process was
    quicker with the same one, that one stays. Error: OSError."""
    above = os.path.dirname(final)
    os.makedirs(above, mode=0o700, exist_ok=True)
    try:
        os.rename(path, final)
    except OSError as error:
        if error.errno not in (errno.EEXIST, errno.ENOTEMPTY):
            raise
    fd = os.open(above, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


async def discard(store: str, final: str) -> None:
    """Remove a directory that counts: at once it does not count any more, even if we are killed
    in the middle. Also sweeps. Errors: StorageFull, DriverError."""
    async with staged(store) as path:
        try:
            await trio.to_thread.run_sync(os.rename, final, f"{path}/{os.path.basename(final)}")
        except FileNotFoundError:
            return
        except OSError as error:
            raise store_error(error, store) from error
