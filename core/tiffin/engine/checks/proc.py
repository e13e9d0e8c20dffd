"""Processes, as /proc has them."""

from __future__ import annotations

import os
from collections.abc import Iterator

from ...processes import children


def conmons(root: str) -> Iterator[tuple[int, str]]:
    """(pid, container) of every conmon whose bundle is below this root: of an exec as well."""
    for name in os.listdir("/proc"):
        if not name.isdecimal():
            continue
        words = _words(int(name))
        if not words or os.path.basename(words[0]) != "conmon" or "-c" not in words:
            continue
        cid = words[words.index("-c") + 1 : words.index("-c") + 2]
        bundle = words[words.index("-b") + 1 : words.index("-b") + 2] if "-b" in words else []
        if cid and bundle and bundle[0].startswith(f"{root}/"):
            yield int(name), cid[0]


def _words(pid: int) -> list[str]:
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            return file.read().decode("utf-8", "surrogateescape").split("\0")
    except OSError:
        return []  # it ended while we looked


def below(pid: int) -> list[int]:
    """Its children, their children, and so on."""
    found = []
    for child in children(pid):
        found += [child, *below(child)]
    return found


def inside(cgroup: str) -> list[int]:
    """The processes in a cgroup and those below it."""
    found: list[int] = []
    for path, _, _ in os.walk(cgroup):
        try:
            with open(f"{path}/cgroup.procs", encoding="ascii") as file:
                found += map(int, file.read().split())
        except OSError:
            continue
    return found


def is_inside(pid: int, cid: str) -> bool:
    """Whether a process is in a container's cgroup."""
    try:
        with open(f"/proc/{pid}/cgroup", encoding="utf-8", errors="replace") as file:
            return cid in file.read()
    except OSError:
        return False
