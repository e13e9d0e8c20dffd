"""Secrets: containers have them, and nothing else has."""

from __future__ import annotations

import contextlib
from pathlib import Path

import pytest
from support import world
from support.cli import BUSYBOX, Tiffin, eventually

from tiffin import actor
from tiffin.store import log, sync

VALUE = b"kardamom-5081-tamarinde"
RUN = ("run", "--rm", "--network=none")


def holders(tiffin: Tiffin) -> list[str]:
    """Files of the store and of the run directory that hold the value, by their directory."""
    return [
        str(path.relative_to(tiffin.base))
        for path in tiffin.base.rglob("*")
        if path.is_file() and not path.is_symlink() and VALUE in path.read_bytes()
    ]


def secret(tiffin: Tiffin, name: str = "s") -> str:
    sid = tiffin("secret", "create", "--label", "a=b", name, "-", input=VALUE).word
    return f"root/secrets/{sid}"


def test_in_the_container_and_nowhere_else(tiffin: Tiffin, tmp_path: Path) -> None:
    kept = secret(tiffin)
    flags = (
        "--secret=s",
        "--secret=s,type=env,target=WORD",
        "--secret=s,target=/x/y,uid=5,mode=400",
    )
    look = "cat /run/secrets/s; echo; echo $WORD; stat -c '%u %g %a' /run/secrets/s /x/y; sleep 999"
    name = tiffin.detached("--network=none", *flags, BUSYBOX, "sh", "-c", look)
    eventually(lambda: len(tiffin("logs", name).lines) == 4)
    word = VALUE.decode()
    assert tiffin("logs", name).lines == [word, word, "0 0 444", "5 0 400"]
    assert tiffin("exec", name, "sh", "-c", "echo $WORD").word == word
    run = f"run/containers/{name}/secrets"
    own = {f"{run}/env.json", f"{run}/files/s", f"{run}/2"}
    state = {one for one in holders(tiffin) if one.startswith("run/drivers/runtime-")}
    assert len(state) <= 1, "crun keeps the config.json that it was given"
    assert set(holders(tiffin)) - state == {kept, f"root/containers/{name}/ctr.log"} | own
    assert (tiffin.base / kept).stat().st_mode & 0o7777 == 0o600
    assert tiffin("commit", "-q", name, "with").word
    for shown in (
        tiffin("inspect", name),
        tiffin("explain", name),
        tiffin("events", "--format=json"),
        tiffin("secret", "inspect", "s"),
        tiffin("inspect", "with"),
    ):
        assert word not in shown.out
    listed = tiffin.inspect(name)["Config"]["Secrets"]
    assert [one["Mode"] for one in listed] == [0o444, 0o400]
    tiffin("export", "-o", tmp_path / "with.tar", tiffin.create("with"))
    assert VALUE not in (tmp_path / "with.tar").read_bytes()
    assert tiffin("run", "--rm", "--network=none", "with", "ls", "-A", "/run/secrets").out == ""
    tiffin("stop", "-t", "0", name)
    assert set(holders(tiffin)) == {kept, f"root/containers/{name}/ctr.log"}
    tiffin("start", name)
    assert tiffin("exec", name, "cat", "/run/secrets/s").word == word
    tiffin("secret", "rm", "s")
    assert tiffin("exec", name, "cat", "/run/secrets/s").word == word
    tiffin("stop", "-t", "0", name)
    assert holders(tiffin) == [f"root/containers/{name}/ctr.log"]
    tiffin.fails("start", name, says="secret s")
    tiffin("system", "rebuild")
    assert not list((tiffin.root / "secrets").iterdir())


def test_nothing_stays_when_conmon_and_the_container_are_killed(tiffin: Tiffin) -> None:
    kept = secret(tiffin)
    name = tiffin.detached("--network=none", "--secret=s", BUSYBOX, "sleep", "999")
    world.kill(tiffin.conmon(name))
    world.kill(tiffin.pid(name))
    tiffin("system", "recover")
    assert holders(tiffin) == [kept]


