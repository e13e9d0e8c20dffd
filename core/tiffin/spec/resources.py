"""cgroup limits (runtime-spec, config-linux.md#control-groups), for cgroup v1 and v2 alike."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ..errors import UserError
from ..options import Resources

PIDS_LIMIT = 2048
"""podman's default."""

PERIOD = 100_000
"""Microseconds: the period over which --cpus is counted."""

LEAST_MEMORY = 512 * 1024
"""Bytes; what runc needs to start a process at all is a good deal more."""


def entries(
    asked: Resources, cpus: int, *, swap_counted: bool = True, impossible: str = ""
) -> Iterator[tuple[str, Any, str]]:
    """(pointer below /linux/resources, value, flag or "") for each limit. Error: UserError.

    `swap_counted`: whether the kernel can limit memory plus swap at all; `impossible`: why nothing
    can be limited. Then what was asked for is an error, and what was not is left out.
    """
    for pointer, value, flag in _entries(asked, cpus, swap_counted):
        if not impossible:
            yield pointer, value, flag
        elif flag:
            raise UserError(f"{flag}: {impossible}", hint="docs/rootless.md says what is needed")


def _entries(asked: Resources, cpus: int, swap_counted: bool) -> Iterator[tuple[str, Any, str]]:
    if asked.memory:
        if asked.memory < LEAST_MEMORY:
            raise UserError(f"--memory {asked.memory}: at least 512k are needed")
        yield "/memory/limit", asked.memory, "--memory"
    swap = asked.memory_swap
    if swap and swap > 0 and swap < asked.memory:
        raise UserError("--memory-swap is memory plus swap: it cannot be less than --memory")
    if swap and not asked.memory:
        raise UserError("--memory-swap needs --memory")
    if swap and not swap_counted:
        raise UserError("--memory-swap: this kernel does not count swap", hint="swapaccount=1")
    if swap:
        yield "/memory/swap", swap, "--memory-swap"
    elif asked.memory and swap_counted:
        # As much swap as memory, which is what podman and docker mean by --memory alone.
        yield "/memory/swap", 2 * asked.memory, "--memory"
    if asked.memory_reservation:
        if asked.memory and asked.memory_reservation > asked.memory:
            raise UserError("--memory-reservation is above --memory")
        yield "/memory/reservation", asked.memory_reservation, "--memory-reservation"
    if asked.cpus:
        if asked.cpus < 0.01:
            raise UserError(f"--cpus {asked.cpus}: at least 0.01")
        if asked.cpus > cpus:
            raise UserError(f"--cpus {asked.cpus:g}: this machine has {cpus}")
        yield "/cpu/quota", round(asked.cpus * PERIOD), "--cpus"
        yield "/cpu/period", PERIOD, "--cpus"
    if asked.cpu_shares:
        yield "/cpu/shares", asked.cpu_shares, "--cpu-shares"
    for flag, value in (
        ("--cpuset-cpus", asked.cpuset_cpus),
        ("--cpuset-mems", asked.cpuset_mems),
    ):
        if value.strip("0123456789,-"):
            raise UserError(f"{flag} {value!r} is not a list of numbers", hint="for example 0-2,4")
    if asked.cpuset_cpus:
        yield "/cpu/cpus", asked.cpuset_cpus, "--cpuset-cpus"
    if asked.cpuset_mems:
        yield "/cpu/mems", asked.cpuset_mems, "--cpuset-mems"
    if asked.pids_limit == 0:
        yield "/pids/limit", PIDS_LIMIT, ""
    elif asked.pids_limit > 0:
        yield "/pids/limit", asked.pids_limit, "--pids-limit"
