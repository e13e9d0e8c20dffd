"""The talk: one container's whole life, and at every stage a look from outside of the engine."""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from support import images, world
from support.cli import BUSYBOX, Tiffin, eventually, tree

pytestmark = pytest.mark.outside

SLEEP, NAP, OTHER = (("sleep", str(n * 10_000_000 + os.getpid())) for n in (1, 2, 3))
"""Commands that are in `ps -ef` only once."""


@pytest.fixture
def host_mnt(tmp_path: Path) -> Path:
    """Stands for the host's /mnt of the talk."""
    directory = tmp_path / "mnt"
    directory.mkdir()
    (directory / "from-the-host").write_text("host\n")
    return directory


@pytest.fixture
def other_engine(tmp_path: Path) -> Iterator[int]:
    """A container of somebody else: runc, by hand. Gives its process id on the host."""
    bundle = tmp_path / "other"
    (bundle / "rootfs").mkdir(parents=True)
    images.unpack(images.base_layer(), bundle / "rootfs")
    subprocess.run(["runc", "spec"], cwd=bundle, check=True)
    spec = json.loads((bundle / "config.json").read_text())
    spec["process"] |= {"terminal": False, "args": ["/bin/busybox", *OTHER], "rlimits": []}
    (bundle / "config.json").write_text(json.dumps(spec))
    runc = ["runc", "--root", str(tmp_path / "runc")]
    with open(os.devnull, "r+b") as null:
        run = [*runc, "run", "-d", "-b", str(bundle), "other"]
        subprocess.run(run, check=True, stdin=null, stdout=null, stderr=null)
    state = subprocess.run([*runc, "state", "other"], capture_output=True, check=True)
    yield json.loads(state.stdout)["pid"]
    subprocess.run([*runc, "delete", "-f", "other"], check=True)


def ps_ef() -> dict[int, tuple[int, str]]:
    """`ps -ef` as pid -> (parent, command line)."""
    out = subprocess.run(
        ["ps", "-ef", "-ww"], capture_output=True, text=True, check=True
    ).stdout.splitlines()[1:]
    rows = (line.split(None, 7) for line in out)
    return {int(row[1]): (int(row[2]), row[7]) for row in rows}


def runtime_state(conmon: int, container: str) -> str:
    """What the OCI runtime itself, asked as conmon asks it, says about the container."""
    words = Path(f"/proc/{conmon}/cmdline").read_bytes().decode().split("\0")
    program = words[words.index("-r") + 1]
    arguments = [w.removeprefix("--runtime-arg=") for w in words if w.startswith("--runtime-arg=")]
    out = subprocess.run([program, *arguments, "state", container], capture_output=True, check=True)
    state: str = json.loads(out.stdout)["status"]
    return state


