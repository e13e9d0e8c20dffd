"""What the machine has of containers that are gone or do not run: mounts, processes, cgroups,
directories, namespaces, interfaces, rules. And what those that run should have and have not.

Several stores share a machine: what is named by a container's id is ours when our log knows it.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator

import msgspec
import trio

from ... import cgroups, netns, processes, syscalls
from ...errors import Conflict, DriverError, TiffinError
from ...hooks import Attachment, NetworkConfig
from ...layer.remove import remove_tree
from ...layer.walk import named
from ...network_modes import STACKS
from ...store import queries
from .. import home, network, networks
from ..base import Engine
from ..recover import LIVE
from ..teardown import kill_conmon
from .damage import Damage, is_busy
from .proc import below, conmons, inside, is_inside

ID = re.compile(r"[0-9a-f]{64}")
LOOKS = 20
"""Of what is on its way out anyway (conmon's exit command), nothing is left at the last look."""
GLANCE = 0.25
HISTORY = (
    "SELECT 1 AS one FROM events WHERE stream=? UNION ALL "
    "SELECT 1 FROM snapshots WHERE stream=? LIMIT 1"
)
ATTACHED = (
    "SELECT data FROM events WHERE type IN ('container.init_planned', 'container.connect_planned') "
    "ORDER BY seq"
)


async def look(engine: Engine, quick: bool) -> list[Damage]:
    found = await _look(engine, quick)
    for _ in range(LOOKS):
        if not any(damage.passing for damage in found):
            break
        await trio.sleep(GLANCE)
        again = {damage.identity for damage in await _look(engine, quick)}
        found = [damage for damage in found if damage.identity in again]
    return found


async def _look(engine: Engine, quick: bool) -> list[Damage]:
    seen = [
        *_directories(engine),
        *_mounts(engine),
        *_namespaces(engine),
        *_processes(engine),
        *_cgroups(),
        *await _kept_by_drivers(engine),
    ]
    # Rows are read after the machine: what is made now has its row first, and loses it last.
    rows = {row["id"]: row for row in await engine.store.rows("SELECT * FROM containers")}
    mounts = {row["id"] for row in await engine.store.rows("SELECT id FROM image_mounts")}
    found = []
    for damage in seen:
        row = rows.get(damage.key)
        if damage.key in mounts:
            continue
        if row and (_has_a_right(row, damage) or is_busy(engine, row["id"])):
            continue
        if row is None and not await _is_ours(engine, damage):
            continue
        whose = f"container {row['name']}" if row else f"container {damage.key[:12]}"
        which = f"which is {row['state']}" if row else "which is no more"
        problem = f"{damage.problem}, {which}"
        passing = _may_pass(engine, damage, row)
        found.append(Damage(damage.kind, whose, problem, damage.key, damage.detail, passing))
    found += _lost(list(rows.values()), engine)
    return found + await _networks(engine, list(rows.values()), quick)


def _may_pass(engine: Engine, damage: Damage, row: queries.Row | None) -> bool:
    """Whether it may be that of an end which is not seen to yet: conmon goes last, after the
    container's processes, and the run directory after all else that a run leaves."""
    if damage.kind == "stray-conmon":
        return not any(is_inside(pid, damage.key) for pid in below(int(damage.detail)))
    return row is not None and os.path.isdir(engine.layout.container_run(damage.key))


def _has_a_right(row: queries.Row, damage: Damage) -> bool:
    """Whether a container in this state may have that."""
    if damage.kind in ("stray-directory", "stray-layer-of"):
        return True
    if damage.kind == "stray-run":
        return row["state"] in (*LIVE, "creating", "created")
    if damage.kind == "stray-mount" and row["pinned"]:
        return True
    return row["state"] in LIVE or row["state"] in ("creating", "removing")


async def _is_ours(engine: Engine, damage: Damage) -> bool:
    """What is in our own directories is; else the log must know the container."""
    if damage.kind in IN_OUR_DIRECTORIES:
        return True
    stream = f"container/{damage.key}"
    return bool(await engine.store.rows(HISTORY, (stream, stream)))


# --- looking --------------------------------------------------------------------------------------


def _directories(engine: Engine) -> Iterator[Damage]:
    for kind, place in (
        ("stray-directory", f"{engine.layout.root}/containers"),
        ("stray-run", f"{engine.layout.run}/containers"),
    ):
        for name in named(place):
            if ID.fullmatch(name):
                path = f"{place}/{name}"
                yield Damage(kind, "", f"{path} is of a container", name, path)


async def _kept_by_drivers(engine: Engine) -> list[Damage]:
    found = []
    for name in named(f"{engine.layout.root}/storage"):
        try:
            driver = engine.storage(name)
        except TiffinError:
            continue
        if not hasattr(driver, "kept_containers"):
            continue
        for cid in await driver.kept_containers():
            problem = f"the storage driver {name} has a layer of a container"
            found.append(Damage("stray-layer-of", "", problem, cid, name))
    return found


def _mounts(engine: Engine) -> Iterator[Damage]:
    layout = engine.layout
    for path in _mount_points():
        if not path.startswith((f"{layout.root}/", f"{layout.run}/")):
            continue
        cid = ID.search(path.removeprefix(layout.root).removeprefix(layout.run))
        if cid and not path.startswith(f"{layout.run}/netns/"):
            yield Damage("stray-mount", "", f"{path} is a mount of a container", cid[0], path)


def _mount_points() -> Iterator[str]:
    with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as file:
        for line in file:
            target = line.split()[4]
            yield re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), target)


