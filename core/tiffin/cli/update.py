"""`update`: other limits for a container."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..errors import UserError
from .container_flags import FLAGS
from .flags import Call, Command, Flag
from .limit_flags import NOT_GIVEN, resources, restart_policy

if TYPE_CHECKING:
    from ..engine.base import Engine

LIMITS = (
    "memory",
    "memory-swap",
    "memory-reservation",
    "cpus",
    "cpu-shares",
    "cpuset-cpus",
    "cpuset-mems",
    "pids-limit",
    "cpu-period",
    "cpu-quota",
    "cpu-rt-period",
    "cpu-rt-runtime",
    "memory-swappiness",
    "blkio-weight",
    "blkio-weight-device",
    "device-read-bps",
    "device-write-bps",
    "device-read-iops",
    "device-write-iops",
)
DEVICES = frozenset(name.replace("-", "_") for name in LIMITS[-5:])
"""These are one field of the limits."""


def _update(call: Call) -> int:
    import msgspec

    options = call.options
    keys = [name.replace("-", "_") for name in LIMITS]
    given = [key for key in keys if options[key] not in ("", None, [])]
    runtime = options["runtime"]
    policy = restart_policy(options["restart"], False) if options["restart"] else None
    if not given and not runtime and policy is None:
        raise UserError("update: nothing to change", hint="for example --memory 512m")
    if options["memory_swap"] and not options["memory"]:
        raise UserError("update: --memory-swap needs --memory as well")
    asked = msgspec.structs.asdict(resources({**NOT_GIVEN, **options}))
    changes = {key: asked[key] for key in given if key not in DEVICES}
    if DEVICES & set(given):
        changes["blkio_devices"] = asked["blkio_devices"]
    if "memory" in changes and "memory_swap" not in changes:
        changes["memory_swap"] = 0  # follows memory
    from .session import drive

    async def work(engine: Engine) -> str:
        from ..engine.moving import change_runtime
        from ..engine.update import change_restart, update

        cid = ""
        if policy is not None:
            cid = await change_restart(engine, call.arguments[0], *policy)
        if runtime:
            cid = await change_runtime(engine, call.arguments[0], runtime)
        return await update(engine, call.arguments[0], changes) if changes else cid

    print(drive(call, work))
    return 0


UPDATE = Command(
    "update",
    "CONTAINER",
    "Change the limits of a container: at once when it runs, and for its next starts; its restart "
    "policy; or, while it does not run, its OCI runtime",
    (
        *(flag for flag in FLAGS if flag.name in LIMITS),
        Flag("restart", "", "str", "POLICY", "no, always, on-failure[:TRIES] or unless-stopped"),
        Flag("runtime", "", "str", "NAME", "Another OCI runtime, from the next start on"),
    ),
    (1, 1),
    ("tiffin update --memory 512m --cpus 1.5 web", "tiffin update --runtime runc web"),
    _update,
)
