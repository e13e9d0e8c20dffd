"""Logs in systemd's journal, through conmon and a real journald."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator

import pytest
from support import journald, world
from support.cli import BUSYBOX, Tiffin

RUN = ("run", "--network=none", "--log-driver=journald")
SOCKET = "/run/systemd/journal/socket"


@pytest.fixture(scope="module")
def logged() -> Iterator[Tiffin]:
    assert journald.installed(), "systemd-journald is not there: run scripts/setup --tests"
    plain = Tiffin.fresh()
    plain("pull", BUSYBOX)
    with journald.journald() as journal:
        yield journal.at(plain)
        # What its mount namespace sees of the containers goes with it.
        plain.flags = ()
        journal.at(plain).empty()
    world.sweep(plain.base)


@pytest.mark.parametrize("runtime", ["runc", "crun"])
def test_what_a_container_wrote_is_in_the_journal(logged: Tiffin, runtime: str) -> None:
    script = "echo one; echo oops >&2; echo; printf 'a\\001\\377\\n'; printf 'no newline'"
    ours = logged.using(f"--runtime={runtime}")
    ours(*RUN, f"--name={runtime}", BUSYBOX, "sh", "-c", script)
    done = subprocess.run(
        ours.argv("logs", runtime), capture_output=True, env=ours.environment(), check=True
    )
    assert done.stdout.rstrip(b"\n") == b"one\n\na\x01\xff\nno newline"
    assert done.stderr == b"oops\n"
    assert ours("logs", "--tail=1", runtime).out.rstrip("\n") == "no newline"
    stamp, text = ours("logs", "-t", runtime).lines[0].split()
    assert text == "one" and stamp[10] == "T"
    assert ours("logs", "--since=1h", runtime).lines[0] == "one"
    assert ours("logs", "--until=1h", runtime).out == ""
    config = ours.inspect(runtime)["HostConfig"]["LogConfig"]
    assert config["Type"] == "journald" and config["Path"] == ""


def test_it_is_followed_to_its_end(logged: Tiffin) -> None:
    logged(*RUN, "-d", "-i", "--name=followed", BUSYBOX, "cat")
    with (
        logged.start("logs", "-f", "followed") as process,
        logged.start("attach", "followed", stdin=subprocess.PIPE) as typist,
    ):
        assert process.stdout is not None and typist.stdin is not None
        for word in (b"first\n", b"second\n"):
            typist.stdin.write(word)
            typist.stdin.flush()
            assert process.stdout.readline() == word
        typist.stdin.write(b"last\n")
        typist.stdin.close()
        assert typist.wait(30) == 0
        assert process.wait(30) == 0
        assert process.stdout.read() == b"last\n"


def test_a_tag_of_the_users(logged: Tiffin) -> None:
    option = "--log-opt=tag=dish/{{.Name}}/{{ .ImageName }}"
    logged(*RUN, "--name=tagged", option, BUSYBOX, "echo", "x")
    assert logged.inspect("tagged")["HostConfig"]["LogConfig"]["Tag"] == option.partition("tag=")[2]
    assert isinstance(logged, journald.InJournal)
    argv = logged.journal.argv("journalctl", "-q", "-o", "cat", "--output-fields=CONTAINER_TAG")
    image = logged.inspect("tagged")["ImageName"]
    match = f"CONTAINER_TAG=dish/tagged/{image}"
    assert subprocess.run([*argv, match], capture_output=True, check=True).stdout.strip()
    logged.fails(*RUN, "--log-opt=tag={{.Nope}}", BUSYBOX, "true", says="no field .Nope")
    logged.fails(*RUN, "--log-opt=tag={{if .Name}}", BUSYBOX, "true", says="only fields")
    logged.fails(*RUN, "--log-opt=max-size=1m", BUSYBOX, "true", says="no file")


def test_others_cannot_write_into_a_log(logged: Tiffin) -> None:
    logged(*RUN, "--name=own", BUSYBOX, "echo", "mine")
    cid = logged.inspect("own")["Id"]
    assert isinstance(logged, journald.InJournal)
    forge = (
        "import socket; s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM); "
        f"s.sendto(b'MESSAGE=forged\\nPRIORITY=6\\nCONTAINER_ID_FULL={cid}\\n', '{SOCKET}')"
    )
    argv = ("setpriv", "--reuid=65534", "--clear-groups", "/usr/bin/python3", "-c", forge)
    subprocess.run(logged.journal.argv(*argv), check=True)
    read = ("journalctl", "-q", "-o", "cat", f"CONTAINER_ID_FULL={cid}")
    subprocess.run(logged.journal.argv("journalctl", "--sync"), check=True)
    seen = subprocess.run(logged.journal.argv(*read), capture_output=True, check=True).stdout
    assert b"forged" in seen
    assert logged("logs", "own").lines == ["mine"]


def test_without_a_journal_it_is_refused(tiffin: Tiffin) -> None:
    if os.path.exists(SOCKET):
        pytest.skip("this machine has a journal")
    tiffin.fails(*RUN, BUSYBOX, "true", says="systemd-journald does not run here")
    assert tiffin("ps", "-a", "-q").out == ""
