"""The driver. Its directory:

layers/HEX/          an unpacked layer, complete (it is renamed here when it is durable)
containers/ID/       upper, work, merged; `l` with a short link for each layer, where needed
tmp/                 what is being unpacked or removed
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Callable, Iterator, Sequence

import trio

from tiffin.errors import DriverError, StorageFull
from tiffin.hooks import (
    Change,
    DriverContext,
    LayerBlob,
    LayerUsage,
    layer_tools,
    map_tools,
    sys_tools,
)

MNT_DETACH = 2
UMOUNT_NOFOLLOW = 8
CLONE_FS = 0x200

OPTIONS_MAX = 4095
"""Bytes of mount options that mount(2) takes: a page with the zero at its end."""
ROOM = OPTIONS_MAX - 200
"""Of these, what is left for names and the label."""
LAYERS_MAX = 500
"""Lower directories of one overlay (OVL_MAX_STACK in fs/overlayfs)."""
FEATURES = "redirect_dir=off,metacopy=off,index=off"
"""The upper directory must hold all that a layer made from it needs, whatever the kernel's
defaults are: a renamed directory copied, not referred to (overlayfs.rst)."""
USER_FEATURES = "userxattr,metacopy=off,index=off"
"""An ordinary user's mount has its attributes in `user.overlay.*`: `trusted.*` is root's. It
follows no redirections, and takes no option that says so."""


class OverlayDriver:
    """`hooks.StorageDriver` over overlayfs (kernel documentation, filesystems/overlayfs.rst)."""

    name = "overlay"
    preference = 100
    labels_mounts = True
    maps_ids = True

    def __init__(self, context: DriverContext) -> None:
        self.root = context.root
        self.run = context.run
        self.settings = context.settings
        self.features = USER_FEATURES if context.rootless else FEATURES

    def cannot_map(self) -> str | None:
        """Why no container can have ids of its own here: there are kernels whose overlay mounts,
        but lets a container's root make nothing in a mapped upper directory (seen with 6.1; 6.18
        is good)."""
        release = os.uname().release
        major, minor, *_ = (*release.split("."), "0")
        if major.isdecimal() and minor.isdecimal() and (int(major), int(minor)) <= (6, 1):
            return f"overlayfs of Linux {release} cannot show other owners of what is written"
        return None

    async def probe(self) -> str | None:
        """Mounts an overlay in a temporary directory of the store and makes whiteouts in it."""
        import tempfile  # 3 ms, and rarely needed

        try:
            os.makedirs(self.root, mode=0o700, exist_ok=True)
            with tempfile.TemporaryDirectory(dir=self.root, prefix="probe-") as top:
                for name in ("lower", "upper", "work", "merged"):
                    os.mkdir(f"{top}/{name}")
                await trio.to_thread.run_sync(
                    _mount_any, top, f"{top}/merged", [f"{top}/lower"], "", self.features
                )
                try:
                    os.mknod(f"{top}/upper/whiteout", stat.S_IFCHR, os.makedev(0, 0))
                    attribute = "user" if "userxattr" in self.features else "trusted"
                    os.setxattr(f"{top}/upper", f"{attribute}.overlay.opaque", b"y")
                finally:
                    sys_tools().umount2(f"{top}/merged", MNT_DETACH)
        except OSError as error:
            return f"overlayfs does not work on {self.root}: {error.strerror}"
        return None

    # --- layers -----------------------------------------------------------------------------------

    def _layer(self, chain_id: str) -> str:
        return f"{self.root}/layers/{chain_id.removeprefix('sha256:')}"

    def _layers(self, chain_ids: Sequence[str]) -> list[str]:
        """Directories of layers, all of them there. Error: DriverError."""
        paths = [self._layer(chain_id) for chain_id in chain_ids]
        for chain_id, path in zip(chain_ids, paths, strict=True):
            if not os.path.isdir(path):
                what = f"layer {chain_id} is missing from the storage driver overlay ({path})"
                raise DriverError(what, hint="pull the image again")
        return paths

    def needs_parents(self) -> bool:
        return False

    async def has_layer(self, chain_id: str) -> bool:
        return os.path.isdir(self._layer(chain_id))

    async def unpack(self, chain_id: str, parents: Sequence[str], blob: LayerBlob) -> LayerUsage:
        tools = layer_tools()
        limits = tools.limits(self.settings)
        async with tools.staged(self.root) as temporary:
            usage: LayerUsage = await tools.unpack(temporary, blob, "keep", limits)
            try:
                await trio.to_thread.run_sync(tools.publish, temporary, self._layer(chain_id))
            except OSError as error:
                raise _driver_error(error, f"storage {self.root} cannot be written") from error
        return usage

    async def remove_layer(self, chain_id: str) -> None:
        if os.path.isdir(self.root):
            await layer_tools().discard(self.root, self._layer(chain_id))

    async def verify_layer(
        self, chain_id: str, parents: Sequence[str], blob: LayerBlob
    ) -> Sequence[str]:
        tools = layer_tools()
        async with tools.staged(self.root) as temporary:
            await tools.unpack(temporary, blob, "keep", tools.limits(self.settings))
            found: Sequence[str] = await trio.to_thread.run_sync(
                tools.differences, temporary, self._layer(chain_id)
            )
        return found

    async def kept_layers(self) -> Sequence[str]:
        return [f"sha256:{name}" for name in layer_tools().named(f"{self.root}/layers")]

    async def kept_containers(self) -> Sequence[str]:
        names: Sequence[str] = layer_tools().named(f"{self.root}/containers")
        return names

    async def has_own_layer(self, container: str) -> bool:
        top = self._container(container)
        return all(os.path.isdir(f"{top}/{name}") for name in ("upper", "work", "merged"))

    # --- containers -------------------------------------------------------------------------------

    def _container(self, container: str) -> str:
        return f"{self.root}/containers/{container}"

    def mount_path(self, container: str) -> str:
        return f"{self._container(container)}/merged"

    async def prepare(self, container: str, layers: Sequence[str]) -> None:
        lowers = self._layers(layers)
        top = self._container(container)
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
            raise _driver_error(error, f"cannot prepare container {container}") from error

    async def mount(
        self, container: str, layers: Sequence[str], label: str = "", userns: str = ""
    ) -> str:
        """`layers` are in the order of the image, overlayfs wants the highest first."""
        target = self.mount_path(container)
        if await self.is_mounted(container):
            return target
        lowers = self._layers(layers)[::-1]
        if len(lowers) > LAYERS_MAX:
            raise DriverError(
                f"overlayfs takes {LAYERS_MAX} layers, not {len(lowers)}",
                hint="use --storage-driver vfs",
            )
        top = self._container(container)
        if not os.path.isdir(f"{top}/upper"):
            await self.prepare(container, layers)
        try:
            if not lowers:
                os.makedirs(f"{self.root}/empty", mode=0o755, exist_ok=True)
                lowers = [f"{self.root}/empty"]
            if userns:
                await trio.to_thread.run_sync(self._mount_mapped, container, lowers, label, userns)
            else:
                _mount_any(top, target, lowers, label, self.features)
        except OSError as error:
            raise _driver_error(error, f"cannot mount the layers of {container}") from error
        return target

    def _mount_mapped(self, container: str, lowers: Sequence[str], label: str, userns: str) -> None:
        """Mount layers and `upper` as another mount of the whole store shows them, which maps the
        owners of all that is in it; an overlay itself cannot. It is gone again at once: overlayfs
        has mounts of its own of what it was given."""
        if why := self.cannot_map():
            raise DriverError(why, hint=f"tiffin storage migrate --to vfs {container[:12]}")
        shown = self._shown(container)
        os.makedirs(shown, mode=0o700, exist_ok=True)
        map_tools().bind(self.root, shown, userns)
        try:
            top = f"{shown}/containers/{container}"
            # overlayfs makes things in `work` as the user who mounts: root has no id there.
            root = os.stat(f"{top}/work")
            places = [f"{shown}{lower.removeprefix(self.root)}" for lower in lowers]
            _in_thread(
                lambda: sys_tools().become_on_files(root.st_uid, root.st_gid),
                lambda: _mount_any(top, self.mount_path(container), places, label, self.features),
            )
        finally:
            self._hide(container)

    def _shown(self, container: str) -> str:
        """Not in the store, nor in what is removed with a container."""
        return f"{self.run}/mapped/{container}"

    def _hide(self, container: str) -> None:
        shown = self._shown(container)
        if os.path.isdir(shown):
            map_tools().unmount(shown)
            os.rmdir(shown)

    async def is_mounted(self, container: str) -> bool:
        top = self._container(container)
        try:
            return os.stat(f"{top}/merged").st_dev != os.stat(top).st_dev
        except OSError:
            return False

    async def unmount(self, container: str) -> None:
        self._hide(container)
        target = self.mount_path(container)
        while await self.is_mounted(container):
            # The kernel lets it wait for a grace period of RCU: milliseconds, often many.
            await trio.to_thread.run_sync(_unmount, target)

    async def remove(self, container: str) -> None:
        await self.unmount(container)
        top = self._container(container)
        try:
            await trio.to_thread.run_sync(layer_tools().remove_tree, top)
        except OSError as error:
            raise _driver_error(error, f"cannot remove {top}") from error

    async def diff(self, container: str, layers: Sequence[str], target: str) -> None:
        """The root directory is in it when the container has changed its mode or owner."""
        lowers = [self._layer(chain_id) for chain_id in layers]
        with self._upper(container) as upper:
            prepared = upper.startswith(self.root)
            root = prepared and _metadata(upper) != _root_metadata(lowers)
            try:
                await trio.to_thread.run_sync(layer_tools().write_diff, upper, target, root)
            except OSError as error:
                raise _driver_error(error, f"cannot write the changes of {container}") from error

    async def changes(self, container: str, layers: Sequence[str]) -> Sequence[Change]:
        lowers = self._layers(layers)
        with self._upper(container) as upper:
            found: Sequence[Change] = await trio.to_thread.run_sync(
                layer_tools().changes, upper, lowers
            )
        return found

    async def usage(self, container: str) -> int:
        with self._upper(container) as upper:
            size: int = await trio.to_thread.run_sync(layer_tools().tree_size, upper)
        return size

    @contextlib.contextmanager
    def _upper(self, container: str) -> Iterator[str]:
        """A container's own layer; an empty one as long as it has none."""
        upper = f"{self._container(container)}/upper"
        if os.path.isdir(upper):
            yield upper
        else:
            import tempfile

            with tempfile.TemporaryDirectory() as nothing:
                yield nothing


