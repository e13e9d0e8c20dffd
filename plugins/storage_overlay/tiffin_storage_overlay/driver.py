"""The driver. Its directory:

layers/HEX/          an unpacked layer, complete (it is renamed here when it is durable)
links/SHORT          a link to a layer; short, so that many fit into mount(2)'s one page
containers/ID/       upper, work, merged
tmp/                 what is being unpacked
"""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import stat
import tempfile
from collections.abc import Sequence

import trio

from tiffin.errors import DriverError, StorageFull
from tiffin.hooks import Change, DriverContext, LayerBlob, LayerUsage, layer_tools, sys_tools

MNT_DETACH = 2


class OverlayDriver:
    """`hooks.StorageDriver` over overlayfs (kernel documentation, filesystems/overlayfs.rst)."""

    name = "overlay"
    preference = 100

    def __init__(self, context: DriverContext) -> None:
        self.root = context.root

    # --- layers -----------------------------------------------------------------------------------

    def _layer(self, chain_id: str) -> str:
        return f"{self.root}/layers/{chain_id.removeprefix('sha256:')}"

    def _link(self, chain_id: str) -> str:
        """Name of the short link to a layer: 26 hex digits, 104 bits of a hash."""
        return f"links/{chain_id.removeprefix('sha256:')[:26]}"

    async def probe(self) -> str | None:
        """Mounts an overlay in a temporary directory of the store and looks at it."""
        os.makedirs(self.root, mode=0o700, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=self.root, prefix="probe-") as top:
            for name in ("lower", "upper", "work", "merged"):
                os.mkdir(f"{top}/{name}")
            options = f"lowerdir={top}/lower,upperdir={top}/upper,workdir={top}/work"
            try:
                sys_tools().mount("overlay", f"{top}/merged", "overlay", 0, options)
            except OSError as error:
                return f"overlay cannot be mounted on {self.root}: {error.strerror}"
            try:
                os.mknod(f"{top}/upper/whiteout", stat.S_IFCHR, os.makedev(0, 0))
                os.setxattr(f"{top}/upper", "trusted.overlay.opaque", b"y")
            except OSError as error:
                return f"no whiteouts on {self.root}: {error.strerror}"
            finally:
                sys_tools().umount2(f"{top}/merged", MNT_DETACH)
        return None

    def needs_parents(self) -> bool:
        return False

    async def has_layer(self, chain_id: str) -> bool:
        return os.path.isdir(self._layer(chain_id))

    async def unpack(self, chain_id: str, parents: Sequence[str], blob: LayerBlob) -> LayerUsage:
        final = self._layer(chain_id)
        for directory in ("layers", "links", "tmp"):
            os.makedirs(f"{self.root}/{directory}", mode=0o700, exist_ok=True)
        temporary = tempfile.mkdtemp(
            dir=f"{self.root}/tmp", prefix=f"{os.path.basename(final)[:12]}-"
        )
        try:
            os.chmod(temporary, 0o755)
            usage: LayerUsage = await layer_tools().unpack(temporary, blob, "overlay")
            with contextlib.suppress(FileExistsError):
                os.symlink(
                    f"../layers/{os.path.basename(final)}", f"{self.root}/{self._link(chain_id)}"
                )
            try:
                os.rename(temporary, final)
            except OSError as error:
                if error.errno not in (errno.EEXIST, errno.ENOTEMPTY):
                    raise
                shutil.rmtree(temporary)  # another process was quicker with the same layer
            self._sync("layers")
            self._sync("links")
        except BaseException as error:
            with trio.CancelScope(shield=True):
                await trio.to_thread.run_sync(_remove_tree, temporary)
            if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise StorageFull(f"no space left on {self.root}") from None
            raise
        return usage

    def _sync(self, directory: str) -> None:
        fd = os.open(f"{self.root}/{directory}", os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)

    async def remove_layer(self, chain_id: str) -> None:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(f"{self.root}/{self._link(chain_id)}")
        await trio.to_thread.run_sync(_remove_tree, self._layer(chain_id))

    # --- containers -------------------------------------------------------------------------------

    def _container(self, container: str) -> str:
        return f"{self.root}/containers/{container}"

    def mount_path(self, container: str) -> str:
        return f"{self._container(container)}/merged"

    async def prepare(self, container: str, layers: Sequence[str]) -> None:
        top = self._container(container)
        for name in ("upper", "work", "merged"):
            os.makedirs(f"{top}/{name}", mode=0o755, exist_ok=True)
        os.chmod(top, 0o711)
        if layers:
            # The root directory of the container is the upper one: give it the image's owner and
            # mode, or the container would see ours.
            lower = os.stat(self._layer(layers[-1]))
            os.chown(f"{top}/upper", lower.st_uid, lower.st_gid)
            os.chmod(f"{top}/upper", stat.S_IMODE(lower.st_mode))

    async def mount(self, container: str, layers: Sequence[str], label: str = "") -> str:
        target = self.mount_path(container)
        if await self.is_mounted(container):
            return target
        for chain_id in layers:
            if not os.path.isdir(self._layer(chain_id)):
                raise DriverError(f"layer {chain_id} is missing", hint="pull the image again")
            link = f"{self.root}/{self._link(chain_id)}"
            if not os.path.islink(link):
                os.symlink(f"../layers/{os.path.basename(self._layer(chain_id))}", link)
        top = self._container(container)
        lowers = [self._link(chain_id) for chain_id in reversed(layers)]
        if not lowers:
            os.makedirs(f"{self.root}/empty", mode=0o755, exist_ok=True)
            lowers = ["empty"]
        absolute = len(lowers) <= 12
        if absolute:
            lowers = [f"{self.root}/{lower}" for lower in lowers]
        options = (
            f"lowerdir={':'.join(_escape(lower) for lower in lowers)},"
            f"upperdir={_escape(f'{top}/upper')},workdir={_escape(f'{top}/work')}"
        )
        if label:
            options += f',context="{label}"'
        try:
            if absolute:
                sys_tools().mount("overlay", target, "overlay", 0, options)
            else:
                await trio.to_thread.run_sync(self._mount_relative, target, options)
        except OSError as error:
            raise DriverError(f"cannot mount the container's layers: {error.strerror}") from error
        return target

    def _mount_relative(self, target: str, options: str) -> None:
        """With many layers only short relative names fit: in a thread that has a working
        directory of its own (unshare(2), CLONE_FS) and ends with it."""
        import threading

        failure: list[OSError] = []

        def mount() -> None:
            try:
                sys_tools().unshare(0x00000200)  # CLONE_FS
                os.chdir(self.root)
                sys_tools().mount("overlay", target, "overlay", 0, options)
            except OSError as error:
                failure.append(error)

        thread = threading.Thread(target=mount)
        thread.start()
        thread.join()
        if failure:
            raise failure[0]

    async def is_mounted(self, container: str) -> bool:
        target = self.mount_path(container)
        try:
            return os.stat(target).st_dev != os.stat(self._container(container)).st_dev
        except OSError:
            return False

    async def unmount(self, container: str) -> None:
        target = self.mount_path(container)
        while await self.is_mounted(container):
            try:
                sys_tools().umount2(target, 0)
            except OSError as error:
                if error.errno != errno.EBUSY:
                    raise DriverError(f"cannot unmount {target}: {error.strerror}") from error
                sys_tools().umount2(target, MNT_DETACH)

    async def remove(self, container: str) -> None:
        await self.unmount(container)
        top = self._container(container)
        if os.path.lexists(top):
            await trio.to_thread.run_sync(_remove_tree, top)

    async def diff(self, container: str, layers: Sequence[str], target: str) -> None:
        upper = f"{self._container(container)}/upper"
        if os.path.isdir(upper):
            await trio.to_thread.run_sync(layer_tools().write_diff, upper, target)
            return
        with tempfile.TemporaryDirectory() as nothing:  # never mounted: no changes
            layer_tools().write_diff(nothing, target)

    async def changes(self, container: str, layers: Sequence[str]) -> Sequence[Change]:
        upper = f"{self._container(container)}/upper"
        if not os.path.isdir(upper):
            return []
        lowers = [self._layer(chain_id) for chain_id in layers]
        found: Sequence[Change] = await trio.to_thread.run_sync(
            layer_tools().changes, upper, lowers
        )
        return found

    async def usage(self, container: str) -> int:
        total = 0
        for directory, _, names in os.walk(f"{self._container(container)}/upper"):
            for name in names:
                with contextlib.suppress(OSError):
                    total += os.lstat(f"{directory}/{name}").st_size
        return total


def _escape(path: str) -> str:
    """What overlayfs takes apart in its options: `\\`, `:` and `,`."""
    return path.replace("\\", "\\\\").replace(":", "\\:").replace(",", "\\,")


def _remove_tree(path: str) -> None:
    with contextlib.suppress(FileNotFoundError):
        shutil.rmtree(path)