def test_the_talk(tiffin: Tiffin, host_mnt: Path, other_engine: int) -> None:
    # pull: manifest, config and layers in local storage; layers unpacked by the storage driver
    tiffin("pull", BUSYBOX)
    assert len(images.blobs(tiffin.root)) >= 3
    assert tiffin("images", "-q").lines
    pulled = tree(tiffin.root)
    mounted = world.mounts()

    # create: metadata only. No mount, no config.json, no process
    cid = tiffin.create("--name", "lunch", "-v", f"{host_mnt}:/mnt", BUSYBOX, *SLEEP)
    assert re.fullmatch("[0-9a-f]{64}", cid)
    assert tiffin.status("lunch") == "created"
    made = tree(tiffin.root) - pulled
    assert any(cid in path for path in made)
    assert not any(path.endswith("config.json") for path in made)
    assert world.mounts() == mounted
    assert not any(" ".join(SLEEP) in line or cid in line for _, line in ps_ef().values())

    # mount: the copy-on-write layer is mounted, the bind mount is not there yet
    mount = Path(tiffin("mount", "lunch").word)
    assert [m.target for m in world.mounts_below(mount)] == [str(mount)]
    assert (mount / "bin/sh").exists()
    (mount / "mnt").mkdir(exist_ok=True)
    (mount / "mnt/shadowed").touch()
    assert not (mount / "mnt/from-the-host").exists()
    assert not (host_mnt / "shadowed").exists()

    # init: config.json, merged from three sources; the runtime has *created* the container
    tiffin("init", "lunch")
    (config,) = tiffin.root.glob(f"**/{cid}/**/config.json")
    spec = json.loads(config.read_text())
    binds = [m for m in spec["mounts"] if m["destination"] == "/mnt"]
    assert [m["source"] for m in binds] == [str(host_mnt)]
    assert spec["linux"]["seccomp"]["syscalls"]
    assert spec["process"]["args"] == [*SLEEP]
    if os.path.exists("/sys/fs/selinux/enforce"):
        assert spec["process"]["selinuxLabel"] and spec["linux"]["mountLabel"]
    conmon, waiting = tiffin.conmon("lunch"), tiffin.pid("lunch")
    assert runtime_state(conmon, cid) == "created"
    assert "sleep" not in ps_ef()[waiting][1]

    # start: tiffin has exited, and the tree is init -> conmon -> process
    tiffin("start", "lunch")
    pid = tiffin.pid("lunch")
    eventually(lambda: " ".join(SLEEP) in ps_ef()[pid][1])
    assert ps_ef()[pid][0] == conmon
    assert "conmon" in ps_ef()[conmon][1]
    assert ps_ef()[conmon][0] == 1
    assert runtime_state(conmon, cid) == "running"
    assert not any(re.search(r"bin/tiffin.*start", line) for _, line in ps_ef().values())

    # two engines' processes are plain processes
    assert " ".join(OTHER) in ps_ef()[other_engine][1]
    assert world.namespace(pid, "pid") != world.namespace(other_engine, "pid")

    # the bind mount was made over what was written beneath it
    assert tiffin("exec", "lunch", "ls", "/mnt").lines == ["from-the-host"]
    assert os.listdir(f"/proc/{pid}/root/mnt") == ["from-the-host"]
    tiffin("exec", "lunch", "touch", "/mnt/from-the-container", "/eaten")
    assert (host_mnt / "from-the-container").exists()

    # exec: another process in the same namespaces
    with tiffin.start("exec", "lunch", *NAP) as second:
        eventually(lambda: any(line == " ".join(NAP) for _, line in ps_ef().values()))
        (other,) = (p for p, (_, line) in ps_ef().items() if line == " ".join(NAP))
        for kind in ("mnt", "pid", "net", "ipc", "uts", "cgroup"):
            assert world.namespace(other, kind) == world.namespace(pid, kind), kind
        assert world.namespace(pid, "mnt") != world.namespace("self", "mnt")
        os.kill(other, 9)
        assert second.wait() == 137

    # kill: no process; metadata, config.json and copy-on-write layer stay
    tiffin("kill", "lunch")
    assert tiffin("wait", "lunch").word == "137"
    eventually(lambda: tiffin.status("lunch") == "exited")
    eventually(lambda: not {pid, conmon} & set(ps_ef()))
    assert config.exists()
    mount = Path(tiffin("mount", "lunch").word)
    assert (mount / "eaten").exists()
    assert (mount / "mnt/shadowed").exists(), "what was beneath the bind mount is still there"
    tiffin("unmount", "lunch")

    # commit: the copy-on-write layer as a new image, which runs
    image = tiffin("commit", "lunch", "leftovers").lines[-1]
    assert re.search("[0-9a-f]{64}", image)
    left = tiffin("run", "--rm", "--network=none", "leftovers", "ls", "/", "/mnt").lines
    assert "eaten" in left and "shadowed" in left and "from-the-container" not in left

    # rm, rmi: nothing is left, the bind-mounted file stays
    tiffin("rm", "lunch")
    assert not any(cid in path for path in tree(tiffin.base))
    tiffin("rmi", "leftovers", BUSYBOX)
    assert tiffin("images", "-a", "-q").out == ""
    assert tiffin.left_in_store() == []
    eventually(lambda: world.mounts() == mounted)
    assert (host_mnt / "from-the-container").exists()


def test_an_exited_container_can_be_started_again(tiffin: Tiffin) -> None:
    name = tiffin.create(BUSYBOX, "sh", "-c", "echo again; echo x >> /count; wc -l < /count")
    for times in (1, 2, 3):
        assert tiffin("start", "-a", name).lines == ["again", str(times)]


def test_run_is_all_of_it_in_one_go(tiffin: Tiffin) -> None:
    before = world.mounts()
    done = tiffin("run", "--rm", BUSYBOX, "echo", "hello")
    assert done.out == "hello\n"
    assert tiffin("ps", "-a", "-q").out == ""
    assert world.mounts() == before
    types = [event["type"] for event in tiffin.events()]
    milestones = ["created", "mounted", "initialized", "started", "exited", "removed"]
    positions = [types.index(f"container.{name}") for name in milestones]
    assert positions == sorted(positions)
