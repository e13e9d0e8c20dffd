"""The engine inside another program: plain options in, plain data out, aiosqlite beneath."""

from __future__ import annotations

from support.cli import Tiffin

from tiffin.engine import create, images, remove, run, start, stop
from tiffin.engine.base import open_engine
from tiffin.layout import Layout
from tiffin.options import ContainerOptions


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
