"""An OCI runtime's command line, for runtime plugins.

The commands are those of the runtime specification (runtime.md#operations), with the flags that
the programs have in common.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec
from msgspec import Struct

from . import programs
from .errors import Conflict, DriverError, RuntimeFailed
from .hooks import DriverContext, RuntimeState

_LOGRUS = r'level=(\w+) msg=("(?:[^"\\]|\\.)*"|\S+)'
"""The text form of logrus, which Go's programs log with: time="..." level=error msg="..."."""


OF_A_USER = frozenset(("XDG_RUNTIME_DIR", "DBUS_SESSION_BUS_ADDRESS"))


class Words(Struct, frozen=True):
    """How a runtime's program words its failures: regular expressions, searched in the cause
    without regard to case. They are compiled when first needed (re keeps them): only a failure is
    read. The defaults are what most programs of Go and C say."""

    prefixes: str = ""
    """What goes before the cause and says nothing."""
    not_found: str = (
        r"executable file .*not found|(?<![/\w])exec(?:utable)?:? .*no such file or directory"
        r"|chdir .*no such file or directory"
    )
    """The container's command is not there. (Only what is about the command itself: a missing
    source of a mount is not that.)"""
    not_allowed: str = (
        r"(?<![/\w])exec(?:utable)?:? .*"
        r"(?:permission denied|operation not permitted|is a directory|exec format error)"
    )
    """It may not, or cannot be, executed."""
    unknown: str = r"does not exist|no such file or directory|not found"
    """There is no such container."""
    not_running: str = (
        r"not running|process already finished|no such process|is not in .*state|in stopped state"
    )

    def has(self, kind: str, cause: str) -> bool:
        return re.search(kind, cause, re.IGNORECASE) is not None


COMMON = Words()


def message(text: bytes | str) -> str:
    """The cause in a runtime's log or stderr, one line: the last entry that is an error, in JSON
    or logrus' text form, else the last line. Empty when there is nothing."""
    if isinstance(text, bytes):
        text = text.decode(errors="replace")
    plain = error = ""
    for line in text.splitlines():
        line = line.strip()
        if not line:
            continue
        level, said = "", line
        if line.startswith("{"):
            try:
                entry = msgspec.json.decode(line)
                level, said = str(entry.get("level", "error")), str(entry["msg"])
            except (msgspec.DecodeError, KeyError, TypeError, AttributeError):
                pass  # a line that only looks like JSON is taken as it stands
        elif match := re.search(_LOGRUS, line):
            level, said = match[1], match[2]
            if said.startswith('"'):
                said = said[1:-1].replace('\\"', '"').replace("\\\\", "\\")
        if level in ("error", "fatal", "panic"):
            error = said
        plain = said
    return " ".join((error or plain).split())


