"""Asking name servers, and being one: DNS by hand, so that a test sees every single query."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

ASK = textwrap.dedent(
    """
    import socket, struct, sys, time
    server, names, seconds = sys.argv[1], sys.argv[2].split(","), float(sys.argv[3])

    def ask(name, number):
        labels = b"".join(bytes([len(label)]) + label.encode() for label in name.split("."))
        query = struct.pack(">HHHHHH", number, 0x100, 1, 0, 0, 0) + labels + b"\\0\\0\\1\\0\\1"
        family = socket.AF_INET6 if ":" in server else socket.AF_INET
        with socket.socket(family, socket.SOCK_DGRAM) as s:
            s.settimeout(4)
            s.connect((server, 53))
            try:
                s.send(query)
                answer = s.recv(2000)
            except OSError as error:
                return repr(error)
        assert answer[:2] == query[:2]
        if answer[3] & 15:
            return {3: "NXDOMAIN"}.get(answer[3] & 15, "failed")
        count = struct.unpack(">H", answer[6:8])[0]
        ends = [len(answer) - 16 * at for at in range(count)]
        return " ".join(sorted(socket.inet_ntoa(answer[end - 4:end]) for end in ends))

    end = time.monotonic() + seconds
    number = 0
    while True:
        for name in names:
            number += 1
            print(name, ask(name, number & 0xffff), flush=True)
        if time.monotonic() >= end:
            break
    """
)
"""Prints `NAME ADDRESSES`, `NAME NXDOMAIN` or `NAME` and what went wrong, a line a query: no query
is repeated."""

SERVE = textwrap.dedent(
    """
    import socket, struct, sys, time
    s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    s.bind((sys.argv[1], 53))
    print("ready", flush=True)
    while True:
        query, peer = s.recvfrom(2000)
        time.sleep(0.02)  # as one that is not in the same room
        end = query.index(b"\\0", 12) + 5
        head = query[:2] + b"\\x81\\x80" + query[4:6] + b"\\0\\1\\0\\0\\0\\0" + query[12:end]
        record = b"\\xc0\\x0c" + struct.pack(">HHIH", 1, 1, 60, 4) + socket.inet_aton(sys.argv[2])
        s.sendto(head + record, peer)
    """
)


def asking(netns: str, server: str, *names: str, seconds: float = 0) -> subprocess.Popen[str]:
    """Ask from a network namespace, over and over for so long."""
    prefix = [f"nsenter --net={netns}"] if netns else []
    argv = [*" ".join(prefix).split(), sys.executable, "-c", ASK, server, ",".join(names)]
    return subprocess.Popen([*argv, str(seconds)], stdout=subprocess.PIPE, text=True)


def ask(netns: str, server: str, *names: str) -> dict[str, str]:
    """What one query for each of the names gets: addresses, NXDOMAIN, or an error's text."""
    out, _ = asking(netns, server, *names).communicate(timeout=30)
    return {name: found for name, _, found in (line.partition(" ") for line in out.splitlines())}


@contextlib.contextmanager
def server(address: str, answer: str) -> Iterator[None]:
    """A name server on an address of the host's, which says `answer` to everything."""
    subprocess.run(["ip", "addr", "add", f"{address}/32", "dev", "lo"], check=True)
    argv = [sys.executable, "-c", SERVE, address, answer]
    try:
        with subprocess.Popen(argv, stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == b"ready\n"
            try:
                yield
            finally:
                process.kill()
    finally:
        subprocess.run(["ip", "addr", "del", f"{address}/32", "dev", "lo"], check=True)


@contextlib.contextmanager
def host_resolver(directory: Path, text: str) -> Iterator[None]:
    """Another /etc/resolv.conf for the host, mounted over its own."""
    file = directory / "host-resolv.conf"
    file.write_text(text)
    subprocess.run(["mount", "--bind", file, "/etc/resolv.conf"], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", "/etc/resolv.conf"], check=True)
