"""Other ids than their namespace's, for an ordinary user's containers."""

from __future__ import annotations

import contextlib
import os
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from support import world
from support.cli import BUSYBOX
from support.person import Person, TheirTiffin

RUN = ("run", "--rm", "--network=none")


@pytest.fixture(scope="module")
def theirs(who: Person, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TheirTiffin]:
    """With a /dev/fuse as udev makes it, for everybody."""
    node = tmp_path_factory.mktemp("dev") / "fuse"
    os.mknod(node, stat.S_IFCHR, os.stat("/dev/fuse").st_rdev)
    node.chmod(0o666)
    subprocess.run(["mount", "--bind", node, "/dev/fuse"], check=True)
    made = TheirTiffin.of(who)
    try:
        yield made
        made.close()
    finally:
        with contextlib.suppress(FileNotFoundError):
            who.log_out()
        subprocess.run(["umount", "/dev/fuse"], check=True)
    assert not list(Path("/tmp").glob(f"tiffin-{who.uid}-*-ids"))


@pytest.mark.parametrize("runtime", ["crun", "runc"])
def test_keep_id_is_the_same_user_inside(theirs: TheirTiffin, who: Person, runtime: str) -> None:
    """Also for what is made in a bind mount; the driver that can do it is found by trying."""
    home = theirs.base / "home"
    tiffin = theirs.using("--runtime", runtime)
    script = "id -u; id -g; stat -c %u /bin/sh /h; touch /h/made; cat /proc/self/uid_map"
    command = ("--userns=keep-id", "-v", f"{home}:/h", BUSYBOX, "sh", "-c", script)
    words = tiffin(*RUN, *command).out.split()
    assert words[:4] == [str(who.uid), str(who.gid), "0", str(who.uid)]
    assert (home / "made").stat().st_uid == who.uid
    (home / "made").unlink()
    own = who.uid
    assert words[4:7] == ["0", "1", str(own)] and words[7:10] == [str(own), "0", "1"]
    assert tiffin(*RUN, "--userns=keep-id", "--user=0", BUSYBOX, "id", "-u").word == "0"


def test_keep_id_under_another_number(theirs: TheirTiffin) -> None:
    command = ("--userns=keep-id:uid=200,gid=210", BUSYBOX, "sh", "-c", "id -u; id -g")
    assert theirs(*RUN, *command).lines == ["200", "210"]


def test_a_container_keeps_its_ids_and_files(theirs: TheirTiffin, who: Person) -> None:
    theirs("create", "--name=box", "--network=none", "--userns=keep-id", "--user=5", BUSYBOX,
           "sh", "-c", "touch /tmp/x /tmp/y; stat -c %u /tmp/x; sleep 1000")  # fmt: skip
    theirs("start", "box")
    first, _ = who.range()
    assert world.status(theirs.pid("box"), "Uid").split()[0] == str(first + 5)
    theirs("exec", "box", "sh", "-c", "until [ -e /tmp/y ]; do sleep 0.05; done")
    assert "A /tmp/x" in theirs("diff", "box").lines
    theirs("stop", "-t", "0", "box")
    theirs("commit", "-q", "box", "kept")
    theirs("rm", "box")
    assert theirs(*RUN, "kept", "stat", "-c", "%u", "/tmp/x").word == "5"


def test_auto_gives_each_container_ids_of_its_own(theirs: TheirTiffin) -> None:
    found = []
    for name in ("one", "two"):
        theirs.detached("--name", name, "--network=none", "--userns=auto", BUSYBOX, "sleep", "1000")
        found.append(Path(f"/proc/{theirs.pid(name)}/uid_map").read_text().split())
    assert found[0][1] != found[1][1] and found[0][2] == found[1][2] == "1024"
    uids = {world.status(theirs.pid(name), "Uid").split()[0] for name in ("one", "two")}
    assert len(uids) == 2 and str(theirs.who.uid) not in uids
    theirs("rm", "-f", "-t", "0", "one", "two")


def test_nomap_is_without_the_user(theirs: TheirTiffin, who: Person) -> None:
    theirs.detached("--name=box", "--network=none", "--userns=nomap", BUSYBOX, "sleep", "1000")
    first, _ = who.range()
    assert world.status(theirs.pid("box"), "Uid").split()[0] == str(first)
    theirs("rm", "-f", "-t", "0", "box")


def test_maps_are_relative_to_the_users_namespace(theirs: TheirTiffin, who: Person) -> None:
    theirs.detached("--name=box", "--network=none", "--uidmap=0:1:100", BUSYBOX, "sleep", "1000")
    first, _ = who.range()
    assert world.status(theirs.pid("box"), "Uid").split()[0] == str(first)
    theirs("rm", "-f", "-t", "0", "box")
    named = ("--subuidname", who.name, BUSYBOX, "cat", "/proc/self/uid_map")
    assert theirs(*RUN, *named).out.split()[:2] == ["0", "1"]
    beyond = ("--uidmap=0:1:70000", BUSYBOX, "id")
    theirs.fails(*RUN, *beyond, says="you have 65537 uids")
    theirs.fails(*RUN, "--subuidname=root", BUSYBOX, "id", says="root has no ids that are yours")
    assert theirs(*RUN, "--userns=host", BUSYBOX, "id", "-u").word == "0"


def test_a_driver_that_cannot_is_named(theirs: TheirTiffin) -> None:
    asked = ("--storage-driver=overlay", *RUN, "--userns=keep-id", BUSYBOX, "id")
    line = theirs.fails(*asked, says="storage driver overlay cannot do that")
    assert "--storage-driver fuse-overlayfs" in line
