"""The flags of limits: memory, processors, processes, `--ulimit`; and of stopping and restarts."""

from __future__ import annotations

import os

from ..errors import UserError
from . import flag_words

TYPE_CHECKING = False  # without importing typing
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from typing import Any

    from ..options import (
        DeviceLimit,
        Resources,
        Ulimit,
    )


NOT_GIVEN: dict[str, Any] = {
    **dict.fromkeys(("memory", "memory_swap", "memory_reservation", "cpus"), ""),
    **dict.fromkeys(("cpuset_cpus", "cpuset_mems"), ""),
    **dict.fromkeys(("cpu_period", "cpu_quota", "cpu_rt_period", "cpu_rt_runtime", "cpu_shares")),
    **dict.fromkeys(("pids_limit", "memory_swappiness", "blkio_weight", "oom_kill_disable")),
    **dict.fromkeys(("blkio_weight_device", "device_read_bps", "device_write_bps"), ()),
    **dict.fromkeys(("device_read_iops", "device_write_iops", "cgroup_conf"), ()),
}
"""What `resources` reads, for a command that has only some of the flags."""
HOST = "host"
"""`--ulimit host`: what is not named is as it is for whoever starts it."""


def resources(options: Mapping[str, Any]) -> Resources:
    """What the flags of limits ask for; also those of `update`. Error: UserError."""
    from ..options import Resources

    memory = flag_words.size("--memory", options["memory"])
    swap_text = options["memory_swap"]
    swap = -1 if swap_text == "-1" else flag_words.size("--memory-swap", swap_text)
    if swap > 0 and not memory:
        raise UserError("--memory-swap needs --memory as well")
    if 0 < swap < memory:
        raise UserError(
            f"--memory-swap {swap_text} is less than --memory {options['memory']}",
            hint="it is memory and swap together",
        )
    reservation = flag_words.size("--memory-reservation", options["memory_reservation"])
    if memory and reservation > memory:
        raise UserError("--memory-reservation is more than --memory")
    return Resources(
        memory=memory,
        memory_swap=swap,
        memory_reservation=reservation,
        cpus=cpus(options["cpus"]),
        cpu_period=_microseconds("--cpu-period", options["cpu_period"], 1000, 1_000_000),
        cpu_quota=_microseconds("--cpu-quota", options["cpu_quota"], 1000, 1 << 53),
        cpu_rt_period=_microseconds("--cpu-rt-period", options["cpu_rt_period"], 1, 1 << 53),
        cpu_rt_runtime=_microseconds("--cpu-rt-runtime", options["cpu_rt_runtime"], 1, 1 << 53),
        memory_swappiness=-1
        if options["memory_swappiness"] is None
        else flag_words.at_least("--memory-swappiness", options["memory_swappiness"], -1),
        oom_kill_disable=bool(options["oom_kill_disable"]),
        blkio_weight=options["blkio_weight"] or 0,
        blkio_devices=tuple(
            limit for kind in DEVICE_KINDS for limit in _device_limits(kind, options)
        ),
        unified=_unified(options["cgroup_conf"]),
        cpu_shares=flag_words.at_least("--cpu-shares", options["cpu_shares"] or 0, 0),
        cpuset_cpus=cpuset("--cpuset-cpus", options["cpuset_cpus"]),
        cpuset_mems=cpuset("--cpuset-mems", options["cpuset_mems"]),
        # 0 means unlimited to podman; the engine's default is what the plain data calls 0.
        pids_limit=_pids(options["pids_limit"]),
    )


DEVICE_KINDS = {
    "weight": "blkio-weight-device",
    "read_bps": "device-read-bps",
    "write_bps": "device-write-bps",
    "read_iops": "device-read-iops",
    "write_iops": "device-write-iops",
}


def _device_limits(kind: str, options: Mapping[str, Any]) -> Iterator[DeviceLimit]:
    """`DEVICE:SIZE` or `DEVICE:NUMBER` of one flag. Error: UserError."""
    flag = DEVICE_KINDS[kind]
    for item in options[flag.replace("-", "_")]:
        path, colon, text = flag_words.clean(f"--{flag}", item).rpartition(":")
        if not colon or not path.startswith("/"):
            raise UserError(f"--{flag} {item!r} is not of the form DEVICE:VALUE")
        if kind.endswith("bps"):
            value = flag_words.size(f"--{flag}", text)
        elif text.isascii() and text.isdecimal() and len(text) < 19:
            value = int(text)
        else:
            raise UserError(f"--{flag} {item!r}: {text!r} is not a number")
        if kind == "weight" and not 10 <= value <= 1000:
            raise UserError(f"--{flag} {item!r}: 10 to 1000")
        yield _device_limit(kind, f"--{flag}", path, value)