def _namespaces(engine: Engine) -> Iterator[Damage]:
    for name in named(f"{engine.layout.run}/netns"):
        path = engine.layout.netns(name)
        yield Damage("stray-netns", "", f"{path} is the network of a container", name, path)


def _processes(engine: Engine) -> Iterator[Damage]:
    for pid, cid in conmons(engine.layout.root):
        yield Damage("stray-conmon", "", f"process {pid} monitors a container", cid, str(pid))


def _cgroups() -> Iterator[Damage]:
    for hierarchy in cgroups.hierarchies():
        for path, directories, _ in os.walk(hierarchy):
            for name in list(directories):
                cid = ID.search(name)
                if cid:
                    directories.remove(name)
                    whole = f"{path}/{name}"
                    yield Damage("stray-cgroup", "", f"{whole} is of a container", cid[0], whole)


def _lost(rows: list[queries.Row], engine: Engine) -> list[Damage]:
    """What those that run have no more."""
    found = []
    for row in rows:
        if row["state"] not in LIVE or is_busy(engine, row["id"]):
            continue
        subject = f"container {row['name']}"
        monitored = not row["conmon_pid"] or processes.alive(row["conmon_pid"])
        if not monitored and processes.alive(row["pid"]):
            problem = f"it is {row['state']}, but nobody monitors it: its conmon is gone"
            found.append(Damage("no-conmon", subject, problem, row["id"]))
        if row["netns"] and not netns.exists(row["netns"]):
            problem = "its network namespace is not pinned any more"
            found.append(Damage("network", subject, problem, row["id"]))
    return found


async def _networks(engine: Engine, rows: list[queries.Row], quick: bool) -> list[Damage]:
    """Interfaces and rules, by what the log says of them and what there is."""
    holding = {
        attachment.host_interface: (row, attachment)
        for row in rows
        for attachment in msgspec.convert(row["attachments"], list[Attachment])
    }
    links = set(os.listdir("/sys/class/net"))
    found = []
    for name, (row, attachment) in holding.items():
        if row["state"] not in LIVE or is_busy(engine, row["id"]):
            continue
        # Where the network's subnet is its own, the host is in it, with an end of each interface.
        where = attachment.host_netns
        here = set(await home.links(where)) if where else links
        if engine.network(attachment.network.driver).owns_subnets and name not in here:
            problem = f"its interface {name} ({attachment.network.name}) is missing"
            found.append(Damage("network", f"container {row['name']}", problem, row["id"]))
    found += await _processes_of(engine, rows)
    if quick:
        return found
    past = await _past(engine)
    for name in sorted(links & (past.keys() - holding.keys())):
        attachment = past[name]
        cid = attachment.container
        problem = f"interface {name} is of container {cid[:12]}, which does not run"
        detail = msgspec.json.encode(attachment).decode()
        found.append(Damage("stray-link", f"interface {name}", problem, cid, detail))
    return found + await _rules(engine, list(holding.values()), past)


async def _processes_of(engine: Engine, rows: list[queries.Row]) -> list[Damage]:
    """Networks that are processes of their own, one a container."""
    found = []
    for row in rows:
        if row["network"] not in STACKS or row["state"] not in LIVE or is_busy(engine, row["id"]):
            continue
        for attachment in msgspec.convert(row["attachments"], list[Attachment]):
            told = await engine.network(row["network"]).rules(attachment.network, [attachment])
            for rule in told:
                if not rule.there:
                    problem = f"its network is gone: {rule.text} is missing"
                    found.append(Damage("network", f"container {row['name']}", problem, row["id"]))
    return found


async def _past(engine: Engine) -> dict[str, Attachment]:
    """host interface -> the last attachment with it, of all that there ever were."""
    found = {}
    for row in await engine.store.rows(ATTACHED):
        data = row["data"]
        told = msgspec.json.decode(data) if isinstance(data, str) else data
        for plain in (*told.get("attachments", ()), *filter(None, (told.get("attachment"),))):
            found[plain["host_interface"]] = plain
    return {name: msgspec.convert(plain, Attachment) for name, plain in found.items()}


