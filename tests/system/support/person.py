"""An ordinary user of this machine, and tiffin as they have it."""

from __future__ import annotations

import fcntl
import os
import secrets
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from . import world
from .cli import PROGRAM, Tiffin, eventually


@contextmanager
def accounts() -> Iterator[None]:
    """Nobody else of the tests changes accounts meanwhile: the halves of the suite share /etc."""
    with open("/etc/login.defs", "rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def edit_ranges(of: str, lines: Sequence[str]) -> None:
    """Replace the lines that begin so in /etc/subuid and /etc/subgid, each file at once: somebody
    may be reading it."""
    with accounts():
        for path in ("/etc/subuid", "/etc/subgid"):
            old = Path(path).read_text().splitlines(keepends=True)
            new = [*(line for line in old if not line.startswith(of)), *lines]
            temporary = Path(f"{path}.{secrets.token_hex(4)}")
            temporary.write_text("".join(new))
            temporary.chmod(0o644)
            temporary.rename(path)


def new_name() -> str:
    """Not by a pid: the halves of the suite have pid namespaces of their own."""
    return f"tfn{secrets.token_hex(4)}"


class Person:
    """Somebody with an account; with `ranges`, with other ids besides their own."""

    def __init__(self, name: str, *, ranges: bool = True) -> None:
        self.name = name
        with accounts():
            argv = ["useradd", "-M", "-s", "/bin/sh", name]
            subprocess.run(argv, check=True, capture_output=True)
        self.uid = int(subprocess.run(["id", "-u", name], capture_output=True, check=True).stdout)
        self.gid = int(subprocess.run(["id", "-g", name], capture_output=True, check=True).stdout)
        if not ranges:
            self.set_ranges()
        if subprocess.run(self.argv("test", "-r", PROGRAM)).returncode:
            self.close()
            raise AssertionError(
                f"ordinary users cannot read {PROGRAM}: put the checkout where they can, or run "
                "the tests by scripts/apart"
            )

    def set_ranges(self, *given: str) -> None:
        """Replace their lines of /etc/subuid and /etc/subgid by these (`FIRST:COUNT`)."""
        edit_ranges(f"{self.name}:", [f"{self.name}:{range_}\n" for range_ in given])

    def range(self) -> tuple[int, int]:
        """The first range of /etc/subuid: (first, count)."""
        for line in Path("/etc/subuid").read_text().splitlines():
            if line.startswith(f"{self.name}:"):
                _, first, count = line.split(":")
                return int(first), int(count)
        raise AssertionError(f"{self.name} has no range")

    def argv(self, *words: str) -> list[str]:
        """A command of theirs, as after a login."""
        who = ["--reuid", str(self.uid), "--regid", str(self.gid), "--init-groups"]
        return ["setpriv", *who, "--", *words]

    def processes(self) -> list[int]:
        """Those that live with their uid, as pids."""
        found = []
        for pid, _, _ in world.processes():
            try:
                mine = world.status(pid, "Uid").split()[0] == str(self.uid)
            except OSError:
                continue
            if mine and world.alive(pid):
                found.append(pid)
        return found

    def log_out(self) -> None:
        """All of their processes are killed."""
        for pid in self.processes():
            try:
                world.kill(pid)
            except ProcessLookupError:
                continue
        eventually(lambda: not self.processes())

    def close(self) -> None:
        self.log_out()
        with accounts():
            subprocess.run(["userdel", self.name], check=True, capture_output=True)


@contextmanager
def person(*, ranges: bool = True) -> Iterator[Person]:
    made = Person(new_name(), ranges=ranges)
    try:
        yield made
    finally:
        made.close()


class TheirTiffin(Tiffin):
    """tiffin as this user has it: their home, their runtime directory, no flags."""

    def __init__(self, base: Path, who: Person, *flags: str) -> None:
        super().__init__(base, *flags)
        self.who = who

    @classmethod
    def of(cls, who: Person) -> TheirTiffin:
        base = Path(tempfile.mkdtemp(prefix="tfn-", dir="/tmp"))
        base.chmod(0o711)
        for name in ("home", "x"):
            (base / name).mkdir(mode=0o700)
            os.chown(base / name, who.uid, who.gid)
        return cls(base, who)

    def using(self, *flags: str) -> TheirTiffin:
        other = TheirTiffin(self.base, self.who, *self.flags, *flags)
        other.env = self.env
        return other

    @property
    def root(self) -> Path:
        return self.base / "home/.local/share/tiffin"

    @property
    def run(self) -> Path:
        return self.base / "x/tiffin"

    def argv(self, *args: str | Path) -> list[str]:
        return self.who.argv(PROGRAM, *self.flags, *map(str, args))

    def environment(self, env: Mapping[str, str] | None = None) -> dict[str, str]:
        path = os.pathsep.join((str(Path(PROGRAM).parent), "/usr/bin", "/bin"))
        own = {"HOME": f"{self.base}/home", "XDG_RUNTIME_DIR": f"{self.base}/x", "PATH": path}
        return {**own, **self.env, **(env or {})}

    def keeper(self) -> int:
        """The process that keeps the user's namespace; 0 when there is none."""
        try:
            pid = int((self.run / "namespace").read_text().split()[0])
        except OSError:
            return 0
        return pid if world.alive(pid) else 0

    def close(self) -> None:
        try:
            if (self.root / "tiffin.db").exists():
                plain = TheirTiffin(self.base, self.who)
                plain.empty()
                left = plain.left_in_store()
                assert not left, f"left in the store: {left}"
                eventually(lambda: not plain.traces(), lambda: f"left behind: {plain.traces()}")
        finally:
            self.who.log_out()
            shutil.rmtree(self.base)

    def left_in_store(self) -> list[str]:
        patterns = ("blobs/sha256/*", "storage/*/layers/*", "storage/*/containers/*")
        found = [str(path) for pattern in patterns for path in self.root.glob(pattern)]
        found += [str(path) for path in self.root.glob("containers/*")]
        return found + [
            str(path) for kind in ("containers", "netns") for path in (self.run / kind).glob("*")
        ]
