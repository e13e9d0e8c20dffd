"""A container's cgroup is removed whatever is still in it, and no other one is emptied."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import trio
from support import world

from tiffin import cgroups, ids
from tiffin.errors import DriverError


@pytest.fixture
def process() -> Iterator[int]:
    child = subprocess.Popen(["sleep", "1000"])
    yield child.pid
    child.kill()


def with_process(cgroup: str, pid: int) -> Path:
    """The cgroup, made with one below it, and the process in that."""
    top = "/sys/fs/cgroup" if cgroups.unified() else "/sys/fs/cgroup/pids"
    directory = Path(f"{top}{cgroup}/below")
    directory.mkdir(parents=True)
    (directory / "cgroup.procs").write_text(str(pid))
    return directory.parent


async def test_what_lives_in_it_is_killed(process: int) -> None:
    cid = ids.new_id()
    made = with_process(f"/tiffin-{cid}", process)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.to_thread.run_sync, os.waitpid, process, 0)  # as init would
        await cgroups.remove(f"/tiffin-{cid}", cid)
    assert not made.exists()


async def test_what_lives_in_anothers_is_not(process: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cgroups, "PATIENCE", 0.1)
    cid = ids.new_id()
    with_process(f"/somebody-{cid[:8]}", process)
    try:
        with pytest.raises(DriverError, match="cannot be removed"):
            await cgroups.remove(f"/somebody-{cid[:8]}", cid)
        assert world.alive(process)
        await cgroups.remove("/", cid)
        assert world.alive(process)
    finally:
        os.kill(process, 9)
        os.waitpid(process, 0)
        await cgroups.remove(f"/somebody-{cid[:8]}")
