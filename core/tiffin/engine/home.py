"""An ordinary user's own host: a network namespace in which the bridges of their networks are, with
name servers and rules as on the machine for root, and one process (of `network_modes.STACKS`) that
leads from there to the outside. It is made for the first container on such a network and goes with
the last; attachments name it (`host_netns`).

Whoever attaches shares its lock, so that nobody takes it away meanwhile.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import cast

import msgspec
import trio

from .. import netns, network_modes
from ..errors import DriverError
from ..hooks import Attachment, Process, StackDriver
from .base import Engine

NOBODY = "0" * 63 + "1"
"""What stands for the container in the attachment of the namespace itself."""
OWN = ("lo", "eth0")
"""Its interfaces besides those of networks."""


def stack(engine: Engine) -> StackDriver:
    """The driver that leads outside."""
    return cast("StackDriver", engine.network(network_modes.default(engine.layout.uid)))


async def forwarder(engine: Engine, where: str) -> tuple[str, ...]:
    """The name servers that answer in there, where the host's own do not."""
    return (await _planned(engine, where)).network.dns


async def attach(engine: Engine, attachment: Attachment) -> Sequence[Process]:
    """Errors: DriverError, Conflict."""
    driver = engine.network(attachment.network.driver)
    if not attachment.host_netns:
        return await driver.attach(attachment) or ()
    async with _up(engine, attachment.host_netns) as process:
        return [process, *(await driver.attach(attachment) or ())]


async def reload(engine: Engine, attachment: Attachment) -> Sequence[Process]:
    """Errors: as `attach`."""
    driver = engine.network(attachment.network.driver)
    if not attachment.host_netns:
        return await driver.reload(attachment) or ()
    async with _up(engine, attachment.host_netns, mend=True) as process:
        return [process, *(await driver.reload(attachment) or ())]


async def detach(engine: Engine, attachment: Attachment) -> None:
    """Also of what is gone already. Error: DriverError."""
    driver = engine.network(attachment.network.driver)
    where = attachment.host_netns
    if not where:
        await driver.detach(attachment)
        return
    async with engine.locks.named(f"{where}.lock"):
        netns.create(where)  # its driver may have something to take away that is not in it
        await driver.detach(attachment)
        if not set(await links(where)) - set(OWN):
            await stack(engine).detach(await _planned(engine, where))
            netns.remove(where)


async def links(where: str) -> list[str]:
    """Names of the interfaces in it."""
    return await trio.to_thread.run_sync(netns.links, where) if netns.exists(where) else []


@asynccontextmanager
async def _up(engine: Engine, where: str, *, mend: bool = False) -> AsyncIterator[Process]:
    lock = f"{where}.lock"
    planned = await _planned(engine, where)
    driver = stack(engine)
    while True:
        async with engine.locks.named(lock, shared=True):
            process = driver.running(planned) if netns.exists(where) and not mend else None
            if process is not None:
                yield process
                return
        async with engine.locks.named(lock):
            netns.create(where)
            if mend or driver.running(planned) is None:
                await driver.reload(planned)
                if driver.running(planned) is None:
                    raise DriverError(f"process {driver.name} ended as soon as it was ready")
            mend = False


async def _planned(engine: Engine, where: str) -> Attachment:
    found = await stack(engine).stack(NOBODY, where, ())
    return msgspec.structs.replace(found, default_route=True)
