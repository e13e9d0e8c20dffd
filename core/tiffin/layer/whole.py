"""What storage drivers have in common that keep layers and containers as whole directory trees:
nothing is ever mounted, and what a container changed is found by comparing two trees."""

from __future__ import annotations

import contextlib
import errno
import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

import trio

from ..errors import DriverError, StorageFull
from ..hooks import Change, DriverContext, LayerBlob
from .walk import named

T = TypeVar("T")

NEVER = 1 << 63
"""Nothing is changed later than this (ns)."""


class WholeTrees:
    """Part of a `hooks.StorageDriver`: `layers/HEX` is the whole tree up to and including a layer,
    `containers/ID/root` a container's, there from `prepare` to `remove`.

    A driver adds name, preference, probe, unpack, remove_layer, prepare, remove and usage; and
    `COPIED`, when a container's tree is a copy that keeps change times.
    """

    name = ""
    labels_mounts = False
    COPIED = ""
    """A file beside a container's tree whose change time is that of the copy."""

    def __init__(self, context: DriverContext) -> None:
        self.root = context.root
        self.settings = context.settings

    def layer(self, chain_id: str) -> str:
        return f"{self.root}/layers/{chain_id.removeprefix('sha256:')}"

    def whole(self, chain_id: str) -> str:
        """Directory of a layer that is there. Error: DriverError."""
        path = self.layer(chain_id)
        if not os.path.isdir(path):
            what = f"layer {chain_id} is missing from the storage driver {self.name} ({path})"
            raise DriverError(what, hint="pull the image again")
        return path

    def container(self, container: str) -> str:
        return f"{self.root}/containers/{container}"

    def needs_parents(self) -> bool:
        return True

    async def has_layer(self, chain_id: str) -> bool:
        return os.path.isdir(self.layer(chain_id))

    async def verify_layer(
        self, chain_id: str, parents: Sequence[str], blob: LayerBlob
    ) -> Sequence[str]:
        from .copies import copy_tree
        from .diff import differences
        from .run import limits, unpack
        from .staging import staged

        async with staged(self.root) as temporary:
            if parents:
                await self.work(copy_tree, self.whole(parents[-1]), temporary)
            await unpack(temporary, blob, "apply", limits(self.settings))
            return await self.work(differences, temporary, self.whole(chain_id))

    async def kept_layers(self) -> Sequence[str]:
        return [f"sha256:{name}" for name in named(f"{self.root}/layers")]

    async def kept_containers(self) -> Sequence[str]:
        return named(f"{self.root}/containers")

    async def has_own_layer(self, container: str) -> bool:
        return os.path.isdir(self.mount_path(container))

    def mount_path(self, container: str) -> str:
        return f"{self.container(container)}/root"

    async def prepare(self, container: str, layers: Sequence[str]) -> None:
        raise NotImplementedError("each of these drivers makes a container's tree in its own way")

    async def mount(self, container: str, layers: Sequence[str], label: str = "") -> str:
        """Nothing is mounted, so the engine has the files labelled."""
        await self.prepare(container, layers)
        return self.mount_path(container)

    async def is_mounted(self, container: str) -> bool:
        """Always, from `prepare` to `remove`."""
        return os.path.isdir(self.mount_path(container))

    async def unmount(self, container: str) -> None:
        """Nothing is mounted: the tree is simply there."""

    async def diff(self, container: str, layers: Sequence[str], target: str) -> None:
        from .diff import write_tree_diff

        with self.trees(container, layers) as (lower, own, since):
            await self.work(write_tree_diff, lower, own, target, since)

    async def changes(self, container: str, layers: Sequence[str]) -> Sequence[Change]:
        from .diff import tree_changes

        with self.trees(container, layers) as (lower, own, since):
            return await trio.to_thread.run_sync(tree_changes, lower, own, since)

    @contextlib.contextmanager
    def trees(self, container: str, layers: Sequence[str]) -> Iterator[tuple[str, str, int | None]]:
        """The image's tree, the container's, and when (ns) the second was a faithful copy of the
        first. A container that is not prepared yet has changed nothing."""
        own = self.mount_path(container)
        with tempfile.TemporaryDirectory() as nothing:
            lower = self.whole(layers[-1]) if layers else nothing
            if not os.path.isdir(own):
                yield lower, lower, NEVER
                return
            since = None
            with contextlib.suppress(FileNotFoundError):
                since = os.stat(f"{self.container(container)}/{self.COPIED}").st_ctime_ns
            yield lower, own, since if self.COPIED else None

    async def work(self, function: Callable[..., T], *arguments: object) -> T:
        """Run in a thread. Errors: StorageFull, DriverError for those of the file system."""
        try:
            return await trio.to_thread.run_sync(function, *arguments)
        except OSError as error:
            raise self.told(error) from error

    def told(self, error: OSError) -> Exception:
        """The error for people."""
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            return StorageFull(f"no space left for the storage driver {self.name}")
        return DriverError(f"storage driver {self.name}: {error}")
