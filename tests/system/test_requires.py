"""`--requires`: what runs before a container does, and stays as long as it does. And the containers
that commands find in files, and by filters."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from support.cli import BUSYBOX, Tiffin

SLEEP = (BUSYBOX, "sleep", "1000")
FLAGS = ("--network=none", "--stop-timeout=0")


@pytest.fixture
def box(shared: Tiffin) -> Iterator[Tiffin]:
    yield shared
    shared("rm", "-a", "-f", "-t", "0")


def names(box: Tiffin, *flags: str) -> list[str]:
    return sorted(box("ps", "--format={{.Names}}", *flags).lines)


@pytest.mark.parametrize("runtime", ["runc", "crun"])
def test_what_is_required_is_started_first(box: Tiffin, runtime: str) -> None:
    box = box.using(f"--runtime={runtime}")
    box("create", "--name=store", *FLAGS, *SLEEP)
    box("create", "--name=kitchen", "--requires=store", *FLAGS, *SLEEP)
    box("create", "--name=table", "--requires=kitchen,store", *FLAGS, *SLEEP)
    box("start", "table")
    assert names(box) == ["kitchen", "store", "table"]
    started = [e["stream"] for e in box.events("--filter=type=container.started")]
    ids = [f"container/{box.inspect(name)['Id']}" for name in ("store", "kitchen", "table")]
    assert started[-3:] == ids
    assert box.inspect("table")["Dependencies"] == [i.partition("/")[2] for i in (ids[1], ids[0])]
    box("stop", "store")
    box("run", "--rm", *FLAGS, "--requires=store", BUSYBOX, "true")
    assert box.status("store") == "running"


def test_what_is_required_stays(box: Tiffin) -> None:
    box("create", "--name=store", *FLAGS, *SLEEP)
    box("create", "--name=kitchen", "--requires", "store", *FLAGS, *SLEEP)
    box.fails("rm", "store", says="has dependent containers", code=2)
    box.fails("rm", "-f", "store", says="kitchen", code=2)
    assert len(box("container", "prune", "-f").lines) == 2  # the last first
    box("create", "--name=store", *FLAGS, *SLEEP)
    box("run", "-d", "--name=kitchen", "--requires", "store", *FLAGS, *SLEEP)
    box("stop", "store")
    assert box("container", "prune", "-f").out == ""
    assert len(box("rm", "-f", "-t", "0", "--depend", "store").lines) == 2
    assert names(box, "-a") == []
    box("create", "--name=a", *FLAGS, *SLEEP)
    box("create", "--name=b", "--requires=a", *FLAGS, *SLEEP)
    assert len(box("rm", "-a").lines) == 2


def test_bad_requirements(box: Tiffin) -> None:
    box.fails("create", "--requires=nosuch", *SLEEP, says="--requires nosuch: no such container")
    assert names(box, "-a") == []
    box("create", "--name=broken", *FLAGS, BUSYBOX, "nosuchprogram")
    box("create", "--name=waits", "--requires=broken", *FLAGS, *SLEEP)
    box.fails("start", "waits", says="cannot start broken, which waits requires")
    assert box.status("waits") == "created"


def test_containers_out_of_files_and_filters(box: Tiffin, tmp_path: Path) -> None:
    for name in ("a", "b", "c"):
        box("run", "-d", f"--cidfile={tmp_path}/{name}", f"--name={name}", f"--label=l={name}",
            *FLAGS, *SLEEP)  # fmt: skip
    file = f"--cidfile={tmp_path}/a"
    cid = (tmp_path / "a").read_text()
    for verb in ("pause", "unpause", "stop", "restart", "kill"):
        assert box(verb, file).word == cid, verb
    assert box("pause", "--filter=label=l=b").word == box.inspect("b")["Id"]
    assert box("unpause", "--filter=label=l=b").out
    assert box("restart", "--filter=name=c").out
    assert box("rm", file, f"--cidfile={tmp_path}/nosuch", "--ignore").word == cid
    box.fails("stop", file, says="no such container")
    assert box("stop", "--ignore", "nosuch", "b").word == "b"
    box.fails("stop", f"--cidfile={tmp_path}/nosuch", says="no such file")
    box.fails("kill", f"--cidfile={tmp_path}", says="is a directory")
    box.fails("rm", "--all", file, says="--all")
    box("rm", "--filter=label=l=b")
    box("rm", "-f", "-t", "0", "--filter", "label=l")
    assert names(box, "-a") == []
