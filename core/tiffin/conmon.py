"""conmon(8): the process that stands between init and a container.

conmon runs the OCI runtime, keeps the container's stdio, writes its log, waits for its end, leaves
the exit code in a file and runs our exit command. It forks once more before it begins, so that it
hangs off init and not off us; the login uid of whoever called is inherited all the way down.

The protocol (conmon 2.1): `_OCI_SYNCPIPE` names a file descriptor on which conmon writes one JSON
object a line: `{"data": PID}` once the runtime is done, or a negative number with a `message`; for
an exec, later `{"data": EXIT CODE}`. For an attached exec, `_OCI_ATTACHPIPE` tells when the attach
socket is there, and `_OCI_STARTPIPE` holds the command back until we are connected to it.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from io import FileIO
from typing import Any

import msgspec
import trio
from msgspec import Struct

from . import USER_MARK, cgroups, processes, programs, syscalls
from .errors import DriverError, RuntimeFailed, UserError

KEPT_ENVIRONMENT = (
    *("PATH", "HOME", "XDG_RUNTIME_DIR", "DBUS_SESSION_BUS_ADDRESS"),
    USER_MARK,
)
"""All that conmon, the runtime and the exit command get of our environment. TMPDIR is not among
them: conmon makes a socket there, whose path must be short."""
OF_A_USER = ("XDG_RUNTIME_DIR", "DBUS_SESSION_BUS_ADDRESS")
PASSTHROUGH = "passthrough"
"""A `Monitor.log`."""
PROMPT = 5.0
"""Seconds in which nobody asks why conmon is silent."""
GLANCE = 1.0
LOOKS = 4
"""Looks in a row, a `GLANCE` apart, at which there is no runtime any more that conmon could be
waiting for."""


class Monitor(Struct, frozen=True, kw_only=True):
    """What conmon is to look after: a container or, with `session`, one exec in it."""

    container: str
    """Id."""
    runtime: str
    """Absolute path of the runtime's program (`OCIRuntime.program`)."""
    failure: Callable[[bytes | str], RuntimeFailed]
    """`OCIRuntime.failure`."""
    arguments: Sequence[str] = ()
    """`OCIRuntime.arguments`."""
    bundle: str
    """Directory with config.json; conmon makes `attach`, `ctl` and `winsz` in it. For an exec, a
    directory of its own."""
    run: str
    """Directory for run state, made when missing: `pidfile`, `conmon.pid`, `oci-log`,
    `exits/CONTAINER` (the exit code) and `persist/oom` (out of memory)."""
    name: str = ""
    session: str = ""
    """Id of the exec."""
    log: str = ""
    """The log file (format k8s-file), `journald`, or `passthrough`: its stdio is the caller's, and
    there is nothing to attach to. Empty: no log."""
    log_tag: str = ""
    """What entries of the journal are tagged with."""
    log_size_max: int = 0
    """Bytes; 0: no limit."""
    timeout: int = 0
    """Seconds after which it is killed; 0: never."""
    preserve_fds: int = 0
    """So many of our descriptors from 3 on are the process's as well."""
    terminal: bool = False
    stdin: bool = False
    """Without a terminal: keep a pipe to the container's stdin. With one, its stdin is the
    terminal, which must outlive an attached client: conmon is not told."""
    exit_command: Sequence[str] = ()
    """Absolute path and arguments of what conmon runs at the very end."""
    sync_log: bool = False
    """fsync the log at the end. Off: a log may lose its tail in a power failure, as any file."""
    debug: bool = False
    by_systemd: bool = False
    """The runtime is to let systemd make the container's cgroup."""
    unit: str = ""
    """A scope that conmon itself is put into; empty: it stays in our cgroup."""
    slice: str = ""
    uid: int = 0
    """Whose systemd is asked for it."""
    notify: str = ""
    """The service manager's socket (sd_notify(3)), if the container may write to it: it finds it
    in `BUNDLE/notify`."""

    @property
    def pid_file(self) -> str:
        return f"{self.run}/pidfile"

    @property
    def conmon_pid_file(self) -> str:
        return f"{self.run}/conmon.pid"

    @property
    def oci_log(self) -> str:
        return f"{self.run}/oci-log"

    @property
    def persist(self) -> str:
        return f"{self.run}/persist"

    @property
    def exit_file(self) -> str:
        return f"{self.run}/exits/{self.container}"


