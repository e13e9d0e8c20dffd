"""Where everything lives: the one place that turns flags, environment and user into paths."""

from __future__ import annotations

import os

from . import USER_MARK
from .errors import UserError

CONTAINER_FILES = ("config.json", "origins.json", "hosts", "resolv.conf", "hostname")


def _uid() -> int:
    uid = os.geteuid()
    if uid == 0 and USER_MARK in os.environ:
        from .rootless import real_uid

        return real_uid()
    return uid


class Layout:
    """Paths of one store. Root's default is /var/lib/tiffin and /run/tiffin; a user's is in their
    own home (XDG base directories). Holds strings, creates nothing."""

    __slots__ = ("root", "run", "uid")

    def __init__(self, root: str, run: str, uid: int | None = None) -> None:
        self.root = root
        self.run = run
        self.uid = _uid() if uid is None else uid
        """Whose store it is; within a user's namespace not the effective uid."""

    @classmethod
    def find(
        cls, root: str | None = None, run: str | None = None, *, usual: bool = False
    ) -> Layout:
        """Flags first, then TIFFIN_ROOT and TIFFIN_RUNROOT, then the default of this user; that
        alone if the `usual` one is wanted."""
        env = dict(os.environ)
        if usual:
            env.pop("TIFFIN_ROOT", None)
            env.pop("TIFFIN_RUNROOT", None)
        root = root or env.get("TIFFIN_ROOT")
        run = run or env.get("TIFFIN_RUNROOT")
        uid = _uid()
        if root is None:
            if uid == 0:
                root = "/var/lib/tiffin"
            else:
                data = env.get("XDG_DATA_HOME") or os.path.expanduser("~/.local/share")
                root = f"{data}/tiffin"
        if run is None:
            if uid == 0:
                run = "/run/tiffin"
            else:
                from .rootless import places

                run = f"{places.runtime_dir(uid)}/tiffin"
        for name, path in (("--root", root), ("--runroot", run)):
            if not path or "\0" in path or "\n" in path:
                raise UserError(f"{name} {path!r} is not a usable path")
        return cls(os.path.abspath(root), os.path.abspath(run), uid)

    @property
    def database(self) -> str:
        """The SQLite file: event log and projections."""
        return f"{self.root}/tiffin.db"

    @property
    def blobs(self) -> str:
        """Content store: blobs/sha256/HEX, as they came over the wire."""
        return f"{self.root}/blobs"

    @property
    def plugin_index(self) -> str:
        return f"{self.root}/plugins.json"

    def storage(self, driver: str) -> str:
        """The only directory that this storage driver may keep state in."""
        return f"{self.root}/storage/{driver}"

    def container(self, cid: str) -> str:
        """Persistent directory of a container (its bundle: config.json, hosts, log)."""
        return f"{self.root}/containers/{cid}"

    @property
    def containers_run(self) -> str:
        """Has a directory for each container that runs (`container_run`)."""
        return f"{self.run}/containers"

    def container_run(self, cid: str) -> str:
        """Run state of a container, gone after a reboot: pid files, attach socket, exit file."""
        return f"{self.containers_run}/{cid}"

    def attended(self, cid: str) -> str:
        """Locked by a foreground `run` as long as it looks after the container's end."""
        return f"{self.container_run(cid)}/attended"

    def ending(self, cid: str) -> str:
        """Locked by a command that makes the container end, and sees to its end."""
        return f"{self.container_run(cid)}/ending"

    def lock(self, cid: str) -> str:
        return f"{self.run}/locks/{cid}"

    def exec_lock(self, exec_id: str) -> str:
        """Locked by the command that runs an exec, as long as it sees to its end."""
        return f"{self.run}/locks/exec-{exec_id}"

    def round(self, loginuid: int, session: int) -> str:
        """Lock of whoever cleans up after the containers of this login that end by themselves."""
        return f"{self.run}/locks/round-{loginuid}-{session}"

    def netns(self, cid: str) -> str:
        return f"{self.run}/netns/{cid}"

    def userns(self, cid: str) -> str:
        return f"{self.run}/userns/{cid}"

    def mapped(self, cid: str) -> str:
        """Mounts of a container with a user namespace, whose root has to get there: `root` and one
        for each volume whose ids are mapped. Nobody else can enter it. An ordinary user's run
        directory is closed to other ids, and `mapped` is in /tmp."""
        if self.uid:
            from .rootless import places

            return f"{places.fallback(self.uid)}-ids/{cid}"
        return f"{self.run}/mapped/{cid}"

    def driver_run(self, kind: str, driver: str) -> str:
        """Run state of a driver, gone after a reboot."""
        return f"{self.run}/drivers/{kind}-{driver}"
