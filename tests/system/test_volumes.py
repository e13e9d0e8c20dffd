"""Volumes: named and anonymous ones, of images, copied up, shared, removed."""

from __future__ import annotations

import contextlib
import json
import os
from pathlib import Path

import pytest
from support import world
from support.cli import BUSYBOX, Tiffin

from tiffin.store import log, sync

RUN = ("run", "--rm", "--network=none")


def path(tiffin: Tiffin, name: str) -> Path:
    return Path(tiffin("volume", "inspect", "-f", "{{.Mountpoint}}", name).word)


def names(tiffin: Tiffin) -> list[str]:
    return tiffin("volume", "ls", "-q").lines


def test_a_named_volume_outlives_its_containers(tiffin: Tiffin) -> None:
    tiffin(*RUN, "-v", "data:/data", BUSYBOX, "sh", "-c", "echo dal > /data/menu")
    assert tiffin(*RUN, "-v", "data:/d:ro", BUSYBOX, "cat", "/d/menu").out == "dal\n"
    assert tiffin(*RUN, "-v", "data:/d:ro", BUSYBOX, "touch", "/d/x", code=1)
    mount = "type=volume,src=data,dst=/m"
    assert tiffin(*RUN, f"--mount={mount}", BUSYBOX, "cat", "/m/menu").out == "dal\n"
    assert (path(tiffin, "data") / "menu").read_text() == "dal\n"
    assert names(tiffin) == ["data"]
    assert tiffin("volume", "rm", "data").word == "data"
    assert names(tiffin) == []
    assert os.listdir(tiffin.root / "volumes") == []


def test_create_list_inspect_exists(tiffin: Tiffin) -> None:
    assert tiffin("volume", "create", "--label=tier=db", "one").word == "one"
    random = tiffin("volume", "create").word
    assert len(random) == 64
    tiffin.fails("volume", "create", "one", says="one")
    assert tiffin("volume", "create", "--ignore", "one").word == "one"
    tiffin.fails("volume", "create", "no/slash", says="no/slash")
    tiffin.fails("volume", "create", "--driver=nfs", "x", says="nfs")
    heading, *lines = tiffin("volume", "ls").lines
    assert heading.split() == ["DRIVER", "VOLUME", "NAME"]
    assert ["local", "one"] in [line.split() for line in lines]
    assert tiffin("volume", "ls", "-q", "--filter=label=tier=db").lines == ["one"]
    assert tiffin("volume", "ls", "-q", "--filter=name=on").lines == ["one"]
    assert tiffin("volume", "ls", "--format", "{{.Name}} {{.Driver}}").lines[-1] == "one local"
    (found,) = json.loads(tiffin("volume", "inspect", "one").out)
    assert (found["Name"], found["Labels"], found["MountCount"]) == ("one", {"tier": "db"}, 0)
    assert Path(found["Mountpoint"]).is_dir()
    tiffin("volume", "exists", "one")
    tiffin("volume", "exists", "two", code=1)
    tiffin.fails("volume", "inspect", "two", says="two")
    tiffin.fails("volume", "rm", "two", code=1, says="two")
    tiffin("volume", "rm", "-f", "two")
    tiffin("volume", "rm", "-a")
    assert names(tiffin) == []


def test_what_the_image_has_there_is_copied_up_once(tiffin: Tiffin) -> None:
    script = "mkdir -m 1770 /seed; chown 7:8 /seed; echo x > /seed/f; ln -s f /seed/l"
    tiffin("run", "--network=none", "--name=c", BUSYBOX, "sh", "-c", script)
    tiffin("commit", "-q", "c", "seeded")
    listing = ("sh", "-c", "cat /seed/l; stat -c '%a %u %g' /seed; ls /seed")
    expected = ["x", "1770 7 8", "f", "l"]
    assert tiffin(*RUN, "-v", "v:/seed", "seeded", *listing).lines == expected
    tiffin(*RUN, "-v", "v:/seed", "seeded", "rm", "/seed/f")
    assert tiffin(*RUN, "-v", "v:/seed", "seeded", "ls", "/seed").lines == ["l"], "not again"
    assert tiffin(*RUN, "-v", "w:/seed:nocopy", "seeded", "ls", "/seed").lines == []
    tiffin("volume", "create", "full")
    (path(tiffin, "full") / "mine").touch()
    assert tiffin(*RUN, "-v", "full:/seed", "seeded", "ls", "/seed").lines == ["mine"]
    first = tiffin.events("--filter=event=populated")[0]
    assert (first["stream"], list(first["data"])) == ("volume/v", ["container"])


