"""Volumes that are mounts, their tars, and the mounts that need more than a line: U, O, image."""

from __future__ import annotations

import contextlib
import io
import json
import os
import tarfile
from pathlib import Path

import pytest
from support import world
from support.cli import BUSYBOX, Tiffin, eventually

from tiffin.store import log, sync

RUN = ("run", "--rm", "--network=none")


def path(tiffin: Tiffin, name: str) -> Path:
    return Path(tiffin("volume", "inspect", "-f", "{{.Mountpoint}}", name).word)


def mounted(tiffin: Tiffin, name: str) -> list[world.Mount]:
    return [mount for mount in world.mounts() if mount.target == str(path(tiffin, name))]


def test_a_tmpfs_volume_is_there_while_a_container_uses_it(shared: Tiffin) -> None:
    shared("volume", "create", "-o", "type=tmpfs", "-o", "o=size=2m,mode=1711,noexec", "scratch")
    assert mounted(shared, "scratch") == []
    name = shared.detached("--network=none", "-v", "scratch:/s", BUSYBOX, "sleep", "1000")
    assert shared("exec", name, "stat", "-c", "%a", "/s").word == "1711"
    (mount,) = mounted(shared, "scratch")
    assert mount.type == "tmpfs" and {"noexec", "size=2048k"} <= mount.options
    shared("exec", name, "sh", "-c", "echo dal > /s/menu")
    assert shared(*RUN, "-v", "scratch:/s", BUSYBOX, "cat", "/s/menu").out == "dal\n"
    assert len(mounted(shared, "scratch")) == 1, "it stays for the other"
    shared("exec", name, "sh", "-c", "head -c 3000000 /dev/zero > /s/big", code=1)
    shared("rm", "-f", "-t0", name)
    assert mounted(shared, "scratch") == []
    told = [e["type"] for e in shared.events() if e["stream"] == "volume/scratch"]
    assert told == [
        f"volume.{what}"
        for what in ("created", "mount_planned", "mounted", "populated", "unmounted")
    ]
    assert shared(*RUN, "-v", "scratch:/s", BUSYBOX, "ls", "/s").out == "", "a new one"
    shared("volume", "rm", "scratch")


def test_one_that_is_gone_by_itself_is_unmounted_as_well(shared: Tiffin) -> None:
    shared("volume", "create", "--opt=type=tmpfs", "short")
    shared.detached("--rm", "--network=none", "-v", "short:/s", BUSYBOX, "true")
    eventually(lambda: shared("ps", "-aq").out == "" and not mounted(shared, "short"), seconds=30)
    shared("volume", "rm", "short")


def test_a_bind_volume_and_its_removal(shared: Tiffin, tmp_path: Path) -> None:
    (tmp_path / "site").mkdir()
    (tmp_path / "site/index").write_text("hello\n")
    device = f"--opt=device={tmp_path}/site"
    shared("volume", "create", "--opt=type=none", "--opt=o=bind,ro", device, "site")
    assert shared(*RUN, "-v", "site:/s", BUSYBOX, "cat", "/s/index").out == "hello\n"
    shared(*RUN, "-v", "site:/s", BUSYBOX, "touch", "/s/x", code=1)
    (found,) = json.loads(shared("volume", "inspect", "site").out)
    assert found["Options"] == {"type": "none", "o": "bind,ro", "device": f"{tmp_path}/site"}
    where = path(shared, "site")
    assert shared("volume", "mount", "site").word == str(where)
    assert (where / "index").read_text() == "hello\n"
    shared(*RUN, "-v", "site:/s", BUSYBOX, "true")
    assert mounted(shared, "site"), "it is mounted by hand"
    shared("volume", "rm", "site")
    assert (tmp_path / "site/index").read_text() == "hello\n", "what was mounted stays"
    assert not where.exists() and str(where) not in {m.target for m in world.mounts()}


def test_mount_and_unmount_by_hand(shared: Tiffin) -> None:
    shared("volume", "create", "--opt=type=tmpfs", "byhand")
    shared.fails("volume", "unmount", "byhand", says="not mounted by hand")
    where = shared("volume", "mount", "byhand").word
    (Path(where) / "x").touch()
    assert shared(*RUN, "-v", "byhand:/s", BUSYBOX, "ls", "/s").out == "x\n"
    assert len(mounted(shared, "byhand")) == 1
    assert shared("volume", "unmount", "byhand").word == "byhand"
    assert mounted(shared, "byhand") == []
    shared("volume", "create", "plain")
    assert shared("volume", "mount", "plain").word == str(path(shared, "plain"))
    assert shared("volume", "unmount", "--all").word == "plain"
    shared("volume", "rm", "byhand", "plain")


