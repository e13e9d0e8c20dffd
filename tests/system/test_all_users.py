"""Root reads the logs of everybody as one, and is harmed by nothing that anybody puts there."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support import world
from support.cli import PROGRAM, Started, Tiffin, eventually
from support.person import Person, person

ALL = ("events", "--all-users", "--format", "json")


class Home:
    """Somebody whose home root can find in /etc/passwd."""

    def __init__(self, who: Person, base: Path) -> None:
        self.who, self.base = who, base
        base.chmod(0o711)
        self.home = base / "home"
        self.home.mkdir(mode=0o700)
        os.chown(self.home, who.uid, who.gid)
        subprocess.run(["usermod", "-d", str(self.home), who.name], check=True)

    @property
    def store(self) -> Path:
        return self.home / ".local/share/tiffin"

    def __call__(self, *words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self.who.argv(PROGRAM, *words),
            env={"HOME": str(self.home), "PATH": "/usr/bin:/bin:/usr/sbin"},
            cwd="/",
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
        )


@pytest.fixture(scope="module")
def home() -> Iterator[Home]:
    with person() as who, tempfile.TemporaryDirectory(prefix="tfn-", dir="/tmp") as base:
        made = Home(who, Path(base))
        yield made
        made.who.log_out()
        world.unmount_below(Path(base))


def told(tiffin: Tiffin, *words: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in tiffin(*ALL, *words).lines]


def test_events_of_all_by_time_each_with_its_owner(shared: Tiffin, home: Home) -> None:
    made = home("volume", "create", "theirs")
    assert made.returncode == 0, made.stderr
    shared("volume", "create", "ours")
    found = told(shared, "--filter", "event=volume.created")
    by_name = {event["stream"].removeprefix("volume/"): event for event in found}
    assert by_name["theirs"]["owner"] == {"name": home.who.name, "uid": home.who.uid}
    assert by_name["theirs"]["actor"]["uid"] == home.who.uid
    assert by_name["ours"]["owner"]["uid"] == 0
    assert set(by_name["ours"]["actor"]) >= {"loginuid", "session"}
    assert [event["stream"].removeprefix("volume/") for event in found][-2:] == ["theirs", "ours"]
    whole = told(shared)
    assert [event["time"] for event in whole] == sorted(event["time"] for event in whole)
    text = shared("events", "--all-users", "--filter", "event=volume.created").out
    assert f"[{home.who.name}, login " in text
    template = shared("events", "--all-users", "--format", "{{.Owner}} {{.Type}}").lines
    assert f"{home.who.name} volume.created" in template


def test_others_see_only_their_own(shared: Tiffin, home: Home) -> None:
    done = home("events", "--all-users")
    assert done.returncode == 125
    assert "only root sees the logs of others" in done.stderr
    done = home("--root", str(shared.root), "events")
    assert str(shared.root) not in done.stdout and "ours" not in done.stdout
    assert "ours" not in home("events").stdout


def test_what_does_not_go_together(shared: Tiffin) -> None:
    shared.fails(*ALL, "--after", "3", says="each log has its own seq")
    shared.fails(*ALL, "--consumer", "x", says="--all-users and --consumer")
    shared.fails("events", "--all-users", "--format", "podman", says="have no owner")


@pytest.mark.parametrize("what", ["link", "pipe", "garbage", "loop"])
def test_a_store_that_is_a_trap(shared: Tiffin, home: Home, what: str, tmp_path: Path) -> None:
    """Root is misled to nothing that the user could not read, and others' events come all the
    same."""
    database = home.store / "tiffin.db"
    kept = home.home / "kept.db"
    database.rename(kept)
    secret = tmp_path / "secret.db"
    subprocess.run(["cp", str(shared.root / "tiffin.db"), secret], check=True)
    secret.chmod(0o600)
    try:
        if what == "link":
            database.symlink_to(secret)
        elif what == "pipe":
            os.mkfifo(database)
        elif what == "garbage":
            database.write_bytes(b"SQLite format 3\0" + os.urandom(4096))
        else:
            database.symlink_to(database)
        if database.exists() and not database.is_symlink():
            os.chown(database, home.who.uid, home.who.gid)
        found = told(shared, "--filter", "type=volume")
        seen = {event["owner"]["uid"] for event in found}
        assert 0 in seen and home.who.uid not in seen
    finally:
        database.unlink()
        for more in home.store.glob("tiffin.db-*"):
            more.unlink()
        kept.rename(database)


class Following:
    """`events --all-users --follow`, and what it has said."""

    def __init__(self, tiffin: Tiffin, path: Path) -> None:
        self.path = path
        self.process = Started(
            tiffin.argv(*ALL, "--follow", "--filter", "event=volume.created"),
            stdout=path.open("wb"),
            stdin=subprocess.DEVNULL,
            env=tiffin.environment(),
        )

    def names(self) -> list[str]:
        lines = self.path.read_text().splitlines()
        return [
            json.loads(line)["stream"].removeprefix("volume/")
            for line in lines
            if line.endswith("}")
        ]

    def children(self, uid: int) -> list[int]:
        own = str(self.process.pid)
        return [
            pid
            for pid, _, line in world.processes()
            if " events " in line
            and world.alive(pid)
            and world.status(pid, "PPid") == own
            and world.status(pid, "Uid").split()[0] == str(uid)
        ]


def test_following_everybody(shared: Tiffin, tmp_path: Path) -> None:
    with (
        person(ranges=False) as who,
        tempfile.TemporaryDirectory(prefix="tfn-", dir="/tmp") as base,
    ):
        home = Home(who, Path(base))
        shared("volume", "create", "before")
        following = Following(shared, tmp_path / "told")
        with following.process:
            try:
                eventually(lambda: "before" in following.names())
                # A store that is new, of somebody who had none.
                done = home("volume", "create", "first")
                assert done.returncode == 0, done.stderr
                eventually(lambda: "first" in following.names(), seconds=30)
                home("volume", "create", "second")
                shared("volume", "create", "of-root")
                eventually(lambda: {"second", "of-root"} <= set(following.names()), seconds=30)
                # The reader has the user's rights, so the user may kill it: another one goes on.
                (child,) = following.children(who.uid)
                os.kill(child, signal.SIGKILL)
                home("volume", "create", "third")
                eventually(lambda: "third" in following.names(), seconds=30)
                assert sorted(following.names()) == sorted(set(following.names()))
            finally:
                following.process.terminate()
        home.who.log_out()
        world.unmount_below(Path(base))