class Monitored(Struct, frozen=True):
    """A container that the runtime has created."""

    pid: int
    conmon_pid: int


def arguments(monitor: Monitor, program: str) -> list[str]:
    """The command line of conmon for a container (`exec_arguments` adds what an exec needs).
    Error: UserError for a log path that conmon would cut short."""
    if ":" in monitor.log:
        raise UserError(f"{monitor.log}: conmon takes no path with a colon", hint="change --root")
    argv = [
        *(program, "--api-version", "1"),
        *("-c", monitor.container, "-u", monitor.session or monitor.container),
        *("-n", monitor.name or monitor.container),
        *("-r", monitor.runtime, "-b", monitor.bundle, "-p", monitor.pid_file),
        *("--conmon-pidfile", monitor.conmon_pid_file, "--persist-dir", monitor.persist),
        *("--exit-dir", os.path.dirname(monitor.exit_file), "--full-attach"),
        *("-l", f"k8s-file:{monitor.log}" if "/" in monitor.log else monitor.log or "none"),
        *("--log-level", "debug" if monitor.debug else "error"),
    ]
    for word in (*monitor.arguments, "--log", monitor.oci_log, "--log-format", "json"):
        argv.append(f"--runtime-arg={word}")
    if monitor.log_tag:
        argv += ("--log-tag", monitor.log_tag)
    if monitor.log_size_max:
        argv += ("--log-size-max", str(monitor.log_size_max))
    if monitor.preserve_fds:
        argv += ("--runtime-opt", "--preserve-fds", "--runtime-opt", str(monitor.preserve_fds))
    if monitor.timeout:
        argv += ("--timeout", str(monitor.timeout))
    if monitor.by_systemd:
        argv.append("--systemd-cgroup")
    if monitor.notify:
        argv += ("--sdnotify-socket", monitor.notify)
    if not monitor.sync_log:
        argv.append("--no-sync-log")
    if monitor.terminal:
        argv.append("-t")
    elif monitor.stdin:
        argv.append("-i")
    if monitor.exit_command:
        argv += ("--exit-command", monitor.exit_command[0])
        argv += (f"--exit-command-arg={word}" for word in monitor.exit_command[1:])
    return argv


def exec_arguments(monitor: Monitor, program: str, spec: str, *, attach: bool) -> list[str]:
    """The command line of conmon for an exec; `spec` is the file with the process object."""
    argv = [*arguments(monitor, program), "-e", "--exec-process-spec", spec]
    return [*argv, "--exec-attach"] if attach else argv


# --- the pipes ------------------------------------------------------------------------------------


class _Report(Struct):
    data: int
    message: str = ""


class _Reader:
    """The JSON lines that conmon writes to a pipe."""

    def __init__(self, pipe: FileIO) -> None:
        self._pipe = pipe
        self._buffer = b""

    async def report(self) -> _Report | None:
        """The next line; `None` when conmon closed the pipe. Error: RuntimeFailed."""
        while b"\n" not in self._buffer:
            await trio.lowlevel.wait_readable(self._pipe.fileno())
            more = self._pipe.read(4096)
            if not more:
                return None
            self._buffer += more
        line, _, self._buffer = self._buffer.partition(b"\n")
        return parse_report(line)


def parse_report(line: bytes) -> _Report:
    """One line of the sync pipe. Error: RuntimeFailed."""
    try:
        return msgspec.json.decode(line, type=_Report)
    except msgspec.DecodeError:
        # conmon 2.1 does not escape every control character, and stderr may be no UTF-8
        match = re.match(rb'\{"data": (-?\d+)(?:, "message": "(.*)")?', line, re.DOTALL)
        if match is None:
            raise RuntimeFailed(f"conmon reported {line[:200]!r}, which is no report") from None
        text = (match[2] or b"").decode(errors="replace")
        return _Report(int(match[1]), text.replace("\\n", "\n").replace('\\"', '"'))