def test_what_killed_commands_left_is_mended(tiffin: Tiffin) -> None:
    whole, going = secret(tiffin, "whole"), Path(secret(tiffin, "going")).name
    (tiffin.root / "secrets/half").write_bytes(VALUE)
    planned = [
        log.Record("secret/half", "secret.creation_planned", '{"name":"half"}'),
        log.Record(f"secret/{going}", "secret.removal_planned", '{"name":"going"}'),
    ]
    with contextlib.closing(sync.open_for_append(f"{tiffin.root}/tiffin.db")) as connection:
        sync.run(connection, log.append(planned, command="c", actor=actor.current("test")))
    assert tiffin("secret", "ls", "--format={{.Name}}").lines == ["whole"]
    said = tiffin("system", "recover").out
    assert "secret half" in said and f"secret {going}" in said
    assert holders(tiffin) == [whole]
    assert tiffin("sql", "SELECT * FROM intents").lines[1:] == []
    secret(tiffin, "half")
    assert tiffin("secret", "rm", "-a").lines


def test_by_name_id_and_prefix(tiffin: Tiffin) -> None:
    sid = Path(secret(tiffin)).name
    for given in ("s", sid, sid[:6]):
        assert tiffin("secret", "inspect", "-f", "{{.ID}}", given).word == sid
    assert tiffin("secret", "ls", "-q").lines == [sid]
    heads = tiffin("secret", "ls").lines[0].split()
    assert heads == ["ID", "NAME", "DRIVER", "CREATED", "UPDATED"]
    old = tiffin.create("--network=none", "--secret=s", BUSYBOX, "cat", "/run/secrets/s")
    replaced = tiffin("secret", "create", "--replace", "s", "-", input="other").word
    assert tiffin(*RUN, "--secret=s", BUSYBOX, "cat", "/run/secrets/s").out == "other"
    assert tiffin("start", "-a", old).out == "other", "made with the one before"
    assert tiffin("secret", "rm", "s").word == replaced
    tiffin("secret", "exists", "s", code=1)
    assert tiffin("secret", "rm", "--ignore", "s").out == ""


@pytest.mark.parametrize("runtime", ["crun", "runc"])
def test_variables_with_either_runtime(tiffin: Tiffin, runtime: str) -> None:
    secret(tiffin)
    flags = ("--secret=s,type=env,target=WORD", "-e", "WORD=public")
    done = tiffin.using(f"--runtime={runtime}")(*RUN, *flags, BUSYBOX, "sh", "-c", "echo $WORD")
    assert done.word == VALUE.decode()
    assert len(holders(tiffin)) == 1


def test_bad_input(tiffin: Tiffin, tmp_path: Path) -> None:
    secret(tiffin)
    tiffin.fails("secret", "create", "s", tmp_path / "no", says="no")
    (tmp_path / "value").write_bytes(b"x")
    tiffin.fails("secret", "create", "s", tmp_path / "value", says="in use")
    tiffin.fails("secret", "create", "a/b", tmp_path / "value", says="a/b")
    (tmp_path / "value").write_bytes(b"x" * 512000)
    tiffin.fails("secret", "create", "t", tmp_path / "value", says="511999")
    tiffin.fails("secret", "create", "t", "/dev/null", says="from 1")
    tiffin.fails("secret", "create", "--env", "t", "NOSUCH", says="NOSUCH")
    tiffin.fails("secret", "inspect", "nosuch", says="no such secret")
    tiffin.fails("secret", "rm", "nosuch", says="no such secret")
    tiffin.fails("create", "--secret=nosuch", BUSYBOX, says="no such secret")
    tiffin.fails("create", "--secret=s", "--secret=s", BUSYBOX, says="two secrets")
    tiffin("secret", "create", "bytes", "-", input=b"\xff")
    tiffin.fails(*RUN, "--secret=bytes,type=env", BUSYBOX, says="no text")
    assert tiffin("ps", "-aq").out == ""