def test_cp_into_a_stopped_container_reaches_a_mounted_volume(
    shared: Tiffin, tmp_path: Path
) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "f").write_text("x\n")
    opts = ("--opt=type=bind", f"--opt=device={tmp_path}/data")
    shared("volume", "create", *opts, "cpvol")
    name = shared.create("--network=none", "-v", "cpvol:/v", BUSYBOX)
    shared("cp", tmp_path / "f", f"{name}:/v/f")
    assert (tmp_path / "data/f").read_text() == "x\n"
    assert mounted(shared, "cpvol") == []
    shared("rm", name)
    shared("volume", "rm", "cpvol")


@pytest.mark.parametrize(
    ("opts", "says"),
    [
        (["color=red"], "color=red"),
        (["type=bind"], "absolute path"),
        (["type=none", "device=/srv"], "does not say what to mount"),
        (["o=size=5m"], "add type=tmpfs"),
        (["o=uid=me"], "'me' is not a number"),
        (["o=noexec"], "needs a type"),
        (["type=ext4"], "needs a device"),
        (["type="], "no usable value"),
        (["o=copy,nocopy"], "contradict"),
    ],
)
def test_mistakes_in_options_make_no_volume(shared: Tiffin, opts: list[str], says: str) -> None:
    shared.fails("volume", "create", *(f"--opt={opt}" for opt in opts), "bad", says=says)
    shared("volume", "exists", "bad", code=1)


def test_what_cannot_be_mounted_fails_the_start_and_leaves_nothing(shared: Tiffin) -> None:
    opts = ("--opt=type=bind", "--opt=device=/no/such/place")
    shared("volume", "create", *opts, "nowhere")
    shared.create("--name=c", "--network=none", "-v", "nowhere:/v", BUSYBOX, "true")
    shared.fails("start", "c", says="volume nowhere")
    assert mounted(shared, "nowhere") == []
    assert shared.status("c") == "created"
    shared("rm", "c")
    shared("volume", "rm", "nowhere")


def test_owner_of_a_plain_volume(shared: Tiffin) -> None:
    shared("volume", "create", "--opt=o=uid=7,gid=8", "owned")
    status = path(shared, "owned").stat()
    assert (status.st_uid, status.st_gid) == (7, 8)
    shared("volume", "rm", "owned")


def test_a_mount_that_was_killed_is_undone(shared: Tiffin) -> None:
    shared("volume", "create", "--opt=type=tmpfs", "killed")
    where = path(shared, "killed")
    with contextlib.closing(sync.open_for_append(str(shared.root / "tiffin.db"))) as db:
        planned = log.Record(
            "volume/killed", "volume.mount_planned", json.dumps({"path": f"{where}"})
        )
        sync.run(db, log.append([planned], command="dead", actor=json.dumps({"pid": 1})))
    os.system(f"mount -t tmpfs none {where}")
    assert "volume killed: unmounted" in shared("system", "recover").out
    assert mounted(shared, "killed") == []
    assert shared("system", "recover").out == ""
    shared("volume", "rm", "killed")


def test_export_and_import(shared: Tiffin, tmp_path: Path) -> None:
    script = "mkdir -m 750 /v/d; echo x > /v/d/f; chown 7:8 /v/d/f; ln -s f /v/d/l"
    shared(*RUN, "-v", "from:/v", BUSYBOX, "sh", "-c", script)
    shared("volume", "export", "-o", tmp_path / "v.tar", "from")
    with tarfile.open(tmp_path / "v.tar") as tar:
        found = {member.name.rstrip("/"): (member.uid, member.gid) for member in tar}
    assert found["d/f"] == (7, 8) and {"d", "d/l"} <= set(found)
    shared.fails("volume", "import", "to", tmp_path / "v.tar", says="no such volume: to")
    shared("volume", "create", "to")
    shared("volume", "import", "to", tmp_path / "v.tar")
    listing = ("sh", "-c", "cat /v/d/l; stat -c '%a %u' /v/d /v/d/f")
    expected = ["x", "750 0", "644 7"]
    assert shared(*RUN, "-v", "to:/v", BUSYBOX, *listing).lines == expected
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w:gz") as tar:
        escape = tarfile.TarInfo("../../escaped")
        tar.addfile(escape)
    shared.attempt("volume", "import", "to", "-", input=data.getvalue())
    assert not list(shared.base.rglob("escaped")) or (path(shared, "to") / "escaped").exists()
    assert "good tar" in shared("volume", "import", "to", "-", input="no tar", code=125).err
    shared.fails("volume", "import", "to", tmp_path / "none.tar", says="no such file")
    assert shared.events("--filter=event=imported")[0]["data"] == {"source": f"{tmp_path}/v.tar"}
    shared("volume", "rm", "from", "to")


