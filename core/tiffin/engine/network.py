"""The life of a network: created, removed. It exists on the machine only while containers
are on it, so what is recorded here is its definition."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
import trio

from .. import netns, network_specs
from ..errors import Conflict, NotFound, TiffinError, UserError
from ..events.container import Failed, NetworkReloaded, NetworkReloadPlanned
from ..events.network import (
    NetworkCreated,
    NetworkRemovalPlanned,
    NetworkRemoved,
    NetworkUpdated,
    NetworkUpdatePlanned,
)
from ..hooks import Attachment, NetworkConfig
from ..network_modes import DEFAULT
from ..network_specs import NetworkRequest
from . import home, networks, remove, shared
from .base import Engine, Journal
from .hold import hold
from .recover import LIVE

POD_USERS = "SELECT name FROM pods WHERE instr(','||network||',', ','||?||',') ORDER BY created"


async def create(engine: Engine, request: NetworkRequest, *, ignore: bool = False) -> NetworkConfig:
    """Define a network; with `ignore` one of that name is left as it is.

    Errors: UserError, Conflict (name, subnet or interface taken).
    """
    driver = engine.network(request.driver)
    async with engine.locks.named(networks.lock(engine)):
        there = await networks.defined(engine)
        if ignore:
            for network in there:
                if network.name == request.name:
                    return network
        private = networks.is_private(engine)
        config = network_specs.define(
            request,
            there,
            private=private,
            own_subnets=driver.owns_subnets,
            serves_names=driver.serves_names,
        )
        config = msgspec.convert(await driver.create(config), NetworkConfig)
        event = NetworkCreated(config=msgspec.to_builtins(config))
        await engine.journal().write(f"network/{config.id}", event)
        return config


async def update(
    engine: Engine, given: str, *, add: Sequence[str] = (), drop: Sequence[str] = ()
) -> str:
    """Other name servers for a network, at once for the containers on it. Returns its name.

    Errors: NotFound; UserError for one that is no address, or a network without names.
    """
    added = network_specs.name_servers(add, "--dns-add")
    dropped = network_specs.name_servers(drop, "--dns-drop")
    async with engine.locks.named(networks.lock(engine)):
        config = await networks.find(engine, given)
        if not config.dns_enabled:
            raise UserError(
                f"network {config.name} has no names, and so no name servers",
                hint="make it without --disable-dns",
            )
        kept = [server for server in config.dns if server not in dropped]
        servers = tuple(dict.fromkeys((*kept, *added)))
        if servers == config.dns:
            return config.name
        config = msgspec.structs.replace(config, dns=servers)
        stream, plain = f"network/{config.id}", msgspec.to_builtins(config)
        journal = engine.journal()
        await journal.write(stream, NetworkUpdatePlanned(config=plain))
        await engine.network(config.driver).update(config)
        await journal.write(stream, NetworkUpdated(config=plain))
    return config.name


async def remove_network(
    engine: Engine, given: str, *, force: bool = False, timeout: int | None = None
) -> str:
    """Remove a network; with `force` the containers that are on it go as well.

    Errors: NotFound; Conflict while it is in use; UserError for the default network.
    """
    config = await networks.find(engine, given)
    if config.name == DEFAULT:
        raise UserError(f"{DEFAULT} is the default network, which cannot be removed")
    journal = engine.journal()
    if force:
        for row in await shared.with_dependents(engine, await networks.users(engine, config)):
            await remove.remove(
                engine, row["id"], force=True, timeout=timeout, ignore_missing=True, journal=journal
            )
    async with engine.locks.named(networks.lock(engine)):
        await networks.find(engine, config.id)
        used = await networks.users(engine, config)
        if used:
            names = ", ".join(row["name"] for row in used[:5]) + (", ..." if used[5:] else "")
            raise Conflict(
                f"network {config.name} is in use by {names}",
                hint="remove those containers, or use --force",
            )
        pods = await engine.store.rows(POD_USERS, (config.name,))
        if pods:
            raise Conflict(
                f"network {config.name} is in use by pod {pods[0]['name']}",
                hint=f"tiffin pod rm {pods[0]['name']}",
            )
        await take_away(engine, journal, config)
    return config.name


async def take_away(engine: Engine, journal: Journal, config: NetworkConfig) -> None:
    """The intent, what the driver made, the outcome."""
    stream = f"network/{config.id}"
    await journal.write(stream, NetworkRemovalPlanned(config=msgspec.to_builtins(config)))
    await engine.network(config.driver).remove(config)
    await journal.write(stream, NetworkRemoved())


async def prune(engine: Engine, unused: Sequence[str]) -> list[str]:
    """Remove those of these networks that no container is on; returns their names."""
    gone = []
    for identifier in unused:
        try:
            gone.append(await remove_network(engine, identifier))
        except (NotFound, Conflict):
            continue  # gone, or in use by now
    return gone


RELOADABLE = "SELECT id FROM containers WHERE attachments<>'[]' ORDER BY created"


async def reload(engine: Engine, given: str) -> str:
    """Make again what is missing of a container's interfaces, addresses, routes and rules; what is
    there stays, connections too. Returns its id.

    Errors: NotFound; Conflict when it does not run, or has no network of its own.
    """
    async with hold(engine, given) as held:
        row = held.row
        held.need("reload the network of", *LIVE)
        if not row["attachments"]:
            raise Conflict(
                f"container {row['name']} is on no network", hint=f"--network {row['network']}"
            )
        await held.journal.write(held.stream, NetworkReloadPlanned())
        try:
            netns.pin(row["netns"], f"/proc/{row['pid']}/ns/net")
            processes: list[Any] = []
            for plain in row["attachments"]:
                attachment = msgspec.convert(plain, Attachment)
                running = await home.reload(engine, attachment)
                processes += [msgspec.to_builtins(process) for process in running]
        except BaseException as error:  # a cancellation as well; raised again
            event = Failed(operation="reload", error=str(error), state=held.state)
            with trio.CancelScope(shield=True):
                await held.journal.write(held.stream, event)
            raise
        done = NetworkReloaded(processes=tuple(processes))
        await held.journal.write(held.stream, done)
        return held.id


async def reloadable(engine: Engine) -> list[str]:
    """The containers that have interfaces now, and so can be reloaded."""
    return [row["id"] for row in await engine.store.rows(RELOADABLE)]


async def recover(engine: Engine) -> list[str]:
    """Finish the removals and updates that dead processes left open. Returns a line for each."""
    mended = []
    async with engine.locks.named(networks.lock(engine)):
        intents = "SELECT * FROM intents WHERE stream LIKE 'network/%' ORDER BY seq"
        for intent in await engine.store.rows(intents):
            config = msgspec.convert(intent["data"]["config"], NetworkConfig)
            driver = engine.network(config.driver)
            try:
                if intent["operation"] == "update":
                    await driver.update(config)
                    outcome = NetworkUpdated(config=intent["data"]["config"])
                    await engine.journal().write(intent["stream"], outcome)
                    mended.append(f"network {config.name}: updated")
                    continue
                await driver.remove(config)
            except TiffinError:
                continue  # stays open, for the next time
            await engine.journal().write(intent["stream"], NetworkRemoved())
            mended.append(f"network {config.name}: removed")
    return mended
