"""Mandatory access control: labels are decided and recorded at creation, and put in force at init.

The engine asks whatever label providers are installed and whose module this kernel has; a machine
without any pays for one look at a file.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from ..errors import UserError
from ..hooks import LabelRequest, Labels
from ..options import ContainerOptions
from ..spec import asked
from ..spec.mounts import RELABEL
from .base import Engine
from .hold import Held

MODULES = "/sys/kernel/security/lsm"
"""The security modules of this kernel, separated by commas."""

NONE = Labels()
NOBODY = "none"
"""`--label-provider none`"""

TAKEN = "SELECT security_labels FROM containers WHERE security_labels!='{}'"

NOT_IGNORED = {"apparmor": ("", "unconfined")}
"""Options that are an error where nobody provides them, but for these values. (`label=` is without
effect then, as in podman.)"""


def _has_module(name: str) -> bool:
    try:
        with open(MODULES, encoding="ascii") as file:
            return name in file.read().strip().split(",")
    except OSError:  # securityfs is not mounted; a module may have a file system of its own
        return os.path.isdir(f"/sys/fs/{name}")


def providers(engine: Engine) -> list[Any]:
    """The label providers that are in force on this machine, in order of name."""
    names = [
        name
        for name in engine.plugins.names("label")
        if _has_module(name) and _wanted(engine, name)
    ]
    found = [engine.driver("label", name) for name in names]
    return [provider for provider in found if provider.enabled()]


def names(engine: Engine, options: ContainerOptions) -> frozenset[str]:
    """Which `--security-opt NAME=` are for providers, if any are given that only they may know; and
    whether those that are chosen for the container can be. Error: UserError."""
    if options.label_providers:
        _chosen(engine, options)
    if all(name in asked.SECURITY for name in asked.security(options)):
        return frozenset()
    return frozenset(provider.option for provider in providers(engine))


def _chosen(engine: Engine, options: ContainerOptions) -> list[Any]:
    """The providers that are to confine a container. Error: UserError."""
    given = options.label_providers
    if NOBODY in given:
        if len(given) > 1:
            raise UserError(
                f"--label-provider {','.join(given)}: {NOBODY} goes with no other",
                hint="leave one of them out",
            )
        return []
    found = providers(engine)
    if not given:
        return found
    for name in given:
        if name not in engine.plugins.names("label"):
            raise engine.plugins.nobody("label", name)
        if name not in {provider.name for provider in found}:
            raise UserError(
                f"the label provider {name} is not in force here",
                hint=f"{MODULES} has the kernel's modules",
            )
    return [provider for provider in found if provider.name in given]


def _wanted(engine: Engine, name: str) -> bool:
    """False with `[label.NAME] enabled = false` in tiffin.toml. Error: UserError."""
    try:
        wanted = engine.settings.tables.get("label", {}).get(name, {}).get("enabled", True)
    except AttributeError:
        wanted = None
    if not isinstance(wanted, bool):
        raise UserError(
            f"tiffin.toml: [label.{name}] enabled is neither true nor false",
            hint="write enabled = false, or leave it out",
        )
    return wanted


async def allocate(
    engine: Engine, cid: str, options: ContainerOptions
) -> Mapping[str, Mapping[str, str]]:
    """{provider: `Labels` as plain data} of a new container. Errors: UserError, DriverError."""
    chosen = asked.security(options)
    found = _chosen(engine, options)
    for option, harmless in NOT_IGNORED.items():
        given = chosen.get(option, [""])[-1]
        if given not in harmless and not any(p.option == option for p in found):
            raise UserError(f"--security-opt {option}={given}: {option} is not enabled here")
    if not found:
        return {}
    others = [row["security_labels"] for row in await engine.store.rows(TAKEN)]
    allocated = {}
    for provider in found:
        labels: Labels = await provider.allocate(
            LabelRequest(
                container=cid,
                options=tuple(chosen.get(provider.option, ())),
                privileged=options.privileged,
                host_namespaces="host" in (options.pid, options.ipc),
                relabel=tuple(mount.source for mount, _ in _asked(options)),
                taken=tuple(
                    other[provider.name]["process_label"]
                    for other in others
                    if other.get(provider.name, {}).get("process_label")
                ),
            )
        )
        if labels != NONE:
            allocated[provider.name] = msgspec.to_builtins(labels)
    return allocated


def _asked(options: ContainerOptions) -> list[tuple[Any, bool]]:
    """(bind mount, shared) of those with `:z` or `:Z`; the last of them counts."""
    asked = []
    for mount in options.mounts:
        letters = [option for option in mount.options if option in RELABEL]
        if mount.type == "bind" and letters:
            asked.append((mount, letters[-1] == "z"))
    return asked


def _enabled(held: Held) -> list[tuple[Any, Labels]]:
    """The container's labels whose provider is in force now: a machine may have been restarted
    without its security module since."""
    recorded = held.row["security_labels"]
    if not recorded:
        return []
    return [
        (provider, msgspec.convert(recorded[provider.name], Labels))
        for provider in providers(held.engine)
        if provider.name in recorded
    ]


def in_force(held: Held) -> Labels:
    """What applies to the container on this machine now: all providers' labels in one."""
    merged: dict[str, str] = {}
    for _, labels in _enabled(held):
        for name in ("process_label", "mount_label", "profile"):
            merged[name] = merged.get(name) or getattr(labels, name)
    return Labels(**merged)


async def prepare(held: Held, files: Iterable[str]) -> Labels:
    """Before the runtime: load what the labels need and label the bundle's `files`."""
    for provider, labels in _enabled(held):
        await provider.prepare(labels)
        if labels.mount_label:
            for path in files:
                await provider.relabel(path, labels.mount_label, shared=False)
    return in_force(held)


async def relabel(held: Held, path: str, *, shared: bool = False) -> None:
    """Give a file or a tree the container's label."""
    for provider, labels in _enabled(held):
        if labels.mount_label:
            await provider.relabel(path, labels.mount_label, shared=shared)


async def share_layers(held: Held, driver: str) -> None:
    """Let labelled containers read the layers that the storage driver mounts: the kernel checks
    some accesses (mprotect) on the layer's own file, whatever label the mount has."""
    directory = held.engine.layout.storage(driver)
    for provider, labels in _enabled(held):
        if labels.mount_label:
            await provider.share(directory)


def relabelled(held: Held) -> tuple[str, ...]:
    """Sources of the container's bind mounts with `:z` or `:Z`."""
    options = msgspec.convert(held.row["options"], ContainerOptions)
    return tuple(mount.source for mount, _ in _asked(options))


async def relabel_volumes(held: Held, options: ContainerOptions) -> None:
    """Do what `:z` and `:Z` ask for."""
    for mount, shared in _asked(options):
        await relabel(held, mount.source, shared=shared)
