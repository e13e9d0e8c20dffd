"""A config.json that build() wrote starts a real container, with runc and with crun."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from tiffin import ids
from tiffin.options import ContainerOptions, Mount, Resources
from tiffin.spec import asked, build, facts, seccomp_builtin, users
from tiffin.spec.request import SpecRequest
from tiffin.testing.bundles import busybox_rootfs

UNIFIED = "/sys/fs/cgroup/unified"

Run = Callable[..., str]


@pytest.fixture(scope="module")
def rootfs(tmp_path_factory: pytest.TempPathFactory) -> str:
    root = busybox_rootfs(str(tmp_path_factory.mktemp("spec") / "rootfs"))
    os.mkdir(f"{root}/etc")
    Path(f"{root}/etc/passwd").write_text("root:x:0:0::/root:/bin/sh\nann:x:1000:100::/home/ann:\n")
    Path(f"{root}/etc/group").write_text("users:x:100:\nvideo:x:44:ann\n")
    for name in ("grep", "hostname", "sed", "stat"):
        os.symlink("busybox", f"{root}/bin/{name}")
    return root


def command(runtime: str, state: Path, bundle: Path, container: str) -> list[str]:
    """crun 1.8 refuses to create while cgroup v2 is mounted beside v1: there it gets a mount
    namespace in which that one is gone."""
    words = [runtime, "--root", str(state), "run", "--bundle", str(bundle), container]
    if runtime == "crun" and os.path.ismount(UNIFIED):
        inner = f"umount {UNIFIED} && exec {shlex.join(words)}"
        return ["unshare", "--mount", "--propagation", "private", "sh", "-c", inner]
    return words


@pytest.fixture(params=["runc", "crun"])
def run(request: pytest.FixtureRequest, tmp_path: Path, rootfs: str) -> Iterator[Run]:
    """run(script, **options): what it prints. `changed` has fields of the SpecRequest itself."""
    runtime = request.param
    made: list[str] = []

    def start(script: str, *, changed: dict[str, Any] | None = None, **options: Any) -> str:
        container = ids.new_id()
        chosen = ContainerOptions(image="busybox", command=("sh", "-c", script), **options)
        told: dict[str, Any] = {
            "id": container,
            "name": "box",
            "image_config": {"Env": ["PATH=/bin"]},
            "image_labels": {},
            "options": chosen,
            "facts": facts.gather(),
            "rootfs": rootfs,
            "user": users.in_container(rootfs, chosen.user, chosen.group_add),
            "cgroup": f"/tiffin-spec-{container[:12]}",
        }
        asked.check(chosen, {})
        bundle = tmp_path / container
        bundle.mkdir()
        document = build.build(SpecRequest(**{**told, **(changed or {})})).document
        (bundle / "config.json").write_text(json.dumps(document))
        made.append(container)
        done = subprocess.run(
            command(runtime, tmp_path / "state", bundle, container),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    yield start
    for container in made:
        delete = [runtime, "--root", str(tmp_path / "state"), "delete", "--force", container]
        subprocess.run(delete, capture_output=True)


def status(text: str) -> dict[str, str]:
    return {k: v.strip() for k, _, v in (line.partition(":") for line in text.splitlines())}


def test_the_default_container(run: Run) -> None:
    out = run("cat /proc/self/status; hostname; env; umask", network="none")
    found = status(out)
    assert int(found["CapInh"], 16) == int(found["CapAmb"], 16) == 0
    assert found["CapEff"] == found["CapBnd"] != "0" * 16
    assert found["Seccomp"] == "2"
    assert "container=oci" in out and "HOME=/root" in out and "0022" in out


def test_a_user_has_groups_and_no_capabilities(run: Run) -> None:
    out = run("cat /proc/self/status; echo $HOME", network="none", user="ann")
    found = status(out)
    assert found["Uid"].split() == ["1000"] * 4 and found["Gid"].split() == ["100"] * 4
    assert sorted(found["Groups"].split()) == ["100", "44"]
    assert int(found["CapEff"], 16) == int(found["CapPrm"], 16) == 0
    assert "/home/ann" in out


def test_mounts_of_the_user_and_of_the_engine(run: Run, tmp_path: Path) -> None:
    (tmp_path / "src").mkdir()
    (tmp_path / "src" / "hello").write_text("from the host\n")
    out = run(
        "cat /data/hello; touch /data/x 2>/dev/null || echo read-only; stat -f -c %T /t /dev/shm;"
        "touch /etc/x 2>/dev/null || echo read-only root; touch /tmp/x && echo tmp",
        network="none",
        read_only=True,
        mounts=(
            Mount("bind", "/data", str(tmp_path / "src"), ("ro", "noexec")),
            Mount("tmpfs", "/t", options=("size=1m",)),
        ),
    )
    assert out.split("\n")[:2] == ["from the host", "read-only"]
    assert out.count("tmpfs") == 2 and "read-only root\ntmp\n" in out


def test_host_network_shows_neither_the_hosts_cgroups_nor_a_writable_sys(run: Run) -> None:
    out = run(
        "find=$(ls -d /sys/fs/cgroup/*/tasks /sys/fs/cgroup/cgroup.procs 2>/dev/null);"
        'for f in $find; do echo 1 2>/dev/null >"$f" && echo "wrote $f"; done;'
        "touch /sys/kernel/x 2>/dev/null || echo closed; ls /sys/class/net",
        network="host",
    )
    assert "wrote" not in out and "closed" in out
    assert set(out.split()) >= set(os.listdir("/sys/class/net"))


def test_limits_reach_the_cgroup(run: Run) -> None:
    out = run(
        "cat /sys/fs/cgroup/memory/memory.limit_in_bytes /sys/fs/cgroup/memory.max"
        " /sys/fs/cgroup/pids/pids.max /sys/fs/cgroup/pids.max 2>/dev/null; true",
        network="none",
        resources=Resources(memory=64 << 20, pids_limit=50),
    )
    assert out.split() == [str(64 << 20), "50"]


def test_masked_paths_are_empty_and_proc_sys_is_read_only(run: Run) -> None:
    out = run(
        "cat /proc/keys /proc/timer_list | head -c 10; ls /sys/firmware;"
        "echo 1 2>/dev/null >/proc/sys/kernel/domainname || echo closed",
        network="none",
    )
    assert out == "closed\n"


def test_privileged(run: Run) -> None:
    out = run("cat /proc/self/status; mount -t tmpfs x /mnt && echo mounted", privileged=True)
    assert status(out)["Seccomp"] == "0" and "mounted" in out


def test_our_own_seccomp_profile_lets_programs_run(run: Run) -> None:
    here = msgspec.structs.replace(
        facts.gather(), seccomp_profile=seccomp_builtin.PROFILE, seccomp_source="built in"
    )
    out = run(
        "sh -c 'echo child'; ls / | head -n 1; sleep 0; grep Seccomp: /proc/self/status;"
        "mount -t tmpfs x /mnt 2>/dev/null || echo refused",
        network="none",
        changed={"facts": here},
    )
    assert "child\n" in out and "Seccomp:\t2" in out and out.endswith("refused\n")


def test_shared_namespaces_are_the_hosts(run: Run) -> None:
    kinds = ("pid", "ipc", "uts", "net")
    out = run(
        " ".join(f"ls -l /proc/self/ns/{kind};" for kind in kinds),
        pid="host",
        ipc="host",
        uts="host",
        network="host",
    )
    for kind in kinds:
        assert os.readlink(f"/proc/self/ns/{kind}") in out, kind


def test_a_namespaced_sysctl_is_set(run: Run) -> None:
    read = "cat /proc/sys/kernel/shm_rmid_forced /proc/sys/net/ipv4/ping_group_range"
    out = run(read, network="none", sysctls=(("kernel.shm_rmid_forced", "1"),))
    assert out.split() == ["1", "0", "0"]
