"""Which cgroup a container gets, and who makes it: the runtime itself (`cgroupfs`), or systemd at
the runtime's request (`systemd`: a transient scope, and one for its conmon).

What is decided is recorded with the intent to make it; everything later goes by that path.
"""

from __future__ import annotations

import contextlib
import os

from msgspec import Struct

from .. import cgroups, systemd
from ..errors import DriverError, UserError
from ..options import ContainerOptions
from .base import Engine

MANAGERS = ("systemd", "cgroupfs")
SCOPE = "tiffin"
NONE = "/"
"""What is recorded for a container without a cgroup of its own."""
SUPERVISOR = "supervisor"
"""Beside the container's cgroup, with `--cgroups split`: where conmon is, and who called."""


class Place(Struct, frozen=True):
    """Where a container is to be."""

    path: str
    """Of its cgroup, from the root of the hierarchy."""
    beside: str = ""
    """The cgroup that is split."""


def manager(engine: Engine) -> str:
    """The one that was chosen, or what works here. Errors: UserError, DriverError."""
    chosen = engine.settings.cgroup_manager
    if chosen not in ("", *MANAGERS):
        raise UserError(f"--cgroup-manager {chosen!r} is not known", hint=" or ".join(MANAGERS))
    uid = engine.layout.uid
    if chosen == "systemd" and not systemd.reachable(uid):
        raise DriverError(
            "--cgroup-manager systemd: systemd does not run here"
            if not systemd.booted()
            else f"--cgroup-manager systemd: user {uid} has no systemd of their own",
            hint="--cgroup-manager cgroupfs"
            if not systemd.booted()
            else f"log in with a session, or loginctl enable-linger {uid}",
        )
    return chosen or cgroups.usual_manager(uid)


def choose(engine: Engine, cid: str, runtime: str, options: ContainerOptions) -> Place:
    """Errors: UserError, DriverError, for what cannot be here."""
    mode = options.cgroups or "enabled"
    parent = options.cgroup_parent.rstrip("/")
    if mode == "disabled":
        if parent or options.cgroupns == "private":
            flag = "--cgroup-parent" if parent else "--cgroupns private"
            raise UserError(f"--cgroups disabled and {flag} contradict each other")
        if not getattr(engine.runtime(runtime), "without_cgroup", ()):
            raise UserError(
                f"--cgroups disabled: {runtime} runs no container without a cgroup",
                hint="use --runtime crun",
            )
        return Place(NONE)
    if mode == "split":
        return _split(cid, parent)
    if manager(engine) == "cgroupfs":
        if engine.layout.uid:
            return Place(NONE)  # none is delegated
        if parent.endswith(".slice") and not parent.startswith("/"):
            parent = systemd.slice_path(parent)
        # Right below the root: a common parent would stay behind after the last container.
        return Place(f"/{parent.lstrip('/')}/tiffin-{cid}" if parent else f"/tiffin-{cid}")
    uid = engine.layout.uid
    name = os.path.basename(parent) or ("machine.slice" if uid == 0 else "user.slice")
    if not name.endswith(".slice"):
        raise UserError(
            f"--cgroup-parent {options.cgroup_parent} is not a slice of systemd's",
            hint="name one (X.slice), or use --cgroup-manager cgroupfs",
        )
    slice = f"{systemd.manager_cgroup(uid)}{systemd.slice_path(name)}"
    return Place(f"{slice}/{SCOPE}-{cid}.scope")


def _split(cid: str, parent: str) -> Place:
    if parent:
        raise UserError("--cgroups split and --cgroup-parent contradict each other")
    if not cgroups.unified():
        raise UserError("--cgroups split needs cgroup v2, and this machine has v1")
    own = cgroups.own().removesuffix(f"/{SUPERVISOR}")
    if own == "/":
        raise UserError(
            "--cgroups split: this command is in the root cgroup, which cannot be split",
            hint="run it in a service of systemd with Delegate=yes",
        )
    return Place(f"{own}/payload-{cid}", beside=own)


def split(place: Place) -> None:
    """Leave the cgroup that is split to what is below it: a cgroup with processes cannot pass
    controllers on (cgroups(7), "no internal processes"). Error: DriverError."""
    top = f"{cgroups.UNIFIED}{place.beside}"
    try:
        os.makedirs(f"{top}/{SUPERVISOR}", exist_ok=True)
        with open(f"{top}/cgroup.procs", encoding="ascii") as file:
            pids = file.read().split()
        for pid in pids:
            with (
                contextlib.suppress(ProcessLookupError),
                open(f"{top}/{SUPERVISOR}/cgroup.procs", "w", encoding="ascii") as file,
            ):
                file.write(pid)
    except OSError as error:
        raise DriverError(
            f"--cgroups split: cannot divide {place.beside}: {error.strerror}",
            hint="a service needs Delegate=yes for it",
        ) from None


def in_spec(path: str) -> str:
    """`linux.cgroupsPath` for a recorded path: `SLICE:PREFIX:NAME` where systemd makes it
    (runc, crun: --systemd-cgroup)."""
    if not is_scope(path):
        return "" if path == NONE else path
    head, _, scope = path.rpartition("/")
    prefix, _, name = scope.removesuffix(".scope").partition("-")
    return f"{os.path.basename(head)}:{prefix}:{name}"


def is_scope(path: str) -> bool:
    return path.endswith(".scope")


def conmon_unit(path: str, options: ContainerOptions) -> tuple[str, str]:
    """(unit, slice) for the conmon of a container with this cgroup; empty: it stays where it is,
    as in a service of systemd, whose it is then."""
    if not is_scope(path) or options.cgroups == "no-conmon":
        return "", ""
    if "INVOCATION_ID" in os.environ and cgroups.own().endswith(".service"):
        return "", ""
    head, _, scope = path.rpartition("/")
    return f"{SCOPE}-conmon-{scope.removeprefix(f'{SCOPE}-')}", os.path.basename(head)


def exec_unit(engine: Engine, path: str, exec_id: str) -> tuple[str, str]:
    """(unit, slice) for the conmon of an exec in a container with this cgroup; empty: it stays.

    An ordinary user may move a process into the container's cgroup only out of what is the same
    systemd's (cgroups(7), "Delegation containment"), which a login session is not."""
    uid = engine.layout.uid
    above = systemd.manager_cgroup(uid)
    if uid == 0 or not path.startswith(f"{above}/") or cgroups.own().startswith(f"{above}/"):
        return "", ""
    return f"{SCOPE}-exec-{exec_id}.scope", "user.slice"
