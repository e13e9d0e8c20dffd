"""The driver. Its directory:

layers/HEX/       the whole tree up to and including a layer, complete
containers/ID/    a container's whole tree
tmp/              what is being unpacked or removed

It copies trees, which works everywhere: put what your storage does better in its place. Each
method may be called again after a crash; making what exists and removing what is gone is success.
"""

from __future__ import annotations

import errno
import os
import tempfile
from collections.abc import Callable, Sequence
from typing import Any

import trio

from tiffin.hooks import Change, DriverContext, LayerBlob, LayerUsage, errors, layer_tools


class DirDriver:
    """`tiffin.hooks.StorageDriver`."""

    name = "dir"
    preference = 1  # below the bundled drivers: taken only when somebody asks for it
    labels_mounts = False  # True when `mount` gives every file its `label` by itself

    def __init__(self, context: DriverContext) -> None:
        self.root = context.root
        self.settings = context.settings  # the table [storage.dir] of tiffin.toml

    async def probe(self) -> str | None:
        return None  # or one line that says why the driver does not work on this machine

    # --- layers: shared by all images that have them ---

    def _layer(self, chain_id: str) -> str:
        return f"{self.root}/layers/{chain_id.removeprefix('sha256:')}"

    def needs_parents(self) -> bool:
        return True  # `unpack` copies the layer below first

    async def has_layer(self, chain_id: str) -> bool:
        return os.path.isdir(self._layer(chain_id))

    async def unpack(self, chain_id: str, parents: Sequence[str], blob: LayerBlob) -> LayerUsage:
        tools = layer_tools()
        async with tools.staged(self.root) as temporary:  # removed again when anything fails
            if parents:
                await self._work(tools.copy_tree, self._whole(parents[-1]), temporary)
            limits = tools.limits(self.settings)
            usage: LayerUsage = await tools.unpack(temporary, blob, "apply", limits)
            await self._work(tools.publish, temporary, self._layer(chain_id))  # synced, renamed
        return usage

    async def remove_layer(self, chain_id: str) -> None:
        if os.path.isdir(self.root):
            await layer_tools().discard(self.root, self._layer(chain_id))

    def _whole(self, chain_id: str) -> str:
        path = self._layer(chain_id)
        if not os.path.isdir(path):
            raise errors.DriverError(f"layer {chain_id} is missing", hint="pull the image again")
        return path

    # --- containers: a copy-on-write layer each ---

    def mount_path(self, container: str) -> str:
        return f"{self.root}/containers/{container}"

    async def prepare(self, container: str, layers: Sequence[str]) -> None:
        final = self.mount_path(container)
        if os.path.isdir(final):
            return
        async with layer_tools().staged(self.root) as temporary:
            if layers:
                lower = self._whole(layers[-1])
                await self._work(layer_tools().copy_tree, lower, temporary)
            await self._work(os.makedirs, f"{self.root}/containers", 0o755, True)
            await self._work(os.rename, temporary, final)

    async def mount(self, container: str, layers: Sequence[str], label: str = "") -> str:
        await self.prepare(container, layers)
        return self.mount_path(container)

    async def is_mounted(self, container: str) -> bool:
        return os.path.isdir(self.mount_path(container))

    async def unmount(self, container: str) -> None:
        """Nothing is mounted: the tree is simply there."""

    async def remove(self, container: str) -> None:
        await self._work(layer_tools().remove_tree, self.mount_path(container))

    async def diff(self, container: str, layers: Sequence[str], target: str) -> None:
        await self._compared(layer_tools().write_tree_diff, container, layers, target, None)

    async def changes(self, container: str, layers: Sequence[str]) -> Sequence[Change]:
        found: Sequence[Change] = await self._compared(
            layer_tools().tree_changes, container, layers, None
        )
        return found

    async def _compared(
        self, compare: Callable[..., Any], container: str, layers: Sequence[str], *more: Any
    ) -> Any:
        """A comparison of the image's tree with the container's."""
        own = self.mount_path(container)
        with tempfile.TemporaryDirectory() as nothing:
            lower = self._whole(layers[-1]) if layers else nothing
            if not os.path.isdir(own):
                own = lower  # not prepared yet: nothing has changed
            return await self._work(compare, lower, own, *more)

    async def usage(self, container: str) -> int:
        path = self.mount_path(container)
        if not os.path.isdir(path):
            return 0
        return int(await self._work(layer_tools().tree_size, path))

    @staticmethod
    async def _work(function: Callable[..., Any], *arguments: Any) -> Any:
        """Call in a thread; what the file system refuses is an error with a name."""
        try:
            return await trio.to_thread.run_sync(function, *arguments)
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise errors.StorageFull("no space left for the driver dir") from error
            raise errors.DriverError(f"storage driver dir: {error}") from error