def test_a_link_in_the_image_is_not_followed_out_of_it(tiffin: Tiffin, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("host\n")
    tiffin("run", "--network=none", "--name=c", BUSYBOX, "ln", "-s", tmp_path, "/seed")
    tiffin("commit", "-q", "c", "hostile")
    tiffin.attempt(*RUN, "-v", "v:/seed", "hostile", "true")
    assert not (tiffin.root / "volumes/v/_data/secret").exists()


def test_anonymous_ones_go_with_their_container(tiffin: Tiffin) -> None:
    tiffin(*RUN, "-v", "/data", BUSYBOX, "touch", "/data/x")
    assert names(tiffin) == [], "--rm"
    tiffin.create("--name=one", "--network=none", "-v", "/data", "-v", "kept:/kept", BUSYBOX)
    (anonymous,) = (name for name in names(tiffin) if name != "kept")
    assert tiffin("volume", "ls", "-q", "--filter=anonymous=true").lines == [anonymous]
    mounts = {m["Destination"]: m for m in tiffin.inspect("one")["Mounts"]}
    assert mounts["/data"]["Name"] == anonymous and mounts["/data"]["Type"] == "volume"
    tiffin("rm", "one")
    assert len(names(tiffin)) == 2, "rm alone keeps them"
    tiffin.create("--name=two", "--network=none", "--mount=type=volume,dst=/data", BUSYBOX)
    tiffin("rm", "-v", "two")
    assert sorted(names(tiffin)) == sorted([anonymous, "kept"])


def test_volumes_that_the_image_declares(tiffin: Tiffin) -> None:
    name = tiffin.create("--network=none", BUSYBOX)
    tiffin("commit", "-q", "-c", "VOLUME /data", name, "declares")
    tiffin("run", "--network=none", "--name=c", "declares", "touch", "/data/x")
    (volume,) = names(tiffin)
    assert (path(tiffin, volume) / "x").exists()
    tiffin("rm", "-v", "c")
    assert names(tiffin) == []
    tiffin("run", "--network=none", "--name=c", "-v", "mine:/data", "declares", "true")
    assert names(tiffin) == ["mine"]


def test_volumes_from(tiffin: Tiffin, tmp_path: Path) -> None:
    (tmp_path / "f").write_text("bind\n")
    flags = ("-v", "v:/v", "-v", "/anon", "-v", f"{tmp_path}:/b")
    tiffin("run", "--network=none", "--name=a", *flags, BUSYBOX, "sh", "-c", "touch /v/x /anon/y")
    seen = tiffin(*RUN, "--volumes-from=a", BUSYBOX, "ls", "/v", "/anon", "/b").out
    assert all(name in seen for name in ("x", "y", "f"))
    assert len(names(tiffin)) == 2, "--rm does not take what another has"
    assert tiffin(*RUN, "--volumes-from=a:ro", BUSYBOX, "touch", "/v/z", code=1)
    tiffin.fails(*RUN, "--volumes-from=nobody", BUSYBOX, "true", says="nobody")
    tiffin.fails(*RUN, "--volumes-from=a:sideways", BUSYBOX, "true", says="sideways")


def test_one_in_use_stays(tiffin: Tiffin) -> None:
    name = tiffin.detached("--network=none", "-v", "v:/v", BUSYBOX, "sleep", "1000")
    tiffin.fails("volume", "rm", "v", code=2, says="in use")
    assert tiffin("volume", "prune", "-f").out == ""
    assert tiffin("volume", "ls", "-q", "--filter=dangling=true").out == ""
    pid = tiffin.pid(name)
    tiffin("volume", "rm", "-f", "v")
    assert not world.alive(pid)
    assert tiffin("ps", "-aq").out == ""


def test_prune_and_df(tiffin: Tiffin) -> None:
    for name in ("a", "b"):
        tiffin(*RUN, "-v", f"{name}:/v", BUSYBOX, "sh", "-c", "head -c 3000 /dev/zero > /v/x")
    tiffin.create("--name=c", "-v", "a:/v", BUSYBOX)
    line = tiffin("system", "df").lines[3]
    assert line.split() == ["Local", "Volumes", "2", "1", "6kB", "3kB", "(50%)"]
    assert "nobody answered" in tiffin("volume", "prune", code=125).err
    assert tiffin("volume", "prune", "-f").lines == ["b"]
    tiffin("rm", "c")
    assert tiffin("system", "prune", "-f").lines == ["Total reclaimed space: 0B"]
    lines = tiffin("system", "prune", "-f", "--volumes").lines
    assert lines == ["Deleted Volumes", "a", "Total reclaimed space: 3kB"]


def test_cp_reaches_the_volume_of_a_stopped_container(tiffin: Tiffin, tmp_path: Path) -> None:
    (tmp_path / "f").write_text("x\n")
    name = tiffin.create("--network=none", "-v", "v:/v", BUSYBOX)
    tiffin("start", name)
    tiffin("wait", name)
    tiffin("cp", tmp_path / "f", f"{name}:/v/f")
    assert (path(tiffin, "v") / "f").read_text() == "x\n"


def test_a_removal_that_was_killed_is_finished(tiffin: Tiffin) -> None:
    tiffin("volume", "create", "v")
    where = path(tiffin, "v")
    (where / "x").touch()
    planned = json.dumps({"path": str(where)})
    with contextlib.closing(sync.open_for_append(str(tiffin.root / "tiffin.db"))) as db:
        records = [log.Record("volume/v", "volume.removal_planned", planned)]
        sync.run(db, log.append(records, command="dead", actor=json.dumps({"pid": 1})))
    tiffin("system", "recover")
    assert not where.parent.exists()
    before = names(tiffin)
    tiffin("system", "rebuild")
    assert names(tiffin) == before == []


@pytest.mark.parametrize("flag", ["-v=no/slash:/x", "-v=v:relative", "--mount=type=volume,src=v"])
def test_mistakes_make_no_volume(tiffin: Tiffin, flag: str) -> None:
    tiffin.fails("create", flag, BUSYBOX)
    tiffin.fails("create", "-v", "v:/v", "--name=no spaces", BUSYBOX)
    tiffin.create("--name=taken", BUSYBOX)
    tiffin.fails("create", "-v", "v:/v", "--name=taken", BUSYBOX, says="taken")
    assert names(tiffin) == []
