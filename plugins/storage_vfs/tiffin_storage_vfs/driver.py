"""The driver. Its directory:

layers/HEX/       the whole tree up to and including a layer, complete
containers/ID/    a container's whole tree, `root` when the copy is complete
tmp/              what is being unpacked
"""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence

import trio

from tiffin.errors import DriverError, StorageFull
from tiffin.hooks import Change, DriverContext, LayerBlob, LayerUsage, layer_tools


class VfsDriver:
    """`hooks.StorageDriver` with full copies. Nothing is ever mounted."""

    name = "vfs"
    preference = 10

    def __init__(self, context: DriverContext) -> None:
        self.root = context.root

    def _layer(self, chain_id: str) -> str:
        return f"{self.root}/layers/{chain_id.removeprefix('sha256:')}"

    async def probe(self) -> str | None:
        return None

    def needs_parents(self) -> bool:
        return True

    async def has_layer(self, chain_id: str) -> bool:
        return os.path.isdir(self._layer(chain_id))

    async def unpack(self, chain_id: str, parents: Sequence[str], blob: LayerBlob) -> LayerUsage:
        for directory in ("layers", "tmp"):
            os.makedirs(f"{self.root}/{directory}", mode=0o700, exist_ok=True)
        final = self._layer(chain_id)
        temporary = tempfile.mkdtemp(
            dir=f"{self.root}/tmp", prefix=f"{os.path.basename(final)[:12]}-"
        )
        try:
            os.chmod(temporary, 0o755)
            if parents:
                await self._copy(self._layer(parents[-1]), temporary)
            usage: LayerUsage = await layer_tools().unpack(temporary, blob, "apply")
            try:
                os.rename(temporary, final)
            except OSError as error:
                if error.errno not in (errno.EEXIST, errno.ENOTEMPTY):
                    raise
                shutil.rmtree(temporary)  # another process was quicker with the same layer
            fd = os.open(f"{self.root}/layers", os.O_RDONLY | os.O_DIRECTORY)
            try:
                os.fsync(fd)
            finally:
                os.close(fd)
        except BaseException:
            with trio.CancelScope(shield=True):
                await trio.to_thread.run_sync(_remove_tree, temporary)
            raise
        return usage

    async def _copy(self, source: str, target: str) -> None:
        if not os.path.isdir(source):
            raise DriverError(f"layer {source} is missing", hint="pull the image again")
        try:
            await trio.to_thread.run_sync(layer_tools().copy_tree, source, target)
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise StorageFull(f"no space left on {self.root}") from None
            raise DriverError(f"cannot copy {source}: {error}") from error

    async def remove_layer(self, chain_id: str) -> None:
        await trio.to_thread.run_sync(_remove_tree, self._layer(chain_id))

    def _container(self, container: str) -> str:
        return f"{self.root}/containers/{container}"

    def mount_path(self, container: str) -> str:
        return f"{self._container(container)}/root"

    async def prepare(self, container: str, layers: Sequence[str]) -> None:
        final = self.mount_path(container)
        if os.path.isdir(final):
            return
        os.makedirs(self._container(container), mode=0o711, exist_ok=True)
        partial = f"{self._container(container)}/partial"
        await trio.to_thread.run_sync(_remove_tree, partial)
        os.mkdir(partial, 0o755)
        try:
            if layers:
                await self._copy(self._layer(layers[-1]), partial)
        except BaseException:
            with trio.CancelScope(shield=True):
                await trio.to_thread.run_sync(_remove_tree, partial)
            raise
        os.rename(partial, final)

    async def mount(self, container: str, layers: Sequence[str], label: str = "") -> str:
        if not os.path.isdir(self.mount_path(container)):
            await self.prepare(container, layers)
        return self.mount_path(container)

    async def is_mounted(self, container: str) -> bool:
        return os.path.isdir(self.mount_path(container))

    async def unmount(self, container: str) -> None:
        """Nothing is mounted: the tree is simply there."""

    async def remove(self, container: str) -> None:
        await trio.to_thread.run_sync(_remove_tree, self._container(container))

    async def diff(self, container: str, layers: Sequence[str], target: str) -> None:
        with self._lower(layers) as lower:
            own = self.mount_path(container)
            upper = own if os.path.isdir(own) else lower
            await trio.to_thread.run_sync(layer_tools().write_tree_diff, lower, upper, target)

    async def changes(self, container: str, layers: Sequence[str]) -> Sequence[Change]:
        own = self.mount_path(container)
        if not os.path.isdir(own):
            return []
        with self._lower(layers) as lower:
            found: Sequence[Change] = await trio.to_thread.run_sync(
                layer_tools().tree_changes, lower, own
            )
        return found

    @contextlib.contextmanager
    def _lower(self, layers: Sequence[str]) -> Iterator[str]:
        if layers:
            yield self._layer(layers[-1])
        else:
            with tempfile.TemporaryDirectory() as nothing:
                yield nothing

    async def usage(self, container: str) -> int:
        total = 0
        for directory, _, names in os.walk(self._container(container)):
            for name in names:
                with contextlib.suppress(OSError):
                    total += os.lstat(f"{directory}/{name}").st_size
        return total


def _remove_tree(path: str) -> None:
    with contextlib.suppress(FileNotFoundError):
        shutil.rmtree(path)
