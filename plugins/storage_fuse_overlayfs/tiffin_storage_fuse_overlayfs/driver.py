"""The driver. A container's mount is a process, `fuse-overlayfs`, that hangs off init, belongs to
no session, and ends when it is unmounted.
"""

from __future__ import annotations

import os
from collections.abc import Sequence

import trio

from tiffin.errors import DriverError
from tiffin.hooks import Change, layer_tools, map_tools, run_program, sys_tools

DEVICE = "/dev/fuse"
PROGRAM = "fuse-overlayfs"
MNT_DETACH = 2
OPAQUE = ".wh..wh..opq"
MARKS = frozenset((OPAQUE, ".wh..opq"))


class FuseOverlayDriver(layer_tools().StackedTrees):  # type: ignore[misc]
    """`hooks.StorageDriver` over fuse-overlayfs(1)."""

    name = "fuse-overlayfs"
    preference = 50  # below the kernel's overlay, above copies
    labels_mounts = False
    maps_ids = True

    async def probe(self) -> str | None:
        """Mounts one in a temporary directory of the store."""
        import tempfile

        try:
            os.makedirs(self.root, mode=0o700, exist_ok=True)
            with tempfile.TemporaryDirectory(dir=self.root, prefix="probe-") as top:
                for name in ("lower", "upper", "work", "merged"):
                    os.mkdir(f"{top}/{name}")
                await self._run(top, f"{top}/merged", [f"{top}/lower"], "")
                sys_tools().umount2(f"{top}/merged", MNT_DETACH)
        except (OSError, DriverError) as error:
            return str(getattr(error, "strerror", "") or error)
        return None

    async def mount_layers(
        self, container: str, lowers: Sequence[str], label: str, userns: str
    ) -> None:
        top, target = self.container(container), self.mount_path(container)
        maps = await trio.to_thread.run_sync(_mappings, userns) if userns else ""
        await self._run(top, target, lowers, maps)

    async def diff(self, container: str, layers: Sequence[str], target: str) -> None:
        await trio.to_thread.run_sync(_settle, f"{self.container(container)}/upper")
        await super().diff(container, layers, target)

    async def changes(self, container: str, layers: Sequence[str]) -> Sequence[Change]:
        await trio.to_thread.run_sync(_settle, f"{self.container(container)}/upper")
        found: Sequence[Change] = await super().changes(container, layers)
        return found

    async def _run(self, top: str, target: str, lowers: Sequence[str], maps: str) -> None:
        """Error: DriverError with what the program complained of."""
        _need_device()
        # Relative names: what options are separated by may be in a path, and there may be many.
        links = f"{top}/l"
        os.makedirs(links, mode=0o700, exist_ok=True)
        names = []
        for number, lower in enumerate(lowers):
            names.append(f"{number:x}")
            if os.path.lexists(f"{links}/{names[-1]}"):
                os.unlink(f"{links}/{names[-1]}")
            os.symlink(os.path.relpath(lower, os.path.realpath(links)), f"{links}/{names[-1]}")
        # Without `writeback=0` what is in the kernel's cache would be missing in a diff.
        options = f"lowerdir={':'.join(names)},upperdir=../upper,workdir=../work{maps},writeback=0"
        # It forks, and leaves our session (fuse_daemonize).
        await run_program([PROGRAM, "-o", options, target], package=PROGRAM, cwd=links)


def _settle(upper: str) -> None:
    """The program marks an opaque directory by an attribute and, in case that is lost, by files;
    containers cannot make any of these names. What reads layers knows the attribute."""
    if not os.path.isdir(upper):
        return
    attribute = layer_tools().OVERLAY_OPAQUE
    for _, _, names, fd in os.fwalk(upper):
        if OPAQUE in names:
            os.setxattr(fd, attribute, b"y")
            for mark in MARKS.intersection(names):
                os.unlink(mark, dir_fd=fd)


def _need_device() -> None:
    try:
        os.close(os.open(DEVICE, os.O_RDWR | os.O_CLOEXEC))
    except FileNotFoundError:
        raise DriverError(f"{DEVICE} is not there", hint="modprobe fuse") from None
    except OSError as error:
        raise DriverError(f"{DEVICE}: {error.strerror}", hint=f"chmod 666 {DEVICE}") from None


def _mappings(userns: str) -> str:
    """`INSIDE:STORED:COUNT` for each range: what a file's stored owner (which is the container's
    own) is called by the process that serves it."""
    maps = map_tools().maps_of(userns)
    found = ""
    for option, ranges in (("uidmapping", maps.uids), ("gidmapping", maps.gids)):
        triples = ":".join(f"{r.inside}:{r.outside}:{r.size}" for r in ranges)
        found += f",{option}={triples}"
    return found
