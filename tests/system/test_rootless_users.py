"""Ordinary users beside each other, what they can do, and what they run."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from support import world
from support.cli import BUSYBOX, eventually
from support.person import Person, TheirTiffin, new_name

NONE = ("--network", "none")
MANY = int(os.environ.get("TIFFIN_TEST_USERS", "4"))
"""How many users work at once; `make torture` sets 20."""


@pytest.fixture(scope="module")
def people() -> Iterator[list[Person]]:
    made = [Person(new_name()) for _ in range(MANY)]
    yield made
    for one in made:
        one.close()


@pytest.fixture(scope="module")
def theirs(people: list[Person]) -> Iterator[list[TheirTiffin]]:
    made = [TheirTiffin.of(one) for one in people]
    yield made
    for one in made:
        one.close()


def test_users_at_once_have_nothing_in_common(theirs: list[TheirTiffin]) -> None:
    """The same name for each, at the same time; nobody waits for another's lock."""

    def life(tiffin: TheirTiffin) -> str:
        tiffin.detached(*NONE, "--name", "same", BUSYBOX, "sleep", "1000", timeout=240)
        said = tiffin("exec", "same", "hostname").word
        tiffin("rm", "-f", "-t", "0", "same")
        return said

    with ThreadPoolExecutor(MANY) as pool:
        said = list(pool.map(life, theirs))
    assert len(set(said)) == MANY
    for tiffin in theirs:
        assert tiffin("ps", "-aq").out == ""
        assert {event["actor"]["uid"] for event in tiffin.events()} == {tiffin.who.uid}


def test_one_user_cannot_touch_anothers(theirs: list[TheirTiffin]) -> None:
    mine, other = theirs[:2]
    cid = mine.detached(*NONE, "--name", "mine", "--user", "7", BUSYBOX, "sleep", "1000")
    pid, conmon = mine.pid("mine"), mine.conmon("mine")
    try:
        # by name or id, from their own store
        for command in ("stop", "exec", "kill", "inspect"):
            more = ("id",) if command == "exec" else ()
            assert "no such" in other(command, cid, *more, code=125).err.lower()
        # by the store, the run directory and the sockets in them
        stores = ["--root", str(mine.root), "--runroot", str(mine.run)]
        for command in ("ps", "logs mine", "exec mine id", "rm -f mine"):
            done = other.using(*stores).attempt(*command.split())
            assert "Traceback" not in done.err and "mine" not in done.out, command
            assert done.code != 0 or command == "ps", command
        places = [*mine.root.rglob("*"), *mine.run.rglob("*")]
        script = 'for path do [ ! -e "$path" ] || echo "$path"; done'
        argv = other.who.argv("sh", "-c", script, "sh", *map(str, places))
        assert subprocess.run(argv, capture_output=True, check=True).stdout == b""
        # by the processes: signals, memory, namespaces, also from the other's own namespace
        for enter in ((), ("tiffin", "unshare")):
            for victim in (pid, conmon, mine.keeper()):
                for words in (
                    ("kill", "-9", str(victim)),
                    ("cat", f"/proc/{victim}/environ"),
                    ("ls", f"/proc/{victim}/root/"),
                    ("nsenter", "-t", str(victim), "-U", "-m", "true"),
                ):
                    argv = other.who.argv(*enter, *words)
                    env = other.environment()
                    done2 = subprocess.run(argv, capture_output=True, env=env)
                    assert done2.returncode != 0, words
        assert world.alive(pid) and mine.status("mine") == "running"
    finally:
        mine("rm", "-f", "-t", "0", "mine")


