"""Containers with a user namespace of their own."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from support import world
from support.cli import BUSYBOX, Tiffin

OVERLAY_MAPS = tuple(map(int, os.uname().release.split(".")[:2])) > (6, 1)
"""Whether the kernel's overlayfs can show other owners of what is written."""
PAIRS = [("crun", "overlay" if OVERLAY_MAPS else "vfs"), ("runc", "vfs")]
FIRST = 0x70000000
"""Where `auto` begins on a machine whose /etc/subuid has nothing for `containers`."""
RUN = ("run", "--rm", "--network=none")


@pytest.fixture(scope="module")
def store() -> Iterator[Tiffin]:
    command = Tiffin.fresh()
    command("pull", BUSYBOX)
    yield command
    command.close()


def maps(tiffin: Tiffin, name: str) -> list[str]:
    found = tiffin("inspect", "--format", "{{json .HostConfig.IDMappings.UidMap}}", name)
    ranges: list[str] = json.loads(found.out)
    return ranges


def owner(path: Path) -> tuple[int, int]:
    status = path.lstat()
    return status.st_uid, status.st_gid


def listing(tiffin: Tiffin, *command: str) -> dict[str, tuple[str, str]]:
    """name -> (uid, gid), of a tar that a command writes."""
    made = subprocess.run(tiffin.argv(*command), capture_output=True, check=True)
    argv = ["tar", "tv", "--numeric-owner"]
    table = subprocess.run(argv, input=made.stdout, capture_output=True, check=True)
    found = {}
    for line in table.stdout.decode().splitlines():
        _, ids, _, _, _, name, *_ = line.split()
        uid, gid = ids.split("/")
        found[name] = uid, gid
    return found


@pytest.mark.parametrize(("runtime", "driver"), PAIRS)
def test_root_of_the_container_is_nobody_on_the_host(
    store: Tiffin, tmp_path: Path, runtime: str, driver: str
) -> None:
    tiffin = store.using(f"--runtime={runtime}", f"--storage-driver={driver}")
    script = "touch /made && chown 7:8 /made && rm -f /etc/group && echo ready && sleep 1000"
    name = f"{runtime}-{driver}"
    tiffin("create", "--name", name, "--userns=auto", BUSYBOX, "sh", "-c", script)
    tiffin("start", name)
    world_pid = tiffin.pid(name)
    (line,) = maps(tiffin, name)
    inside, outside, size = map(int, line.split(":"))
    assert (inside, size) == (0, 65536)
    assert outside >= FIRST
    assert world.status(world_pid, "Uid").split() == [str(outside)] * 4
    assert Path(f"/proc/{world_pid}/uid_map").read_text().split() == ["0", str(outside), "65536"]
    # its own network and its own files
    assert tiffin("exec", name, "ip", "address", "show", "eth0").out
    assert "eth0" in tiffin("exec", name, "ls", "/sys/class/net").out.split()
    assert tiffin("exec", name, "sh", "-c", "id -u; stat -c %u:%g / /etc/hosts").lines == [
        "0",
        "0:0",
        "0:0",
    ]
    assert tiffin("exec", "-u", "5:6", name, "sh", "-c", "id -u; id -g").lines == ["5", "6"]
    tiffin("exec", name, "sh", "-c", "until [ ! -e /etc/group ]; do :; done")
    assert {"A /made", "D /etc/group"} <= set(tiffin("diff", name).lines)

    # what leaves it has the owners that it sees, whether it runs or not
    (tmp_path / "menu").write_text("dal")
    tiffin("cp", tmp_path / "menu", f"{name}:/menu")
    for _ in "running", "stopped":
        assert listing(tiffin, "export", name)["made"] == ("7", "8")
        assert listing(tiffin, "cp", f"{name}:/made", "-") == {"made": ("7", "8")}
        assert listing(tiffin, "cp", f"{name}:/menu", "-") == {"menu": ("0", "0")}
        tiffin("cp", f"{name}:/made", tmp_path / "made")
        assert owner(tmp_path / "made") == (0, 0)
        tiffin("stop", "-t", "0", name)
    tiffin("commit", "-q", name, f"of-{name}")
    stat = ("stat", "-c", "%u:%g", "/made", "/menu")
    assert tiffin(*RUN, f"of-{name}", *stat).lines == ["7:8", "0:0"]
    assert tiffin(*RUN, "--userns=auto", f"of-{name}", *stat).lines == ["7:8", "0:0"]

    tiffin("start", name)  # with the same ids, and what it had
    assert tiffin("exec", name, *stat).lines == ["7:8", "0:0"]
    tiffin("rm", "-f", "-t", "0", name)
    assert not world.mounts_below(store.base)
    for directory in ("mapped", "userns", "drivers/storage-overlay/mapped"):
        assert not (store.run / directory).exists() or not os.listdir(store.run / directory)


