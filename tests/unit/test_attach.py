"""The client of the attach socket, against a socket that behaves as conmon's."""

import os
import pty
import signal
import socket
import subprocess
import sys
import termios
from pathlib import Path

import pytest
import trio

from tiffin import attach
from tiffin.attach import AttachSession, Outcome
from tiffin.errors import DriverError


def listen(directory: Path) -> socket.socket:
    server = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    here = os.open(directory, os.O_PATH)
    server.bind(f"/proc/self/fd/{here}/attach")
    os.close(here)
    server.listen()
    os.mkfifo(directory / "ctl")
    return server


async def test_a_directory_longer_than_a_socket_address(tmp_path: Path) -> None:
    deep = tmp_path / ("d" * 100) / ("e" * 100)
    deep.mkdir(parents=True)
    with listen(deep) as server, attach.connect(str(deep)) as connection:
        with server.accept()[0] as conmon:
            conmon.send(b"\x02hello")
            assert connection.recv(100) == b"\x02hello"


async def test_streams_are_kept_apart_and_the_end_of_stdin_is_told(tmp_path: Path) -> None:
    (tmp_path / "in").write_bytes(b"x" * 20000)
    with (
        listen(tmp_path) as server,
        attach.connect(str(tmp_path)) as connection,
        open(tmp_path / "in", "rb") as stdin,
        open(tmp_path / "out", "wb") as out,
        open(tmp_path / "err", "wb") as err,
    ):
        session = AttachSession(
            directory=str(tmp_path),
            stdin_fd=stdin.fileno(),
            stdout_fd=out.fileno(),
            stderr_fd=err.fileno(),
        )
        got = []

        def conmon() -> None:
            with server.accept()[0] as client:
                while packet := client.recv(100000):
                    got.append(packet)
                client.send(b"\x02out")
                client.send(b"\x03err")
                client.send(b"\x02more")

        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.to_thread.run_sync, conmon)
            assert await attach.attach(connection, session) is Outcome.ENDED
    assert b"".join(got) == b"x" * 20000
    assert max(map(len, got)) <= attach.PACKET
    assert (tmp_path / "out").read_bytes() == b"outmore"
    assert (tmp_path / "err").read_bytes() == b"err"


async def test_output_that_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    with listen(tmp_path) as server, attach.connect(str(tmp_path)) as connection:
        with server.accept()[0] as conmon, open("/dev/full", "wb") as full:
            conmon.send(b"\x02out")
            session = AttachSession(
                directory=str(tmp_path), stdin=False, stdout_fd=full.fileno(), stderr_fd=2
            )
            with pytest.raises(DriverError, match="No space left"):
                await attach.attach(connection, session)


def test_window_sizes_go_to_the_fifo_within_conmons_limits(tmp_path: Path) -> None:
    attach.resize(str(tmp_path), 1, 1)  # nobody there
    os.mkfifo(tmp_path / "ctl")
    attach.resize(str(tmp_path), 1, 1)  # nobody reads
    reader = os.open(tmp_path / "ctl", os.O_RDONLY | os.O_NONBLOCK)
    attach.resize(str(tmp_path), 24, 4000)
    assert os.read(reader, 100) == b"1 24 1000\n"
    os.close(reader)


CLIENT = """
import sys, trio
from tiffin import attach
async def main():
    with attach.connect(sys.argv[1]) as connection:
        await attach.attach(connection, attach.AttachSession(directory=sys.argv[1], terminal=True))
trio.run(main)
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_killed_client_puts_the_terminal_back(tmp_path: Path, number: int) -> None:
    master, slave = pty.openpty()
    before = termios.tcgetattr(slave)
    with listen(tmp_path) as server:
        client = subprocess.Popen(
            [sys.executable, "-c", CLIENT, str(tmp_path)], stdin=slave, stdout=slave
        )
        with server.accept()[0] as conmon:
            conmon.send(b"\x02ready")
            assert os.read(master, 100) == b"ready"
            assert termios.tcgetattr(slave) != before
            client.send_signal(number)
            assert client.wait(20) == -number
    assert termios.tcgetattr(slave) == before
    os.close(master)
    os.close(slave)