def test_no_set_uid_program_but_those_two_is_ever_run(
    theirs: list[TheirTiffin], tmp_path: Path
) -> None:
    tiffin = theirs[0]
    tiffin.who.log_out()
    script = (
        "tiffin pull -q embedded:busybox; tiffin run --rm --network none embedded:busybox true;"
        "tiffin run -d --name traced --network none embedded:busybox sleep 1000;"
        "tiffin exec traced true; tiffin commit -q traced traced; tiffin rm -f -t 0 traced;"
        "tiffin --runtime runc run --rm --network none traced true; tiffin rmi traced"
    )
    trace = tmp_path / "trace"
    # strace as root, which leaves set-uid programs their privilege (-u). It ends with the last of
    # what it follows: the keeper of the namespace.
    argv = ["strace", "-f", "-qq", "-e", "trace=execve", "-o", str(trace), "-u", tiffin.who.name]
    end = tiffin.base / "home/end"
    with subprocess.Popen(
        [*argv, "sh", "-c", f"{script}; echo $? >{end}"],
        env=tiffin.environment(),
        stdout=subprocess.DEVNULL,
    ) as process:
        try:
            eventually(end.exists, seconds=60)
        finally:
            tiffin.who.log_out()
        process.wait(60)
    assert end.read_text() == "0\n"
    ran = set(re.findall(r'execve\("([^"]+)".* = 0$', trace.read_text(), re.M))
    assert {"/usr/bin/newuidmap", "/usr/bin/newgidmap"} <= ran
    assert any(path.endswith("conmon") for path in ran)
    privileged = {path for path in ran if os.path.exists(path) and os.stat(path).st_mode & 0o6000}
    assert privileged == {"/usr/bin/newuidmap", "/usr/bin/newgidmap"}


def test_what_else_a_user_does(theirs: list[TheirTiffin]) -> None:
    """Build, copy, save, load, volumes, secrets, pods, checks; in one life, for time's sake."""
    tiffin = theirs[0]
    home = tiffin.base / "home"
    (home / "Dockerfile").write_text(
        f"FROM {BUSYBOX}\nRUN --network=none id -u >/u && chown 33:33 /u\nCOPY f /f\n"
    )
    (home / "f").write_text("hi")
    tiffin("build", "-q", "--network", "none", "-t", "built", home)
    listing = tiffin("run", "--rm", *NONE, "built", "ls", "-ln", "/u", "/f").lines
    assert [line.split()[2] for line in listing] == ["0", "33"]
    tiffin("create", "--name", "box", *NONE, "built", "cat", "/g")
    tiffin("cp", home / "f", "box:/g")
    assert tiffin("start", "-a", "box").word == "hi"
    assert "A /g" in tiffin("diff", "box").lines
    tiffin("storage", "migrate", "--to", "vfs", "box")
    assert tiffin("start", "-a", "box").word == "hi"
    tiffin("rm", "box")
    volume = ("run", "--rm", *NONE, "-v", "data:/d", "built", "sh", "-c")
    tiffin(*volume, "echo 1 >/d/x; chown 5 /d/x")
    assert tiffin(*volume, "stat -c %u /d/x").word == "5"
    tiffin("volume", "rm", "data")
    tiffin("secret", "create", "s", home / "f")
    secret = ("run", "--rm", *NONE, "--secret", "s", "built", "cat", "/run/secrets/s")
    assert tiffin(*secret).word == "hi"
    tiffin("secret", "rm", "s")
    tiffin("pod", "create", "--network", "none", "p")
    tiffin("run", "-d", "--pod", "p", "--name", "inpod", "built", "sleep", "1000")
    assert tiffin("exec", "inpod", "id", "-u").word == "0"
    tiffin("pod", "rm", "-f", "-t", "0", "p")
    tiffin("save", "-q", "-o", home / "o.tar", "built")
    assert (home / "o.tar").stat().st_uid == tiffin.who.uid
    tiffin("rmi", "built")
    tiffin("load", "-q", "-i", home / "o.tar")
    made = ("run", "--rm", *NONE, "-v", f"{home}:/home", "built", "touch", "/home/made")
    tiffin(*made)
    assert (home / "made").stat().st_uid == tiffin.who.uid  # as podman has it
    assert "OK: images, layers and containers" in tiffin("system", "check").out
    tiffin("system", "df")
    tiffin("system", "rebuild")
    tiffin("events", "verify")
    tiffin.fails("--storage-driver", "btrfs", "run", "--rm", *NONE, "built", "id", says="btrfs")
    score = ("run", "--rm", *NONE, "--oom-score-adj", "-900", "built", "cat")
    assert tiffin(*score, "/proc/self/oom_score_adj").word == "0"
    tiffin.detached(*NONE, "--name", "box", "built", "sleep", "1000")
    tiffin.fails("pause", "box", says="pause: container box has no cgroup")
    tiffin("commit", "-q", "box", "committed")
    tiffin("rm", "-f", "-t", "0", "box")
