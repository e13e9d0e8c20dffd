"""User namespaces that outlive us: pinned as bind mounts of nsfs (user_namespaces(7)).

A process with several threads cannot enter or make one, so a small program is born in it, and ends
once the namespace is pinned.
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from . import netns, programs, syscalls
from .errors import DriverError, UserError
from .hooks import IdMaps, IdRange


def create(path: str, maps: IdMaps) -> None:
    """Pin a new user namespace with these ids at `path`. One that is there already is kept.
    Error: DriverError."""
    if netns.exists(path):
        return
    with _born_in("unshare", "--user") as process:
        for name, ranges in (("uid_map", maps.uids), ("gid_map", maps.gids)):
            _write_map(f"/proc/{process}/{name}", ranges)
        netns.pin(path, f"/proc/{process}/ns/user")


def network(path: str, userns: str) -> None:
    """Pin a new network namespace that belongs to a user namespace, with `lo` up, at `path`.
    Error: DriverError."""
    with _born_in("nsenter", f"--user={userns}", "unshare", "--net") as process:
        netns.pin(path, f"/proc/{process}/ns/net")
        netns.loopback_up_in(path)


remove = netns.remove
pin = netns.pin


def need(path: str) -> None:
    """Error: UserError when that is no user namespace (ioctl_ns(2))."""
    if netns.kind(path, "user") != syscalls.CLONE_NEWUSER:
        raise UserError(f"{path} is not a user namespace")


def maps_of(path: str) -> IdMaps:
    """The ids of a user namespace, as they are called here. Errors: UserError, DriverError."""
    need(path)
    with _born_in("nsenter", f"--user={path}", "--preserve-credentials") as process:
        return IdMaps(*(_read_map(f"/proc/{process}/{name}") for name in ("uid_map", "gid_map")))


def _read_map(path: str) -> tuple[IdRange, ...]:
    with open(path, encoding="ascii") as file:
        return tuple(IdRange(*map(int, line.split())) for line in file)


def _write_map(path: str, ranges: Sequence[IdRange]) -> None:
    text = "".join(f"{each.inside} {each.outside} {each.size}\n" for each in ranges)
    try:
        with open(path, "w", encoding="ascii") as file:
            file.write(text)
    except OSError as error:
        shown = text.strip().replace("\n", ", ")
        raise DriverError(f"the kernel refuses the ids {shown}: {error.strerror}") from None


@contextmanager
def _born_in(*enter: str) -> Iterator[int]:
    """The pid of a process that `enter` (a program and its arguments) has brought to a namespace.
    Error: DriverError with what it complained of."""
    argv = [programs.find(enter[0], "util-linux"), *enter[1:], programs.find("cat", "coreutils")]
    pipe = subprocess.PIPE
    with subprocess.Popen(argv, stdin=pipe, stdout=pipe, stderr=pipe, bufsize=0) as process:
        assert process.stdin and process.stdout and process.stderr
        try:
            process.stdin.write(b"\n")
            there = process.stdout.read(1)  # `cat` is reached: it is where it was to go
        except BrokenPipeError:
            there = b""
        if not there:
            said = process.stderr.read().decode(errors="replace").strip()
            raise DriverError(f"cannot make a user namespace: {said or 'no answer'}")
        try:
            yield process.pid
        finally:
            process.stdin.close()


def exists(path: str) -> bool:
    return netns.exists(path)
