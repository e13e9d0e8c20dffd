"""What a container uses right now: its cgroup's counters (v1 and v2), and its network's.

Standard library only: `stats` imports no engine.
"""

from __future__ import annotations

import contextlib
import os
from typing import NamedTuple


class Consumption(NamedTuple):
    """Counters since the container began, and what it holds now."""

    cpu: int
    """Nanoseconds of processors."""
    memory: int
    """Bytes, without what the kernel would give back at once (inactive file pages)."""
    limit: int
    """Bytes: the container's limit, or all of the machine's memory."""
    net_in: int
    net_out: int
    block_in: int
    block_out: int
    pids: int


def _read(path: str) -> str:
    try:
        with open(path, encoding="ascii", errors="replace") as file:
            return file.read()
    except OSError:
        return ""


def _number(path: str) -> int:
    text = _read(path).strip()
    return int(text) if text.isdecimal() else 0


def _fields(path: str) -> dict[str, int]:
    found = {}
    for line in _read(path).splitlines():
        key, _, value = line.partition(" ")
        if value.isdecimal():
            found[key] = int(value)
    return found


def machine_memory() -> int:
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def measure(directories: list[str], pid: int) -> Consumption:
    """`directories`: the container's cgroup in each hierarchy (`cgroups.places`)."""
    cpu = memory = block_in = block_out = pids = 0
    limit = machine_memory()
    for place in directories:
        if os.path.exists(f"{place}/cpuacct.usage"):
            cpu = _number(f"{place}/cpuacct.usage")
        elif usage := _fields(f"{place}/cpu.stat").get("usage_usec"):
            cpu = usage * 1000
        if os.path.exists(f"{place}/memory.usage_in_bytes"):
            idle = _fields(f"{place}/memory.stat").get("total_inactive_file", 0)
            memory = max(0, _number(f"{place}/memory.usage_in_bytes") - idle)
            limit = min(limit, _number(f"{place}/memory.limit_in_bytes") or limit)
        elif os.path.exists(f"{place}/memory.current"):
            idle = _fields(f"{place}/memory.stat").get("inactive_file", 0)
            memory = max(0, _number(f"{place}/memory.current") - idle)
            for where in (place, f"{place}/container"):  # crun's own, in a scope of systemd's
                limit = min(limit, _number(f"{where}/memory.max") or limit)
        if os.path.exists(f"{place}/pids.current"):
            pids = _number(f"{place}/pids.current")
        read, written = _blocks(place)
        block_in, block_out = max(block_in, read), max(block_out, written)
    net_in, net_out = _network(pid)
    return Consumption(cpu, memory, limit, net_in, net_out, block_in, block_out, pids)


def _blocks(place: str) -> tuple[int, int]:
    """Bytes read and written (blkio-controller.rst, cgroup-v2.rst: io.stat)."""
    read = written = 0
    for line in _read(f"{place}/blkio.throttle.io_service_bytes_recursive").splitlines():
        words = line.split()
        if len(words) == 3 and words[2].isdecimal():
            read += int(words[2]) if words[1] == "Read" else 0
            written += int(words[2]) if words[1] == "Write" else 0
    for line in _read(f"{place}/io.stat").splitlines():
        for word in line.split()[1:]:
            key, _, value = word.partition("=")
            read += int(value) if key == "rbytes" else 0
            written += int(value) if key == "wbytes" else 0
    return read, written


def _network(pid: int) -> tuple[int, int]:
    """Bytes in and out of all interfaces but `lo` (proc_pid_net(5))."""
    received = sent = 0
    for line in _read(f"/proc/{pid}/net/dev").splitlines()[2:]:
        name, _, rest = line.partition(":")
        if name.strip() != "lo":
            with contextlib.suppress(ValueError, IndexError):
                words = rest.split()
                received += int(words[0])
                sent += int(words[8])
    return received, sent
