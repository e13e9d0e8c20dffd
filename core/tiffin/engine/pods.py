"""Pods: containers that share namespaces. A pod is a definition until it, or its first container,
is started; then its namespaces are pinned and its network attached, until it is stopped."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import trio

from .. import ids, names, netns, network_modes, pod_namespaces
from ..errors import Conflict, NotFound, UserError
from ..events.pod import (
    PodCreated,
    PodNamesChanged,
    PodRemovalPlanned,
    PodRemoved,
    PodStarted,
    PodStartFailed,
    PodStartPlanned,
    PodStopped,
    PodStopPlanned,
)
from ..hooks import Attachment
from ..options import ContainerOptions
from ..spec import asked, idmaps
from ..spec.mounts import SHM_SIZE
from ..store import queries
from . import home, networks, teardown
from .base import Engine, Journal
from .recover import LIVE

KINDS = ("net", "ipc", "uts", "pid")
DEFAULT_SHARE = ("ipc", "net", "uts")
BY_NAME = "SELECT * FROM pods WHERE name=?"
BY_ID = "SELECT * FROM pods WHERE id=?"
BY_PREFIX = "SELECT * FROM pods WHERE id>=? AND id<? ORDER BY id LIMIT 2"
MEMBERS = "SELECT * FROM containers WHERE json_extract(options, '$.pod')=? ORDER BY created"
TRIES = 50
"""How often other addresses, or another random name, are chosen when those are taken meanwhile."""


async def find(engine: Engine, given: str) -> queries.Row:
    """By name, id or the beginning of an id that is unique. Errors: NotFound, UserError."""
    found = await engine.store.rows(BY_NAME, (given,))
    if not found and queries.is_hex(given):
        found = await engine.store.rows(BY_PREFIX, queries.prefix_range(given))
    return queries.one(found, given, "pod")


async def members(engine: Engine, pod: str) -> list[queries.Row]:
    """The containers of a pod, by its id."""
    return await engine.store.rows(MEMBERS, (pod,))


@asynccontextmanager
async def in_use(engine: Engine, pod: str) -> AsyncIterator[queries.Row]:
    """Hold a pod alone, with what dead processes left open in it finished or undone. A container's
    lock is taken before its pod's. Error: NotFound when it is gone."""
    async with engine.locks.named(engine.layout.lock(pod)):
        await _resolve(engine, pod)
        found = await engine.store.rows(BY_ID, (pod,))
        if not found:
            raise NotFound(f"no such pod: {pod[:12]}", hint="it was removed meanwhile")
        yield found[0]


# --- by itself ------------------------------------------------------------------------------------


def share_of(text: str) -> tuple[str, ...]:
    """`--share`: kinds by comma, `+pid` for one more than usual, `none`. Error: UserError."""
    words = [word for word in text.split(",") if word]
    added = text.startswith("+")
    chosen = list(DEFAULT_SHARE) if added else []
    for word in words:
        kind = word.lstrip("+")
        if kind in ("", "none") and not added:
            continue
        if kind not in KINDS:
            raise UserError(f"--share {word!r} is not known", hint=", ".join((*KINDS, "none")))
        chosen.append(kind)
    return tuple(kind for kind in KINDS if kind in chosen)


async def create(
    engine: Engine, name: str, options: ContainerOptions, share: Sequence[str]
) -> tuple[str, str]:
    """Define a pod: (id, name). Errors: UserError, NotFound (network), Conflict (name in use)."""
    from . import published

    if name:
        ids.check_name(name, "pod")
    for kind in ("pid", "uts"):
        if kind in share and getattr(options, kind):
            raise UserError(
                f"--{kind} {getattr(options, kind)}: the pod's containers share one of their own",
                hint=f"leave {kind} out of --share",
            )
    asked.sysctls(options)
    identifier = ids.new_id()
    if options.ports and "net" not in share:
        raise UserError("ports are published by the pod's network", hint="--share net")
    if "net" not in share and options.network:
        raise UserError("--network does not go with a pod that shares no network")
    ports = await published.choose(engine, options, {})
    async with networks.in_use(engine):
        network = ""
        if "net" in share:
            network, options = await networks.canonical(engine, options)
            if network_modes.joins(network):
                raise UserError(f"--network {network}: a pod has a network of its own")
            if ports and not await networks.publish(engine, network):
                ports = []
        for attempt in range(TRIES):
            called = name or names.random_name()
            event = PodCreated(
                name=called,
                share=tuple(share),
                network=network,
                options=msgspec.to_builtins(options),
                ports=tuple(msgspec.to_builtins(port) for port in ports),
                labels=dict(options.labels),
                directory=f"{engine.layout.root}/pods/{identifier}",
            )
            try:
                await engine.journal().write(f"pod/{identifier}", event)
                return identifier, called
            except Conflict as error:
                if name or attempt + 1 == TRIES:
                    raise Conflict(
                        f"the pod name {called!r} is in use", hint="choose another, or --replace"
                    ) from error
    raise AssertionError("unreachable")