def test_a_path_given_to_the_containers_user(shared: Tiffin, tmp_path: Path) -> None:
    (tmp_path / "d").mkdir()
    (tmp_path / "d/f").touch()
    (tmp_path / "d/l").symlink_to("/etc/passwd")
    before = os.stat("/etc/passwd").st_uid
    flags = ("-v", f"{tmp_path}/d:/d:U", "--user=1000:1001")
    shared(*RUN, *flags, BUSYBOX, "touch", "/d/new")
    owners = {(s.st_uid, s.st_gid) for s in map(os.lstat, (tmp_path / "d").rglob("*"))}
    assert owners == {(1000, 1001)} and os.stat("/etc/passwd").st_uid == before
    tmpfs = "--mount=type=tmpfs,dst=/t,chown"
    assert shared(*RUN, tmpfs, "-u1000", BUSYBOX, "stat", "-c", "%u", "/t").word == "1000"
    shared.fails(*RUN, "-v", "/etc:/e:U", BUSYBOX, "true", says="give away /etc")


def test_an_overlay_is_the_containers_own_and_goes_at_its_end(
    shared: Tiffin, tmp_path: Path
) -> None:
    (tmp_path / "d").mkdir()
    (tmp_path / "d/f").write_text("lower\n")
    script = "cat /d/f; echo upper > /d/f; cat /d/f; touch /d/new"
    shared(
        "run", "--network=none", "--name=o", "-v", f"{tmp_path}/d:/d:O", BUSYBOX, "sh", "-c", script
    )
    assert shared("logs", "o").lines == ["lower", "upper"]
    assert (tmp_path / "d/f").read_text() == "lower\n"
    assert not list(shared.root.glob("containers/*/overlays"))
    shared("start", "-a", "o")
    assert shared("logs", "o").lines[2:] == ["lower", "upper"], "nothing of before"
    (tmp_path / "u").mkdir()
    (tmp_path / "w").mkdir()
    kept = f"{tmp_path}/d:/d:O,upperdir={tmp_path}/u,workdir={tmp_path}/w"
    shared(*RUN, "-v", kept, BUSYBOX, "touch", "/d/kept")
    assert (tmp_path / "u/kept").exists() and not (tmp_path / "d/kept").exists()
    shared.fails(*RUN, "-v", f"{tmp_path}/d/f:/f:O", BUSYBOX, "true", says="not a directory")
    half = f"{tmp_path}/d:/d:O,upperdir={tmp_path}/u"
    shared.fails(*RUN, "-v", half, BUSYBOX, "true", says="go together")
    shared("rm", "o")


def test_the_tree_of_an_image(shared: Tiffin) -> None:
    mount = f"--mount=type=image,src={BUSYBOX},dst=/i"
    assert "busybox" in shared(*RUN, mount, BUSYBOX, "ls", "/i/bin").lines
    shared(*RUN, mount, BUSYBOX, "touch", "/i/x", code=1)
    script = "touch /i/x; ls /i/x"
    assert shared(*RUN, f"{mount},rw=true", BUSYBOX, "sh", "-c", script).out == "/i/x\n"
    assert shared(*RUN, f"{mount},rw=true", BUSYBOX, "ls", "/i/x", code=1).out == ""
    name = shared.detached("--network=none", mount, BUSYBOX, "sleep", "1000")
    assert shared("image", "mount").out == "", "not one for people to look at"
    shared("rm", "-f", "-t0", name)
    assert not list(shared.root.glob("storage/*/containers/*"))
    shared.fails("create", "--mount=type=image,src=nosuch,dst=/i", "--pull=never", BUSYBOX)
    shared("create", "--name=user", mount, BUSYBOX)
    shared("tag", BUSYBOX, "other")
    shared.fails("create", "--mount=type=image,dst=/i", BUSYBOX, says="no source")
    shared("rm", "user")
    shared("rmi", "other")


def test_keys_of_mount(shared: Tiffin, tmp_path: Path) -> None:
    bind = f"type=bind,source={tmp_path},target=/b,readonly,bind-propagation=rslave,relabel=private"
    flags = [f"--mount={bind}", "--mount=type=tmpfs,dst=/t,tmpfs-size=1m,tmpfs-mode=700"]
    flags += ["--mount=type=devpts,dst=/pts,mode=0620,gid=5", "--mount=type=volume,dst=/v,ro=false"]
    shown = shared(*RUN, *flags, BUSYBOX, "sh", "-c", "mount; stat -c %a /t").out
    assert " on /pts type devpts" in shown and "size=1024k" in shown and "700" in shown
    shared(*RUN, *flags, BUSYBOX, "touch", "/b/x", code=1)
    for wrong in ("type=nfs,dst=/x", "type=tmpfs,dst=/x,U=perhaps", "type=bind,src=/,dst=/x,cow"):
        shared.fails("create", f"--mount={wrong}", BUSYBOX, says=wrong)


def test_flags_of_a_bind_mount(shared: Tiffin, tmp_path: Path) -> None:
    line = shared(
        *RUN, "-v", f"{tmp_path}:/b:nodev,noexec,nosuid,ro", BUSYBOX, "grep", " /b ", "/proc/mounts"
    )
    assert {"nodev", "noexec", "nosuid", "ro"} <= set(line.out.split()[3].split(","))
    shared.fails("create", "-v", f"{tmp_path}:/b:exec,noexec", BUSYBOX, says="both exec and noexec")