def test_no_two_containers_have_an_id_in_common(store: Tiffin) -> None:
    names = ["a", "b", "c"]
    for name in names:
        store.create("--name", name, "--userns=auto:size=1000,uidmapping=5:9:1", BUSYBOX, "true")
    ranges = []
    for name in names:
        first, fixed, rest = maps(store, name)
        assert fixed == "5:9:1"
        assert first.startswith("0:") and first.endswith(":5")
        ranges.append((int(first.split(":")[1]), int(first.split(":")[1]) + 999))
        assert rest.split(":")[0] == "6"
    for before, after in zip(sorted(ranges), sorted(ranges)[1:], strict=False):
        assert before[1] <= after[0]
    planned = [e["data"] for e in store.events() if e["type"] == "container.creation_planned"]
    assert [each["id_maps"]["uids"][0][1] for each in planned[-3:]] == [r[0] for r in ranges]
    store("rm", "b")
    store.create("--name", "d", "--userns=auto:size=999", BUSYBOX, "true")
    assert maps(store, "d") == [f"0:{ranges[1][0]}:999"]  # what is free is used again
    store("rm", "a", "c", "d")
    store("system", "rebuild")


def test_given_maps_and_joined_namespaces(store: Tiffin) -> None:
    detached = ("run", "-d", "--network=none", "--name=first", "--uidmap=0:300000:2000")
    store(*detached, "--gidmap=0:400000:2000", BUSYBOX, "sleep", "1000")
    namespace = world.namespace(store.pid("first"), "user")
    show = ("sh", "-c", "readlink /proc/self/ns/user; cat /proc/self/gid_map")
    for mode in "container:first", f"ns:/proc/{store.pid('first')}/ns/user":
        for runtime in "crun", "runc":
            out = store.using(f"--runtime={runtime}")(*RUN, f"--userns={mode}", BUSYBOX, *show)
            assert out.lines[0] == namespace
            assert out.lines[1].split() == ["0", "400000", "2000"]
    both = ("run", "--rm", "--network=container:first", "--userns=container:first")
    seen = store(*both, BUSYBOX, "ls", "/sys/class/net").out.split()
    assert seen == ["lo"]  # of that network, and not of the host's
    store("create", "--name=second", "--network=none", "--userns=container:first", BUSYBOX, "true")
    store("stop", "-t", "0", "first")
    store.fails("start", "second", says="does not run")
    assert store.status("second") == "created"
    store("rm", "first")
    store.fails("start", "second", says="is gone")
    store("rm", "second")


def test_a_volume_keeps_the_owners_that_containers_see(store: Tiffin) -> None:
    auto = (*RUN, "--userns=auto:size=3000", "-v", "kept:/kept")
    store(*auto, BUSYBOX, "sh", "-c", "echo dal > /kept/menu; chown 3:4 /kept/menu")
    other = store.detached("--network=none", "--userns=auto", BUSYBOX, "sleep", "1000")
    stat = ("stat", "-c", "%u:%g", "/kept", "/kept/menu")
    assert store(*auto, BUSYBOX, *stat).lines == ["0:0", "3:4"]
    assert store(*RUN, "-v", "kept:/kept", BUSYBOX, *stat).lines == ["0:0", "3:4"]
    path = Path(store("volume", "inspect", "-f", "{{.Mountpoint}}", "kept").word)
    assert owner(path / "menu") == (3, 4)
    # what the image has at the place comes with its owners
    store(*RUN, "--userns=auto", "-v", "etc:/etc", BUSYBOX, "stat", "-c", "%u", "/etc/passwd")
    path = Path(store("volume", "inspect", "-f", "{{.Mountpoint}}", "etc").word)
    assert owner(path / "passwd") == owner(path) == (0, 0)
    store("rm", "-f", "-t", "0", other)
    store("volume", "rm", "kept", "etc")


