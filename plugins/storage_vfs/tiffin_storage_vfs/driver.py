"""The driver. Its directory:

layers/HEX/       the whole tree up to and including a layer, complete
containers/ID/    a container's whole tree `root`; `copied`, written when the copy was complete
tmp/              what is being unpacked or removed
"""

from __future__ import annotations

import os
from collections.abc import Sequence

import trio

from tiffin.hooks import LayerBlob, LayerUsage, layer_tools


class VfsDriver(layer_tools().WholeTrees):  # type: ignore[misc]
    """`hooks.StorageDriver` with full copies."""

    name = "vfs"
    preference = 10
    COPIED = "copied"

    async def probe(self) -> str | None:
        return None

    async def unpack(self, chain_id: str, parents: Sequence[str], blob: LayerBlob) -> LayerUsage:
        tools = layer_tools()
        limits = tools.limits(self.settings)
        async with tools.staged(self.root) as temporary:
            if parents:
                await self.work(tools.copy_tree, self.whole(parents[-1]), temporary)
            usage: LayerUsage = await tools.unpack(temporary, blob, "apply", limits)
            await self.work(tools.publish, temporary, self.layer(chain_id))
        return usage

    async def remove_layer(self, chain_id: str) -> None:
        if os.path.isdir(self.root):
            await layer_tools().discard(self.root, self.layer(chain_id))

    async def prepare(self, container: str, layers: Sequence[str]) -> None:
        final = self.mount_path(container)
        if os.path.isdir(final):
            return
        lower = self.whole(layers[-1]) if layers else None
        async with layer_tools().staged(self.root) as temporary:
            if lower is not None:
                await self.work(layer_tools().copy_tree, lower, temporary)
            await self.work(_complete, self.container(container), temporary, final)

    async def remove(self, container: str) -> None:
        await self.work(layer_tools().remove_tree, self.container(container))

    async def usage(self, container: str) -> int:
        with self.trees(container, ()) as (_, own, _since):
            size: int = await trio.to_thread.run_sync(layer_tools().tree_size, own)
        return size


def _complete(container: str, temporary: str, final: str) -> None:
    """The copy becomes the container's tree."""
    os.makedirs(container, mode=0o755, exist_ok=True)
    with open(f"{container}/copied", "w"):
        os.utime(f"{container}/copied")  # sets the change time even if the file was there
    os.rename(temporary, final)