async def remove(engine: Engine, pod: str) -> None:
    """Take a pod away that has no containers any more. Errors: NotFound, Conflict."""
    async with in_use(engine, pod) as row:
        there = await members(engine, pod)
        if there:
            listed = ", ".join(member["name"] for member in there[:5])
            raise Conflict(
                f"pod {row['name']} has containers: {listed}", hint="remove them, or --force"
            )
        journal = engine.journal()
        await journal.write(f"pod/{pod}", PodRemovalPlanned())
        await _take_away(engine, journal, row)


async def _take_away(engine: Engine, journal: Journal, row: queries.Row) -> None:
    await _release(engine, row)
    teardown.remove_directory(row["directory"])
    await journal.write(f"pod/{row['id']}", PodRemoved())
    engine.locks.forget(row["id"])


# --- its namespaces -------------------------------------------------------------------------------


def _run(engine: Engine, pod: str) -> str:
    return f"{engine.layout.run}/pods/{pod}"


def hostname(row: queries.Row) -> str:
    """What its containers are called, if they share that: as asked for, or the pod's own name."""
    given = str(row["options"].get("hostname", "") or row["name"])
    return given[:64]


def is_up(row: queries.Row) -> bool:
    """Whether everything is there that `up` makes."""
    if not row["up"] or not pod_namespaces.there(row["namespaces"]):
        return False
    if "pid" in row["namespaces"] and not pod_namespaces.holds(row["pause_pid"], row["id"]):
        return False
    return not row["netns"] or netns.exists(row["netns"])


async def up(engine: Engine, pod: str, joining: str = "") -> queries.Row:
    """Make what a pod's containers share, unless it is there. `joining` is the name of a container
    that is about to start: the networks come to know it. Returns the row."""
    async with in_use(engine, pod) as row:
        journal = engine.journal()
        if row["up"] and not is_up(row):  # the machine was restarted, or somebody took it away
            await _down(engine, journal, row, "it was gone")
            row = (await engine.store.rows(BY_ID, (pod,)))[0]
        if row["up"]:
            return await _known_as(engine, journal, row, joining)
        return await _make(engine, journal, row)


async def _called(engine: Engine, row: queries.Row, more: str = "") -> tuple[str, ...]:
    """What containers of a network may call this pod: also its containers' names."""
    found = [row["name"], ids.short(row["id"])]
    for member in await members(engine, row["id"]):
        found += [member["name"], ids.short(member["id"])]
    return tuple(dict.fromkeys((*found, more) if more else found))


async def _known_as(
    engine: Engine, journal: Journal, row: queries.Row, joining: str
) -> queries.Row:
    """Tell the networks that one more name is this pod's."""
    attachments = [msgspec.convert(plain, Attachment) for plain in row["attachments"]]
    wanted = await _called(engine, row, joining)
    changed = [at for at in attachments if at.names and not set(wanted) <= set(at.names)]
    if not changed:
        return row
    named = [
        msgspec.structs.replace(at, names=tuple(dict.fromkeys((*at.names, *wanted))))
        if at.names
        else at
        for at in attachments
    ]
    plain = tuple(msgspec.to_builtins(at) for at in named)
    await journal.write(f"pod/{row['id']}", PodNamesChanged(attachments=plain))
    for at in named:
        await home.reload(engine, at)
    return {**row, "attachments": list(plain)}


