"""What a container's process gets, seen from the host: /proc, the mount table, its cgroup."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from support import world
from support.cli import BUSYBOX, Tiffin, eventually

SLEEP = (BUSYBOX, "sleep", "1000")
CAPABILITIES = {
    "CHOWN": 0,
    "NET_BIND_SERVICE": 10,
    "NET_ADMIN": 12,
    "SYS_ADMIN": 21,
    "SYS_TIME": 25,
}


def capabilities(pid: int) -> set[str]:
    mask = int(world.status(pid, "CapEff"), 16)
    return {name for name, bit in CAPABILITIES.items() if mask >> bit & 1}


def process(tiffin: Tiffin, *flags: str) -> int:
    """The pid on the host of a sleeping container with these flags."""
    name = tiffin.detached("--network=none", *flags, *SLEEP)
    pid = tiffin.pid(name)
    eventually(lambda: b"sleep" in Path(f"/proc/{pid}/cmdline").read_bytes())
    return pid


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        ([], {"CHOWN", "NET_BIND_SERVICE"}),
        (["--cap-drop=chown"], {"NET_BIND_SERVICE"}),
        (["--cap-add=NET_ADMIN,CAP_SYS_TIME"], {*CAPABILITIES} - {"SYS_ADMIN"}),
        (["--cap-drop=all"], set()),
        (["--cap-drop=all", "--cap-add=chown"], {"CHOWN"}),
        (["-u", "1000"], set()),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_capabilities(shared: Tiffin, flags: list[str], expected: set[str]) -> None:
    assert capabilities(process(shared, *flags)) == expected


def test_privileged_has_what_we_have(shared: Tiffin) -> None:
    pid = process(shared, "--privileged")
    assert world.status(pid, "CapEff") == world.status(os.getpid(), "CapBnd")
    assert world.status(pid, "Seccomp") == "0"
    assert os.path.exists(f"/proc/{pid}/root/dev/kmsg")
    assert not [m for m in world.mounts(pid) if m.target == "/proc/kcore"]


@pytest.mark.parametrize("runtime", ["runc", "crun"])
def test_seccomp_is_on_unless_it_is_switched_off(shared: Tiffin, runtime: str) -> None:
    chosen = shared.using(f"--runtime={runtime}")
    assert world.status(process(chosen), "Seccomp") == "2"
    assert world.status(process(chosen, "--security-opt=seccomp=unconfined"), "Seccomp") == "0"


def test_a_seccomp_profile_of_ones_own(shared: Tiffin, tmp_path: Path) -> None:
    profile = {
        "defaultAction": "SCMP_ACT_ALLOW",
        "syscalls": [{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO"}],
    }
    (tmp_path / "profile.json").write_text(json.dumps(profile))
    flag = f"--security-opt=seccomp={tmp_path}/profile.json"
    name = shared.detached("--network=none", flag, *SLEEP)
    shared("exec", name, "mkdir", "/x", code=1)
    shared("exec", name, "touch", "/x")


def test_no_new_privileges(shared: Tiffin) -> None:
    assert world.status(process(shared), "NoNewPrivs") == "0"
    assert world.status(process(shared, "--security-opt=no-new-privileges"), "NoNewPrivs") == "1"


def test_secrets_of_the_kernel_are_masked(shared: Tiffin) -> None:
    mounts = {m.target: m for m in world.mounts(process(shared))}
    for path in ("/proc/kcore", "/proc/keys", "/proc/timer_list", "/sys/firmware"):
        if os.path.exists(path):
            assert path in mounts, path
    for path in ("/proc/sys", "/proc/sysrq-trigger", "/sys"):
        if os.path.exists(path):
            assert "ro" in mounts[path].options, path


@pytest.mark.parametrize("runtime", ["runc", "crun"])
def test_read_only_root_with_a_tmpfs(shared: Tiffin, runtime: str) -> None:
    flags = ("--rm", "--network=none", "--read-only", "--tmpfs=/scratch:size=1m")
    script = "touch /x 2>/dev/null || echo refused; touch /scratch/x /dev/shm/x && echo fine"
    done = shared.using(f"--runtime={runtime}")("run", *flags, BUSYBOX, "sh", "-c", script)
    assert done.lines == ["refused", "fine"]


def test_mounts(shared: Tiffin, tmp_path: Path) -> None:
    (tmp_path / "menu").write_text("dal\n")
    pid = process(
        shared,
        f"-v={tmp_path}:/rw",
        f"--mount=type=bind,src={tmp_path},dst=/ro,ro",
        "--mount=type=tmpfs,dst=/fast,tmpfs-size=2097152",
        f"-v={tmp_path}/menu:/etc/menu:ro",
    )
    mounts = {m.target: m for m in world.mounts(pid)}
    assert "rw" in mounts["/rw"].options and "ro" in mounts["/ro"].options
    assert mounts["/fast"].type == "tmpfs" and "size=2048k" in mounts["/fast"].options
    assert Path(f"/proc/{pid}/root/etc/menu").read_text() == "dal\n"
    assert mounts["/dev/shm"].type == "tmpfs"


def test_devices(shared: Tiffin) -> None:
    name = shared.detached("--network=none", "--device=/dev/fuse:/dev/lunch:rw", *SLEEP)
    theirs = os.stat(f"/proc/{shared.pid(name)}/root/dev/lunch")
    assert theirs.st_rdev == os.stat("/dev/fuse").st_rdev
    for device in ("null", "zero", "full", "random", "urandom", "tty"):
        shared("exec", name, "test", "-c", f"/dev/{device}")
    assert shared("exec", name, "test", "-e", "/dev/vda", code=1)


@pytest.mark.parametrize("runtime", ["runc", "crun"])
def test_limits_are_the_cgroups(shared: Tiffin, runtime: str) -> None:
    flags = ("--memory=64m", "--pids-limit=77", "--cpus=0.5")
    pid = process(shared.using(f"--runtime={runtime}"), *flags)
    memory = world.cgroup_file(pid, "memory", "memory.limit_in_bytes", "memory.max")
    assert int(memory) == 64 << 20
    assert world.cgroup_file(pid, "pids", "pids.max", "pids.max") == "77"
    if os.path.exists("/sys/fs/cgroup/cgroup.controllers"):
        assert world.cgroup_file(pid, "cpu", "", "cpu.max") == "50000 100000"
    else:
        period = int(world.cgroup_file(pid, "cpu", "cpu.cfs_period_us", ""))
        assert int(world.cgroup_file(pid, "cpu", "cpu.cfs_quota_us", "")) == period / 2


def test_a_container_out_of_memory_says_so(shared: Tiffin) -> None:
    name = shared.create(
        "--network=none", "--memory=16m", BUSYBOX, "sh", "-c", "x=x; while true; do x=$x$x; done"
    )
    shared("start", name)
    assert shared("wait", name).word == "137"
    eventually(lambda: shared.inspect(name)["State"]["OOMKilled"] is True)


def test_ulimits(shared: Tiffin) -> None:
    pid = process(shared, "--ulimit=nofile=123:456", "--ulimit=core=0")
    limits = Path(f"/proc/{pid}/limits").read_text()
    (files,) = (line.split() for line in limits.splitlines() if line.startswith("Max open files"))
    assert files[3:5] == ["123", "456"]


def test_environment_directory_and_hostname(shared: Tiffin, tmp_path: Path) -> None:
    (tmp_path / "env").write_text("# lunch\nFROM_FILE=a b\nBOTH=file\nFROM_CALLER\n")
    out = shared(
        "run", "--rm", "--network=none", "-h", "tiffin-box", "-w", "/made/on/the/way",
        "--env-file", tmp_path / "env", "-e", "BOTH=flag", "-e", "TAKEN",
        BUSYBOX, "sh", "-c", "env; hostname; pwd",
        env={"TAKEN": "from me", "FROM_CALLER": "also from me", "NOT_TAKEN": "x"},
    ).lines  # fmt: skip
    for line in ("FROM_FILE=a b", "BOTH=flag", "TAKEN=from me", "FROM_CALLER=also from me"):
        assert line in out
    assert not any("NOT_TAKEN" in line for line in out)
    assert out[-2:] == ["tiffin-box", "/made/on/the/way"]


def test_entrypoint_and_command(shared: Tiffin) -> None:
    flags = ("run", "--rm", "--network=none")
    assert shared(*flags, "--entrypoint", "echo", BUSYBOX, "a", "b").out == "a b\n"
    assert shared(*flags, "--entrypoint", '["echo", "x"]', BUSYBOX, "a").out == "x a\n"


def test_names_are_known_inside(shared: Tiffin) -> None:
    name = shared.detached("-h", "lunchbox", *SLEEP)
    found = shared.inspect(name)
    address = found["NetworkSettings"]["IPAddress"]
    hosts = [line.split() for line in shared("exec", name, "cat", "/etc/hosts").lines]
    assert any(words[:1] == [address] and "lunchbox" in words for words in hosts)
    assert any(words[:1] == ["127.0.0.1"] and "localhost" in words for words in hosts)
    assert shared("exec", name, "cat", "/etc/hostname").word == "lunchbox"
    assert "nameserver" in shared("exec", name, "cat", "/etc/resolv.conf").out


def test_labels_and_annotations(shared: Tiffin) -> None:
    flags = ("--label=meal=lunch", "--annotation=com.example=yes")
    name = shared.detached("--network=none", *flags, *SLEEP)
    assert shared.inspect(name)["Config"]["Labels"]["meal"] == "lunch"
    (config,) = shared.root.glob(f"**/{name}/**/config.json")
    assert json.loads(config.read_text())["annotations"]["com.example"] == "yes"
    assert shared("ps", "-q", "--filter", "label=meal=lunch").lines == [name[:12]]


def test_a_link_in_the_image_cannot_lead_a_mount_out_of_it(tiffin: Tiffin, tmp_path: Path) -> None:
    """As in CVE-2018-15664 and CVE-2021-30465: the target is resolved inside the root."""
    from support import images

    target = tmp_path / "host"
    target.mkdir()
    layout = images.Layout(tmp_path / "layout")
    layers = [images.base_layer(), images.layer({"data": f"->{target}", "tmp/..data": "x"})]
    layout.tag(layout.image(layers), "latest")
    tiffin("load", "-i", layout.path)
    (image,) = tiffin("images", "-q").lines
    (tmp_path / "mine").mkdir()
    tiffin.attempt("run", "--rm", "--network=none", f"-v={tmp_path}/mine:/data/in", image, "true")
    assert list(target.iterdir()) == []
    assert not world.mounts_below(target)
