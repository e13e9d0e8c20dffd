"""Where systemd runs the machine with cgroup v2 (`make vm-test`): scopes, services, Quadlet,
timers, and an ordinary user with a real login."""

from __future__ import annotations

import json
import pwd
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.cli import BUSYBOX, PATIENCE, PROGRAM, Tiffin, eventually

from tiffin import cgroups, systemd

pytestmark = pytest.mark.skipif(
    not (systemd.booted() and cgroups.unified()), reason="needs systemd and cgroup v2 (vm-test)"
)
RUN = ("run", "-d", "--network", "none")
QUADLETS = Path("/run/tiffin/systemd")
CGROUP = Path("/sys/fs/cgroup")
RUNTIMES = [name for name in ("crun", "runc") if shutil.which(name)]


def sh(*words: str, check: bool = True) -> str:
    done = subprocess.run(words, capture_output=True, text=True, timeout=120 * PATIENCE)
    assert done.returncode == 0 or not check, f"{words}: {done.stdout}{done.stderr}"
    return done.stdout.strip()


def active(unit: str, *flags: str) -> str:
    return sh("systemctl", *flags, "is-active", unit, check=False)


def cgroup_of(pid: str) -> str:
    return Path(f"/proc/{pid}/cgroup").read_text().strip().removeprefix("0::")


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_container_and_conmon_are_scopes(shared: Tiffin, runtime: str) -> None:
    tiffin = shared.using("--runtime", runtime)
    cid = tiffin(*RUN, "--name", "s", "--memory", "64m", BUSYBOX, "sleep", "1000").word
    pid, conmon, path = tiffin(
        "inspect", "-f", "{{.State.Pid}} {{.State.ConmonPid}} {{.State.CgroupPath}}", "s"
    ).word.split()
    assert path == f"/machine.slice/tiffin-{cid}.scope"
    assert cgroup_of(pid).startswith(path)
    assert cgroup_of(conmon) == f"/machine.slice/tiffin-conmon-{cid}.scope"
    assert active(f"tiffin-{cid}.scope") == "active"

    def limits() -> set[str]:
        return {file.read_text().strip() for file in (CGROUP / path[1:]).rglob("memory.max")}

    assert str(64 << 20) in limits()
    tiffin("update", "--memory", "80m", "s")
    assert str(80 << 20) in limits()
    assert "/ 83.9MB" in tiffin("stats", "--no-stream", "s").out
    assert "sleep 1000" in tiffin("top", "s").out
    tiffin("pause", "s")
    tiffin("unpause", "s")
    tiffin("exec", "s", "true")
    tiffin("system", "check")
    tiffin("rm", "-f", "-t", "0", "s")
    eventually(lambda: not list((CGROUP / "machine.slice").glob(f"*{cid}*")))
    assert active(f"tiffin-conmon-{cid}.scope") != "active"


def test_other_places(shared: Tiffin) -> None:
    cid = shared(*RUN, "--cgroup-parent", "lunch-box.slice", BUSYBOX, "sleep", "1000").word
    path = shared("inspect", "-f", "{{.State.CgroupPath}}", cid).word
    assert path == f"/lunch.slice/lunch-box.slice/tiffin-{cid}.scope"
    assert (CGROUP / path[1:]).is_dir()
    shared("rm", "-f", "-t", "0", cid)
    shared.fails(*RUN, "--cgroup-parent", "/x", BUSYBOX, "true", says="is not a slice of systemd's")
    plain = shared.using("--cgroup-manager", "cgroupfs")
    cid = plain(*RUN, BUSYBOX, "sleep", "1000").word
    assert shared("inspect", "-f", "{{.State.CgroupPath}}", cid).word == f"/tiffin-{cid}"
    # What made it does not matter any more: the log says where it is.
    shared("pause", cid)
    shared("rm", "-f", "-t", "0", cid)
    assert not (CGROUP / f"tiffin-{cid}").exists()
    here = shared(*RUN, "--cgroups", "no-conmon", BUSYBOX, "sleep", "1000").word
    conmon = shared("inspect", "-f", "{{.State.ConmonPid}}", here).word
    assert cgroup_of(conmon) == cgroups.own()
    shared("rm", "-f", "-t", "0", here)


@pytest.fixture(scope="module")
def quadlet(shared: Tiffin) -> Iterator[Tiffin]:
    """The generator is installed (not in /run, which is mounted noexec)."""
    shared("system", "quadlet", "--install")
    QUADLETS.mkdir(parents=True, exist_ok=True)
    yield shared
    shared("system", "quadlet", "--uninstall")
    shutil.rmtree(QUADLETS)
    sh("systemctl", "daemon-reload")


