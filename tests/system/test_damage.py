"""`system check` finds every damage done by hand, and `--repair` mends it: afterwards containers
run, and the log, the tables and the machine agree."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sqlite3
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support import images, invariants, world
from support.cli import BUSYBOX, Tiffin, eventually

NOT_QUICK = ("table", "blob", "layer", "stray-link", "stray-conmon", "stray-rule")
WORDS = [BUSYBOX, "sleep", "1000"]


@pytest.fixture(scope="module")
def whole(shared: Tiffin) -> Iterator[Tiffin]:
    """A store that each test leaves whole."""
    yield shared


@pytest.fixture(autouse=True)
def left_whole(request: pytest.FixtureRequest) -> Iterator[None]:
    yield
    if "whole" in request.fixturenames:
        tiffin = request.getfixturevalue("whole")
        tiffin("rm", "-a", "-f", "-t", "0")
        settled(tiffin)


def settled(tiffin: Tiffin) -> None:
    eventually(
        lambda: not invariants.broken(tiffin.base),
        lambda: "\n".join(invariants.broken(tiffin.base)),
    )


@pytest.fixture(params=["overlay", "vfs"])
def stored(request: pytest.FixtureRequest, whole: Tiffin) -> Tiffin:
    return whole.using(f"--storage-driver={request.param}")


def found(tiffin: Tiffin, *flags: str, code: int = 1) -> list[dict[str, Any]]:
    document = json.loads(tiffin("system", "check", "--format=json", *flags, code=code).out)
    assert document["whole"] == (code == 0)
    damage: list[dict[str, Any]] = document["damage"]
    return damage


def mends(tiffin: Tiffin, kind: str, *flags: str) -> str:
    """The damage is found, and named; mended, with an event; and then there is none. Returns what
    was done."""
    quick = () if kind in NOT_QUICK else ("--quick",)
    kinds = {one["kind"] for one in found(tiffin, *quick)}
    assert kind in kinds, kinds
    mended = found(tiffin, "--repair", *quick, *flags, code=0)
    mine = [one for one in mended if one["kind"] == kind]
    assert mine
    assert all(one["mended"] for one in mended)
    told = [e["data"]["kind"] for e in tiffin.events() if e["type"] == "system.damage_repaired"]
    assert kind in told
    assert tiffin("system", "check", *quick).out.startswith("OK: ")
    settled(tiffin)
    return str(mine[0]["how"])


def runs(tiffin: Tiffin) -> None:
    assert tiffin("run", "--rm", "--network=none", BUSYBOX, "cat", "/etc/passwd").out


def layer_of(tiffin: Tiffin, driver: str) -> Path:
    return next((tiffin.root / "storage" / driver / "layers").iterdir())


# --- the database ---------------------------------------------------------------------------------


def test_altered_row_of_a_table(whole: Tiffin) -> None:
    whole("create", "--name=victim", *WORDS)
    with sqlite3.connect(whole.root / "tiffin.db") as connection:
        connection.execute("UPDATE containers SET image='another' WHERE name='victim'")
        connection.execute("DELETE FROM tags")
    assert found(whole, "--quick", code=0) == []
    mends(whole, "table")
    runs(whole)
    assert "another" not in whole("ps", "-a").out


def test_altered_event_is_named_and_not_forged_away(tiffin: Tiffin) -> None:
    tiffin("volume", "create", "one")
    with sqlite3.connect(tiffin.root / "tiffin.db") as connection:
        (before,) = connection.execute("SELECT data FROM events WHERE seq=1").fetchone()
        connection.execute("UPDATE events SET data='{}' WHERE seq=1")
    (damage,) = found(tiffin, "--repair")
    assert damage["problem"] == "event 1 was altered"
    assert "restore a copy" in damage["how"]
    assert "event 1 was altered" in tiffin("events", "verify", code=1).out
    with sqlite3.connect(tiffin.root / "tiffin.db") as connection:
        connection.execute("UPDATE events SET data=? WHERE seq=1", (before,))
    tiffin("system", "check")
    tiffin("volume", "rm", "one")


# --- images ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("what", ["deleted", "truncated", "altered"])
def test_blob_of_an_image_from_a_registry(
    tiffin: Tiffin, layout: images.Layout, registry_address: str, what: str
) -> None:
    name = f"{registry_address}/damage:1"
    images.copy(f"oci:{layout.path}:latest", f"docker://{name}")
    tiffin("pull", name)
    for blob in sorted((tiffin.root / "blobs/sha256").iterdir()):
        blob.chmod(0o600)
        if what == "deleted":
            blob.unlink()
        elif what == "truncated":
            os.truncate(blob, blob.stat().st_size // 2)
        else:
            blob.write_bytes(bytes(blob.stat().st_size))
    assert "fetched again from" in mends(tiffin, "blob")
    tiffin("create", name, "sh")


def test_blob_that_cannot_be_had_again(tiffin: Tiffin) -> None:
    """The image goes; one that is in use only with `--force`."""
    tiffin("create", "--name=victim", *WORDS)
    tiffin("commit", "victim", "localhost/mine:1")
    tiffin("create", "--name=user", "localhost/mine:1", "sh")
    image = json.loads(tiffin("image", "inspect", "localhost/mine:1").out)[0]
    (tiffin.root / "blobs" / image["Digest"].replace(":", "/")).unlink()
    (damage,) = found(tiffin, "--repair")
    assert "cannot be had again" in damage["how"]
    assert "is used by container user" in damage["how"]
    assert "was removed" in mends(tiffin, "blob", "--force")
    assert "localhost/mine" not in tiffin("images").out
    assert "user" not in tiffin("ps", "-a").out
    runs(tiffin)


def test_deleted_blob_of_the_embedded_image(whole: Tiffin) -> None:
    shutil.rmtree(whole.root / "blobs/sha256")
    assert "fetched again from embedded:busybox" in mends(whole, "blob")
    runs(whole)


# --- layers ---------------------------------------------------------------------------------------


def test_altered_files_of_a_layer(stored: Tiffin) -> None:
    runs(stored)
    layer = layer_of(stored, stored.flags[-1].partition("=")[2])
    status = (layer / "etc/passwd").stat()
    text = (layer / "etc/passwd").read_text()
    (layer / "etc/passwd").write_text(text.replace("root", "toor"))
    os.utime(layer / "etc/passwd", ns=(status.st_atime_ns, status.st_mtime_ns))
    (layer / "etc/group").unlink()
    (layer / "etc/evil").write_text("x")
    (layer / "etc/shells").chmod(0o666)
    line = stored("system", "check", code=1).lines[0]
    assert line.endswith(": altered: /etc/evil, /etc/group, /etc/passwd and 1 more")
    assert "unpacked again" in mends(stored, "layer")
    runs(stored)


def test_missing_layer(stored: Tiffin) -> None:
    runs(stored)
    shutil.rmtree(layer_of(stored, stored.flags[-1].partition("=")[2]))
    assert "unpacked again" in mends(stored, "layer", "--quick")
    runs(stored)


def test_altered_layer_beneath_a_running_container(whole: Tiffin) -> None:
    """Nothing is pulled away from under it."""
    tiffin = whole.using("--storage-driver=overlay")
    tiffin("run", "-d", "--name=victim", "--network=none", *WORDS)
    (layer_of(tiffin, "overlay") / "etc/evil").write_text("x")
    (damage,) = found(tiffin, "--repair")
    assert "container victim uses it" in damage["how"]
    assert tiffin.status("victim") == "running"
    tiffin("stop", "-t", "0", "victim")
    mends(tiffin, "layer")
    tiffin("start", "victim")


# --- containers -----------------------------------------------------------------------------------


def test_missing_upper_directory(stored: Tiffin) -> None:
    stored("run", "--name=victim", "--network=none", BUSYBOX, "touch", "/mine")
    (own,) = (stored.root / "storage").glob(f"*/containers/{stored.inspect('victim')['Id']}")
    shutil.rmtree(own)
    assert "what the container had changed is lost" in mends(stored, "own-layer")
    stored("start", "-a", "victim")


@pytest.mark.parametrize("live", [True, False], ids=["running", "exited"])
@pytest.mark.parametrize("what", ["missing", "truncated"])
def test_config_json(whole: Tiffin, live: bool, what: str) -> None:
    whole("run", "-d", "--name=victim", *WORDS)
    before = whole.inspect("victim")
    path = Path(before["OCIConfigPath"])
    text = path.read_bytes()
    if not live:
        whole("stop", "-t", "0", "victim")
    if what == "missing":
        path.unlink()
    else:
        os.truncate(path, 100)
    assert "written again" in mends(whole, "config")
    assert path.read_bytes() == text
    if live:
        whole("exec", "victim", "true")
    else:
        whole("start", "victim")


def test_half_removed_container(stored: Tiffin) -> None:
    """Its directories are gone by hand, its row is not."""
    stored("run", "--name=victim", "--network=none", BUSYBOX, "true")
    victim = stored.inspect("victim")["Id"]
    shutil.rmtree(stored.root / "containers" / victim)
    (own,) = (stored.root / "storage").glob(f"*/containers/{victim}")
    shutil.rmtree(own)
    mends(stored, "directory")
    stored("start", "-a", "victim")
    stored("rm", "victim")


def test_container_that_only_the_machine_has(stored: Tiffin) -> None:
    """Its row is gone, its directories are not."""
    stranger = "f" * 64
    driver = stored.flags[-1].partition("=")[2]
    for path in (
        stored.root / "containers" / stranger,
        stored.root / "storage" / driver / "containers" / stranger / "upper",
        stored.base / "run/containers" / stranger,
    ):
        path.mkdir(parents=True)
        (path / "file").write_text("x")
    kinds = {one["kind"] for one in found(stored)}
    assert kinds == {"stray-directory", "stray-layer-of", "stray-run"}
    mends(stored, "stray-directory")


def test_missing_directory_of_a_volume(whole: Tiffin) -> None:
    whole("run", "--rm", "--network=none", "-v", "kept:/etc", BUSYBOX, "true")
    shutil.rmtree(whole.root / "volumes/kept/_data")
    mends(whole, "volume")
    whole("run", "--rm", "--network=none", "-v", "kept:/data", BUSYBOX, "touch", "/data/x")
    whole("volume", "rm", "kept")


# --- the machine ----------------------------------------------------------------------------------


def test_stale_mount(whole: Tiffin) -> None:
    whole("run", "--name=victim", "--network=none", BUSYBOX, "true")
    (own,) = whole.root.glob(f"storage/*/containers/{whole.inspect('victim')['Id']}/merged")
    subprocess.run(["mount", "-t", "tmpfs", "none", own], check=True)
    mends(whole, "stray-mount")
    whole("start", "-a", "victim")


def test_mount_that_somebody_took_away(whole: Tiffin) -> None:
    whole = whole.using("--storage-driver=overlay")
    whole("create", "--name=victim", *WORDS)
    path = whole("mount", "victim").word
    subprocess.run(["umount", path], check=True)
    assert mends(whole, "unmounted") == "the log says so now"
    assert os.path.exists(f"{whole('mount', 'victim').word}/etc/passwd")
    whole("unmount", "victim")


def test_orphans_of_a_container_that_is_gone(whole: Tiffin) -> None:
    """conmon, cgroup, process, network namespace, interface and rule: each as it was, when the log
    says that the container is gone."""
    whole("run", "-d", "--name=victim", "-p", "127.0.0.1::80", *WORDS)
    victim = whole.inspect("victim")["Id"]
    pid, conmon = whole.pid("victim"), whole.conmon("victim")
    kept = os.open(f"/proc/{pid}/ns/net", os.O_RDONLY)
    rules = world.ruleset()
    os.close(kept)
    links = world.links()
    # What the machine had when the engine died, and what the log says since: `rm` on another
    # machine's copy of the store, so to speak.
    record(whole, f"container/{victim}", "container.removed")
    shutil.rmtree(whole.root / "containers" / victim)
    kinds = {one["kind"] for one in found(whole)}
    assert {"stray-conmon", "stray-cgroup", "stray-netns", "stray-link", "stray-mount"} <= kinds
    mends(whole, "stray-conmon")
    eventually(lambda: not world.alive(pid) and not world.alive(conmon))
    assert world.links() < links
    assert victim[:12] not in world.ruleset()
    assert world.ruleset() != rules
    eventually(lambda: not whole.traces(), lambda: f"left behind: {whole.traces()}")
    runs(whole)


def record(tiffin: Tiffin, stream: str, type_: str) -> None:
    """An event, by nobody's command."""
    from tiffin.store import log, sync

    connection = sync.open_for_append(str(tiffin.root / "tiffin.db"))
    sync.run(connection, log.append([log.Record(stream, type_, "{}")], command="c", actor="{}"))
    connection.close()


