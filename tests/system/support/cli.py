"""tiffin as a user has it: a command, with a store of its own."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from . import world

PROGRAM = os.environ.get("TIFFIN") or str(Path(sys.executable).parent / "tiffin")
BUSYBOX = "embedded:busybox"
PATIENCE = float(os.environ.get("TIFFIN_TEST_PATIENCE", "3"))
"""Factor on all times that the tests wait at most; an emulated machine needs 10."""
PROGRESS = re.compile("[0-9a-f]{12} ")


class Done(NamedTuple):
    code: int
    out: str
    err: str

    @property
    def word(self) -> str:
        """stdout without the newline at its end."""
        return self.out.removesuffix("\n")

    @property
    def lines(self) -> list[str]:
        return self.out.splitlines()


class Started(subprocess.Popen[bytes]):
    """A command in the background; as a context manager it does not outlive a test that fails."""

    def __exit__(self, kind: Any, value: Any, trace: Any) -> None:
        if kind is not None:
            self.kill()
        super().__exit__(kind, value, trace)


class Tiffin:
    """`tiffin("run", ...)` runs a command, asserts its exit code and returns its output."""

    def __init__(self, base: Path, *flags: str) -> None:
        self.base = base
        self.flags = flags
        self.env: dict[str, str] = {}

    @classmethod
    def fresh(cls) -> Tiffin:
        """An empty store. The path is short: AF_UNIX sockets lie below it; and the root user of a
        container with other ids may pass through it."""
        base = Path(tempfile.mkdtemp(prefix="tfn-", dir="/tmp"))
        base.chmod(0o711)
        return cls(base)

    def using(self, *flags: str) -> Tiffin:
        """The same store with more global flags."""
        other = Tiffin(self.base, *self.flags, *flags)
        other.env = self.env
        return other

    @property
    def root(self) -> Path:
        return self.base / "root"

    @property
    def run(self) -> Path:
        return self.base / "run"

    def argv(self, *args: str | Path) -> list[str]:
        return [
            PROGRAM,
            f"--root={self.root}",
            f"--runroot={self.run}",
            *self.flags,
            *map(str, args),
        ]

    def environment(self, env: Mapping[str, str] | None = None) -> dict[str, str]:
        return {**os.environ, **self.env, **(env or {})}

    def __call__(
        self,
        *args: str | Path,
        code: int = 0,
        input: str | bytes | None = None,
        env: Mapping[str, str] | None = None,
        timeout: float = 60,
        cwd: Path | None = None,
        pass_fds: tuple[int, ...] = (),
    ) -> Done:
        done = self.attempt(
            *args, input=input, env=env, timeout=timeout, cwd=cwd, pass_fds=pass_fds
        )
        assert done.code == code, (
            f"tiffin {' '.join(map(str, args))}: exit code {done.code}, not {code}\n"
            f"{done.out[-2000:]}\n{done.err[-4000:]}"
        )
        assert "Traceback" not in done.err, done.err
        return done

    def attempt(
        self,
        *args: str | Path,
        input: str | bytes | None = None,
        env: Mapping[str, str] | None = None,
        timeout: float = 60,
        cwd: Path | None = None,
        pass_fds: tuple[int, ...] = (),
    ) -> Done:
        """As calling it, with any exit code."""
        done = subprocess.run(
            self.argv(*args),
            input=input.encode() if isinstance(input, str) else input,
            stdin=subprocess.DEVNULL if input is None else None,
            capture_output=True,
            env=self.environment(env),
            timeout=timeout * PATIENCE,
            cwd=cwd,
            pass_fds=pass_fds,
        )
        return Done(
            done.returncode, *(s.decode(errors="replace") for s in (done.stdout, done.stderr))
        )

    def fails(
        self,
        *args: str | Path,
        says: str = "",
        code: int = 125,
        env: Mapping[str, str] | None = None,
        timeout: float = 60,
    ) -> str:
        """The command fails with one line on stderr that contains `says`; returns the line.
        Lines of progress (digest, and what became of it) do not count."""
        done = self(*args, code=code, env=env, timeout=timeout)
        lines = [line for line in done.err.splitlines() if not PROGRESS.match(line)]
        assert len(lines) == 1, f"not one line: {done.err!r}"
        assert says.lower() in lines[0].lower(), f"{says!r} not in {done.err!r}"
        return lines[0]

    def start(self, *args: str | Path, **options: Any) -> Started:
        """Run in the background."""
        options.setdefault("stdout", subprocess.PIPE)
        options.setdefault("stderr", subprocess.PIPE)
        options.setdefault("env", self.environment())
        return Started(self.argv(*args), **options)

    # -- what people read out of it

    def create(self, *args: str | Path, **options: Any) -> str:
        return self("create", *args, **options).lines[-1]

    def detached(self, *args: str | Path, **options: Any) -> str:
        """`run -d`; returns the id."""
        return self("run", "-d", *args, **options).lines[-1]

    def inspect(self, name: str) -> dict[str, Any]:
        found: list[dict[str, Any]] = json.loads(self("inspect", name).out)
        return found[0]

    def status(self, name: str) -> str:
        return self("inspect", "--format", "{{.State.Status}}", name).word

    def pid(self, name: str) -> int:
        return int(self("inspect", "--format", "{{.State.Pid}}", name).word)

    def conmon(self, name: str) -> int:
        return int(self("inspect", "--format", "{{.State.ConmonPid}}", name).word)

    def events(self, *args: str) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self("events", "--format", "json", *args).lines]

    # -- the end

    def empty(self) -> None:
        """Remove all containers and images."""
        self("rm", "-a", "-f", "-t", "0")
        if len(self("images", "-a", "-q").lines) > 10:  # of a build's steps
            self("image", "prune", "-a", "-f")
        for line in self("images", "-a", "-q", "--no-trunc").lines:
            self.attempt("rmi", "-f", line)
        assert self("images", "-q").out == ""

    def traces(self) -> list[str]:
        """What is left of this store's containers outside of its directory."""
        ids = {
            entry["stream"].removeprefix("container/")
            for entry in self._log()
            if entry["stream"].startswith("container/")
        }
        return world.traces_of(self.base, ids)

    def _log(self) -> list[dict[str, Any]]:
        return self.events() if (self.root / "tiffin.db").exists() else []

    def close(self) -> None:
        """Empty the store, check that nothing is left of it, and delete its directory."""
        try:
            if (self.root / "tiffin.db").exists():
                plain = Tiffin(self.base)
                plain.empty()
                left = plain.left_in_store()
                assert not left, f"left in the store: {left}"
                eventually(lambda: not plain.traces(), lambda: f"left behind: {plain.traces()}")
        finally:
            world.sweep(self.base)

    def left_in_store(self) -> list[str]:
        """Containers' and images' files in an emptied store."""
        return [
            str(path)
            for pattern in (
                "root/containers/*",
                "root/blobs/sha256/*",
                "root/storage/*/layers/*",
                "root/storage/*/containers/*",
                "run/containers/*",
                "run/netns/*",
            )
            for path in self.base.glob(pattern)
        ]


def eventually(
    condition: Callable[[], object],
    otherwise: Callable[[], str] = lambda: "did not happen",
    seconds: float = 10,
) -> None:
    """Wait for something that other processes do."""
    end = time.monotonic() + seconds * PATIENCE
    while not condition():
        assert time.monotonic() < end, otherwise()
        time.sleep(0.02)


def tree(directory: Path) -> set[str]:
    """Relative paths of all that is in a directory, without what SQLite keeps beside its file."""
    return {
        str(path.relative_to(directory))
        for path in directory.rglob("*")
        if not path.name.endswith(("-wal", "-shm"))
    }