def define(tiffin: Tiffin, files: dict[str, str]) -> None:
    for path in QUADLETS.iterdir():
        path.unlink()
    places = f"GlobalArgs=--root {tiffin.root} --runroot {tiffin.run}\n"
    for name, text in files.items():
        head, _, rest = text.partition("]\n")
        (QUADLETS / name).write_text(f"{head}]\n{places}{rest}")
    sh("systemctl", "daemon-reload")


def test_a_service_is_its_container(quadlet: Tiffin) -> None:
    script = "echo ready to serve; trap 'exit 0' TERM; sleep 1000 & wait"
    define(
        quadlet,
        {
            "menu.container": f'[Container]\nImage={BUSYBOX}\nExec=sh -c "{script}"\n'
            "Network=none\nVolume=menu.volume:/menu\nMemory=64m\n",
            "menu.volume": "[Volume]\n",
        },
    )
    sh("systemctl", "start", "menu.service")
    row = "{{.State.ConmonPid}} {{.State.CgroupPath}} {{.HostConfig.Memory}}"
    conmon, path, memory = quadlet("inspect", "-f", row, "systemd-menu").word.split()
    assert sh("systemctl", "show", "-P", "MainPID", "menu.service") == conmon
    cid = quadlet("inspect", "-f", "{{.Id}}", "systemd-menu").word
    assert path == f"/system.slice/menu.service/payload-{cid}"
    assert cgroup_of(conmon) == "/system.slice/menu.service/supervisor"
    assert (CGROUP / path[1:] / "memory.max").read_text().strip() == memory == str(64 << 20)
    assert quadlet("volume", "exists", "systemd-menu").code == 0
    said = ("journalctl", "-u", "menu.service", "-b", "-o", "cat", "--no-pager")
    eventually(lambda: "ready to serve" in sh(*said).splitlines(), seconds=20)
    assert "ready to serve" in quadlet("logs", "systemd-menu").out
    # The end of the container is the end of the service, and the log says who asked for it.
    sh("systemctl", "stop", "menu.service")
    assert active("menu.service") == "inactive"
    assert quadlet.attempt("container", "exists", "systemd-menu").code == 1
    told = [json.loads(line) for line in quadlet("events", "--format", "json").lines]
    types = [event["type"] for event in told if event["stream"] == f"container/{cid}"]
    assert types[-1] == "container.removed" and "container.started" in types
    assert not list((CGROUP / "system.slice/menu.service").glob("payload-*"))
    sh("systemctl", "start", "menu.service")
    quadlet("kill", "systemd-menu")
    eventually(lambda: active("menu.service") == "failed", seconds=30)
    assert sh("systemctl", "show", "-P", "ExecMainStatus", "menu.service") == "137"
    sh("systemctl", "reset-failed", "menu.service")
    quadlet("system", "check")


def test_templates_pods_and_mistakes(quadlet: Tiffin) -> None:
    wait = "Exec=sh -c \"trap 'exit 0' TERM; sleep 1000 & wait\"\n"
    define(
        quadlet,
        {
            "each@.container": f"[Container]\nImage={BUSYBOX}\nNetwork=none\n{wait}"
            "Environment=WHICH=%i\n",
            "all.pod": "[Pod]\nNetwork=none\n",
            "one.container": f"[Container]\nImage={BUSYBOX}\nPod=all.pod\n{wait}",
            "typo.container": "[Container]\nImag=x\n",
            "later.kube": "[Kube]\nYaml=x\n",
        },
    )
    said = sh("journalctl", "-b", "-t", "tiffin-quadlet", "-o", "cat", "--no-pager")
    assert "typo.container: Imag= in [Container] is not known; did you mean Image=?" in said
    assert "later.kube: tiffin cannot play Kubernetes YAML yet" in said
    sh("systemctl", "start", "each@soup.service")
    assert quadlet("exec", "systemd-each_soup", "sh", "-c", "echo $WHICH").word == "soup"
    sh("systemctl", "stop", "each@soup.service")
    sh("systemctl", "start", "one.service")
    assert active("all-pod.service") == "active"
    assert quadlet("pod", "ps", "--format", "{{.Name}} {{.Status}}").word == "systemd-all Running"
    sh("systemctl", "stop", "one.service")  # the last one takes the pod along
    eventually(lambda: active("all-pod.service") == "inactive", seconds=30)
    assert quadlet("pod", "ps", "-q").out == ""


def test_generated_units(shared: Tiffin) -> None:
    shared("create", "--name", "g", "--network", "none", BUSYBOX, "sleep", "1000")
    unit = Path("/run/systemd/system/tiffin-test.service")
    try:
        for flags in ([], ["--new"]):
            unit.write_text(shared("generate", "systemd", "--name", "-t", "0", *flags, "g").out)
            sh("systemctl", "daemon-reload")
            sh("systemctl", "start", "tiffin-test")
            conmon = shared("inspect", "-f", "{{.State.ConmonPid}}", "g").word
            assert sh("systemctl", "show", "-P", "MainPID", "tiffin-test") == conmon
            sh("systemctl", "stop", "tiffin-test")
            assert shared("ps", "-q").out == ""
            sh("systemctl", "reset-failed", "tiffin-test", check=False)
    finally:
        unit.unlink()
        sh("systemctl", "daemon-reload")
    shared("rm", "-f", "-i", "g")


