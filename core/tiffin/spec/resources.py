"""cgroup limits (runtime-spec, config-linux.md#control-groups), for cgroup v1 and v2 alike."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Any

from ..errors import UserError
from ..options import Resources

PIDS_LIMIT = 2048
"""podman's default."""

PERIOD = 100_000
"""Microseconds: the period over which --cpus is counted."""

CPUSET = {"/cpu/cpus": "cpuset", "/cpu/mems": "cpuset"}
"""Limits whose controller has another name."""

LEAST_MEMORY = 512 * 1024
"""Bytes; what runc needs to start a process at all is a good deal more."""


def entries(
    asked: Resources,
    cpus: int,
    *,
    swap_counted: bool = True,
    cgroup_v2: bool = False,
    controllers: Collection[str] | None = None,
) -> Iterator[tuple[str, Any, str]]:
    """(pointer below /linux/resources, value, flag or "") for each limit. Error: UserError, also
    for one that was asked for and that no controller is there to keep.

    `swap_counted`: whether the kernel can limit memory plus swap at all. `controllers`: those of
    cgroups that are there; None: all.
    """
    _fits(asked, cgroup_v2)
    for pointer, value, flag in _entries(asked, cpus, swap_counted):
        name = _controller(pointer, cgroup_v2)
        if controllers is None or name in controllers:
            yield pointer, value, flag
        elif flag and not controllers:
            raise UserError(
                f"{flag}: a container without a cgroup of its own cannot be limited",
                hint="a user has cgroups with cgroup v2 and a login that systemd knows of",
            )
        elif flag:
            raise UserError(
                f"{flag}: the cgroup controller {name} is not there for containers",
                hint="systemctl edit user@.service, with Delegate=cpu cpuset io memory pids",
            )


def _controller(pointer: str, cgroup_v2: bool) -> str:
    """Which keeps a limit (cgroups(7))."""
    _, kind, key = pointer.split("/")
    if kind == "blockIO":
        return "io" if cgroup_v2 else "blkio"
    return key.partition(".")[0] if kind == "unified" else CPUSET.get(pointer, kind)


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
    if asked.memory_swappiness >= 0:
        if asked.memory_swappiness > 100:
            raise UserError(f"--memory-swappiness {asked.memory_swappiness}: 0 to 100")
        yield "/memory/swappiness", asked.memory_swappiness, "--memory-swappiness"
    if asked.oom_kill_disable:
        yield "/memory/disableOOMKiller", True, "--oom-kill-disable"
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
    if asked.cpus and (asked.cpu_period or asked.cpu_quota):
        raise UserError("--cpus says what --cpu-period and --cpu-quota say", hint="leave one out")
    for name, number, flag in (
        ("quota", asked.cpu_quota, "--cpu-quota"),
        ("period", asked.cpu_period, "--cpu-period"),
        ("realtimeRuntime", asked.cpu_rt_runtime, "--cpu-rt-runtime"),
        ("realtimePeriod", asked.cpu_rt_period, "--cpu-rt-period"),
    ):
        if number:
            yield f"/cpu/{name}", number, flag
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
    yield from _block_io(asked)
    for name, text in asked.unified:
        yield f"/unified/{name}", text, "--cgroup-conf"
    if asked.pids_limit == 0:
        yield "/pids/limit", PIDS_LIMIT, ""
    elif asked.pids_limit > 0:
        yield "/pids/limit", asked.pids_limit, "--pids-limit"


def _fits(asked: Resources, cgroup_v2: bool) -> None:
    """What one of the two hierarchies does not have. Error: UserError."""
    if asked.unified and not cgroup_v2:
        raise UserError("--cgroup-conf writes to cgroup v2, and this machine has cgroup v1")
    if not cgroup_v2:
        return
    for value, flag in (
        (asked.oom_kill_disable, "--oom-kill-disable"),
        (asked.memory_swappiness >= 0, "--memory-swappiness"),
        (asked.cpu_rt_period or asked.cpu_rt_runtime, "--cpu-rt-*"),
    ):
        if value:
            raise UserError(f"{flag}: cgroup v2 has no such limit, and this machine has no other")


DEVICE_LIMITS = {
    "weight": ("weightDevice", "weight", "--blkio-weight-device"),
    "read_bps": ("throttleReadBpsDevice", "rate", "--device-read-bps"),
    "write_bps": ("throttleWriteBpsDevice", "rate", "--device-write-bps"),
    "read_iops": ("throttleReadIOPSDevice", "rate", "--device-read-iops"),
    "write_iops": ("throttleWriteIOPSDevice", "rate", "--device-write-iops"),
}
"""kind -> field of `blockIO`, its key for the value, flag."""


def _block_io(asked: Resources) -> Iterator[tuple[str, Any, str]]:
    if asked.blkio_weight:
        if not 10 <= asked.blkio_weight <= 1000:
            raise UserError(f"--blkio-weight {asked.blkio_weight}: 10 to 1000")
        yield "/blockIO/weight", asked.blkio_weight, "--blkio-weight"
    for kind, (field, key, flag) in DEVICE_LIMITS.items():
        found = [
            {"major": limit.major, "minor": limit.minor, key: limit.value}
            for limit in asked.blkio_devices
            if limit.kind == kind
        ]
        if found:
            yield f"/blockIO/{field}", found, flag
