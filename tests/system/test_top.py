"""`top`: what /proc says of a container's processes, as the container sees them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from support import world
from support.cli import BUSYBOX, Tiffin, eventually


@pytest.fixture(scope="module")
def box(shared: Tiffin) -> Iterator[str]:
    name = shared.detached(
        "--network=none", "--user=1234:5678", BUSYBOX, "sh", "-c", "sleep 1001 & exec sleep 1000"
    )
    eventually(lambda: len(shared("top", name, "pid").lines) == 3)
    eventually(lambda: "sh" not in shared("top", name, "comm").lines)
    yield name
    shared("rm", "-f", "-t", "0", name)


def test_the_columns_are_podmans(shared: Tiffin, box: str) -> None:
    heading, *lines = shared("top", box).lines
    assert heading.split() == "USER PID PPID %CPU ELAPSED TTY TIME COMMAND".split()
    first = lines[0].split()
    assert first[:3] == ["1234", "1", "0"]
    assert first[-2:] == ["sleep", "1000"]
    second = lines[1].split()
    assert second[2] == "1" and second[-1] == "1001"


def test_descriptors(shared: Tiffin, box: str) -> None:
    wanted = "hpid,pid,huser,ruser,group,state,capeff,seccomp,pgid,nice,comm"
    heading, line, _ = shared("top", box, wanted).lines
    assert (
        heading.split()
        == "HPID PID HUSER RUSER GROUP STATE EFFECTIVE CAPS SECCOMP PGID NI COMMAND".split()
    )
    assert line.split() == [
        str(shared.pid(box)), "1", "1234", "1234", "5678", "S", "none", "filter", "1", "0", "sleep",
    ]  # fmt: skip
    assert shared("top", box, "%p", "%a").out == shared("top", box, "pid", "args").out
    assert "capeff" in shared("top", "--list-descriptors").lines


def test_names_are_those_of_the_container(shared: Tiffin) -> None:
    name = shared.detached("--network=none", "--privileged", BUSYBOX, "sleep", "1000")
    assert shared("top", name, "user,capbnd").lines[1].split()[0] == "root"
    with open(f"/proc/{shared.pid(name)}/root/etc/passwd", "w") as file:
        file.write("broken\nchef:x:0:0::/:/bin/sh\n")
    assert shared("top", name, "user").lines == ["USER", "chef"]
    shared("rm", "-f", "-t", "0", name)


def test_a_hostile_passwd_is_not_followed_out_of_the_container(shared: Tiffin) -> None:
    """Its link leads to the container's own file, not to the host's."""
    command = "rm /etc/passwd; ln -s /etc/hostname /etc/passwd; exec sleep 1000"
    name = shared.detached("--network=none", BUSYBOX, "sh", "-c", command)
    eventually(lambda: shared("top", name, "comm").lines[1] == "sleep")
    assert shared("top", name, "user").lines == ["USER", "0"]
    shared("rm", "-f", "-t", "0", name)


def test_other_words_are_for_the_hosts_ps(shared: Tiffin, box: str) -> None:
    heading, *lines = shared("top", box, "-e", "-o", "pid,args").lines
    assert heading.split() == ["PID", "COMMAND"]
    assert str(shared.pid(box)) in [line.split()[0] for line in lines]
    assert len(lines) == 2
    shared.fails("top", box, "-o", "args", says="pid")
    shared.fails("top", box, "--lunch", says="lunch")


def test_it_shows_exactly_what_the_kernel_has(shared: Tiffin, box: str) -> None:
    ours = world.namespace(shared.pid(box), "pid")
    inside = set()
    for pid, _, _ in world.processes():
        try:
            if world.namespace(pid, "pid") == ours:
                inside.add(str(pid))
        except OSError:
            continue
    assert set(shared("top", box, "hpid").lines[1:]) == inside


def test_one_that_does_not_run_has_none(shared: Tiffin) -> None:
    name = shared.create(BUSYBOX)
    shared.fails("top", name, says="created")
    shared.fails("top", "no-such-box", says="no-such-box")
    shared.fails("top", says="container")
    shared("rm", name)
