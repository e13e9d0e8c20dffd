"""A container's whole life, as an ordinary user."""

from __future__ import annotations

import stat
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from support import world
from support.cli import BUSYBOX, Tiffin, eventually
from support.person import Person, TheirTiffin

NONE = ("--network", "none")


@pytest.fixture
def named(theirs: TheirTiffin) -> Iterator[str]:
    yield "box"
    theirs("rm", "-f", "-t", "0", "--ignore", "box")


def ids(pid: int) -> tuple[int, int]:
    return int(world.status(pid, "Uid").split()[0]), int(world.status(pid, "Gid").split()[0])


@pytest.mark.parametrize("runtime", ["runc", "crun"])
@pytest.mark.parametrize("network", ["none", "host"])
def test_run_is_root_inside_and_the_user_outside(
    theirs: TheirTiffin, who: Person, runtime: str, network: str, named: str
) -> None:
    command = ("--network", network, "--name", named, BUSYBOX, "sleep", "1000")
    theirs.using("--runtime", runtime).detached(*command)
    pid = theirs.pid(named)
    assert ids(pid) == (who.uid, who.gid)
    assert theirs("exec", named, "id", "-u").word == "0"
    shared = world.namespace(pid, "net") == world.namespace("self", "net")
    assert shared == (network == "host")
    assert theirs("exec", "--user", "33:33", named, "id", "-u").word == "33"
    theirs("stop", "-t", "0", named)
    assert theirs.status(named) == "exited"
    theirs("start", named)
    assert theirs.status(named) == "running"


def test_a_user_of_the_image_has_an_id_of_the_ranges(
    theirs: TheirTiffin, who: Person, named: str
) -> None:
    theirs.detached(*NONE, "--name", named, "--user", "33", BUSYBOX, "sleep", "1000")
    first, _ = who.range()
    assert ids(theirs.pid(named))[0] == first + 32  # 0 is the user, 1 the first of the range


def test_the_store_is_the_users_own(theirs: TheirTiffin, who: Person, named: str) -> None:
    theirs("run", "--name", named, *NONE, BUSYBOX, "sh", "-c", "touch /a; chown 33:33 /a")
    first, count = who.range()
    owners = {path.lstat().st_uid for path in theirs.base.rglob("*")}
    assert owners <= {who.uid, *range(first, first + count)}
    assert first + 32 in owners
    for place in (theirs.root, theirs.run):
        assert stat.S_IMODE(place.stat().st_mode) & 0o077 == 0


def test_the_kernels_own_overlay_is_the_default(theirs: TheirTiffin) -> None:
    options = theirs("run", "--rm", *NONE, BUSYBOX, "head", "-1", "/proc/mounts").word
    assert options.startswith("overlay / overlay") and "userxattr" in options


def test_reads_never_enter_the_namespace(theirs: TheirTiffin, named: str) -> None:
    theirs("run", "--name", named, *NONE, BUSYBOX, "echo", "said")
    theirs.who.log_out()
    assert "box" in theirs("ps", "-a").out
    assert "busybox" in theirs("images").out
    assert theirs("logs", named).word == "said"
    assert theirs.inspect(named)["State"]["ExitCode"] == 0
    assert theirs.events()
    assert theirs.keeper() == 0, "a namespace was made"


def test_the_namespace_is_made_again_after_all_processes_were_killed(
    theirs: TheirTiffin, named: str
) -> None:
    theirs.detached(*NONE, "--name", named, BUSYBOX, "sh", "-c", "touch /kept; exec sleep 1000")
    theirs("exec", named, "sh", "-c", "until [ -e /kept ]; do sleep 0.05; done")
    theirs.who.log_out()
    theirs("start", named)
    assert theirs("exec", named, "ls", "/kept").word == "/kept"
    assert theirs.keeper()


def test_a_lost_keeper_is_replaced_in_the_namespace_of_what_runs(
    theirs: TheirTiffin, named: str
) -> None:
    theirs.detached(*NONE, "--name", named, BUSYBOX, "sleep", "1000")
    before = world.namespace(theirs.conmon(named), "user")
    keeper = theirs.keeper()
    world.kill(keeper)
    eventually(lambda: not world.alive(keeper))
    assert theirs("exec", named, "echo", "there").word == "there"
    assert theirs.keeper() and theirs.keeper() != keeper
    assert world.namespace(theirs.keeper(), "user") == before
    assert world.parent(theirs.keeper()) == 1


def test_twenty_commands_at_once_make_one_namespace(theirs: TheirTiffin) -> None:
    theirs.who.log_out()

    def one(_: int) -> str:
        return theirs("run", "--rm", *NONE, BUSYBOX, "echo", "here", timeout=120).word

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(one, range(8))) == ["here"] * 8
    sleepers = [pid for pid, name, _ in world.processes() if name == "sleep"]
    mine = set(theirs.who.processes())
    assert len(mine.intersection(sleepers)) == 1


def test_every_event_has_the_users_login_uid(theirs: TheirTiffin, who: Person) -> None:
    """Also those that conmon's exit command writes, from within the namespace. The login uid is
    set by writing it, which a session of a login manager does."""
    script = f'echo {who.uid} >/proc/self/loginuid && exec "$@"'
    theirs.who.log_out()
    try:
        done = subprocess.run(
            [
                "sh",
                "-c",
                script,
                "sh",
                *theirs.argv("run", "-d", *NONE, "--name=box", BUSYBOX, "true"),
            ],
            env=theirs.environment(),
            capture_output=True,
            text=True,
            check=True,
        )
        cid = done.stdout.strip()
        eventually(lambda: any(e["type"] == "container.cleaned_up" for e in of(theirs, cid)))
        for event in of(theirs, cid):
            assert event["actor"]["uid"] == who.uid, event
            assert event["actor"]["loginuid"] == who.uid, event
        fronts = {event["actor"]["front_end"] for event in of(theirs, cid)}
        assert fronts == {"cli", "exit"}
    finally:
        theirs("rm", "-f", "--ignore", "box")


def of(theirs: Tiffin, cid: str) -> list[dict[str, Any]]:
    return [event for event in theirs.events() if event["stream"] == f"container/{cid}"]
