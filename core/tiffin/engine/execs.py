"""`exec`: another process in the namespaces of a running container."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Sequence
from typing import Any

import trio
from msgspec import Struct

from .. import conmon, ids
from ..errors import TiffinError, UserError
from ..events.execs import ExecExited, ExecFailed, ExecPlanned, ExecStarted
from ..spec import users
from .base import Engine
from .hold import hold


class ExecOptions(Struct, frozen=True, omit_defaults=True):
    """What a user may ask of `exec`."""

    command: tuple[str, ...]
    env: tuple[tuple[str, str], ...] = ()
    workdir: str = ""
    user: str = ""
    tty: bool = False
    interactive: bool = False
    privileged: bool = False
    detach: bool = False


def process(config: dict[str, Any], options: ExecOptions, user: users.User | None) -> dict[str, Any]:
    """The `process` object for exec (runtime-spec, config.md#process): the container's own, with
    what was asked for put over it."""
    base = dict(config["process"])
    env = dict(item.partition("=")[::2] for item in base.get("env", []))
    if options.tty:
        env.setdefault("TERM", "xterm")
    env.update(options.env)
    if user is not None:
        base["user"] = {"uid": user.uid, "gid": user.gid}
        if user.additional_gids:
            base["user"]["additionalGids"] = list(user.additional_gids)
        env["HOME"] = user.home
        if user.uid != 0 and not options.privileged:
            # A process that is not root has no capabilities but those it may regain by set-uid.
            capabilities = dict(base.get("capabilities", {}))
            for kind in ("effective", "permitted", "ambient"):
                capabilities[kind] = []
            base["capabilities"] = capabilities
    if options.privileged:
        everything = sorted(_known_capabilities())
        base["capabilities"] = {
            kind: everything for kind in ("bounding", "effective", "permitted")
        } | {"inheritable": [], "ambient": []}
        base.pop("apparmorProfile", None)
    base["args"] = list(options.command)
    base["env"] = [f"{name}={value}" for name, value in env.items()]
    base["terminal"] = options.tty
    base.pop("consoleSize", None)
    if options.workdir:
        if not options.workdir.startswith("/"):
            raise UserError(f"--workdir {options.workdir!r} is not an absolute path")
        base["cwd"] = options.workdir
    return base


def _known_capabilities() -> Sequence[str]:
    from ..spec import facts

    return facts.available_capabilities()
