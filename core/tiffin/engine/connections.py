"""`network connect` and `disconnect`: a container on other networks than it was made for, at once
when it runs, and from its next start on in any case."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import msgspec
import trio

from .. import leases, network_modes
from ..errors import Conflict, DriverError
from ..events.container import (
    Connected,
    ConnectFailed,
    ConnectPlanned,
    Disconnected,
    DisconnectPlanned,
)
from ..hooks import Attachment, NetworkConfig
from ..options import ContainerOptions, NetworkOptions
from ..spec import facts, files
from ..store import queries
from . import bundle, home, networks
from .base import Engine
from .hold import Held, hold
from .recover import LIVE

TRIES = 50
"""How often another address is chosen when the one planned was taken meanwhile."""
LARGEST = 1 << 20
"""Bytes of a hosts file that is still looked at: the container can write to it."""


async def connect(engine: Engine, name: str, container: str, wish: NetworkOptions) -> None:
    """Put a container on one more network; `wish.network` is filled in.

    Errors: NotFound, UserError (an address that is not in the network's subnets), Conflict
    (connected already, no network of its own, an address in use), DriverError.
    """
    config = await networks.find(engine, name)
    async with hold(engine, container) as held, networks.in_use(engine):
        config = await networks.find(engine, config.id)
        names = _names(held.row, "connect", config.name)
        if config.name in names:
            raise Conflict(
                f"container {held.row['name']} is already connected to network {config.name}"
            )
        wish = msgspec.structs.replace(wish, network=config.name)
        leases.check(config, wish)
        joins = _joins(held.row)
        if wish != NetworkOptions(config.name):
            joins.append(msgspec.to_builtins(wish))
        if held.state in LIVE:
            await _attach(held, config, wish)
        done = Connected(
            network=config.name,
            network_id=config.id,
            networks=",".join([*names, config.name]),
            joins=tuple(joins),
        )
        await held.journal.write(held.stream, done)


async def disconnect(engine: Engine, name: str, container: str, *, force: bool = False) -> None:
    """Take a container off a network; with `force` also when its driver fails at that.

    Errors: NotFound, Conflict (not connected, no network of its own), DriverError.
    """
    config = await networks.find(engine, name)
    async with hold(engine, container) as held:
        names = _names(held.row, "disconnect", config.name)
        if config.name not in names:
            raise Conflict(
                f"container {held.row['name']} is not connected to network {config.name}"
            )
        done = Disconnected(
            network=config.name,
            network_id=config.id,
            networks=",".join(word for word in names if word != config.name),
            joins=tuple(join for join in _joins(held.row) if join["network"] != config.name),
        )
        there = attached(held.row)
        gone = next((at for at in there if at.network.id == config.id), None)
        if gone is not None:
            left = networks.roles(engine, [at for at in there if at is not gone], held.row["ports"])
            done = msgspec.structs.replace(done, attachments=_plain(left))
            plan = DisconnectPlanned(
                network=done.network,
                networks=done.networks,
                joins=done.joins,
                attachment=msgspec.to_builtins(gone),
                attachments=done.attachments,
            )
            await held.journal.write(held.stream, plan)
            await carry_off(engine, held.row, gone, left, force=force)
            _rewrite(held.row, there, left)
        await held.journal.write(held.stream, done)


async def carry_off(
    engine: Engine,
    row: queries.Row,
    gone: Attachment,
    left: Sequence[Attachment],
    *,
    force: bool = False,
) -> None:
    """Detach from one network; the others take over its ports. May be repeated."""
    try:
        await home.detach(engine, gone)
    except DriverError:
        if not force:
            raise
    before = {at.network.id: at for at in attached(row)}
    await _publish(engine, [at for at in left if before.get(at.network.id) != at])


async def take_back(engine: Engine, added: Attachment, before: Sequence[Attachment]) -> None:
    """Undo a connection that was only half made. May be repeated."""
    await home.detach(engine, added)
    await _publish(engine, before)


def attached(row: queries.Row) -> list[Attachment]:
    return [msgspec.convert(plain, Attachment) for plain in row["attachments"]]


def _names(row: queries.Row, verb: str, network: str) -> list[str]:
    """The networks that a container is on. Error: Conflict when it can have none."""
    word = row["network"]
    if network_modes.joins(word) or (word and not network_modes.on(word)):
        shown = f"{word.partition(':')[0]}:..." if network_modes.joins(word) else word
        raise Conflict(
            f"cannot {verb} container {row['name']} and network {network}: it was made with "
            f"--network {shown}"
        )
    return [name for name in word.split(",") if name]


def _joins(row: queries.Row) -> list[Any]:
    return list(row["options"].get("joins", ()))


def _plain(attachments: Sequence[Attachment]) -> tuple[Any, ...]:
    return tuple(msgspec.to_builtins(at) for at in attachments)


async def _attach(held: Held, config: NetworkConfig, wish: NetworkOptions) -> None:
    """The intent, the interface, and what changes for the other networks."""
    engine, row = held.engine, held.row
    before = attached(row)
    taken = {at.interface for at in before}
    if wish.interface in taken:
        raise Conflict(f"container {row['name']} has an interface {wish.interface} already")
    interface = wish.interface or networks.free_interface(taken)
    for attempt in range(TRIES):
        new = await networks.attachment(engine, row, config, wish, row["netns"], interface)
        after = networks.roles(engine, [*before, new], row["ports"])
        plan = ConnectPlanned(
            network=config.name,
            attachment=msgspec.to_builtins(after[-1]),
            before=_plain(before),
            attachments=_plain(after),
        )
        try:
            await held.journal.write(held.stream, plan)
            break
        except Conflict:
            if attempt + 1 == TRIES:
                raise
    try:
        # Before the new network gets the ports, another may have to give them up.
        await _publish(engine, [at for at in after[:-1] if at not in before])
        await home.attach(engine, after[-1])
    except BaseException as error:  # a cancellation as well; raised again
        with trio.CancelScope(shield=True):
            with suppress(DriverError):  # the first error is the one to tell
                await take_back(engine, after[-1], before)
            failed = ConnectFailed(
                network=config.name,
                network_id=config.id,
                before=_plain(before),
                error=str(error) or type(error).__name__,
            )
            await held.journal.write(held.stream, failed)
        raise
    _rewrite(row, before, after)


async def _publish(engine: Engine, attachments: Sequence[Attachment]) -> None:
    """Those that lose ports first: others may get them."""
    for attachment in sorted(attachments, key=lambda at: len(at.ports)):
        await engine.network(attachment.network.driver).publish(attachment)


# --- hosts and resolv.conf ------------------------------------------------------------------------


def _rewrite(row: queries.Row, before: Sequence[Attachment], after: Sequence[Attachment]) -> None:
    """Change the container's /etc/hosts and /etc/resolv.conf in place, as they are mounted. What
    the container wrote there itself stays."""
    options = msgspec.convert(row["options"], ContainerOptions)
    host_name = facts.gather().hostname
    old = bundle.network_files(row, options, before, host_name)
    new = bundle.network_files(row, options, after, host_name)
    for file_name in old.keys() - {"hostname"}:
        path = f"{row['directory']}/{file_name}"
        try:
            fd = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
        except FileNotFoundError:
            continue  # it was never started
        with open(fd, "r+b") as file:
            text = file.read(LARGEST + 1).decode("utf-8", "surrogateescape")
            if len(text) > LARGEST:
                continue
            changed = files.merged(text, old[file_name], new[file_name])
            data = changed.encode("utf-8", "surrogateescape")
            file.seek(0)
            file.write(data)
            file.truncate()
