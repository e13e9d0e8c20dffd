"""Real containers for tests: made, attached to, run in, and taken away without a trace."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import signal
import struct
import termios
import threading
from collections.abc import Awaitable, Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import trio

from tiffin import attach, conmon, ids, logs, processes
from tiffin.errors import TiffinError
from tiffin.hooks import OCIRuntime

from . import bundles

PATIENCE = 30
"""Seconds after which a test is given up as hanging."""


async def until(true: Callable[[], bool]) -> None:
    """Wait for something in the world."""
    with trio.fail_after(PATIENCE):
        while not true():
            await trio.sleep(0.005)


class Box:
    """One container, from its bundle to its end."""

    def __init__(self, runtime: OCIRuntime, directory: Path, rootfs: str, **options: Any) -> None:
        self.runtime = runtime
        self.id = ids.new_id()
        self.directory = directory / self.id
        self.terminal: bool = options.pop("terminal", False)
        self.cgroup = f"/tiffin-conformance-{self.id[:12]}"
        stdin = options.pop("stdin", False)
        exit_command = options.pop("exit_command", ())
        bundles.bundle(
            str(self.directory), rootfs, cgroup=self.cgroup, terminal=self.terminal, **options
        )
        self.monitor = conmon.Monitor(
            container=self.id,
            name="box",
            runtime=runtime.program(),
            failure=runtime.failure,
            arguments=runtime.arguments(),
            bundle=str(self.directory),
            run=f"{self.directory}/run",
            log=f"{self.directory}/ctr.log",
            terminal=self.terminal,
            stdin=stdin,
            exit_command=exit_command,
        )
        self.conmon_pid = 0
        self.pid = 0

    async def create(self) -> None:
        done = await conmon.create(self.monitor)
        self.pid, self.conmon_pid = done.pid, done.conmon_pid

    async def start(self) -> None:
        await self.runtime.start(self.id)

    async def run(self) -> int:
        """Create, start and wait."""
        await self.create()
        await self.start()
        return await self.ended()

    async def ended(self) -> int:
        """Wait until conmon is gone (init may reap it later), and return the exit code."""
        await until(lambda: not processes.alive(self.conmon_pid))
        return int(Path(self.monitor.exit_file).read_text())

    def log(self, stream: str = "stdout") -> bytes:
        return b"".join(
            record.data + (b"" if record.partial else b"\n")
            for record in logs.read(self.monitor.log)
            if record.stream == stream
        )

    def exec_monitor(self, *, terminal: bool = False, stdin: bool = False) -> conmon.Monitor:
        session = ids.new_id()
        return conmon.Monitor(
            container=self.id,
            session=session,
            runtime=self.runtime.program(),
            failure=self.runtime.failure,
            arguments=self.runtime.arguments(),
            bundle=self._made(f"{self.directory}/{session}"),
            run=f"{self.directory}/{session}/run",
            terminal=terminal,
            stdin=stdin,
        )

    @staticmethod
    def _made(path: str) -> str:
        os.mkdir(path)
        return path

    async def remove(self) -> None:
        """Take all of it away."""
        with contextlib.suppress(TiffinError):
            await self.runtime.kill(self.id, signal.SIGKILL)
        if self.conmon_pid:
            await until(lambda: not processes.alive(self.conmon_pid))
        await self.runtime.delete(self.id, force=True)


MakeBox = Callable[..., Box]


def cgroups(box: Box) -> list[str]:
    """Directories of the box's cgroup that exist."""
    root = "/sys/fs/cgroup"
    places = [root, *(f"{root}/{name}" for name in os.listdir(root))]
    return [place + box.cgroup for place in places if os.path.isdir(place + box.cgroup)]


def processes_of(box: Box) -> list[str]:
    """Command lines that name the box: conmon, the runtime, the exit command."""
    found = []
    for entry in os.listdir("/proc"):
        with contextlib.suppress(OSError):
            if entry.isdigit() and entry != str(os.getpid()):
                line = Path(f"/proc/{entry}/cmdline").read_bytes()
                if box.id.encode() in line:
                    found.append(line.decode(errors="replace"))
    return found


def parent(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()[1])


def ancestors(pid: int) -> list[int]:
    found = []
    while pid > 1:
        pid = parent(pid)
        found.append(pid)
    return found


