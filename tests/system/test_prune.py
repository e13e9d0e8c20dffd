"""`prune` takes what nobody uses, and nothing else; `system df` knows how much that is."""

from __future__ import annotations

import json
import time

import pytest
from support.cli import BUSYBOX, Tiffin


@pytest.fixture
def mixed(tiffin: Tiffin) -> tuple[str, str, str]:
    """A running container, one that ended and had written 5000 bytes, one that was only made."""
    running = tiffin.detached("--network=none", "--label=keep", BUSYBOX, "sleep", "1000")
    write = "head -c 5000 /dev/zero > /file"
    tiffin("run", "--network=none", "--name=ended", BUSYBOX, "sh", "-c", write)
    return running, tiffin.inspect("ended")["Id"], tiffin.create("--label=keep", BUSYBOX)


def test_container_prune(tiffin: Tiffin, mixed: tuple[str, str, str]) -> None:
    running, ended, made = mixed
    assert "nobody answered" in tiffin("container", "prune", code=125).err
    assert "[y/N]" in tiffin("container", "prune", input="n\n").out
    assert tiffin("container", "prune", "-f", "--filter=until=1h").out == ""
    assert tiffin("container", "prune", "-f", "--filter=label!=keep").lines == [ended]
    assert tiffin("container", "prune", input="y\n").lines[-1].endswith(made)
    assert tiffin("ps", "-aq", "--no-trunc").lines == [running]
    assert tiffin("container", "prune", "-f").out == ""
    tiffin.fails("container", "prune", "-f", "--filter=taste=good", says="taste")


def test_image_prune(tiffin: Tiffin, mixed: tuple[str, str, str]) -> None:
    running, _, made = mixed
    named = tiffin("commit", "-q", made, "named").word
    nameless = tiffin("commit", "-q", "-m", "two", running).word
    assert tiffin("image", "prune", "-f").lines == [nameless]
    assert tiffin("image", "prune", "-f", "-a").lines == [named]
    assert len(tiffin("images", "-q").lines) == 1, "the one in use stays"
    assert tiffin("image", "prune", "-fa").out == ""


def test_system_prune_and_what_it_frees(tiffin: Tiffin, mixed: tuple[str, str, str]) -> None:
    running, ended, made = mixed
    tiffin("network", "create", "unused")
    done = tiffin("system", "prune", "-f")
    assert done.lines[0] == "Deleted Containers"
    assert set(done.lines[1:3]) == {ended, made}
    assert done.lines[3:] == ["Deleted Networks", "unused", "Total reclaimed space: 5kB"]
    tiffin("rm", "-f", "-t", "0", running)
    image = tiffin("images", "-q", "--no-trunc").word.removeprefix("sha256:")
    assert tiffin("system", "prune", "-f").lines == ["Total reclaimed space: 0B"]
    lines = tiffin("system", "prune", "-fa").lines
    assert lines[:2] == ["Deleted Images", image]
    assert lines[2] != "Total reclaimed space: 0B"
    assert "dangling" in tiffin("system", "prune", code=125).out


def test_what_comes_into_use_is_not_pruned(tiffin: Tiffin) -> None:
    """The choice is made again under the container's lock."""
    name = tiffin.create("--network=none", BUSYBOX, "sleep", "1000")
    asking = tiffin.start("container", "prune", stdin=-1)
    time.sleep(0.3)
    tiffin("start", name)
    asking.communicate(b"y\n", timeout=30)
    assert tiffin.status(name) == "running"


def test_df(tiffin: Tiffin, mixed: tuple[str, str, str]) -> None:
    _, ended, _ = mixed
    tiffin("commit", "-q", ended, "bigger")
    heading, images, containers, *_ = tiffin("system", "df").lines
    assert heading.split() == "TYPE TOTAL ACTIVE SIZE RECLAIMABLE".split()
    assert images.split()[:3] == ["Images", "2", "1"]
    assert images.split()[-2:] == ["5kB", "(0%)"]
    assert containers.split()[:6] == ["Containers", "3", "1", "5kB", "5kB", "(100%)"]
    total = json.loads(tiffin("system", "df", "--format=json").out)
    assert [line["Type"] for line in total][:2] == ["Images", "Containers"]
    base = int(tiffin("image", "inspect", "-f", "{{.Size}}", BUSYBOX).word)
    assert total[0]["RawSize"] == base + 5000, "the shared layer counts once"
    assert total[1]["RawSize"] == 5000
    assert tiffin("system", "df", "--format", "{{.Type}} {{.Total}}").lines[0] == "Images 2"
    verbose = tiffin("system", "df", "-v").out
    assert "localhost/bigger" in verbose and ended[:12] in verbose
    tiffin.fails("system", "df", "-v", "--format=json", says="--verbose")


def test_df_of_nothing(tiffin: Tiffin) -> None:
    lines = tiffin("system", "df").lines
    assert [line.split()[-4:] for line in lines[1:3]] == [["0", "0B", "0B", "(0%)"]] * 2