def test_rules_that_somebody_took_away_or_left(whole: Tiffin) -> None:
    whole("run", "-d", "--name=victim", "-p", "127.0.0.1:18099:80", *WORDS)
    address = whole.inspect("victim")["NetworkSettings"]["IPAddress"]
    stray = f"element inet tiffin ports4 {{ tcp . 18098 : {address} . 99 }}"
    gone = f"element inet tiffin bound4 {{ 127.0.0.1 . tcp . 18099 : {address} . 80 }}"
    subprocess.run(["nft", f"add {stray}; delete {gone}"], check=True)
    assert {one["kind"] for one in found(whole)} == {"stray-rule", "rules"}
    mends(whole, "stray-rule")
    assert "18099" in world.ruleset()
    assert "18098" not in world.ruleset()


def test_conmon_that_somebody_killed(whole: Tiffin) -> None:
    whole("run", "-d", "--name=victim", "--network=none", *WORDS)
    os.kill(whole.conmon("victim"), signal.SIGKILL)
    (damage,) = found(whole, "--repair")
    assert "tiffin restart victim" in damage["how"]
    assert whole.status("victim") == "running"
    assert mends(whole, "no-conmon", "--force") == "killed"
    whole("start", "victim")


def test_end_that_nobody_recorded(whole: Tiffin) -> None:
    whole("run", "-d", "--name=victim", *WORDS)
    pid, conmon = whole.pid("victim"), whole.conmon("victim")
    os.kill(conmon, signal.SIGKILL)
    os.kill(pid, signal.SIGKILL)
    eventually(lambda: not world.alive(pid) and not world.alive(conmon))
    mends(whole, "ended")
    whole("start", "victim")


def test_text_names_what_is_wrong_and_what_was_done(tiffin: Tiffin) -> None:
    tiffin("run", "--name=victim", "--network=none", BUSYBOX, "true")
    shutil.rmtree(tiffin.root / "containers" / tiffin.inspect("victim")["Id"])
    lines = tiffin("system", "check", "--quick", code=1).lines
    assert "container victim: its directory is missing" in lines
    lines = tiffin("system", "check", "--repair").lines
    assert (
        "mended: container victim: its directory is missing: made again; its log is lost" in lines
    )
    assert lines[-1] == "OK: images, layers and containers are as the log says"
    tiffin.fails("system", "check", "--force", says="--force needs --repair")
    tiffin.fails("system", "check", "--format=x", says="json")