@contextmanager
def _pipe() -> Iterator[tuple[FileIO, FileIO]]:
    """(read end, write end). Either may be closed early."""
    read, write = os.pipe2(os.O_CLOEXEC)
    with FileIO(read, "rb") as reader, FileIO(write, "wb") as writer:
        yield reader, writer


def _environment(monitor: Monitor, pipes: Mapping[str, int]) -> dict[str, str]:
    env = {name: os.environ[name] for name in KEPT_ENVIRONMENT if name in os.environ}
    if monitor.by_systemd:
        from . import systemd

        for name in OF_A_USER:  # a runtime would ask the systemd of root's login
            env.pop(name, None)
        env |= systemd.environment(monitor.uid)
    return env | {name: str(fd) for name, fd in pipes.items()}


def _undo_ignored() -> list[str]:
    """A prefix for the command when our caller made us ignore signals (nohup, cron): the container
    must not inherit that. Python restores those that it ignores by itself."""
    with open("/proc/self/status", "rb") as file:
        mask = int(file.read().partition(b"\nSigIgn:")[2].split(None, 1)[0], 16)
    ignored = {number for number in range(1, 65) if mask >> (number - 1) & 1}
    for number in ignored.intersection(syscalls.LIBRARY_SIGNALS):
        syscalls.ignore_signal(number, False)
    ignored -= {signal.SIGPIPE, signal.SIGXFSZ, *syscalls.LIBRARY_SIGNALS}
    if not ignored:
        return []
    return [programs.find("env", "coreutils"), f"--default-signal={','.join(map(str, ignored))}"]


def _naming(word: str) -> Iterator[int]:
    """Processes with this word in their command line."""
    for entry in filter(str.isdigit, os.listdir("/proc")):
        with contextlib.suppress(OSError), open(f"/proc/{entry}/cmdline", "rb") as file:
            if word.encode() in file.read().split(b"\0"):
                yield int(entry)


def _without_our_keys(start: Callable[[], subprocess.Popen[bytes]]) -> subprocess.Popen[bytes]:
    """Start a process in a session keyring of its own (keyctl(2)); the caller keeps theirs."""

    def work() -> subprocess.Popen[bytes]:
        syscalls.leave_session_keyring()
        return start()

    return syscalls.in_thread(work)