def _unmount(target: str) -> None:
    try:
        sys_tools().umount2(target, UMOUNT_NOFOLLOW)
    except OSError as error:
        if error.errno != errno.EBUSY:
            raise _driver_error(error, f"cannot unmount {target}") from error
        # Somebody's shell stands in it: it goes when they leave.
        sys_tools().umount2(target, UMOUNT_NOFOLLOW | MNT_DETACH)


def _driver_error(error: OSError, what: str) -> DriverError | StorageFull:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return StorageFull(f"{what}: no space left")
    return DriverError(f"{what}: {error.strerror}")


def _root_metadata(lowers: Sequence[str]) -> tuple[int, int, int]:
    """Mode, owner and group that an image gives its root directory: those of the highest layer
    that names it (`ROOT_NAMED`); 0755 and root's when none does."""
    for lower in reversed(lowers):
        with contextlib.suppress(OSError):
            os.getxattr(lower, layer_tools().ROOT_NAMED)
            return _metadata(lower)
    return 0o755, 0, 0


def _metadata(path: str) -> tuple[int, int, int]:
    status = os.stat(path)
    return stat.S_IMODE(status.st_mode), status.st_uid, status.st_gid


def _link(directory: str, lowers: Sequence[str]) -> list[str]:
    """Links 0, 1, 2, ... to the layers, for names of a few bytes."""
    os.makedirs(directory, mode=0o700, exist_ok=True)
    names = [f"{number:x}" for number in range(len(lowers))]
    for name, lower in zip(names, lowers, strict=True):
        with contextlib.suppress(FileNotFoundError):
            os.unlink(f"{directory}/{name}")
        os.symlink(os.path.relpath(lower, os.path.realpath(directory)), f"{directory}/{name}")
    return names


