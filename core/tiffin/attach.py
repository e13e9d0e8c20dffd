"""Client of conmon's attach socket: the caller's terminal or pipes joined to a container's.

The socket (SOCK_SEQPACKET) carries stdin as it is, and output in packets whose first byte says
which stream it is. A half-close is the end of stdin. Window sizes go through the fifo `ctl` beside
the socket, as `1 HEIGHT WIDTH`.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import signal
import socket
import struct
import termios
import tty
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from enum import Enum

import trio
from msgspec import Struct

from . import detach_keys
from .errors import Conflict, DriverError, TiffinError
from .stdio import Stdio

PACKET = 8192
"""Bytes of stdin in one packet: the smallest buffer of any conmon; a longer one would be cut."""
OUTPUT = 65537
"""Above the longest packet of any conmon (32 KiB and the stream's byte)."""
LONGEST_SIDE = 1000
"""conmon takes no window larger than this."""

PROXIED = (
    *(signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGTERM),
    *(signal.SIGUSR1, signal.SIGUSR2, signal.SIGALRM, signal.SIGCONT, signal.SIGWINCH),
)
"""What sig-proxy passes on. Not SIGTSTP: Ctrl-Z stops the client, as of any program in a shell."""

OnSignal = Callable[[int], Awaitable[None]]


class Outcome(Enum):
    """Why an attached client is done."""

    ENDED = "ended"
    """The container's output has ended: as a rule, so has its process."""
    DETACHED = "detached"
    """The user typed the detach keys."""
    OUTPUT_CLOSED = "output closed"
    """Nobody reads our stdout or stderr any more. The container runs on."""


class AttachSession(Struct, frozen=True, kw_only=True):
    """What is joined to what."""

    directory: str
    """Where conmon keeps `attach` and `ctl`: the bundle, or the exec's directory."""
    terminal: bool = False
    """The container has a terminal."""
    stdin: bool = True
    """Pass our stdin on, and its end too."""
    stdout: bool = True
    """Show it; else it is read and dropped. A terminal has this one only."""
    stderr: bool = True
    detach: bytes = detach_keys.parse(detach_keys.DEFAULT)
    """See `tiffin.detach_keys.parse`. Watched for where stdin or the container is a terminal: in
    piped data, these bytes are data."""
    stdin_fd: int = 0
    stdout_fd: int = 1
    stderr_fd: int = 2


@contextmanager
def connect(directory: str) -> Iterator[socket.socket]:
    """The attach socket of a container that conmon looks after; from now on its output is kept for
    us. Error: Conflict when there is no conmon."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_NONBLOCK) as connection:
        try:
            folder = os.open(directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError as error:
            raise Conflict(f"cannot attach: {directory}: {error.strerror}") from None
        try:  # a socket's address has 108 bytes at most, a container's directory may have more
            connection.connect(f"/proc/self/fd/{folder}/attach")
        except OSError as error:
            raise Conflict(f"cannot attach: nothing listens there ({error.strerror})") from None
        finally:
            os.close(folder)
        yield connection


@contextmanager
def raw_mode(fd: int, *, forget: bool = False) -> Iterator[None]:
    """The terminal passes every key on, at once and unchanged. Always put back. With `forget`,
    what was typed and nobody has read does not wait for the next program."""
    before = termios.tcgetattr(fd)
    if not forget or _in_foreground(fd):
        tty.setraw(fd, termios.TCSANOW)
    try:
        yield
    finally:
        with contextlib.suppress(termios.error):  # the terminal has hung up
            if not forget or _in_foreground(fd):
                termios.tcsetattr(fd, termios.TCSAFLUSH if forget else termios.TCSADRAIN, before)


def _in_foreground(fd: int) -> bool:
    """Whether a terminal is ours to change: a job in the background would be stopped for it."""
    try:
        return os.tcgetpgrp(fd) == os.getpgrp()
    except OSError:
        return False  # not our terminal, or it has hung up


def window_size(fd: int) -> tuple[int, int] | None:
    """(height, width) in characters of a terminal; None if it is none or has no size."""
    try:
        data = fcntl.ioctl(fd, termios.TIOCGWINSZ, bytes(8))
    except OSError:
        return None
    height, width, _, _ = struct.unpack("HHHH", data)
    return (height, width) if height and width else None


def resize(directory: str, height: int, width: int) -> None:
    """Set the window size of a container's terminal; nothing happens when conmon is gone."""
    size = min(height, LONGEST_SIDE), min(width, LONGEST_SIDE)
    with contextlib.suppress(FileNotFoundError, BlockingIOError, OSError):
        fd = os.open(f"{directory}/ctl", os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            os.write(fd, b"1 %d %d\n" % size)
        finally:
            os.close(fd)


def fit_window(session: AttachSession) -> None:
    """Give the container's terminal the size of ours. Done before `start`, its process finds the
    right size from the beginning."""
    if session.terminal and (size := window_size(session.stdin_fd)):
        resize(session.directory, *size)


async def attach(
    connection: socket.socket, session: AttachSession, *, on_signal: OnSignal | None = None
) -> Outcome:
    """Pass stdin, output and window sizes until the output ends or the user detaches.

    `connection` comes from `connect`, `start` may come in between: what was put out meanwhile is
    waiting in the socket. `on_signal` is called with each signal that is to be passed on (not with
    a terminal: there the keys say it). A SIGTERM, SIGHUP or SIGQUIT that is not passed on ends this
    process as usual, but first the terminal is put back.
    """
    keyboard = os.isatty(session.stdin_fd)
    stop = _Stop()
    with contextlib.ExitStack() as stack:
        if keyboard and session.terminal:
            # Without stdin as well: keys, Ctrl-C too, are the container's, and it has none.
            stack.enter_context(raw_mode(session.stdin_fd, forget=not session.stdin))
        try:
            async with trio.open_nursery() as nursery:
                stop.scope = nursery.cancel_scope
                await nursery.start(_watch_signals, session, on_signal, stop)
                if session.stdin:
                    keys = session.detach if keyboard or session.terminal else b""
                    nursery.start_soon(_pump_input, connection, session.stdin_fd, keys, stop)
                await _pump_output(connection, session, stop)
                nursery.cancel_scope.cancel()
        except BaseExceptionGroup as group:
            if group.split(KeyboardInterrupt)[1] is None:
                raise KeyboardInterrupt from None
            raise
    if stop.signal:
        signal.signal(stop.signal, signal.SIG_DFL)
        signal.raise_signal(stop.signal)
    if stop.error is not None:
        raise stop.error
    return stop.outcome


async def pass_signals(on_signal: OnSignal) -> None:
    """Only signals, for ever: where the streams need nobody to carry them."""
    stop = _Stop()
    session = AttachSession(directory="", stdin=False)
    async with trio.open_nursery() as nursery:
        stop.scope = nursery.cancel_scope
        await nursery.start(_watch_signals, session, on_signal, stop)
        await trio.sleep_forever()


class _Stop:
    """What ends an attached client, besides the end of the output."""

    def __init__(self) -> None:
        self.scope = trio.CancelScope()
        self.outcome = Outcome.ENDED
        self.signal = 0
        self.error: DriverError | None = None

    def because(
        self,
        outcome: Outcome = Outcome.ENDED,
        *,
        signal: int = 0,
        error: DriverError | None = None,
    ) -> None:
        self.outcome, self.signal, self.error = outcome, signal, error
        self.scope.cancel()


async def _pump_input(connection: socket.socket, fd: int, keys: bytes, stop: _Stop) -> None:
    """stdin to the container, until it ends (then the socket is half-closed), the detach keys are
    typed, or the container does not listen any more."""
    watcher = detach_keys.Watcher(keys)
    with Stdio(fd) as stdin:
        while True:
            data = await stdin.read(PACKET)
            typed, detached = watcher.feed(data) if data else (watcher.flush(), False)
            for position in range(0, len(typed), PACKET):
                if not await _send(connection, typed[position : position + PACKET]):
                    return
            if detached:
                stop.because(Outcome.DETACHED)
                return
            if not data:
                with contextlib.suppress(OSError):  # conmon has closed it already
                    connection.shutdown(socket.SHUT_WR)
                return


async def _send(connection: socket.socket, packet: bytes) -> bool:
    """One packet; it goes whole or not at all. False when conmon is gone."""
    while True:
        try:
            connection.send(packet, socket.MSG_NOSIGNAL)
        except BlockingIOError:
            await trio.lowlevel.wait_writable(connection)
        except (BrokenPipeError, ConnectionResetError):
            return False
        else:
            return True


async def _pump_output(connection: socket.socket, session: AttachSession, stop: _Stop) -> None:
    """Output to stdout and stderr until conmon closes the socket. It is read no faster than it can
    be written: the container waits, as it would for a pipe."""
    buffer = bytearray(OUTPUT)
    view = memoryview(buffer)
    with contextlib.ExitStack() as stack:
        streams: dict[int, Stdio] = {}
        # conmon's numbers: 1 stdin, 2 stdout, 3 stderr
        if session.stdout:
            streams[2] = stack.enter_context(Stdio(session.stdout_fd, write=True))
        if session.stderr:
            streams[3] = stack.enter_context(Stdio(session.stderr_fd, write=True))
        quick = resets = 0
        while True:
            try:
                size = connection.recv_into(buffer)
            except BlockingIOError:
                quick = 0
                await trio.lowlevel.wait_readable(connection)
                continue
            except ConnectionResetError:
                # conmon went with some of our input unread. The kernel says so once (unix(7)); what
                # conmon had sent before is still in the socket, and then its end.
                resets += 1
                if resets > 2:
                    return
                continue
            if not size:
                return
            if stream := streams.get(buffer[0]):
                try:
                    await stream.write(view[1:size])
                except BrokenPipeError:
                    stop.because(Outcome.OUTPUT_CLOSED)
                    return
                except OSError as error:
                    what = f"cannot write the output: {error.strerror}"
                    stop.because(Outcome.OUTPUT_CLOSED, error=DriverError(what))
                    return
            quick += 1
            if quick % 16 == 0:  # a flood of output must not keep the others from their turn
                await trio.lowlevel.checkpoint()


def _is_ours(session: AttachSession) -> bool:
    fd = session.stdin_fd
    return os.isatty(fd) and (session.stdin or _in_foreground(fd))


async def _watch_signals(
    session: AttachSession,
    on_signal: OnSignal | None,
    stop: _Stop,
    *,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    fatal: set[int] = set()
    proxied: set[int] = set()
    if session.terminal:
        fatal = {signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT}
        numbers = fatal | {signal.SIGWINCH, signal.SIGCONT}
    elif on_signal is not None:
        numbers = proxied = set(PROXIED)
    else:
        task_status.started()
        return
    with trio.open_signal_receiver(*numbers) as signals:
        fit_window(session)
        task_status.started()
        async for number in signals:
            if number in fatal:
                stop.because(signal=number)
            elif number in proxied and on_signal is not None:
                with contextlib.suppress(TiffinError):  # it has just ended: so will its output
                    await on_signal(number)
            elif number == signal.SIGCONT and _is_ours(session):
                tty.setraw(session.stdin_fd, termios.TCSANOW)  # the shell has put it back
                fit_window(session)
            else:
                fit_window(session)


__all__ = [
    *("AttachSession", "Outcome", "attach", "connect", "fit_window"),
    *("pass_signals", "raw_mode", "resize", "window_size"),
]
