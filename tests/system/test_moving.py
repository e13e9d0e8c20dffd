"""Containers moved between drivers: storage bit for bit, whatever kills it; runtimes."""

from __future__ import annotations

import signal
import time
from pathlib import Path

import pytest
from support.cli import BUSYBOX, Tiffin

from tiffin.testing.layers import snapshot

SCRIPT = """
set -e
mkdir /own && cd /own
echo content > file && chmod 4751 file && chown 7:8 file && ln file hard && ln -s /etc/passwd link
mkfifo pipe && mknod null c 1 3 && mkdir -p deep/er && chmod 2770 deep
touch -d '2001-02-03' deep/old
printf 'odd' > "$(printf 'n\\377\\nm')"
dd if=/dev/zero of=sparse bs=1 count=1 seek=5000000 2> /dev/null
rm /etc/passwd && rm -rf /usr/sbin && mkdir /usr/sbin && echo new > /usr/sbin/only
mv /bin/busybox /bin/bb && chmod 700 /root
"""


def seen(tiffin: Tiffin, name: str) -> object:
    """All that a container's file system has in it."""
    top = tiffin("mount", name).word
    try:
        return snapshot(top)
    finally:
        tiffin("unmount", name)


@pytest.mark.parametrize(("source", "target"), [("overlay", "vfs"), ("vfs", "overlay")])
def test_its_own_layer_is_carried_over_bit_for_bit(
    tiffin: Tiffin, source: str, target: str
) -> None:
    on_source = tiffin.using(f"--storage-driver={source}")
    on_source(
        "run", "--name=lunch", "--network=none", "--cap-add=MKNOD", BUSYBOX, "sh", "-c", SCRIPT
    )
    before = seen(tiffin, "lunch")
    cid = tiffin("inspect", "--format={{.Id}}", "lunch").word
    assert tiffin("storage", "migrate", "--to", target, "lunch").word == cid
    assert tiffin("inspect", "--format={{.Driver}}", "lunch").word == target
    assert seen(tiffin, "lunch") == before
    assert not list((tiffin.root / f"storage/{source}/containers").iterdir())
    assert not list((tiffin.root / "blobs").glob("migrate-*"))
    assert tiffin("storage", "migrate", "--to", target, "lunch").out == "", "it is there"
    tiffin("storage", "migrate", "--to", source, "--all")
    assert seen(tiffin, "lunch") == before
    types = [event["type"].removeprefix("container.") for event in tiffin.events()]
    assert types.count("migration_planned") == types.count("migrated") == 2
    assert tiffin("system", "rebuild").code == 0
    assert tiffin("inspect", "--format={{.Driver}}", "lunch").word == source


def test_what_runs_or_is_mounted_stays(tiffin: Tiffin) -> None:
    tiffin.detached("--name=busy", "--network=none", BUSYBOX, "sleep", "300")
    tiffin.fails("storage", "migrate", "--to=vfs", "busy", says="it is running")
    tiffin.create("--name=held", "--network=none", BUSYBOX)
    tiffin("mount", "held")
    tiffin.fails("storage", "migrate", "--to=vfs", "held", says="unmount it first")
    tiffin.create("--name=free", "--network=none", BUSYBOX)
    done = tiffin("storage", "migrate", "--to=vfs", "--all", code=125)
    assert len(done.lines) == 1 and len(done.err.splitlines()) == 2
    assert tiffin("inspect", "--format={{.Driver}}", "free").word == "vfs"
    tiffin.fails("storage", "migrate", "--to=nosuch", "free", says="no storage driver 'nosuch'")
    tiffin.fails("storage", "migrate", "free", says="--to DRIVER is needed")
    tiffin.fails("storage", "migrate", "--to=vfs", says="or use --all")
    tiffin("unmount", "held")


def test_killed_at_any_moment_it_is_whole_on_one_driver(tiffin: Tiffin) -> None:
    tiffin(
        "run",
        "--name=lunch",
        "--network=none",
        BUSYBOX,
        "sh",
        "-c",
        "echo x > /own; rm -r /usr/sbin",
    )
    before = seen(tiffin, "lunch")
    tiffin("storage", "migrate", "--to=vfs", "lunch")  # both drivers have the image's layers now
    target = "overlay"
    began = time.monotonic()
    tiffin("storage", "migrate", "--to", target, "lunch")
    takes = time.monotonic() - began
    for tenth in range(2, 11):
        target = "overlay" if tiffin("inspect", "-f={{.Driver}}", "lunch").word == "vfs" else "vfs"
        with tiffin.start("storage", "migrate", "--to", target, "lunch") as process:
            time.sleep(takes * tenth / 10)
            process.send_signal(signal.SIGKILL)
            process.communicate()
        tiffin("system", "recover")
        assert seen(tiffin, "lunch") == before
        there = [
            path.parent.parent.name for path in Path(tiffin.root / "storage").glob("*/containers/*")
        ]
        assert there == [tiffin("inspect", "-f={{.Driver}}", "lunch").word]


def test_another_runtime_for_the_next_start(tiffin: Tiffin) -> None:
    first, other = "crun", "runc"
    ours = tiffin.using(f"--runtime={first}")
    ours("create", "--name=lunch", "--network=none", BUSYBOX, "sleep", "300")
    tiffin("start", "lunch")
    tiffin.fails("update", "--runtime", other, "lunch", says="it is running")
    tiffin("kill", "lunch")
    assert tiffin("wait", "lunch").word == "137"
    tiffin("update", "--runtime", other, "lunch")
    assert tiffin("inspect", "--format={{.OCIRuntime}}", "lunch").word == other
    tiffin("start", "lunch")
    init = [e for e in tiffin.events() if e["type"] == "container.init_planned"][-1]
    assert init["data"]["runtime"] == other
    tiffin("rm", "-f", "-t", "0", "lunch")
    tiffin.create("--name=two", "--network=none", BUSYBOX)
    tiffin.fails("update", "--runtime=nosuch", "two", says="no runtime driver 'nosuch'")
    tiffin("update", f"--runtime={other}", "--memory=64m", "two")
