"""`init`: config.json, network, conmon; the runtime has *created* the container. Nothing of the
user's has run."""

from __future__ import annotations

import os
from typing import Any

import msgspec
import trio

from .. import netns
from ..errors import Conflict
from ..events.container import Failed, Initialized, InitPlanned
from . import bundle, cgroup_places, labels, mount, networks, rootfs, teardown
from .base import Engine
from .hold import Held, hold

TRIES = 50
"""How often other addresses are chosen when those planned were taken meanwhile."""


async def init(engine: Engine, given: str) -> str:
    """Bring a created or exited container to *initialized*. Returns its id."""
    async with hold(engine, given) as held:
        held.need("init", "created", "exited")
        await prepare(held)
        await held.journal.flush()
        return held.id


async def prepare(held: Held) -> None:
    """`init` for a container whose lock we have; mounts it first when it is not mounted.

    Mount and network are made side by side with conmon and the runtime. When a step fails, all of
    it is undone and the container is what it was before.
    """
    held.need("start", "created", "exited")
    engine, row = held.engine, held.row
    before = held.state
    if row["options"].get("requires"):
        from . import dependencies

        await dependencies.up(engine, row)
    await networks.warm_up(engine, row["network"])
    must_mount = row["mounted"] != rootfs.path(engine, row)
    network = await _plan(held, must_mount)
    try:
        for directory in (row["directory"], engine.layout.container_run(held.id)):
            os.makedirs(directory, mode=0o700, exist_ok=True)
        userns = await _userns(held) if row["id_maps"] else ""
        if must_mount:
            await mount.carry_out(held)
        if network.netns:
            netns.create(network.netns, userns)
        made: bundle.Made | None = None
        processes: list[Any] = []
        async with trio.open_nursery() as nursery:
            nursery.start_soon(networks.attach, engine, network.attachments, processes)
            made = await bundle.make(held, network.attachments, network.netns or network.joined)
    except BaseException as error:
        with trio.CancelScope(shield=True):
            await undo(held, _text(error), state=before)
        raise
    held.journal.note(
        held.stream,
        Initialized(
            pid=made.pid,
            conmon_pid=made.conmon_pid,
            spec=made.spec_digest,
            processes=tuple(processes),
        ),
    )
    held.row.update(state="initialized", pid=made.pid, conmon_pid=made.conmon_pid)
    if held.row["options"].get("pid_file") or held.row["options"].get("conmon_pid_file"):
        from . import notify

        notify.write_pids(held.row)


async def _userns(held: Held) -> str:
    """The container's user namespace, pinned."""
    from . import idmaps  # most containers have none

    return await idmaps.pin(held, start=True)


async def _plan(held: Held, must_mount: bool) -> networks.NetworkPlan:
    """Write the intents to mount and to init in one go; reserves the addresses."""
    engine, row = held.engine, held.row
    in_force = labels.in_force(held)
    options = bundle.options_of(held)
    place = cgroup_places.choose(engine, held.id, row["runtime"], options)
    for attempt in range(TRIES):
        network = await networks.plan(engine, row, engine.layout.netns(held.id))
        event = InitPlanned(
            runtime=row["runtime"],
            program=engine.runtime(row["runtime"]).program(),
            bundle=row["directory"],
            rootfs=rootfs.path(engine, row),
            cgroup=place.path,
            netns=network.netns,
            userns=engine.layout.userns(held.id) if row["id_maps"] else "",
            attachments=tuple(msgspec.to_builtins(a) for a in network.attachments),
            process_label=in_force.process_label,
            mount_label=in_force.mount_label,
            apparmor_profile=in_force.profile,
            relabels=labels.relabelled(held) if in_force.mount_label else (),
        )
        if must_mount and attempt == 0:
            await mount.plan(held, now=False)
        try:
            await held.journal.write(held.stream, event)
        except Conflict:
            if attempt + 1 == TRIES:
                raise
            continue
        await held.again()
        if place.beside:
            cgroup_places.split(place)
        return network
    raise AssertionError("unreachable")


def _text(error: BaseException) -> str:
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return str(error) or type(error).__name__


async def undo(held: Held, why: str, *, state: str = "created") -> None:
    """Take away what `prepare` made; the container is `state` again, with the reason recorded."""
    await held.again()
    await teardown.run_state(held.engine, held.row)
    mounted = held.row["pinned"]
    held.journal.note(held.stream, Failed(operation="init", error=why, state=state))
    if not mounted:
        from ..events.container import Unmounted

        held.journal.note(held.stream, Unmounted())
    await held.journal.flush()
