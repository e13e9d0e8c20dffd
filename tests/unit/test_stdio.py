"""Standard streams of every kind, read and written without side effects."""

import fcntl
import os
import pty
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
import trio
import trio.testing

from tiffin.stdio import Stdio


@pytest.fixture(params=["pipe", "socket", "terminal"])
def ends(request: pytest.FixtureRequest) -> Iterator[tuple[int, int]]:
    """(a program's end, its partner's end) in the direction partner -> program."""
    if request.param == "pipe":
        ours, theirs = os.pipe()
    elif request.param == "socket":
        a, b = socket.socketpair()
        ours, theirs = a.detach(), b.detach()
    else:
        theirs, ours = pty.openpty()
    yield ours, theirs
    for fd in (ours, theirs):
        try:
            os.close(fd)
        except OSError:
            continue  # the test has closed it


async def test_reading_waits_without_making_the_callers_file_non_blocking(
    ends: tuple[int, int],
) -> None:
    ours, theirs = ends
    flags = fcntl.fcntl(ours, fcntl.F_GETFL)
    with Stdio(ours) as stream:
        with trio.move_on_after(0.02) as scope:
            await stream.read()
        assert scope.cancelled_caught
        assert fcntl.fcntl(ours, fcntl.F_GETFL) == flags
        os.write(theirs, b"hello\n")
        assert await stream.read() == b"hello\n"
        os.close(theirs)
        assert await stream.read() == b""


async def test_writing_waits_for_the_reader() -> None:
    for read, write in (os.pipe(), [end.detach() for end in socket.socketpair()]):
        data = os.urandom(1 << 20)
        got = bytearray()
        async with trio.open_nursery() as nursery:
            with Stdio(write, write=True) as stream:
                nursery.start_soon(stream.write, data)
                await trio.testing.wait_all_tasks_blocked()
                assert os.get_blocking(write)
                while len(got) < len(data):
                    await trio.lowlevel.wait_readable(read)
                    got += os.read(read, 65536)
        assert got == data
        os.close(read)
        with Stdio(write, write=True) as stream, pytest.raises(BrokenPipeError):
            await stream.write(b"x")
        os.close(write)


async def test_files_and_devices(tmp_path: Path) -> None:
    (tmp_path / "in").write_bytes(b"abc")
    with open(tmp_path / "in", "rb") as file, Stdio(file.fileno()) as stream:
        assert await stream.read() == b"abc"
        assert await stream.read() == b""
    with open(tmp_path / "out", "ab") as target, Stdio(target.fileno(), write=True) as stream:
        await stream.write(b"one")
    assert (tmp_path / "out").read_bytes() == b"one"
    with open("/dev/null", "r+b", buffering=0) as null, Stdio(null.fileno()) as stream:
        assert await stream.read() == b""
        await stream.write(b"gone")


async def test_the_master_of_a_terminal_is_not_opened_again() -> None:
    master, slave = pty.openpty()
    os.set_blocking(slave, True)
    with Stdio(master) as stream:
        os.write(slave, b"x")
        assert await stream.read() == b"x"
    os.close(master)
    os.close(slave)


async def test_a_closed_stream_is_at_its_end() -> None:
    read, write = os.pipe()
    os.close(read)
    os.close(write)
    with Stdio(read) as stream:
        assert await stream.read() == b""
    with Stdio(write, write=True) as stream, pytest.raises(OSError, match="Bad file"):
        await stream.write(b"x")