class _Spawned:
    """conmon's first process, which forks the lasting one and exits at once."""

    def __init__(self, argv: Sequence[str], monitor: Monitor, pipes: Mapping[str, int]) -> None:
        """The file descriptors are given to conmon under these names. Error: DriverError."""
        self._monitor = monitor
        self.settled = False
        """Set once conmon is to go on without us."""
        for directory in (os.path.dirname(monitor.exit_file), monitor.persist):
            os.makedirs(directory, mode=0o700, exist_ok=True)
        for stale in (monitor.exit_file, monitor.oci_log, monitor.conmon_pid_file):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(stale)
        self._stderr = os.memfd_create("conmon-stderr")
        own = monitor.log == PASSTHROUGH
        blocked = signal.pthread_sigmask(signal.SIG_SETMASK, ())

        def start() -> subprocess.Popen[bytes]:
            return subprocess.Popen(
                [*_undo_ignored(), *argv],
                stdin=None if own else subprocess.DEVNULL,
                stdout=None if own else subprocess.DEVNULL,
                stderr=None if own else self._stderr,
                pass_fds=(*pipes.values(), *range(3, 3 + monitor.preserve_fds)),
                env=_environment(monitor, pipes),
                # conmon makes the file `oom` where it stands, besides the one in --persist-dir
                cwd=monitor.persist,
            )

        try:
            # Runtimes give a container a session keyring, but crun 1.8 gives an exec ours.
            self._process = _without_our_keys(start) if monitor.session else start()
        except OSError as error:
            os.close(self._stderr)
            raise DriverError(f"cannot run conmon: {error.strerror}") from None
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, blocked)

    @property
    def first_pid(self) -> int:
        return self._process.pid

    def pid(self) -> int:
        """Process id of the lasting conmon; 0 while there is none."""
        try:
            with open(self._monitor.conmon_pid_file, "rb") as file:
                return int(file.read())
        except (OSError, ValueError):
            return 0

    def runtime_works(self) -> bool:
        """Whether conmon has a child other than the container's process: the runtime, which it
        reports about once it has ended."""
        pid = self.pid()
        if not pid:
            return True
        own = 0
        with contextlib.suppress(OSError, ValueError), open(self._monitor.pid_file, "rb") as file:
            own = int(file.read())
        return bool(processes.children(pid) - {own})

    async def report(self, reader: _Reader) -> _Report | None:
        """The next report. conmon reads what a runtime that failed has to say to its end, which
        never comes when the runtime was killed and the process that it had begun lives on.
        Error: RuntimeFailed."""
        with trio.move_on_after(PROMPT):
            return await reader.report()
        silent = 0
        while silent < LOOKS:
            silent = 0 if self.runtime_works() else silent + 1
            with trio.move_on_after(GLANCE):
                return await reader.report()
        raise RuntimeFailed("the runtime was killed, and conmon does not tell the end of it")

    def reap(self) -> str:
        """Wait for the first process and return what it complained of."""
        if self._process.wait() == 0:
            return ""
        return programs.last_line(os.pread(self._stderr, 65536, 0))

    def kill(self) -> None:
        """End conmon; a runtime that is at work dies with it (PR_SET_PDEATHSIG)."""
        self._process.kill()
        self._process.wait()
        # It may have died between its fork and the writing of the pid file, so that only a command
        # line tells the lasting one. That may be forking the runtime: look until none is found.
        for _ in range(100):
            found = list(_naming(self._monitor.conmon_pid_file))
            for pid in found:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            if not found:
                break
            time.sleep(0.001)

    def close(self) -> None:
        os.close(self._stderr)

    def failure(self, said: str) -> RuntimeFailed:
        """What went wrong, from the runtime's log or else what conmon passed on."""
        with contextlib.suppress(OSError), open(self._monitor.oci_log, "rb") as file:
            if log := file.read(1 << 20).strip():
                return self._monitor.failure(log)
        complaint = self.reap()
        if said:
            return self._monitor.failure(said)
        return RuntimeFailed(f"conmon: {complaint or 'ended'}")


@contextmanager
def _spawn(argv: Sequence[str], monitor: Monitor, **pipes: FileIO) -> Iterator[_Spawned]:
    """Run conmon with its ends of the pipes, which are then closed here. Unless the block marks it
    as settled, it is killed at the end: the block failed or was cancelled."""
    spawned = _Spawned(argv, monitor, {name: pipe.fileno() for name, pipe in pipes.items()})
    try:
        for pipe in pipes.values():
            pipe.close()
        yield spawned
    finally:
        if not spawned.settled:
            spawned.kill()
        spawned.close()


# --- containers and execs -------------------------------------------------------------------------


async def create(monitor: Monitor) -> Monitored:
    """Start conmon and have the runtime create the container.

    When this fails or is cancelled, conmon is gone, but the runtime may know the container: delete
    it. conmon may have come to run the exit command.
    Errors: DriverError (no conmon), RuntimeFailed (exit code 126 or 127: the command is at fault).
    """
    argv = arguments(monitor, programs.find("conmon"))
    with contextlib.ExitStack() as stack:
        sync, to_sync = stack.enter_context(_pipe())
        pipes = {"_OCI_SYNCPIPE": to_sync}
        if monitor.unit:
            pipes["_OCI_STARTPIPE"], release = stack.enter_context(_pipe())
        spawned = stack.enter_context(_spawn(argv, monitor, **pipes))
        if monitor.unit:
            # conmon holds still until it is told, so that all that it forks is in its scope.
            await _place(monitor, spawned.first_pid)
            release.write(b"0")
            release.close()
        report = await spawned.report(_Reader(sync))
        if report is None or report.data <= 0:
            raise spawned.failure(report.message if report else "")
        spawned.reap()
        spawned.settled = True
        return Monitored(report.data, spawned.pid())


