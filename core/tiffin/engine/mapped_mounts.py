"""Bind mounts and volumes as another user of ids sees them: `:idmap`, `:U`, volumes of containers
with a user namespace of their own."""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence

import msgspec
import trio

from .. import idmap
from ..errors import UserError
from ..options import ContainerOptions, Mount
from ..spec.users import User
from . import idmaps, rootfs
from .hold import Held

SYSTEM = frozenset(
    "/ /bin /boot /dev /etc /home /lib /lib64 /media /mnt /opt /proc /root /run /sbin /srv /sys "
    "/tmp /usr /usr/bin /usr/lib /usr/sbin /var /var/lib /var/log /var/run /var/spool".split()
)
"""What `:U` does not give away: the machine would not work any more (as podman has it)."""


def check(mounts: Sequence[Mount]) -> None:
    """Error: UserError for a `:U` that would take a place of the system away."""
    for mount in mounts:
        source = os.path.realpath(mount.source) if mount.type == "bind" else ""
        if "U" in mount.options and source in SYSTEM:
            raise UserError(
                f"-v {mount.source}:{mount.target}:U would give away {source}, "
                "a place of the system"
            )


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
            await trio.to_thread.run_sync(give, mount.source, *ids)


def give(path: str, uid: int, gid: int) -> None:
    """A file, or a tree, to a user; no link in it is followed, whoever changes it meanwhile."""
    path = os.path.realpath(path)  # as the mount will have it
    if not os.path.isdir(path):
        os.chown(path, uid, gid, follow_symlinks=False)
        return
    for _, folders, files, fd in os.fwalk(path, follow_symlinks=False):
        os.chown(fd, uid, gid)
        for name in (*folders, *files):
            try:
                os.chown(name, uid, gid, dir_fd=fd, follow_symlinks=False)
            except FileNotFoundError:
                continue  # gone meanwhile


def hand_over(held: Held, files: Sequence[str], secrets: Sequence[str] = ()) -> None:
    """The container's hosts, resolv.conf and hostname are its root's, as podman's are; its secrets,
    which have the owners that it is to see, keep them."""
    maps = idmaps.of(held.row)
    for path in files:
        if path.startswith(f"{held.row['directory']}/"):  # not another container's
            os.chown(path, *rootfs.owner(maps))
    for path in secrets:
        status = os.stat(path)
        os.chown(path, *rootfs.owner(maps, status.st_uid, status.st_gid))
        os.chmod(path, stat.S_IMODE(status.st_mode))


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