def test_bind_mounts_mapped_and_chowned(store: Tiffin, tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    (tmp_path / "dir").mkdir()
    (tmp_path / "dir/file").touch()
    (tmp_path / "link").symlink_to("/etc/passwd")
    maps = "--uidmap=0:300000:2000"
    idmap = f"{tmp_path}:/v:idmap"
    for runtime in "crun", "runc":
        tiffin = store.using(f"--runtime={runtime}")
        script = "stat -c %u:%g /v/dir/file /w/dir/file; touch /v/made"
        out = tiffin(*RUN, maps, "-v", idmap, "-v", f"{tmp_path}:/w", BUSYBOX, "sh", "-c", script)
        assert out.lines == ["0:0", "65534:65534"]
        assert owner(tmp_path / "made") == (0, 0)
    store(*RUN, maps, "-u", "7:8", "-v", f"{tmp_path}:/v:U", BUSYBOX, "touch", "/v/mine")
    for name in ".", "dir", "dir/file", "link", "mine":
        assert owner(tmp_path / name) == (300007, 300008)
    assert owner(Path("/etc/passwd")) == (0, 0)
    store(*RUN, "-v", f"{tmp_path}:/v:U", BUSYBOX, "true")
    assert owner(tmp_path / "dir/file") == (0, 0)
    store.fails("create", "-v", "/etc:/v:U", BUSYBOX, says="place of the system")
    proc = ("-v", "/proc/sys:/v:idmap")
    assert "owners" in store.fails("run", "--rm", "--network=none", maps, *proc, BUSYBOX, "true")
    assert store("ps", "-aq").out == ""


@pytest.mark.parametrize("runtime", ["crun", "runc"])
def test_least_privilege_holds_with_it(store: Tiffin, runtime: str) -> None:
    tiffin = store.using(f"--runtime={runtime}")
    hard = ("--read-only", "--security-opt=no-new-privileges", "--cap-drop=all")
    script = (
        "touch /x; mount -t tmpfs t /tmp; echo 1 > /proc/sys/kernel/core_pattern;"
        "grep -E 'NoNewPrivs|CapBnd' /proc/self/status; touch /tmp/ok && echo written"
    )
    done = tiffin(*RUN, "--userns=auto", *hard, BUSYBOX, "sh", "-c", script)
    assert [line.split() for line in done.lines] == [
        ["CapBnd:", "0000000000000000"],
        ["NoNewPrivs:", "1"],
        ["written"],
    ]
    assert done.err.count("Read-only file system") == 2
    assert "mount: " in done.err
    device = ("--device=/dev/fuse:/dev/other", "--device=/dev/zero:/dev/nought:r")
    script = "head -c 3 /dev/nought | wc -c; stat -c %t:%T /dev/other"
    assert tiffin(*RUN, "--userns=auto", *device, BUSYBOX, "sh", "-c", script).lines == [
        "3",
        "a:e5",
    ]
    script = "mknod /disk b 8 0; mkdir /m; mount -t tmpfs none /m && echo mounted"
    done = tiffin(*RUN, "--userns=auto", "--privileged", BUSYBOX, "sh", "-c", script)
    assert done.out == "mounted\n"  # all of its own namespace, and nothing of the host's
    assert "mknod" in done.err


def test_config_json_says_where_the_ids_come_from(store: Tiffin) -> None:
    store("create", "--name=told", "--network=none", "--userns=auto:size=99", BUSYBOX, "true")
    store("init", "told")
    config = json.loads((Path(store.inspect("told")["OCIConfigPath"])).read_text())
    (line,) = config["linux"]["uidMappings"]
    assert (line["containerID"], line["size"]) == (0, 99)
    origins = json.loads((Path(store.inspect("told")["StaticDir"]) / "origins.json").read_text())
    said = {"source": "user", "detail": "--userns auto:size=99"}
    assert origins["/linux/uidMappings"] == origins["/linux/gidMappings"] == said
    assert store.inspect("told")["HostConfig"]["UsernsMode"] == "private"
    store("rm", "-f", "told")


@pytest.mark.parametrize(("runtime", "driver"), PAIRS)
def test_secrets_and_trees_of_images_have_the_owners_it_is_to_see(
    store: Tiffin, runtime: str, driver: str
) -> None:
    tiffin = store.using(f"--runtime={runtime}", f"--storage-driver={driver}")
    tiffin("secret", "create", "door", "-", input="mellon")
    flags = ["--secret=door,uid=7,mode=0400", "--secret=door,target=/etc/door,mode=0600"]
    flags.append(f"--mount=type=image,src={BUSYBOX},dst=/i,rw=true")
    script = "stat -c %u:%a /run/secrets/door /etc/door; touch /i/x; stat -c %u /i/bin /i/x"
    out = tiffin(*RUN, "--userns=auto", *flags, BUSYBOX, "sh", "-c", script)
    assert out.lines == ["7:400", "0:600", "0", "0"]
    tiffin("secret", "rm", "door")


def test_repair_and_comparison_know_its_ids(store: Tiffin) -> None:
    given = ("--name=mended", "--network=none", "--userns=auto", "-v", "data:/data")
    store.create(*given, BUSYBOX, "sh", "-c", "touch /made; sleep 1000")
    store("start", "mended")
    store("exec", "mended", "sh", "-c", "until [ -e /made ]; do :; done")
    for _ in "running", "stopped":
        assert store("diff", "mended", BUSYBOX).lines == ["A /data", "C /etc", "A /made"]
        store("stop", "-t", "0", "mended")
    config = Path(store.inspect("mended")["OCIConfigPath"])
    before = config.read_bytes()
    config.unlink()
    store("system", "check", "--quick", "--repair")
    assert json.loads(config.read_bytes()) == json.loads(before)
    assert not world.mounts_below(store.run)
    store("rm", "mended")
    store("volume", "rm", "data")


def test_errors_say_what_to_do(store: Tiffin) -> None:
    create = ("create", "--network=none")
    overlay = ("--userns=auto", "-v", f"{store.base}:/v:O")
    store.fails(*create, *overlay, BUSYBOX, says="does not go with --userns")
    store("pod", "create", "lunch")
    store.fails("create", "--pod=lunch", "--userns=auto", BUSYBOX, says="pod lunch")
    store("pod", "rm", "lunch")
    store.fails(*create, "--userns=keep-id", BUSYBOX, says="ordinary users")
    store.fails(*create, "--userns=container:nope", BUSYBOX, says="no such container: nope")
    store.fails(*create, "--userns=ns:/etc/passwd", BUSYBOX, says="not a user namespace")
    store.fails(*create, "--userns=ns:/proc/self/ns/net", BUSYBOX, says="not a user namespace")
    store.fails(*create, "--subuidname=nobody-here", BUSYBOX, says="nobody-here:START:SIZE")
    store.fails(*create, "--userns=auto:size=900000000", BUSYBOX, says="are left")
    store.base.chmod(0o700)
    try:
        run = ("run", "--rm", "--network=none", "--userns=auto")
        store.fails(*run, BUSYBOX, says=f"chmod o+x {store.base}")
    finally:
        store.base.chmod(0o711)
    assert store("ps", "-aq").out == ""
    assert not world.mounts_below(store.base)


def test_a_killed_start_leaves_no_mapped_mount(store: Tiffin) -> None:
    """The intents name them: what a dead command has mounted is taken away by the next."""
    store("create", "--name=half", "--network=none", "--userns=auto", BUSYBOX, "true")
    store("mount", "half")
    assert [m.type for m in world.mounts_below(store.run / "mapped")] == ["overlay"]
    cid = store.inspect("half")["Id"]
    shown = store.run / f"drivers/storage-overlay/mapped/{cid}"
    shown.mkdir()
    subprocess.run(["mount", "--bind", store.root / "storage/overlay", shown], check=True)
    store("rm", "-f", "half")
    assert not world.mounts_below(store.base)
    assert (store.root / "storage/overlay/layers").is_dir()
    assert os.listdir(store.root / "storage/overlay/layers")
    assert store(*RUN, BUSYBOX, "echo", "whole").out == "whole\n"


def test_where_overlay_cannot_map_another_driver_is_taken(store: Tiffin) -> None:
    """Unless it was asked for; containers without ids of their own stay on it."""
    driver = "overlay" if OVERLAY_MAPS else "vfs"
    store("create", "--name=mapped", "--userns=auto", BUSYBOX, "true")
    store("create", "--name=plain", "--userns=host", BUSYBOX, "true")
    assert store.inspect("mapped")["Driver"] == driver
    assert store.inspect("plain")["Driver"] == "overlay"
    assert store("start", "-a", "mapped").out == ""
    asked = store.using("--storage-driver=overlay")
    words = ("run", "--rm", "--network=none", "--userns=auto", BUSYBOX, "true")
    if OVERLAY_MAPS:
        asked(*words)
    else:
        asked.fails(*words, says="use --storage-driver vfs")
        store.fails("storage", "migrate", "--to=overlay", "mapped", says="other owners")
    store("rm", "mapped", "plain")