# --- an ordinary user -----------------------------------------------------------------------------


class Alice:
    """The guest's user, in logins of her own."""

    uid = 1000

    def __call__(self, line: str, *, check: bool = True) -> str:
        return sh("as", "alice", f"export PATH={Path(PROGRAM).parent}:$PATH; {line}", check=check)


@pytest.fixture(scope="module")
def alice() -> Iterator[Alice]:
    if shutil.which("as") is None or not any(e.pw_name == "alice" for e in pwd.getpwall()):
        pytest.skip("no alice, whom the guest has")
    sh("loginctl", "enable-linger", "alice")
    made = Alice()
    yield made
    made("tiffin rm -af -t 0; tiffin volume prune -f; tiffin rmi -af; true")
    sh("loginctl", "disable-linger", "alice")
    sh("loginctl", "terminate-user", "alice", check=False)
    eventually(lambda: not sh("pgrep", "-u", "alice", check=False), seconds=30)


def test_a_users_container_outlives_the_login(alice: Alice) -> None:
    flags = "--network none --memory 64m --health-cmd true --health-interval 1s"
    cid = alice(f"tiffin run -d --name a {flags} {BUSYBOX} sleep 1000")
    row = "{{.State.Pid}} {{.State.ConmonPid}} {{.State.CgroupPath}}"
    pid, conmon, path = alice(f"tiffin inspect -f '{row}' a").split()
    own = f"/user.slice/user-{alice.uid}.slice/user@{alice.uid}.service/user.slice"
    assert path == f"{own}/tiffin-{cid}.scope"
    assert cgroup_of(pid).startswith(path)
    assert cgroup_of(conmon) == f"{own}/tiffin-conmon-{cid}.scope"
    limits = {file.read_text().strip() for file in (CGROUP / path[1:]).rglob("memory.max")}
    assert str(64 << 20) in limits
    assert Path(f"/proc/{pid}/loginuid").read_text() == str(alice.uid)
    # Each of these was a login of its own, which is over.
    assert alice("tiffin ps --format '{{.Names}}'") == "a"
    health = "tiffin inspect -f '{{.State.Health.Status}}' a"
    eventually(lambda: alice(health) == "healthy", seconds=30)
    timer = f"tiffin-health-{cid}.timer"
    assert alice(f"systemctl --user is-active {timer}") == "active"
    alice("tiffin pause a && tiffin unpause a && tiffin exec a true && tiffin update -m 80m a")
    told = [json.loads(line) for line in alice("tiffin events --format json").splitlines()]
    assert {event["actor"]["loginuid"] for event in told} == {alice.uid}
    alice("tiffin rm -f -t 0 a")
    assert alice(f"systemctl --user is-active {timer}", check=False) != "active"
    assert not (CGROUP / path[1:]).exists()
    said = alice(f"tiffin run --rm --cpuset-cpus 0 {BUSYBOX} true 2>&1", check=False)
    assert "--cpuset-cpus: the cgroup controller cpuset is not there" in said


def test_a_users_service(alice: Alice, quadlet: Tiffin) -> None:
    alice("mkdir -p ~/.config/tiffin/systemd")
    script = "echo for alice; trap 'exit 0' TERM; sleep 1000 & wait"
    path = Path("/home/alice/.config/tiffin/systemd/hers.container")
    path.write_text(f'[Container]\nImage={BUSYBOX}\nNetwork=none\nExec=sh -c "{script}"\n')
    try:
        alice("systemctl --user daemon-reload && systemctl --user start hers")
        assert alice("tiffin ps --format '{{.Names}}'") == "systemd-hers"
        pid = alice("tiffin inspect -f '{{.State.Pid}}' systemd-hers")
        assert "/app.slice/hers.service/payload-" in cgroup_of(pid)
        assert alice("tiffin exec systemd-hers echo inside") == "inside"
        alice("systemctl --user stop hers")
        assert alice("systemctl --user is-active hers", check=False) == "inactive"
        assert alice("tiffin ps -aq") == ""
    finally:
        path.unlink()
        alice("systemctl --user daemon-reload")


def test_root_sees_what_alice_does(alice: Alice, shared: Tiffin) -> None:
    alice("tiffin volume create seen")
    found = [
        json.loads(line)
        for line in shared("events", "--all-users", "--format", "json").lines
        if "volume/seen" in line
    ]
    assert {event["owner"]["name"] for event in found} == {"alice"}
    assert {event["actor"]["loginuid"] for event in found} == {alice.uid}
    assert all(event["actor"]["session"] != 4294967295 for event in found)