async def _place(monitor: Monitor, pid: int) -> None:
    """Into its scope; while what is left of an earlier life is still in the one of that name, into
    another. Error: DriverError."""
    from . import systemd

    def place() -> None:
        name = monitor.unit
        text = f"conmon of container {monitor.name or monitor.container}"
        where = f"{systemd.manager_cgroup(monitor.uid)}{systemd.slice_path(monitor.slice)}"
        if cgroups.places(f"{where}/{name}"):
            name = f"{name.removesuffix('.scope')}-{pid}.scope"
        systemd.start_scope(monitor.uid, name, pid, slice=monitor.slice, description=text)

    await trio.to_thread.run_sync(place)


class Exec:
    """A process that conmon is about to run in a container."""

    def __init__(
        self, monitor: Monitor, spawned: _Spawned, reports: _Reader, release: FileIO
    ) -> None:
        self.directory = monitor.bundle
        """Where the attach socket is."""
        self.conmon_pid = 0
        self._spawned = spawned
        self._reports = reports
        self._release = release

    async def start(self) -> int:
        """Let the command run and return its pid on the host.
        Error: RuntimeFailed (exit code 126 or 127 if the command is at fault)."""
        if not self._release.closed:
            self._release.write(b"1")
            self._release.close()
        report = await self._spawned.report(self._reports)
        if report is None or report.data <= 0:
            raise self._spawned.failure(report.message if report else "")
        self._spawned.reap()
        self._spawned.settled = True
        self.conmon_pid = self._spawned.pid()
        return report.data

    async def wait(self) -> int:
        """The exit code of the command, 128 + n for signal n. Error: RuntimeFailed."""
        report = await self._reports.report()
        if report is None:
            raise RuntimeFailed("conmon ended without telling the exit code")
        return report.data


@asynccontextmanager
async def execute(
    monitor: Monitor, process: Mapping[str, Any], *, attach: bool
) -> AsyncIterator[Exec]:
    """Have a process run in a container (runtime-spec, config.md#process).

    In the block: with `attach`, connect to the socket in `directory`; call `start`; then call
    `wait`, or leave and the process goes on by itself. conmon is killed when the block ends
    before `start` has returned.
    Errors: DriverError (no conmon), RuntimeFailed.
    """
    os.makedirs(monitor.run, mode=0o700, exist_ok=True)
    spec = f"{monitor.run}/process.json"
    with contextlib.ExitStack() as stack:
        stack.callback(_unlink, spec)  # it holds the environment, which may be secret
        with open(os.open(spec, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
            file.write(msgspec.json.encode(process))
        argv = exec_arguments(monitor, programs.find("conmon"), spec, attach=attach)
        sync, to_sync = stack.enter_context(_pipe())
        held, release = stack.enter_context(_pipe())
        pipes = {"_OCI_SYNCPIPE": to_sync}
        if attach or monitor.unit:
            pipes["_OCI_STARTPIPE"] = held
        if attach:
            attached, to_attached = stack.enter_context(_pipe())
            pipes["_OCI_ATTACHPIPE"] = to_attached
        spawned = stack.enter_context(_spawn(argv, monitor, **pipes))
        if monitor.unit:
            await _place(monitor, spawned.first_pid)
        if attach or monitor.unit:
            release.write(b"0")  # conmon itself may go on; with `attach`, the command not yet
        if not attach:
            release.close()
        if attach and await _Reader(attached).report() is None:
            raise spawned.failure("")
        yield Exec(monitor, spawned, _Reader(sync), release)


def _unlink(path: str) -> None:
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)