class CommandLineRuntime:
    """Implements `tiffin.hooks.OCIRuntime`. The runtime keeps its state in `context.run`."""

    def __init__(
        self,
        name: str,
        context: DriverContext,
        *,
        executable: str,
        package: str = "",
        preference: int = 0,
        wrap: Callable[[str], str] | None = None,
        words: Words = COMMON,
        host_process: bool = False,
        without_cgroup: Sequence[str] = (),
    ) -> None:
        """`executable` is a name looked up on PATH, or an absolute path. `wrap` is given its path
        and returns that of the program which conmon is to run in its place. `words`: how it says
        what went wrong. `host_process`: see `hooks.OCIRuntime`."""
        self.name = name
        self.preference = preference
        self.host_process = host_process
        self._context = context
        self._executable = executable
        self._package = package
        self._wrap = wrap
        self._words = words
        self.without_cgroup = tuple(without_cgroup)
        """Arguments with which it makes no cgroup for a container; empty: it always does."""
        self._found = ""

    def _path(self) -> str:
        if not self._found:
            if os.path.isabs(self._executable):
                if not os.path.isfile(self._executable) or not os.access(self._executable, os.X_OK):
                    raise DriverError(
                        f"{self._executable} is not a program that can be run",
                        hint="--runtime takes a plugin's name or the path of an OCI runtime",
                    )
                self._found = self._executable
            else:
                self._found = programs.find(self._executable, self._package)
        return self._found

    def program(self) -> str:
        path = self._path()
        return self._wrap(path) if self._wrap else path

    def arguments(self) -> Sequence[str]:
        return ("--root", self._context.run)

    def knows(self, container: str) -> bool:
        """Whether the runtime keeps anything of a container: most in a directory DIR/ID."""
        return os.path.isdir(f"{self._context.run}/{container}")

    async def _run(
        self, *words: str, stdin: bytes | None = None, prefix: Sequence[str] = ()
    ) -> tuple[int, bytes, bytes]:
        return await programs.run(
            [*prefix, self._path(), *self.arguments(), *words],
            stdin=stdin,
            check=False,
            env=None if self._context.rootless else _roots_environment(),
        )

    async def _do(
        self, *words: str, stdin: bytes | None = None, prefix: Sequence[str] = ()
    ) -> None:
        """Run a command that must succeed; `prefix` is run with it as its arguments.
        Error: RuntimeFailed."""
        code, _, stderr = await self._run(*words, stdin=stdin, prefix=prefix)
        if code:
            raise self.failure(stderr, words[0])

    def cause(self, text: bytes | str) -> str:
        """`message`, without what this program puts before it."""
        said = message(text)
        return re.sub(self._words.prefixes, "", said) if self._words.prefixes else said

    def failure(self, text: bytes | str, doing: str = "") -> RuntimeFailed:
        """RuntimeFailed with the one-line cause; its exit code says whether the command is to blame
        (127 not found, 126 may not be executed) or not (125)."""
        cause = self.cause(text)
        code = 125
        if self._words.has(self._words.not_found, cause):
            code = 127
        elif self._words.has(self._words.not_allowed, cause):
            code = 126
        if not cause:
            cause = f"{doing or 'it'} failed without a message"
        return RuntimeFailed(f"{os.path.basename(self.name)}: {cause}", exit_code=code)

    async def start(self, container: str) -> None:
        await self._do("start", container)

    async def kill(self, container: str, signal: int, *, everything: bool = False) -> None:
        """Errors: Conflict when there is nothing to signal any more, RuntimeFailed."""
        words = ("kill", "--all") if everything else ("kill",)
        code, _, stderr = await self._run(*words, container, str(signal))
        if code:
            cause, said = self.cause(stderr), self._words
            if said.has(said.not_running, cause) or said.has(said.unknown, cause):
                raise Conflict(f"container {container[:12]} is not running")
            raise self.failure(stderr, "kill")

    async def delete(self, container: str, *, force: bool = False) -> None:
        if not self.knows(container):
            return
        words = ("delete", "--force") if force else ("delete",)
        code, _, stderr = await self._run(*words, container)
        if code and not self._words.has(self._words.unknown, self.cause(stderr)):
            raise self.failure(stderr, "delete")

    async def state(self, container: str) -> RuntimeState | None:
        code, stdout, stderr = await self._run("state", container)
        if code:
            if self._words.has(self._words.unknown, self.cause(stderr)):
                return None
            raise self.failure(stderr, "state")
        try:
            return msgspec.json.decode(stdout, type=RuntimeState)
        except msgspec.DecodeError as error:
            raise RuntimeFailed(f"{self.name}: its state cannot be read: {error}") from None

    async def pause(self, container: str) -> None:
        await self._do("pause", container)

    async def resume(self, container: str) -> None:
        await self._do("resume", container)

    async def update(self, container: str, resources: Mapping[str, Any]) -> None:
        await self._do(
            "update", "--resources", "-", container, stdin=msgspec.json.encode(resources)
        )

    async def version(self) -> str:
        code, stdout, stderr = await self._run("--version")
        if code:
            raise self.failure(stderr, "--version")
        return stdout.decode(errors="replace").partition("\n")[0].strip()


def _roots_environment() -> dict[str, str] | None:
    """Ours, in which a runtime finds PID 1 and not the systemd of root's own login; None: as it
    is."""
    if not OF_A_USER.intersection(os.environ):
        return None
    return {name: value for name, value in os.environ.items() if name not in OF_A_USER}


def wrapper(context: DriverContext, name: str, script: str) -> str:
    """Path of a program `name` with the text `script`, to give conmon in the place of a runtime's
    own (`CommandLineRuntime`, `wrap`).

    It lies in the driver's run directory, or in its permanent one where /run is mounted noexec.
    Error: DriverError."""
    text = script.encode(errors="surrogateescape")
    for directory in (context.run, context.root):
        path = f"{directory}/{name}"
        _write(path, text)
        if os.access(path, os.X_OK):  # false on a noexec mount
            return path
    raise DriverError(
        f"{name} is a wrapper that this machine needs, and nothing in {context.run} or "
        f"{context.root} can be executed",
        hint="mount one of them without noexec, or use another --runtime",
    )


def _write(path: str, text: bytes) -> None:
    """Write atomically, and only what is not there yet: others may be running it just now."""
    with contextlib.suppress(OSError), open(path, "rb") as file:
        if file.read() == text and os.access(path, os.X_OK):
            return
    temporary = f"{path}.{os.getpid()}"
    try:
        os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
        fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o700)
        with open(fd, "wb") as file:
            file.write(text)
        os.replace(temporary, path)
    except OSError as error:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise DriverError(f"cannot write {path}: {error.strerror}") from None


__all__ = ["CommandLineRuntime", "Words", "message", "wrapper"]
