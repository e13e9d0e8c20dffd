"""The driver. Its directory, on btrfs:

layers/HEX/       a read-only subvolume: the whole tree up to and including a layer
containers/ID/    a container's tree, the subvolume `root`; `begun`, older than anything it changed
tmp/              subvolumes in which layers are being unpacked
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
from collections.abc import AsyncIterator, Sequence

import trio

from tiffin.errors import DriverError
from tiffin.hooks import LayerBlob, LayerUsage, layer_tools

from . import subvolumes


class BtrfsDriver(layer_tools().WholeTrees):  # type: ignore[misc]
    """`hooks.StorageDriver` by snapshots, which keep change times."""

    name = "btrfs"
    preference = 50
    COPIED = "begun"

    async def probe(self) -> str | None:
        """Makes and deletes a subvolume and a snapshot in the store."""
        try:
            return await trio.to_thread.run_sync(_probe, self.root)
        except OSError as error:
            return f"btrfs does not work on {self.root}: {error.strerror}"

    async def unpack(self, chain_id: str, parents: Sequence[str], blob: LayerBlob) -> LayerUsage:
        tools = layer_tools()
        limits = tools.limits(self.settings)
        below = self.whole(parents[-1]) if parents else ""
        async with self._staged(below) as temporary:
            usage: LayerUsage = await tools.unpack(temporary, blob, "apply", limits)
            await self.work(_publish, temporary, self.layer(chain_id))
        return usage

    async def verify_layer(
        self, chain_id: str, parents: Sequence[str], blob: LayerBlob
    ) -> Sequence[str]:
        tools = layer_tools()
        below = self.whole(parents[-1]) if parents else ""
        async with self._staged(below) as temporary:
            await tools.unpack(temporary, blob, "apply", tools.limits(self.settings))
            found: Sequence[str] = await self.work(
                tools.differences, temporary, self.whole(chain_id)
            )
        return found

    async def remove_layer(self, chain_id: str) -> None:
        if os.path.isdir(f"{self.root}/layers"):
            await self.work(subvolumes.destroy, self.layer(chain_id))

    @contextlib.asynccontextmanager
    async def _staged(self, below: str) -> AsyncIterator[str]:
        """A new subvolume in tmp/, a snapshot of the layer `below` if there is one; gone at the
        end."""
        path, fd = await self.work(_stage, self.root, below)
        try:
            yield path
        finally:
            with trio.CancelScope(shield=True):
                try:
                    await self.work(subvolumes.destroy, path)
                finally:
                    os.close(fd)

    async def prepare(self, container: str, layers: Sequence[str]) -> None:
        if os.path.isdir(self.mount_path(container)):
            return
        lower = self.whole(layers[-1]) if layers else ""
        await self.work(_begin, self.root, self.container(container), lower)

    async def remove(self, container: str) -> None:
        await self.work(_remove, self.container(container))

    async def usage(self, container: str) -> int:
        """Of the files that are not as the image has them."""
        with self.trees(container, ()) as (_, own, since):
            size: int = await trio.to_thread.run_sync(layer_tools().tree_size, own, since)
        return size

    def told(self, error: OSError) -> Exception:
        if error.errno == errno.ENOTTY:
            return DriverError(_elsewhere(self.root))
        told: Exception = super().told(error)
        return told


def _elsewhere(root: str) -> str:
    return f"{root} is not on btrfs"


def _probe(root: str) -> str | None:
    os.makedirs(root, mode=0o700, exist_ok=True)
    with subvolumes.opened(root) as fd:
        try:
            subvolumes.identity(fd)
        except OSError as error:
            if error.errno == errno.ENOTTY:
                return _elsewhere(root)
            raise
    path, fd = _stage(root, "")
    try:
        subvolumes.snapshot(path, f"{path}/copy", read_only=True)
    finally:
        subvolumes.destroy(path)
        os.close(fd)
    return None


# --- in threads -----------------------------------------------------------------------------------


def _stage(store: str, below: str) -> tuple[str, int]:
    """A new subvolume in tmp/, and the descriptor that holds its lock: what is not locked there
    was left by a process that died, and is swept away."""
    tmp = f"{store}/tmp"
    for directory in (store, tmp):
        os.makedirs(directory, mode=0o700, exist_ok=True)
    path = f"{tmp}/{os.urandom(16).hex()}"
    with subvolumes.opened(tmp) as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # between making and locking, nobody else may sweep
        _sweep(tmp)
        _make(path, below)
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        fcntl.flock(fd, fcntl.LOCK_SH)
    return path, fd


def _sweep(tmp: str) -> None:
    for name in os.listdir(tmp):
        with contextlib.suppress(OSError):  # in use, or somebody else was quicker
            with subvolumes.opened(f"{tmp}/{name}") as fd:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                _discard(f"{tmp}/{name}")


def _make(path: str, below: str) -> None:
    """A writable subvolume: a snapshot of `below`, or an empty one, 0755 and root's."""
    if below:
        subvolumes.snapshot(below, path)
        return
    subvolumes.create(path)
    os.chown(path, 0, 0)
    os.chmod(path, 0o755)


def _publish(path: str, final: str) -> None:
    """What was unpacked becomes a layer, durably and at once. When another process was quicker
    with the same one, that one stays."""
    os.makedirs(os.path.dirname(final), mode=0o700, exist_ok=True)
    with contextlib.suppress(FileExistsError):
        subvolumes.snapshot(path, final, read_only=True)


def _begin(store: str, container: str, lower: str) -> None:
    os.makedirs(store, mode=0o700, exist_ok=True)
    os.makedirs(container, mode=0o755, exist_ok=True)
    with open(f"{container}/begun", "w"):
        os.utime(f"{container}/begun")  # sets the change time even if the file was there
    if lower:
        with contextlib.suppress(FileExistsError):
            _make(f"{container}/root", lower)
        return
    # An empty one is given its mode before it counts.
    new = f"{container}/new"
    _discard(new)
    _make(new, "")
    os.rename(new, f"{container}/root")


def _remove(container: str) -> None:
    """`root` first: without it the container is not prepared, and with it `begun` must be there."""
    _discard(f"{container}/root")
    try:
        names = os.listdir(container)
    except FileNotFoundError:
        return
    for name in names:
        _discard(f"{container}/{name}")
    layer_tools().remove_tree(container)


def _discard(path: str) -> None:
    """Delete a subvolume, or whatever else it is."""
    if subvolumes.is_subvolume(path):
        subvolumes.destroy(path)
    else:
        layer_tools().remove_tree(path)