class Pipe:
    """A pipe whose far end a thread fills or drains, as the programs beside us in a shell would."""

    def __init__(self, feed: bytes | None = None) -> None:
        read, write = os.pipe()
        self.near, far = (read, write) if feed is not None else (write, read)
        self._got: list[bytes] = []
        work = self._feed if feed is not None else self._drain
        self._thread = threading.Thread(target=work, args=(far, feed), daemon=True)
        self._thread.start()

    @staticmethod
    def _feed(fd: int, data: bytes) -> None:
        with contextlib.suppress(BrokenPipeError), open(fd, "wb") as file:
            file.write(data)

    def _drain(self, fd: int, _: None) -> None:
        with open(fd, "rb") as file:
            while data := file.read1(65536):
                self._got.append(data)

    def end(self) -> bytes:
        """Close our end, and return what came out of a drained pipe."""
        os.close(self.near)
        self._thread.join(PATIENCE)
        return b"".join(self._got)


class Terminal:
    """A pseudo terminal: `fd` is the side that programs have, the test has the other."""

    def __init__(self, height: int, width: int) -> None:
        self.master, self.fd = pty.openpty()
        self.screen = b""
        self.resize(height, width)
        os.set_blocking(self.master, False)

    def resize(self, height: int, width: int) -> None:
        fcntl.ioctl(self.fd, termios.TIOCSWINSZ, struct.pack("HHHH", height, width, 0, 0))

    def type(self, keys: bytes) -> None:
        os.write(self.master, keys)

    async def shows(self, text: bytes) -> None:
        with trio.fail_after(PATIENCE):
            while text not in self.screen:
                await self.more()

    async def more(self) -> None:
        """Wait until the screen shows something new."""
        await trio.lowlevel.wait_readable(self.master)
        self.screen += os.read(self.master, 65536)

    def mode(self) -> list[Any]:
        return termios.tcgetattr(self.fd)

    def close(self) -> None:
        os.close(self.fd)
        os.close(self.master)


@contextlib.contextmanager
def terminal(height: int = 24, width: int = 80) -> Iterator[Terminal]:
    made = Terminal(height, width)
    try:
        yield made
    finally:
        made.close()


class BoxSuite:
    """Gives a suite the fixture `box`; the subclass has the fixture `runtime`."""

    @pytest.fixture
    def box(self, runtime: OCIRuntime, tmp_path: Path) -> Iterator[MakeBox]:
        """Makes boxes; at the end, nothing of them may be left anywhere."""
        assert os.geteuid() == 0, "these tests need root"
        rootfs = bundles.busybox_rootfs(str(tmp_path / "rootfs"))
        boxes: list[Box] = []

        def make(*args: str, **options: Any) -> Box:
            made = Box(runtime, tmp_path / "boxes", rootfs, args=args, **options)
            boxes.append(made)
            return made

        yield make
        trio.run(self._remove, boxes)
        for made in boxes:
            assert cgroups(made) == []
            assert processes_of(made) == []
            assert not os.path.exists(f"{tmp_path}/runtime/{made.id}")
        assert str(tmp_path) not in Path("/proc/self/mountinfo").read_text()

    @staticmethod
    async def _remove(boxes: Sequence[Box]) -> None:
        for made in boxes:
            await made.remove()


async def exec_attached(
    box: Box, args: Sequence[str], *, feed: bytes | None = None
) -> tuple[int, bytes, bytes]:
    """(exit code, stdout, stderr) of a process run in the box."""
    monitor = box.exec_monitor(stdin=feed is not None)
    stdin, out, err = Pipe(feed or b""), Pipe(), Pipe()
    with trio.fail_after(PATIENCE):
        async with conmon.execute(monitor, bundles.process(args), attach=True) as process:
            with attach.connect(process.directory) as connection:
                await process.start()
                session = attach.AttachSession(
                    directory=process.directory,
                    stdin=feed is not None,
                    stdin_fd=stdin.near,
                    stdout_fd=out.near,
                    stderr_fd=err.near,
                )
                await attach.attach(connection, session)
            code = await process.wait()
    stdin.end()
    return code, out.end(), err.end()


async def run_attached(
    box: Box,
    *,
    feed: bytes | None = None,
    on_signal: Callable[[int], Awaitable[None]] | None = None,
) -> tuple[int, bytes, bytes]:
    """(exit code, stdout, stderr) of the box, attached from before its start to its end."""
    stdin, out, err = Pipe(feed or b""), Pipe(), Pipe()
    await box.create()
    with trio.fail_after(PATIENCE), attach.connect(str(box.directory)) as connection:
        session = attach.AttachSession(
            directory=str(box.directory),
            stdin=feed is not None,
            stdin_fd=stdin.near,
            stdout_fd=out.near,
            stderr_fd=err.near,
        )
        await box.start()
        outcome = await attach.attach(connection, session, on_signal=on_signal)
    assert outcome is attach.Outcome.ENDED
    stdin.end()
    return await box.ended(), out.end(), err.end()
