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
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from typing import TypeVar

import trio

from tiffin.errors import DriverError, StorageFull
from tiffin.hooks import Change, DriverContext, LayerBlob, LayerUsage, layer_tools

from . import subvolumes

T = TypeVar("T")

_NEVER = 1 << 63
"""Nothing is changed later than this (ns)."""


class BtrfsDriver:
    """`hooks.StorageDriver` by snapshots. Nothing is ever mounted: `mount` gives the path of the
    container's subvolume, which is there from `prepare` to `remove`."""

    name = "btrfs"
    preference = 50
    labels_mounts = False

    def __init__(self, context: DriverContext) -> None:
        self.root = context.root
        self.settings = context.settings

    async def probe(self) -> str | None:
        """Makes and deletes a subvolume and a snapshot in the store."""
        try:
            return await trio.to_thread.run_sync(_probe, self.root)
        except OSError as error:
            return f"btrfs does not work on {self.root}: {error.strerror}"

    # --- layers -----------------------------------------------------------------------------------

    def _layer(self, chain_id: str) -> str:
        return f"{self.root}/layers/{chain_id.removeprefix('sha256:')}"

    def _whole(self, chain_id: str) -> str:
        """Directory of a layer that is there. Error: DriverError."""
        path = self._layer(chain_id)
        if not os.path.isdir(path):
            what = f"layer {chain_id} is missing from the storage driver btrfs ({path})"
            raise DriverError(what, hint="pull the image again")
        return path

    def needs_parents(self) -> bool:
        return True

    async def has_layer(self, chain_id: str) -> bool:
        return os.path.isdir(self._layer(chain_id))

    async def unpack(self, chain_id: str, parents: Sequence[str], blob: LayerBlob) -> LayerUsage:
        tools = layer_tools()
        limits = tools.limits(self.settings)
        below = self._whole(parents[-1]) if parents else ""
        async with self._staged(below) as temporary:
            usage: LayerUsage = await tools.unpack(temporary, blob, "apply", limits)
            await self._work(_publish, temporary, self._layer(chain_id))
        return usage

    async def remove_layer(self, chain_id: str) -> None:
        if os.path.isdir(f"{self.root}/layers"):
            await self._work(subvolumes.destroy, self._layer(chain_id))

    @contextlib.asynccontextmanager
    async def _staged(self, below: str) -> AsyncIterator[str]:
        """A new subvolume in tmp/, a snapshot of the layer `below` if there is one; gone at the
        end."""
        path, fd = await self._work(_stage, self.root, below)
        try:
            yield path
        finally:
            with trio.CancelScope(shield=True):
                try:
                    await self._work(subvolumes.destroy, path)
                finally:
                    os.close(fd)

    # --- containers -------------------------------------------------------------------------------

    def _container(self, container: str) -> str:
        return f"{self.root}/containers/{container}"

    def mount_path(self, container: str) -> str:
        return f"{self._container(container)}/root"

    async def prepare(self, container: str, layers: Sequence[str]) -> None:
        if os.path.isdir(self.mount_path(container)):
            return
        lower = self._whole(layers[-1]) if layers else ""
        await self._work(_begin, self.root, self._container(container), lower)

    async def mount(self, container: str, layers: Sequence[str], label: str = "") -> str:
        """Nothing is mounted, so the engine has the files labelled."""
        await self.prepare(container, layers)
        return self.mount_path(container)

    async def is_mounted(self, container: str) -> bool:
        """Always, from `prepare` to `remove`."""
        return os.path.isdir(self.mount_path(container))

    async def unmount(self, container: str) -> None:
        """Nothing is mounted: the tree is simply there."""

    async def remove(self, container: str) -> None:
        await self._work(_remove, self._container(container))

    async def diff(self, container: str, layers: Sequence[str], target: str) -> None:
        with self._trees(container, layers) as (lower, own, since):
            await self._work(layer_tools().write_tree_diff, lower, own, target, since)

    async def changes(self, container: str, layers: Sequence[str]) -> Sequence[Change]:
        with self._trees(container, layers) as (lower, own, since):
            found: Sequence[Change] = await trio.to_thread.run_sync(
                layer_tools().tree_changes, lower, own, since
            )
        return found

    async def usage(self, container: str) -> int:
        """Of the files that are not as the image has them."""
        with self._trees(container, ()) as (_, own, since):
            size: int = await trio.to_thread.run_sync(layer_tools().tree_size, own, since)
        return size

    @contextlib.contextmanager
    def _trees(
        self, container: str, layers: Sequence[str]
    ) -> Iterator[tuple[str, str, int | None]]:
        """The image's tree, the container's, and when (ns) the second was a snapshot of the first
        (which keeps change times). A container that is not prepared yet has changed nothing."""
        own = self.mount_path(container)
        with tempfile.TemporaryDirectory() as nothing:
            lower = self._whole(layers[-1]) if layers else nothing
            if not os.path.isdir(own):
                yield lower, lower, _NEVER
                return
            since = None
            with contextlib.suppress(FileNotFoundError):
                since = os.stat(f"{self._container(container)}/begun").st_ctime_ns
            yield lower, own, since

    async def _work(self, function: Callable[..., T], *arguments: object) -> T:
        """Run in a thread. Errors: StorageFull, DriverError for those of the file system."""
        try:
            return await trio.to_thread.run_sync(function, *arguments)
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise StorageFull(f"no space left on {self.root}") from error
            if error.errno == errno.ENOTTY:
                raise DriverError(_elsewhere(self.root)) from error
            raise DriverError(f"storage driver btrfs: {error}") from error


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
