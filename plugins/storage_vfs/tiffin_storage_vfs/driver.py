"""The driver. Its directory:

layers/HEX/       the whole tree up to and including a layer, complete
containers/ID/    a container's whole tree `root`; `copied`, written when the copy was complete
tmp/              what is being unpacked or removed
"""

from __future__ import annotations

import contextlib
import errno
import os
import tempfile
from collections.abc import Callable, Iterator, Sequence

import trio

from tiffin.errors import DriverError, StorageFull
from tiffin.hooks import Change, DriverContext, LayerBlob, LayerUsage, layer_tools

_NEVER = 1 << 63
"""Nothing is changed later than this (ns)."""


class VfsDriver:
    """`hooks.StorageDriver` with full copies. Nothing is ever mounted: `mount` gives the path of
    the tree, and the tree is there from `prepare` to `remove`."""

    name = "vfs"
    preference = 10
    labels_mounts = False

    def __init__(self, context: DriverContext) -> None:
        self.root = context.root
        self.settings = context.settings

    async def probe(self) -> str | None:
        return None

    # --- layers -----------------------------------------------------------------------------------

    def _layer(self, chain_id: str) -> str:
        return f"{self.root}/layers/{chain_id.removeprefix('sha256:')}"

    def _whole(self, chain_id: str) -> str:
        """Directory of a layer that is there. Error: DriverError."""
        path = self._layer(chain_id)
        if not os.path.isdir(path):
            what = f"layer {chain_id} is missing from the storage driver vfs ({path})"
            raise DriverError(what, hint="pull the image again")
        return path

    def needs_parents(self) -> bool:
        return True

    async def has_layer(self, chain_id: str) -> bool:
        return os.path.isdir(self._layer(chain_id))

    async def unpack(self, chain_id: str, parents: Sequence[str], blob: LayerBlob) -> LayerUsage:
        tools = layer_tools()
        limits = tools.limits(self.settings)
        async with tools.staged(self.root) as temporary:
            if parents:
                await _work(tools.copy_tree, self._whole(parents[-1]), temporary)
            usage: LayerUsage = await tools.unpack(temporary, blob, "apply", limits)
            await _work(tools.publish, temporary, self._layer(chain_id))
        return usage

    async def remove_layer(self, chain_id: str) -> None:
        if os.path.isdir(self.root):
            await layer_tools().discard(self.root, self._layer(chain_id))

    # --- containers -------------------------------------------------------------------------------

    def _container(self, container: str) -> str:
        return f"{self.root}/containers/{container}"

    def mount_path(self, container: str) -> str:
        return f"{self._container(container)}/root"

    async def prepare(self, container: str, layers: Sequence[str]) -> None:
        final = self.mount_path(container)
        if os.path.isdir(final):
            return
        lower = self._whole(layers[-1]) if layers else None
        async with layer_tools().staged(self.root) as temporary:
            if lower is not None:
                await _work(layer_tools().copy_tree, lower, temporary)
            await _work(_complete, self._container(container), temporary, final)

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
        await _work(layer_tools().remove_tree, self._container(container))

    async def diff(self, container: str, layers: Sequence[str], target: str) -> None:
        with self._trees(container, layers) as (lower, own, since):
            await _work(layer_tools().write_tree_diff, lower, own, target, since)

    async def changes(self, container: str, layers: Sequence[str]) -> Sequence[Change]:
        with self._trees(container, layers) as (lower, own, since):
            found: Sequence[Change] = await trio.to_thread.run_sync(
                layer_tools().tree_changes, lower, own, since
            )
        return found

    async def usage(self, container: str) -> int:
        with self._trees(container, ()) as (_, own, _since):
            size: int = await trio.to_thread.run_sync(layer_tools().tree_size, own)
        return size

    @contextlib.contextmanager
    def _trees(
        self, container: str, layers: Sequence[str]
    ) -> Iterator[tuple[str, str, int | None]]:
        """The image's tree, the container's, and when (ns) the second was a faithful copy of the
        first. A container that is not prepared yet has changed nothing."""
        own = self.mount_path(container)
        with tempfile.TemporaryDirectory() as nothing:
            lower = self._whole(layers[-1]) if layers else nothing
            if not os.path.isdir(own):
                yield lower, lower, _NEVER
                return
            since = None
            with contextlib.suppress(FileNotFoundError):
                since = os.stat(f"{self._container(container)}/copied").st_ctime_ns
            yield lower, own, since


def _complete(container: str, temporary: str, final: str) -> None:
    """The copy becomes the container's tree."""
    os.makedirs(container, mode=0o755, exist_ok=True)
    with open(f"{container}/copied", "w"):
        os.utime(f"{container}/copied")  # sets the change time even if the file was there
    os.rename(temporary, final)


async def _work(function: Callable[..., None], *arguments: object) -> None:
    """Run in a thread. Errors: StorageFull, DriverError for those of the file system."""
    try:
        await trio.to_thread.run_sync(function, *arguments)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise StorageFull("no space left for the storage driver vfs") from error
        raise DriverError(f"storage driver vfs: {error}") from error