async def _make(engine: Engine, journal: Journal, row: queries.Row) -> queries.Row:
    pod, share, stream = row["id"], row["share"], f"pod/{row['id']}"
    run = _run(engine, pod)
    namespaces = {kind: f"{run}/{kind}" for kind in ("ipc", "uts") if kind in share}
    if "ipc" in share:
        namespaces["shm"] = f"{run}/shm"
    if "pid" in share:
        from .bundle import init_program

        program = init_program()
        namespaces["pid"] = "pause"
    attachments = await _plan(engine, journal, row, namespaces)
    pause = 0
    processes: list[Any] = []
    try:
        os.makedirs(run, mode=0o700, exist_ok=True)
        options = msgspec.convert(row["options"], ContainerOptions)
        size = options.shm_size or SHM_SIZE
        pod_namespaces.create(namespaces, hostname(row), size)
        path = _netns(engine, row)
        if path:
            netns.create(path)
        _write_files(row, options, attachments)
        if "pid" in share:
            pause = await pod_namespaces.pause(pod, program)
        await networks.attach(engine, attachments, processes)
    except BaseException as error:
        with trio.CancelScope(shield=True):
            await _release(engine, (await engine.store.rows(BY_ID, (pod,)))[0])
            why = str(error) or type(error).__name__
            await journal.write(stream, PodStartFailed(error=why))
        raise
    await journal.write(stream, PodStarted(pause_pid=pause, processes=tuple(processes)))
    return (await engine.store.rows(BY_ID, (pod,)))[0]


def _netns(engine: Engine, row: queries.Row) -> str:
    own = "net" in row["share"] and row["network"] != "host"
    return engine.layout.netns(row["id"]) if own else ""


async def _plan(
    engine: Engine, journal: Journal, row: queries.Row, namespaces: Mapping[str, str]
) -> tuple[Attachment, ...]:
    """Write the intent; reserves the addresses."""
    path = _netns(engine, row)
    for attempt in range(TRIES):
        attachments: tuple[Attachment, ...] = ()
        if path and network_modes.attached(row["network"]):
            known = await _called(engine, row)
            plan = await networks.plan(engine, row, path)
            attachments = tuple(
                msgspec.structs.replace(at, names=tuple(dict.fromkeys((*at.names, *known))))
                if at.names
                else at
                for at in plan.attachments
            )
        event = PodStartPlanned(
            netns=path,
            attachments=tuple(msgspec.to_builtins(at) for at in attachments),
            namespaces=namespaces,
        )
        try:
            await journal.write(f"pod/{row['id']}", event)
            return attachments
        except Conflict:
            if attempt + 1 == TRIES:
                raise
    raise AssertionError("unreachable")


def _write_files(
    row: queries.Row, options: ContainerOptions, attachments: Sequence[Attachment]
) -> None:
    """hosts, resolv.conf and hostname of all the pod's containers."""
    from .bundle import network_files

    os.makedirs(row["directory"], mode=0o700, exist_ok=True)
    named: dict[str, Any] = {**row, "network": row["network"]}
    options = msgspec.structs.replace(options, hostname=hostname(row), network=row["network"])
    for name, text in network_files(named, options, attachments, os.uname().nodename).items():
        path = f"{row['directory']}/{name}"
        with open(path, "w", encoding="utf-8", errors="surrogateescape") as file:
            file.write(text)
        os.chmod(path, 0o644)


async def down(engine: Engine, pod: str, reason: str = "") -> bool:
    """Take away what its containers shared, unless one of them has a process. True when it is
    down."""
    async with in_use(engine, pod) as row:
        if any(member["state"] in LIVE for member in await members(engine, pod)):
            return False
        if row["up"]:
            await _down(engine, engine.journal(), row, reason)
    return True


async def _down(engine: Engine, journal: Journal, row: queries.Row, reason: str) -> None:
    stream = f"pod/{row['id']}"
    await journal.write(stream, PodStopPlanned())
    await _release(engine, row)
    await journal.write(stream, PodStopped(reason=reason))


async def _release(engine: Engine, row: queries.Row) -> None:
    """Whatever there is of a pod on the machine; may be repeated."""
    if "pid" in row["namespaces"]:
        pod_namespaces.end_pause(row["id"])
    await teardown.detach(engine, row)
    pod_namespaces.remove(row["namespaces"])
    teardown.remove_directory(_run(engine, row["id"]))


async def _resolve(engine: Engine, pod: str) -> bool:
    """Finish or undo what a dead process left open: the caller has the pod's lock."""
    stream = f"pod/{pod}"
    changed = False
    for intent in await engine.store.rows(
        "SELECT operation FROM intents WHERE stream=? ORDER BY seq DESC", (stream,)
    ):
        rows = await engine.store.rows(BY_ID, (pod,))
        if not rows:
            return True
        journal = engine.journal()
        if intent["operation"] == "remove":
            await _take_away(engine, journal, rows[0])
            return True
        await _release(engine, rows[0])
        killed = "the command was killed"
        start = intent["operation"] == "start"
        outcome = PodStartFailed(error=killed) if start else PodStopped(reason=killed)
        await journal.write(stream, outcome)
        changed = True
    return changed


