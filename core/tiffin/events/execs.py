"""Events of `exec/ID`: another process in a container's namespaces."""

from __future__ import annotations

from typing import ClassVar

from .base import Event


class ExecPlanned(Event, frozen=True, kw_only=True):
    """A process is about to be run in a container. Environment values are not recorded."""

    TYPE: ClassVar[str] = "exec.planned"
    OPENS: ClassVar[str] = "exec"

    container: str
    command: tuple[str, ...]
    user: str = ""
    workdir: str = ""
    tty: bool = False
    privileged: bool = False
    directory: str


class ExecStarted(Event, frozen=True, kw_only=True):
    """The process runs."""

    TYPE: ClassVar[str] = "exec.started"

    pid: int
    conmon_pid: int = 0


class ExecDetached(Event, frozen=True, kw_only=True):
    """Nobody waits for the process any more: it goes on by itself, and its end will be recorded."""

    TYPE: ClassVar[str] = "exec.detached"
    CLOSES: ClassVar[str] = "exec"


class ExecExited(Event, frozen=True, kw_only=True):
    """The process ended."""

    TYPE: ClassVar[str] = "exec.exited"
    CLOSES: ClassVar[str] = "exec"

    exit_code: int


class ExecFailed(Event, frozen=True, kw_only=True):
    """The process could not be run."""

    TYPE: ClassVar[str] = "exec.failed"
    CLOSES: ClassVar[str] = "exec"

    error: str
    exit_code: int = 125