def _device_limit(kind: str, flag: str, path: str, value: int) -> DeviceLimit:
    import stat  # rarely

    from ..options import DeviceLimit

    try:
        status = os.stat(path)
    except OSError as error:
        raise UserError(f"{flag} {path}: {error.strerror}") from None
    if not stat.S_ISBLK(status.st_mode):
        raise UserError(f"{flag} {path}: not a block device")
    return DeviceLimit(kind, path, os.major(status.st_rdev), os.minor(status.st_rdev), value)


def _microseconds(flag: str, value: int | None, least: int, most: int) -> int:
    if value is None or value == 0 or (value == -1 and flag == "--cpu-quota"):
        return value or 0
    if not least <= value <= most:
        raise UserError(f"{flag} {value} is not possible", hint=f"{least} to {most} microseconds")
    return value


def _unified(items: Iterable[str]) -> tuple[tuple[str, str], ...]:
    found = flag_words.pairs("--cgroup-conf", items)
    for name, _ in found:
        if "/" in name or name.startswith((".", "cgroup.")):
            raise UserError(f"--cgroup-conf {name}: not a limit", hint="for example memory.high=1G")
    return found


def _pids(value: int | None) -> int:
    if value is None:
        return 0
    return -1 if value == 0 else flag_words.at_least("--pids-limit", value, -1)


def stop_timeout(value: int | None) -> int:
    return -1 if value is None else flag_words.at_least("--stop-timeout", value, 0)


def restart_policy(text: str, remove: bool) -> tuple[str, int]:
    """(policy, tries)."""
    policy, colon, tries = text.partition(":")
    if policy not in ("no", "", "always", "on-failure", "unless-stopped") or (
        colon and not (policy == "on-failure" and tries.isascii() and tries.isdecimal())
    ):
        raise UserError(
            f"--restart {text!r} is not a policy",
            hint="no, always, on-failure[:TRIES] or unless-stopped",
        )
    if policy in ("no", ""):
        return "", 0
    if remove:
        raise UserError(f"--rm and --restart {text} contradict each other")
    return policy, int(tries[:9] or 0)


def cpus(text: str) -> float:
    whole, _, fraction = text.partition(".")
    digits = whole + fraction
    if text and not (digits.isascii() and digits.isdecimal() and len(digits) <= 12):
        raise UserError(f"--cpus {text!r} is not a number of processors", hint="write 2 or 0.5")
    number = float(text) if text else 0.0
    if 0 < number < 0.01:
        raise UserError(f"--cpus {text} is too small", hint="at least 0.01")
    return number


def cpuset(flag: str, text: str) -> str:
    for part in text.split(",") if text else ():
        low, dash, high = part.partition("-")
        numbers = (low, high) if dash else (low,)
        good = all(n.isascii() and n.isdecimal() and len(n) < 6 for n in numbers)
        if not good or (dash and int(low) > int(high)):
            raise UserError(f"{flag} {text!r} is not a list of numbers", hint="write 0-2,4")
    return text


def ulimits(items: Iterable[str]) -> tuple[Ulimit, ...]:
    from ..options import Ulimit

    found: dict[str, Ulimit] = {}
    for item in items:
        if item == HOST:
            found[item] = Ulimit(HOST, -1, -1)
            continue
        name, _, values = item.lower().removeprefix("rlimit_").partition("=")
        soft_text, colon, hard_text = values.partition(":")
        soft = _limit(item, soft_text)
        hard = _limit(item, hard_text) if colon else soft
        if not name.isalpha():
            raise UserError(f"--ulimit {item!r} has no name", hint="write nofile=1024:2048")
        if hard != -1 and (soft == -1 or soft > hard):
            raise UserError(f"--ulimit {item!r}: the soft limit is above the hard one")
        found[name] = Ulimit(name, soft, hard)
    return tuple(found.values())


def _limit(item: str, text: str) -> int:
    if text in ("-1", "unlimited"):
        return -1
    if not (text.isascii() and text.isdecimal() and len(text) <= 19):
        raise UserError(
            f"--ulimit {item!r} is not a limit", hint="write NAME=SOFT[:HARD], -1 for unlimited"
        )
    return int(text)
