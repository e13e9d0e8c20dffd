"""Layers in directories of their own, and a container's changes in another: what drivers have in
common that show them as one tree by an overlay of some kind. Their directory:

layers/HEX/          an unpacked layer, complete (it is renamed here when it is durable)
containers/ID/       upper, work, merged, and what the driver adds
tmp/                 what is being unpacked or removed
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Iterator, Sequence

import trio

from .. import layer as tools  # each function's module is imported when it is first asked for
from .. import syscalls
from ..errors import DriverError, StorageFull
from ..hooks import Change, DriverContext, LayerBlob, LayerUsage

LAYERS_MAX = 500
"""Lower directories of one overlay (OVL_MAX_STACK in fs/overlayfs)."""


class StackedTrees:
    """`hooks.StorageDriver` but for `probe` and `mount_layers`."""

    name = ""

    def __init__(self, context: DriverContext) -> None:
        self.root = context.root
        self.run = context.run
        self.rootless = context.rootless
        self.settings = context.settings

    async def mount_layers(
        self, container: str, lowers: Sequence[str], label: str, userns: str
    ) -> None:
        """Mount directories, the highest first, with `upper` and `work` of the container, at
        `merged`. Errors: OSError, DriverError."""
        raise NotImplementedError("each of these drivers has a mount of its own kind")

    def release(self, container: str) -> None:
        """Take away what there is of a mount besides the mount itself."""

    # --- layers -----------------------------------------------------------------------------------

    def layer(self, chain_id: str) -> str:
        return f"{self.root}/layers/{chain_id.removeprefix('sha256:')}"

    def layers(self, chain_ids: Sequence[str]) -> list[str]:
        """Directories of layers, all of them there. Error: DriverError."""
        paths = [self.layer(chain_id) for chain_id in chain_ids]
        for chain_id, path in zip(chain_ids, paths, strict=True):
            if not os.path.isdir(path):
                what = f"layer {chain_id} is missing from the storage driver {self.name} ({path})"
                raise DriverError(what, hint="pull the image again")
        return paths

    def needs_parents(self) -> bool:
        return False

    async def has_layer(self, chain_id: str) -> bool:
        return os.path.isdir(self.layer(chain_id))

    async def unpack(self, chain_id: str, parents: Sequence[str], blob: LayerBlob) -> LayerUsage:
        limits = tools.limits(self.settings)
        async with tools.staged(self.root) as temporary:
            usage: LayerUsage = await tools.unpack(temporary, blob, "keep", limits)
            try:
                await trio.to_thread.run_sync(tools.publish, temporary, self.layer(chain_id))
            except OSError as error:
                raise driver_error(error, f"storage {self.root} cannot be written") from error
        return usage

    async def remove_layer(self, chain_id: str) -> None:
        if os.path.isdir(self.root):
            await tools.discard(self.root, self.layer(chain_id))

    async def verify_layer(
        self, chain_id: str, parents: Sequence[str], blob: LayerBlob
    ) -> Sequence[str]:
        async with tools.staged(self.root) as temporary:
            await tools.unpack(temporary, blob, "keep", tools.limits(self.settings))
            found: Sequence[str] = await trio.to_thread.run_sync(
                tools.differences, temporary, self.layer(chain_id)
            )
        return found

    async def kept_layers(self) -> Sequence[str]:
        return [f"sha256:{name}" for name in tools.named(f"{self.root}/layers")]

    async def kept_containers(self) -> Sequence[str]:
        names: Sequence[str] = tools.named(f"{self.root}/containers")
        return names

    async def has_own_layer(self, container: str) -> bool:
        top = self.container(container)
        return all(os.path.isdir(f"{top}/{name}") for name in ("upper", "work", "merged"))

    # --- containers -------------------------------------------------------------------------------

    def container(self, container: str) -> str:
        return f"{self.root}/containers/{container}"

    def mount_path(self, container: str) -> str:
        return f"{self.container(container)}/merged"

    async def prepare(self, container: str, layers: Sequence[str]) -> None:
        lowers = self.layers(layers)
        top = self.container(container)
        try:
            os.makedirs(self.root, mode=0o700, exist_ok=True)
            for name in ("work", "merged"):
                os.makedirs(f"{top}/{name}", mode=0o755, exist_ok=True)
            if not os.path.isdir(f"{top}/upper"):  # else its mode is the container's by now
                os.makedirs(f"{top}/new", exist_ok=True)
                mode, uid, gid = _root_metadata(lowers)
                os.chown(f"{top}/new", uid, gid)
                os.chmod(f"{top}/new", mode)
                os.rename(f"{top}/new", f"{top}/upper")
        except OSError as error:
            raise driver_error(error, f"cannot prepare container {container}") from error

    async def mount(
        self, container: str, layers: Sequence[str], label: str = "", userns: str = ""
    ) -> str:
        """`layers` are in the order of the image, overlays want the highest first."""
        target = self.mount_path(container)
        if await self.is_mounted(container):
            return target
        lowers = self.layers(layers)[::-1]
        if len(lowers) > LAYERS_MAX:
            raise DriverError(
                f"{self.name} takes {LAYERS_MAX} layers, not {len(lowers)}",
                hint="use --storage-driver vfs",
            )
        if not os.path.isdir(f"{self.container(container)}/upper"):
            await self.prepare(container, layers)
        try:
            if not lowers:
                os.makedirs(f"{self.root}/empty", mode=0o755, exist_ok=True)
                lowers = [f"{self.root}/empty"]
            await self.mount_layers(container, lowers, label, userns)
        except OSError as error:
            raise driver_error(error, f"cannot mount the layers of {container}") from error
        return target

    async def is_mounted(self, container: str) -> bool:
        top = self.container(container)
        try:
            return os.stat(f"{top}/merged").st_dev != os.stat(top).st_dev
        except OSError:
            return False

    async def unmount(self, container: str) -> None:
        self.release(container)
        target = self.mount_path(container)
        while await self.is_mounted(container):
            # It waits for a grace period of RCU: milliseconds, many on a busy machine.
            await trio.to_thread.run_sync(_unmount, target)

    async def remove(self, container: str) -> None:
        await self.unmount(container)
        top = self.container(container)
        try:
            await trio.to_thread.run_sync(tools.remove_tree, top)
        except OSError as error:
            raise driver_error(error, f"cannot remove {top}") from error

    async def diff(self, container: str, layers: Sequence[str], target: str) -> None:
        """The root directory is in it when the container has changed its mode or owner."""
        lowers = [self.layer(chain_id) for chain_id in layers]
        with self._upper(container) as upper:
            prepared = upper.startswith(self.root)
            root = prepared and _metadata(upper) != _root_metadata(lowers)
            try:
                await trio.to_thread.run_sync(tools.write_diff, upper, target, root)
            except OSError as error:
                raise driver_error(error, f"cannot write the changes of {container}") from error

    async def changes(self, container: str, layers: Sequence[str]) -> Sequence[Change]:
        lowers = self.layers(layers)
        with self._upper(container) as upper:
            found: Sequence[Change] = await trio.to_thread.run_sync(tools.changes, upper, lowers)
        return found

    async def usage(self, container: str) -> int:
        with self._upper(container) as upper:
            size: int = await trio.to_thread.run_sync(tools.tree_size, upper)
        return size

    @contextlib.contextmanager
    def _upper(self, container: str) -> Iterator[str]:
        """A container's own layer; an empty one as long as it has none."""
        upper = f"{self.container(container)}/upper"
        if os.path.isdir(upper):
            yield upper
        else:
            import tempfile

            with tempfile.TemporaryDirectory() as nothing:
                yield nothing


def _unmount(target: str) -> None:
    try:
        syscalls.umount2(target, syscalls.UMOUNT_NOFOLLOW)
    except OSError as error:
        if error.errno != errno.EBUSY:
            raise driver_error(error, f"cannot unmount {target}") from error
        # Somebody's shell stands in it: it goes when they leave.
        syscalls.umount2(target, syscalls.UMOUNT_NOFOLLOW | syscalls.MNT_DETACH)


def driver_error(error: OSError, what: str) -> DriverError | StorageFull:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return StorageFull(f"{what}: no space left")
    return DriverError(f"{what}: {error.strerror}")


def _root_metadata(lowers: Sequence[str]) -> tuple[int, int, int]:
    """Mode, owner and group that an image gives its root directory: those of the highest layer
    that names it (`ROOT_NAMED`); 0755 and root's when none does."""
    for lower in reversed(lowers):
        with contextlib.suppress(OSError):
            os.getxattr(lower, tools.ROOT_NAMED)
            return _metadata(lower)
    return 0o755, 0, 0


def _metadata(path: str) -> tuple[int, int, int]:
    status = os.stat(path)
    return stat.S_IMODE(status.st_mode), status.st_uid, status.st_gid
