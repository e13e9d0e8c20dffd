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
from collections.abc import Callable, Sequence

import trio

from tiffin.errors import DriverError
from tiffin.hooks import (
    DriverContext,
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


class OverlayDriver(layer_tools().StackedTrees):  # type: ignore[misc]
    """`hooks.StorageDriver` over overlayfs (kernel documentation, filesystems/overlayfs.rst)."""

    name = "overlay"
    preference = 100
    labels_mounts = True

    def __init__(self, context: DriverContext) -> None:
        super().__init__(context)
        self.features = USER_FEATURES if context.rootless else FEATURES
        self.maps_ids = not context.rootless  # a user's mounts of the host's file systems cannot

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

    async def mount_layers(
        self, container: str, lowers: Sequence[str], label: str, userns: str
    ) -> None:
        if userns:
            await trio.to_thread.run_sync(self._mount_mapped, container, lowers, label, userns)
        else:
            target = self.mount_path(container)
            _mount_any(self.container(container), target, lowers, label, self.features)

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
            self.release(container)

    def _shown(self, container: str) -> str:
        """Not in the store, nor in what is removed with a container."""
        return f"{self.run}/mapped/{container}"

    def release(self, container: str) -> None:
        shown = self._shown(container)
        if os.path.isdir(shown):
            map_tools().unmount(shown)
            os.rmdir(shown)


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
    """These in a thread of their own, which ends with what they have changed of it.
    Error: OSError."""
    sys_tools().in_thread(lambda: [step() for step in steps])
