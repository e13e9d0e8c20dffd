"""What the spec needs to know of this machine and of the caller. The only part that looks."""

from __future__ import annotations

import functools
import os
import resource
from collections.abc import Mapping
from typing import Any

from msgspec import Struct

from .. import USER_MARK, cgroups, systemd
from . import rlimits, seccomp
from .capabilities import from_mask

SYS_RESOURCE = "CAP_SYS_RESOURCE"
V1_SWAP = "/sys/fs/cgroup/memory/memory.memsw.limit_in_bytes"


class HostFacts(Struct, frozen=True):
    """Plain data, so that `build` can be a pure function of it."""

    cgroup_v2: bool
    """True when the unified hierarchy is the only one."""
    hard_limits: Mapping[str, int]
    """Limit -> the caller's hard limit; -1 for none."""
    capabilities: tuple[str, ...]
    """The caller's bounding set."""
    may_raise_limits: bool
    cpus: int
    machine: str
    kernel: str
    hostname: str
    seccomp_profile: Mapping[str, Any] | None
    seccomp_source: str
    rootless: bool
    controllers: frozenset[str] | None = None
    """Of cgroups, those that may limit a container here; None: all."""
    memory_swap: bool = True
    """Whether the kernel counts swap: without it a limit of memory plus swap cannot be set."""
    uids: int = -1
    """How many user ids the caller's namespace has, from 0 on; -1: all."""
    gids: int = -1
    oom_score_adj: int = -1000
    """None of the caller's processes may have a lower one."""


@functools.cache
def available_capabilities() -> tuple[str, ...]:
    """CapBnd of this process: no container can have more."""
    with open("/proc/self/status", encoding="ascii") as file:
        for line in file:
            if line.startswith("CapBnd:"):
                return tuple(from_mask(int(line.split()[1], 16)))
    return ()


def _rootless() -> bool:
    """True for an ordinary user, within their namespace or not."""
    if USER_MARK in os.environ:
        from ..rootless import within

        return within()
    return os.geteuid() != 0


def _controllers() -> frozenset[str]:
    """An ordinary user has cgroups where systemd gives them some."""
    uid = os.geteuid()
    if USER_MARK in os.environ:
        from ..rootless import real_uid

        uid = real_uid()
    if uid and not systemd.reachable(uid):
        return frozenset()
    return cgroups.controllers(systemd.manager_cgroup(uid))


def _oom_score_adj() -> int:
    with open("/proc/self/oom_score_adj", encoding="ascii") as file:
        return int(file.read())


def _ids(kind: str) -> int:
    from ..rootless import ids

    return ids(kind)


def cgroup_v2() -> bool:
    """True where /sys/fs/cgroup itself is the unified hierarchy (cgroups(7))."""
    return os.path.exists("/sys/fs/cgroup/cgroup.controllers")


def gather() -> HostFacts:
    """Look at the machine; about a millisecond."""
    names = os.uname()
    profile, source = seccomp.default_profile()
    limits = {}
    for name in rlimits.NAMES:
        number = getattr(resource, f"RLIMIT_{name.upper()}", None)
        if number is not None:
            limits[name] = resource.getrlimit(number)[1]
    capabilities = available_capabilities()
    unified = cgroup_v2()
    rootless = _rootless()
    return HostFacts(
        cgroup_v2=unified,
        hard_limits=limits,
        capabilities=capabilities,
        may_raise_limits=not rootless and _effective(SYS_RESOURCE),
        cpus=len(os.sched_getaffinity(0)),
        machine=names.machine,
        kernel=names.release,
        hostname=names.nodename,
        seccomp_profile=profile,
        seccomp_source=source,
        rootless=rootless,
        controllers=_controllers(),
        uids=_ids("uid") if rootless else -1,
        gids=_ids("gid") if rootless else -1,
        oom_score_adj=_oom_score_adj() if rootless else -1000,
        memory_swap=unified or os.path.exists(V1_SWAP),
    )


def _effective(name: str) -> bool:
    with open("/proc/self/status", encoding="ascii") as file:
        for line in file:
            if line.startswith("CapEff:"):
                return name in from_mask(int(line.split()[1], 16))
    return False
