"""tiffin that kills itself: `killer.py N FILE ARGS...` is `tiffin ARGS...` until its N-th point.

Instead of a death, `N:EIO` and `N:ENOSPC` make the N-th change in the file system, or write to the
log, fail with that error.

Points are before and after each write to the log, each call of a driver, of conmon and of the
network namespace's makers, and each change that the engine itself makes in the file system. A line
for every point that was passed goes into FILE; at the N-th the process gets SIGKILL (never, for 0).
Only the harness knows of this: the engine has no switch for it.
"""

from __future__ import annotations

import errno
import inspect
import os
import signal
import sqlite3
import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any

FILE_SYSTEM = ("mkdir", "rename", "replace", "link", "symlink", "unlink", "rmdir", "fsync", "chmod")


class Points:
    """Counts, writes down, and kills; or, with an error, lets one thing fail."""

    def __init__(self, number: int, trace: int, error: str = "") -> None:
        self.number = number
        self.trace = trace
        self.error = error
        self.passed = 0
        self.about = ""
        self.process = os.getpid()

    def __call__(self, label: str) -> None:
        if os.getpid() != self.process:  # a child between fork and exec
            return
        if self.error and not label.startswith(("before os.", "before log ")):
            return
        self.passed += 1
        os.write(self.trace, f"{label}\n".encode(errors="replace"))
        if self.passed == self.number and self.error:
            raise self._failure(label)
        if self.passed == self.number:
            os.kill(self.process, signal.SIGKILL)
            signal.pause()

    def _failure(self, label: str) -> Exception:
        number = getattr(errno, self.error)
        if not label.startswith("before log "):
            return OSError(number, os.strerror(number))
        failure = sqlite3.OperationalError("disk I/O error")
        failure.sqlite_errorcode = sqlite3.SQLITE_IOERR_WRITE
        if self.error == "ENOSPC":
            failure = sqlite3.OperationalError("database or disk is full")
            failure.sqlite_errorcode = sqlite3.SQLITE_FULL
        return failure

    def around(self, function: Callable[..., Any], label: str) -> Callable[..., Any]:
        """The function with a point before and one after it."""
        if inspect.iscoroutinefunction(function):

            async def later(*args: Any, **kwargs: Any) -> Any:
                self(f"before {label}")
                result = await function(*args, **kwargs)
                self(f"after {label}")
                return result

            return later

        def now(*args: Any, **kwargs: Any) -> Any:
            self(f"before {label}")
            result = function(*args, **kwargs)
            self(f"after {label}")
            return result

        return now


class Driver:
    """A driver with points around each call that does something."""

    def __init__(self, driver: Any, kind: str, points: Points) -> None:
        self._driver = driver
        self._kind = kind
        self._points = points

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._driver, name)
        if inspect.iscoroutinefunction(value):
            return self._points.around(value, f"{self._kind}.{name}")
        return value


def _module(points: Points, module: ModuleType, *names: str) -> None:
    for name in names:
        label = f"{module.__name__.removeprefix('tiffin.')}.{name}"
        setattr(module, name, points.around(getattr(module, name), label))


def instrument(points: Points) -> None:
    from tiffin import conmon, netns
    from tiffin.plugins import Plugins
    from tiffin.store import sync, threads

    append, run = threads.EventStore.append, sync.run

    async def appended(self: Any, records: Any, **kwargs: Any) -> Any:
        points.about = ",".join(record.type for record in records)
        return await append(self, records, **kwargs)

    def wrote(connection: Any, steps: Any) -> Any:
        points(f"before log {points.about}")
        result = run(connection, steps)
        points(f"after log {points.about}")
        return result

    setattr(threads.EventStore, "append", appended)  # noqa: B010
    setattr(sync, "run", wrote)  # noqa: B010
    driver = Plugins.driver

    def made(self: Any, kind: str, name: str) -> Any:
        return Driver(driver(self, kind, name), kind, points)

    setattr(Plugins, "driver", made)  # noqa: B010
    _module(points, conmon, "create")
    _module(points, netns, "create", "remove")
    _module(points, os, *FILE_SYSTEM)


def main() -> None:
    what, trace, *arguments = sys.argv[1:]
    number, _, error = what.partition(":")
    from tiffin import lean
    from tiffin.cli import main as cli

    lean.prepare()
    lean.load_msgspec()
    lean.load_trio()
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
    instrument(Points(int(number), os.open(trace, flags, 0o600), error))
    cli.main(arguments)


if __name__ == "__main__":
    main()
