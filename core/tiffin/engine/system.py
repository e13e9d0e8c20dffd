"""The store as a whole: recovering what dead processes left, cleaning up after an exit."""

from __future__ import annotations

from ..errors import NotFound, TiffinError
from .base import Engine
from .hold import hold
from .recover import LIVE
from .remove import remove_held


async def clean_up(
    engine: Engine, given: str, *, remove: bool = False, ended: bool = False
) -> None:
    """What conmon's exit command (`ended`) leaves to a full engine: mount, network, and --rm. A
    container that is gone, or that runs again by now, is left alone."""
    try:
        if ended:
            await engine.because_of_its_end(given)
        async with hold(engine, given) as held:
            if held.state != "exited":
                return
            if remove or held.row["remove"]:
                await remove_held(held)
            elif held.row["bundle"] and (held.row["netns"] or held.row["mounted"]):
                await held.clean_up()
                await held.journal.flush()
            cid, policy = held.id, held.row["options"].get("restart")
    except NotFound:
        return
    if policy and not remove:
        from . import restarts

        await restarts.follow(engine, cid)


async def recover(engine: Engine) -> list[str]:
    """Hold every container once, and close the open intents of everything else. Returns a line for
    each thing that was mended."""
    from . import (
        build,
        execs,
        network,
        pods,
        secrets,
        volumes,
    )  # `clean_up`, at each end of a container, needs none

    mended = await build.recover(engine)
    for row in await engine.store.rows("SELECT * FROM containers ORDER BY created"):
        before = row["state"]
        try:
            async with hold(engine, row["id"]) as held:
                after = held.state
                if after == "exited" and before in LIVE and held.row["remove"]:
                    await remove_held(held)
                    after = "removed"
        except NotFound:
            after = "removed"
        if after == "exited" and before in LIVE and row["options"].get("restart"):
            after = await _restarted(engine, row["id"])
        if after != before:
            mended.append(f"container {row['name']}: {before} -> {after}")
    mended += await pods.recover(engine)
    mended += await network.recover(engine)
    mended += await volumes.recover(engine)
    mended += await secrets.recover(engine)
    mended += await execs.recover(engine)
    mended += await _images(engine)
    return mended


async def _restarted(engine: Engine, cid: str) -> str:
    """The state of a container that has ended with nobody there who would have started it again,
    now that its policy was followed."""
    from . import restarts, start

    try:
        if await restarts.wanted(engine, await engine.container_now(cid)):
            await start.start(engine, cid)
        return str((await engine.container_now(cid))["state"])
    except NotFound:
        return "removed"
    except TiffinError:
        return "exited"  # it cannot be started: the log says why


async def _images(engine: Engine) -> list[str]:
    """Open intents of images, layers, transfers and images' mounts. The images lock, taken alone,
    says that nobody who wrote one of them is still at work."""
    from ..events.image import ImageRemoved, LayerUnpackFailed, PullFailed
    from . import garbage, image_mounts

    mended = []
    async with engine.locks.named(garbage.lock(engine)):
        journal = engine.journal()
        for intent in await engine.store.rows("SELECT * FROM intents ORDER BY seq"):
            stream, data = intent["stream"], intent["data"]
            noun = stream.partition("/")[0]
            why = "the command was killed"
            if noun == "layer":
                await engine.storage(data["driver"]).remove_layer(data["chain_id"])
                await journal.write(stream, LayerUnpackFailed(error=why))
            elif noun == "transfer":
                await journal.write(stream, PullFailed(error=why))
            elif noun == "image":
                gone = [tuple(pair) for pair in data["layers"]]
                await garbage.delete(engine, journal, data["blobs"], gone)
                await journal.write(stream, ImageRemoved())
            elif noun == "mount":
                await image_mounts.take_away(
                    engine, journal, stream.partition("/")[2], data["driver"]
                )
            else:
                continue
            mended.append(f"{noun} {stream.partition('/')[2][:40]}: closed")
        await garbage.collect(engine, journal)
    return mended