def _mount_any(top: str, target: str, lowers: Sequence[str], label: str, features: str) -> None:
    """Mount the directories `lowers`, highest first, with `upper` and `work` of the directory
    `top`. Error: OSError."""
    joined = ":".join(lowers)
    long = len(os.fsencode(joined)) + 2 * len(os.fsencode(top)) + len(label) > ROOM
    # Short relative names when the page would overflow, or when a name has in it what mount
    # options are separated by.
    if long or any(sign in joined for sign in ",\\") or joined.count(":") >= len(lowers):
        joined = ":".join(_link(f"{top}/l", lowers))
        _mount_relative(f"{top}/l", joined, target, label, features)
    else:
        _mount(top, joined, target, label, features)


def _mount(top: str, lowers: str, target: str, label: str, features: str) -> None:
    """Mount with `upper` and `work` of the directory `top`. Error: OSError."""
    options = f"lowerdir={lowers},upperdir={top}/upper,workdir={top}/work,{features}"
    if label:
        options += f',context="{label}"'
    if len(os.fsencode(options)) > OPTIONS_MAX:
        raise OSError(errno.E2BIG, "too many layers for the options of a mount")
    sys_tools().mount("overlay", target, "overlay", 0, options)


def _mount_relative(directory: str, lowers: str, target: str, label: str, features: str) -> None:
    """The same with names relative to `directory` (`top/l`): in a thread that has a working
    directory of its own (unshare(2), CLONE_FS) and ends with it."""
    _in_thread(
        lambda: sys_tools().unshare(CLONE_FS),
        lambda: os.chdir(directory),
        lambda: _mount("..", lowers, target, label, features),
    )


def _in_thread(*steps: Callable[[], object]) -> None:
    """Do these in a thread of their own, which ends with what they have changed of it.
    Error: OSError."""
    import threading  # rare: many layers, or ids that are mapped

    failure: list[OSError] = []

    def work() -> None:
        try:
            for step in steps:
                step()
        except OSError as error:
            failure.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    if failure:
        raise failure[0]
