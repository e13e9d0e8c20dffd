"""Bind mounts and volumes as another user of ids sees them: `:idmap`, `:U`, volumes of containers
with a user namespace of their own."""

from __future__ import annotations

import os
from collections.abc import Sequence

import msgspec
import trio

from .. import idmap
from ..errors import UserError
from ..options import ContainerOptions
from ..spec.users import User
from . import idmaps, rootfs
from .hold import Held

SYSTEM = frozenset(
    "/ /bin /boot /dev /etc /home /lib /lib64 /media /mnt /opt /proc /root /run /sbin /srv /sys "
    "/tmp /usr /var /var/lib /var/log /var/run".split()
)
"""Places whose owners `:U` does not change."""


def check(options: ContainerOptions) -> None:
    """Error: UserError for a `:U` that would take a place of the system away."""
    for mount in options.mounts:
        asked = mount.type == "bind" and "U" in mount.options
        if asked and os.path.realpath(mount.source) in SYSTEM:
            raise UserError(f"-v {mount.source}:{mount.target}:U: a place of the system")


def mappable(held: Held, path: str) -> bool:
    """Whether `idmap` works there, for this container."""
    return idmap.possible(path, held.engine.layout.userns(held.id))


async def change_owners(held: Held, options: ContainerOptions, user: User) -> None:
    """`:U`: all in the source belongs to the container's user from now on."""
    maps = idmaps.of(held.row)
    for mount in options.mounts:
        if mount.type == "bind" and "U" in mount.options:
            ids = user.uid, user.gid
            if maps.uids and "idmap" not in mount.options:
                ids = rootfs.owner(maps, *ids)
            await trio.to_thread.run_sync(_chown, mount.source, *ids)


def _chown(path: str, uid: int, gid: int) -> None:
    os.chown(path, uid, gid, follow_symlinks=False)
    if os.path.isdir(path):
        for _, directories, files, fd in os.fwalk(path):
            for name in (*directories, *files):
                os.chown(name, uid, gid, dir_fd=fd, follow_symlinks=False)


def hand_over(held: Held, files: Sequence[str]) -> None:
    """The container's hosts, resolv.conf and hostname are its root's, as podman's are."""
    maps = idmaps.of(held.row)
    for path in files:
        os.chown(path, *rootfs.owner(maps))


def place(held: Held, options: ContainerOptions) -> ContainerOptions:
    """Mount what is `:idmap` where the container's root can get to it, with its owners mapped.
    Error: NotMappable."""
    layout = held.engine.layout
    mounts = list(options.mounts)
    for number, mount in enumerate(mounts):
        if mount.type == "bind" and "idmap" in mount.options:
            there = f"{layout.mapped(held.id)}/{number}"
            _make_like(mount.source, there)
            idmap.unmount(there)  # what a killed start has left
            recursive = "bind" not in mount.options
            idmap.bind(mount.source, there, layout.userns(held.id), recursive=recursive)
            mounts[number] = msgspec.structs.replace(mount, source=there)
    return msgspec.structs.replace(options, mounts=tuple(mounts))


def _make_like(source: str, there: str) -> None:
    if os.path.isdir(source):
        os.makedirs(there, mode=0o755, exist_ok=True)
    else:
        os.close(os.open(there, os.O_CREAT | os.O_WRONLY | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600))
