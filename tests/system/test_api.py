"""The engine inside another program: plain options in, plain data out, aiosqlite beneath."""

from __future__ import annotations

from types import ModuleType

import pytest
import trio
from support.cli import Tiffin

from tiffin.engine import create, images, remove, run, start, stop
from tiffin.engine.base import open_engine
from tiffin.errors import UserError
from tiffin.hooks import hookimpl
from tiffin.layout import Layout
from tiffin.options import ContainerOptions
from tiffin_storage_vfs.driver import VfsDriver


async def test_a_life_through_the_python_api(tiffin: Tiffin) -> None:
    layout = Layout(str(tiffin.root), str(tiffin.run))
    options = ContainerOptions(
        image="embedded:busybox", command=("sleep", "100"), name="api", network="none"
    )
    async with open_engine(layout) as engine:
        cid = await create.create(engine, options, pull=images.Pull())
        await start.start(engine, "api")
        assert (await engine.container("api"))["state"] == "running"
        await stop.stop(engine, cid, timeout=0)
        assert await stop.wait(engine, cid) == 137
        assert await remove.remove(engine, cid) == cid
        job = ContainerOptions(
            image="embedded:busybox", command=("true",), network="none", remove=True, detach=True
        )
        _, code = await run.run(engine, job, pull=images.Pull())
        assert code == 0
    assert '"front_end":"api"' in tiffin("events", "--format", "json").out.replace(" ", "")


async def test_plugins_come_and_go_while_an_engine_lives(tiffin: Tiffin) -> None:
    """A driver is registered, used and unregistered; what is in flight finishes on it."""
    layout = Layout(str(tiffin.root), str(tiffin.run))
    module = ModuleType("shelf_plugin")
    unmounting = trio.Event()
    go_on = trio.Event()

    class Slow(VfsDriver):
        name = "shelf"

        async def unmount(self, container: str) -> None:
            unmounting.set()
            await go_on.wait()

    module.storage_driver = hookimpl(lambda name, context: Slow(context))  # type: ignore[attr-defined]
    options = ContainerOptions(
        image="embedded:busybox", command=("true",), name="api", network="none",
        storage_driver="shelf",
    )  # fmt: skip
    async with open_engine(layout) as engine:
        with trio.fail_after(60), pytest.raises(UserError, match="no storage driver 'shelf'"):
            await create.create(engine, options, pull=images.Pull())
        engine.plugins.register("storage.shelf", module)
        cid = await create.create(engine, options, pull=images.Pull())
        async with trio.open_nursery() as nursery:
            nursery.start_soon(remove.remove, engine, cid)
            with trio.fail_after(30):
                await unmounting.wait()
            engine.plugins.unregister("storage.shelf")
            with pytest.raises(UserError, match="no storage driver 'shelf'"):
                engine.storage("shelf")
            go_on.set()
        assert await engine.store.rows("SELECT id FROM containers") == []
        engine.plugins.register("storage.shelf", module)
        await images.remove(engine, "embedded:busybox")