async def recover(engine: Engine) -> list[str]:
    """Every pod in which a dead process left something open. Returns a line for each."""
    mended = []
    streams = "SELECT DISTINCT stream FROM intents WHERE stream LIKE 'pod/%'"
    for row in await engine.store.rows(streams):
        pod = row["stream"].partition("/")[2]
        async with engine.locks.named(engine.layout.lock(pod)):
            if await _resolve(engine, pod):
                mended.append(f"pod {pod[:12]}: closed")
    for row in await engine.store.rows("SELECT * FROM pods WHERE up"):
        if not is_up(row):
            await down(engine, row["id"], "it was gone")
            mended.append(f"pod {row['name']}: stopped")
    return mended


# --- with containers ------------------------------------------------------------------------------


async def join(engine: Engine, options: ContainerOptions) -> ContainerOptions:
    """The options of a container that is to be in a pod: the pod's id, and its network.
    Errors: NotFound, UserError for what the pod decides."""
    row = await find(engine, options.pod)
    share = row["share"]
    told = {"pod": row["id"]}
    if "net" in share:
        taken = options.ports or options.publish_all or options.network or options.joins
        names = options.dns or options.dns_search or options.dns_options or options.add_hosts
        if taken or names or options.no_hosts:
            raise UserError(
                f"ports, networks and names belong to pod {row['name']}, not to a container in it",
                hint="give them to tiffin pod create",
            )
        told["network"] = "host" if row["network"] == "host" else network_modes.POD + row["id"]
    if "uts" in share and options.hostname:
        raise UserError(f"--hostname belongs to pod {row['name']}, not to a container in it")
    if share and idmaps.mode(options):
        raise UserError(
            f"--userns and --uidmap do not go with pod {row['name']}: what its containers share "
            "belongs to the host's ids"
        )
    for kind in ("ipc", "uts", "pid"):
        if kind in share and getattr(options, kind):
            raise UserError(f"--{kind} {getattr(options, kind)}: pod {row['name']} has its own")
    return _inheriting(msgspec.structs.replace(options, **told), row)


def _inheriting(options: ContainerOptions, row: queries.Row) -> ContainerOptions:
    """With what the pod gives each of its containers; their own goes before it."""
    given = msgspec.convert(row["options"], ContainerOptions)
    taken = {mount.target for mount in options.mounts}
    devices = {device.target or device.source for device in options.devices}
    own = {name for name, _ in options.sysctls}
    return msgspec.structs.replace(
        options,
        mounts=(*(one for one in given.mounts if one.target not in taken), *options.mounts),
        volumes_from=(*given.volumes_from, *options.volumes_from),
        devices=(
            *(one for one in given.devices if (one.target or one.source) not in devices),
            *options.devices,
        ),
        security_opt=(*given.security_opt, *options.security_opt),
        sysctls=(*(one for one in given.sysctls if one[0] not in own), *options.sysctls),
        cgroup_parent=options.cgroup_parent or given.cgroup_parent,
        pid=options.pid or given.pid,
        uts=options.uts or given.uts,
    )


def joined(row: queries.Row) -> dict[str, str]:
    """{kind: path} of the namespaces that a container of the pod is to enter, besides the network
    namespace; and `shm`."""
    found = {kind: path for kind, path in row["namespaces"].items() if kind != "pid"}
    if "pid" in row["namespaces"]:
        found["pid"] = f"/proc/{row['pause_pid']}/ns/pid"
    return found


def files(
    row: queries.Row, name: str, own: Sequence[tuple[str, str]]
) -> tuple[tuple[str, str], ...]:
    """hosts, resolv.conf and hostname of the container of that name: the pod's where it shares
    what they tell of. In its hosts all its containers find each other."""
    found = dict(own)
    if "net" in row["share"]:
        line = f"127.0.0.1\t{name}\n"
        hosts = f"{row['directory']}/hosts"
        if os.path.exists(hosts):  # else --no-hosts
            with open(hosts, "r+", encoding="utf-8", errors="surrogateescape") as file:
                if line not in file.readlines():
                    file.write(line)
        for place in ("/etc/hosts", "/etc/resolv.conf"):
            found.pop(place, None)
            path = f"{row['directory']}{place.removeprefix('/etc')}"
            if os.path.exists(path):
                found[place] = path
    if "uts" in row["share"]:
        found["/etc/hostname"] = f"{row['directory']}/hostname"
    return tuple(found.items())