async def _rules(
    engine: Engine, holding: list[tuple[queries.Row, Attachment]], past: dict[str, Attachment]
) -> list[Damage]:
    found: list[Damage] = []
    used = {attachment.network.id for attachment in past.values()}
    for config in await networks.defined(engine) if used else ():
        if config.id not in used:
            continue
        here = [pair for pair in holding if pair[1].network.id == config.id]
        if any(row["state"] not in LIVE or is_busy(engine, row["id"]) for row, _ in here):
            continue
        if not here and _is_somebodys(config):
            continue
        attachments = [attachment for _, attachment in here]
        try:
            told = await engine.network(config.driver).rules(config, attachments)
        except TiffinError as error:
            found.append(Damage("driver", f"network {config.name}", str(error), config.id))
            continue
        for rule in told:
            if rule.expected == rule.there:
                continue
            kind, what = ("rules", "is missing") if rule.expected else ("stray-rule", "is left")
            problem = f"a rule {what}: {rule.text}"
            found.append(Damage(kind, f"network {config.name}", problem, config.id))
    return found


def _is_somebodys(config: NetworkConfig) -> bool:
    """Whether the subnet of a network without containers is in use: another store may have the
    same one, and then what is there is its own."""
    from ...ipam import direct_routes

    return any(subnet.subnet in direct_routes() for subnet in config.subnets)


# --- mending --------------------------------------------------------------------------------------


async def mend(engine: Engine, damage: Damage, force: bool) -> str:
    kind, detail = damage.kind, damage.detail
    if kind in ("network", "rules"):
        return await _reload(engine, damage)
    if kind == "no-conmon":
        return await _without_conmon(engine, damage, force)
    if kind == "stray-link":
        attachment = msgspec.json.decode(detail, type=Attachment)
        await home.detach(engine, attachment)
        return "deleted"
    if kind == "stray-rule":
        return await _sweep(engine, damage)
    if kind == "driver":
        raise DriverError("its driver is needed for that")
    if kind == "stray-conmon":
        await _kill(int(detail))
        return "ended, with what it monitored"
    if kind == "stray-cgroup":
        for pid in inside(detail):
            kill_conmon(pid, 9)
        await cgroups.remove_at(detail)
        return "what ran in it was killed, and it was deleted"
    if kind == "stray-netns":
        netns.remove(detail)
        return "deleted"
    if kind == "stray-mount":
        if os.path.ismount(detail):
            syscalls.umount2(detail, syscalls.MNT_DETACH | syscalls.UMOUNT_NOFOLLOW)
        return "unmounted"
    if kind == "stray-layer-of":
        await engine.storage(detail).remove(damage.key)
        return "deleted"
    await trio.to_thread.run_sync(remove_tree, detail)
    return "deleted"


async def _reload(engine: Engine, damage: Damage) -> str:
    """Everything of the container's network, or of all containers on the network."""
    if damage.kind == "network":
        await network.reload(engine, damage.key)
        return "made again"
    for row in await engine.store.rows("SELECT * FROM containers WHERE attachments<>'[]'"):
        attachments = msgspec.convert(row["attachments"], list[Attachment])
        if any(attachment.network.id == damage.key for attachment in attachments):
            await network.reload(engine, row["id"])
    return "made again"


async def _sweep(engine: Engine, damage: Damage) -> str:
    async with engine.locks.named(networks.lock(engine)):
        config = await networks.find(engine, damage.key)
        driver = engine.network(config.driver)
        if not hasattr(driver, "sweep"):
            raise DriverError(f"the network driver {config.driver} cannot take it away")
        attachments = [
            attachment
            for row in await engine.store.rows("SELECT * FROM containers")
            for attachment in msgspec.convert(row["attachments"], list[Attachment])
            if attachment.network.id == config.id
        ]
        await driver.sweep(config, attachments)
    return "deleted"


async def _without_conmon(engine: Engine, damage: Damage, force: bool) -> str:
    """Nobody can become the monitor of a process that is there already."""
    from ..stop import kill

    row = await engine.container_now(damage.key)
    if not force:
        raise Conflict(
            f"container {row['name']} goes on without its output and its exit code",
            hint=f"tiffin restart {row['name']}, or --force to kill it",
        )
    await kill(engine, damage.key, 9, reason="kill")
    return "killed"


async def _kill(pid: int) -> None:
    """conmon and what is below it: TERM lets it end its container, KILL lets nothing stay."""
    doomed = [pid, *below(pid)]
    kill_conmon(pid, 15)
    for _ in range(LOOKS):
        if not processes.alive(pid):
            break
        await trio.sleep(GLANCE / 2)
    for number in doomed:
        kill_conmon(number, 9)
    for _ in range(LOOKS):
        if not any(processes.alive(number) for number in doomed):
            return
        await trio.sleep(GLANCE / 2)


IN_OUR_DIRECTORIES = frozenset(
    (
        "stray-conmon",
        "stray-mount",
        "stray-netns",
        "stray-run",
        "stray-layer-of",
        "stray-directory",
    )
)
