"""Flags of `run`, each by what the container sees of it."""

from __future__ import annotations

import os
import pwd
import re
import subprocess
import tempfile
import time
from pathlib import Path

import pytest
from support.cli import BUSYBOX, PATIENCE, Tiffin

V1 = not os.path.exists("/sys/fs/cgroup/cgroup.controllers")
CGROUP = "/sys/fs/cgroup"


def seen(tiffin: Tiffin, flags: list[str], *command: str, runtime: str = "crun") -> str:
    run = tiffin.using("--runtime", runtime)
    return run("run", "--rm", "--network=none", *flags, BUSYBOX, *command).out


def disk() -> str:
    """A whole disk of this machine, or a loop device."""
    for name in sorted(os.listdir("/sys/block")):
        if os.path.exists(f"/dev/{name}") and not name.startswith("zram"):
            return f"/dev/{name}"
    pytest.fail("this machine has no block device")


@pytest.mark.parametrize(
    ("flags", "script", "expected"),
    [
        ("--umask 077", "umask", "0077\n"),
        ("--tz Asia/Tokyo", "date +%Z", "JST\n"),
        ("--oom-score-adj 500", "cat /proc/self/oom_score_adj", "500\n"),
        ("-e A=1 --env-merge A=${A}-$A --env-merge B=$NO.", "echo $A $B", "1-1 .\n"),
        ("--unsetenv container --unsetenv nope", "env | grep -c container=; true", "0\n"),
        (
            "--unsetenv-all -e A=1",
            "/bin/busybox env | /bin/busybox grep -E '^(A|HOSTNAME|container)='",
            "A=1\n",
        ),
        ("--read-only --read-only-tmpfs=false", "touch /tmp/x || echo no", "no\n"),
        ("--read-only", "touch /tmp/x && echo yes", "yes\n"),
        ("--user 1234 -w /tmp", "whoami; echo $HOME", "1234\n/tmp\n"),
        ("--user 7:55", "grep 55: /etc/group", "55:x:55:7\n"),
        ("--user 1234 --passwd=false", "whoami || echo no", "no\n"),
        ("--user 7 --passwd-entry me:*:$UID:0:x:/:/bin/sh", "whoami", "me\n"),
        ("--init --init-path /usr/bin/catatonit", "echo $$ >/dev/null; cat /proc/1/comm", None),
    ],
)
@pytest.mark.parametrize("runtime", ["runc", "crun"])
def test_the_process_sees_it(
    shared: Tiffin, runtime: str, flags: str, script: str, expected: str | None
) -> None:
    given = flags.split()
    if "--init-path" in given:
        place = next(p for p in INITS if os.path.exists(p))
        given[-1], expected = place, f"{os.path.basename('/dev/init')}\n"
    found = seen(shared, given, "/bin/sh", "-c", script, runtime=runtime)
    assert found == expected


INITS = ("/usr/libexec/podman/catatonit", "/usr/bin/catatonit")


def test_environment_of_the_caller(shared: Tiffin, monkeypatch: pytest.MonkeyPatch) -> None:
    """Proxies as they are, below -e; the rest only when asked for, and below the image's."""
    monkeypatch.setenv("http_proxy", "http://proxy:1")
    monkeypatch.setenv("NO_PROXY", "here")
    monkeypatch.setenv("TIFFIN_SEEN", "yes")
    monkeypatch.setenv("HOME", "/nowhere")
    plain = seen(shared, ["-e", "NO_PROXY=there"], "env").splitlines()
    assert "http_proxy=http://proxy:1" in plain
    assert "NO_PROXY=there" in plain
    assert not any("TIFFIN_SEEN" in line for line in plain)
    assert "http_proxy" not in seen(shared, ["--http-proxy=false"], "env")
    whole = seen(shared, ["--env-host", "--http-proxy=false"], "env").splitlines()
    assert {"TIFFIN_SEEN=yes", "http_proxy=http://proxy:1", "HOME=/root"} <= set(whole)


def test_a_user_of_the_host(shared: Tiffin) -> None:
    found = pwd.getpwnam("man")
    out = seen(shared, ["--hostuser", "man", "-u", "man"], "sh", "-c", "id -u; id -un; echo $HOME")
    assert out == f"{found.pw_uid}\nman\n{found.pw_dir}\n"
    assert "man:" not in seen(shared, [], "cat", "/etc/passwd")


def test_it_is_killed_when_its_time_is_over(shared: Tiffin) -> None:
    began = time.monotonic()
    done = shared.attempt("run", "--network=none", "--timeout", "1", BUSYBOX, "sleep", "1000")
    assert done.code == 255  # as podman has it
    assert 1 <= time.monotonic() - began < 300 * PATIENCE
    shared("rm", "-fa")


@pytest.mark.parametrize(
    ("flags", "file", "expected"),
    [
        ("--cpu-quota 50000 --cpu-period 200000", "cpu/cpu.cfs_quota_us", "50000"),
        ("--cpu-quota 50000 --cpu-period 200000", "cpu/cpu.cfs_period_us", "200000"),
        ("--memory 64m --memory-swappiness 10", "memory/memory.swappiness", "10"),
        ("--memory 64m --oom-kill-disable", "memory/memory.oom_control", "oom_kill_disable 1"),
        ("--device-cgroup-rule 'c 10:229 rw'", "devices/devices.list", "c 10:229 rw"),
        ("--device-read-bps DISK:1mb", "blkio/blkio.throttle.read_bps_device", "NUMBER 1048576"),
        ("--device-write-iops DISK:9", "blkio/blkio.throttle.write_iops_device", "NUMBER 9"),
    ],
)
@pytest.mark.skipif(not V1, reason="the files of cgroup v1; the guest has v2, see the next test")
def test_limits_of_cgroup_v1(shared: Tiffin, flags: str, file: str, expected: str) -> None:
    path = disk()
    number = os.stat(path).st_rdev
    words = re.findall(r"'[^']*'|\S+", flags.replace("DISK", path))
    found = seen(shared, [word.strip("'") for word in words], "cat", f"{CGROUP}/{file}")
    wanted = expected.replace("NUMBER", f"{os.major(number)}:{os.minor(number)}")
    assert wanted in found.splitlines()


@pytest.mark.skipif(V1, reason="the files of cgroup v2: in the guest")
@pytest.mark.parametrize(
    ("flags", "file", "expected"),
    [
        ("--cpu-quota 50000 --cpu-period 200000", "cpu.max", "50000 200000"),
        ("--cgroup-conf memory.high=1073741824", "memory.high", "1073741824"),
    ],
)
def test_limits_of_cgroup_v2(shared: Tiffin, flags: str, file: str, expected: str) -> None:
    found = seen(shared, flags.split(), "cat", f"{CGROUP}/{file}")
    assert found.strip() == expected


@pytest.mark.parametrize("runtime", ["runc", "crun"])
def test_descriptors_of_the_caller(shared: Tiffin, runtime: str, tmp_path: Path) -> None:
    (tmp_path / "in").write_text("lunch\n")
    tiffin = shared.using("--runtime", runtime)
    script = 'exec 3<"$1/in" 4>"$1/out"; shift; exec "$@"'

    def run(*args: str) -> str:
        argv = ["sh", "-c", script, "sh", str(tmp_path), *tiffin.argv(*args)]
        return subprocess.run(argv, check=True, capture_output=True, text=True).stdout

    copy = ["sh", "-c", "cat <&3; echo eaten >&4; ls /proc/self/fd | wc -l"]
    # ls has one of its own for the directory
    assert run("run", "--rm", "--network=none", "--preserve-fds=2", BUSYBOX, *copy) == "lunch\n6\n"
    assert (tmp_path / "out").read_text() == "eaten\n"
    tiffin("run", "-d", "--name", "box", "--network=none", BUSYBOX, "sleep", "inf")
    try:
        assert run("exec", "--preserve-fds=2", "box", *copy) == "lunch\n6\n"
        assert tiffin("exec", "box", "sh", "-c", "ls /proc/self/fd | wc -l").word == "4"
    finally:
        tiffin("rm", "-f", "-t", "0", "box")
    for command, name in (("run", BUSYBOX), ("exec", "box")):
        done = tiffin.attempt(command, "--preserve-fds=1", name, "true")
        assert (done.code, done.err) == (125, "Error: --preserve-fds 1: descriptor 3 is not open\n")


def test_the_image_goes_with_the_container(shared: Tiffin) -> None:
    shared("tag", BUSYBOX, "once:1")
    shared("create", "--name", "user", "--network=none", BUSYBOX, "true")
    assert shared("run", "--rmi", "--network=none", "once:1", "echo", "hi").out == "hi\n"
    assert shared("images", "--format", "{{.Repository}}").lines == ["localhost/embedded"]
    shared("run", "--rmi", "--network=none", BUSYBOX, "true")  # `user` needs it
    assert shared("images", "-q").lines
    shared("rm", "user")
    assert "--rmi" in shared.attempt("run", "-d", "--rmi", BUSYBOX, "true").err


def test_the_pod_whose_id_is_in_a_file(shared: Tiffin, tmp_path: Path) -> None:
    file = str(tmp_path / "pod")
    pod = shared("pod", "create", "--network=none", "--pod-id-file", file, "lunch").word
    made = shared("create", "--pod-id-file", file, BUSYBOX, "true").word
    assert shared("inspect", "-f", "{{.Pod}}", made).word == pod
    done = shared.attempt("create", "--pod", "lunch", "--pod-id-file", file, BUSYBOX)
    assert (done.code, "--pod-id-file" in done.err) == (125, True)
    shared("pod", "rm", "-f", "lunch")


@pytest.mark.parametrize("runtime", ["runc", "crun"])
def test_it_is_ready_for_systemd(shared: Tiffin, runtime: str) -> None:
    script = (
        "for d in /run /run/lock /tmp /var/log/journal; do "
        "touch $d/x && echo $d; done; grep -q ':/$' /proc/self/cgroup && echo root; "
        "mkdir $CG/made && rmdir $CG/made && echo $container_uuid"
    )
    place = f"{CGROUP}/systemd" if V1 else CGROUP
    flags = ["--systemd", "always", "-e", f"CG={place}", "--cidfile"]
    with tempfile.TemporaryDirectory() as directory:
        flags.append(f"{directory}/cid")
        out = seen(shared, flags, "sh", "-c", script, runtime=runtime)
        cid = Path(f"{directory}/cid").read_text()
    assert out.splitlines() == ["/run", "/run/lock", "/tmp", "/var/log/journal", "root", cid[:32]]
    plain = seen(shared, [], "sh", "-c", "touch /run/lock/x; env", runtime=runtime)
    assert "container_uuid" not in plain


@pytest.mark.parametrize(
    ("flags", "command", "signal"),
    [
        ([], "/sbin/init", 37),
        ([], "/lib/systemd/systemd", 37),
        (["--systemd=false"], "/sbin/init", 15),
        (["--stop-signal=INT"], "/sbin/init", 2),
        ([], "init", 15),
        (["--systemd=always"], "true", 37),
    ],
)
def test_the_signal_that_systemd_stops_at(
    shared: Tiffin, flags: list[str], command: str, signal: int
) -> None:
    made = shared("create", "--network=none", *flags, BUSYBOX, command).word
    assert shared("inspect", "-f", "{{.Config.StopSignal}}", made).word == str(signal)
    shared("rm", made)


@pytest.mark.parametrize("runtime", ["runc", "crun"])
def test_namespaces_of_another_container(shared: Tiffin, runtime: str) -> None:
    tiffin = shared.using("--runtime", runtime)
    quick = ("--network=none", "--stop-timeout=0")
    tiffin("run", "-d", "--name=owner", "--hostname=lunch", *quick, BUSYBOX, "sleep", "1001")
    flags = ["--pid=container:owner", "--uts=container:owner"]
    out = seen(tiffin, flags, "sh", "-c", "hostname; xargs -0 < /proc/1/cmdline", runtime=runtime)
    assert out == "lunch\nsleep 1001\n"
    tiffin("create", "--name=other", "--pid=container:owner", *quick, BUSYBOX, "sleep", "1002")
    assert "dependent" in tiffin.attempt("rm", "-f", "owner").err
    tiffin("stop", "owner")
    tiffin("start", "other")  # and who it is with
    assert "1001" in tiffin("exec", "other", "cat", "/proc/1/cmdline").out
    assert tiffin("ps", "--format", "{{.Names}}", "--sort", "names").lines == ["other", "owner"]
    tiffin("rm", "-f", "--depend", "owner")
    assert tiffin("ps", "-aq").out == ""


def test_namespaces_at_a_path(shared: Tiffin) -> None:
    own = os.readlink("/proc/self/ns/uts")
    path = f"ns:/proc/{os.getpid()}/ns/uts"
    assert seen(shared, ["--uts", path], "readlink", "/proc/self/ns/uts").strip() == own
    for flag in ("--pid", "--uts"):
        done = shared.attempt("create", f"{flag}=ns:/proc/self/ns/net", BUSYBOX)
        assert (done.code, f"not a {flag[2:]} namespace" in done.err) == (125, True)


@pytest.mark.parametrize("kind", ["bind", "tmpfs", "ignore"])
def test_volumes_of_the_image(shared: Tiffin, kind: str, tmp_path: Path) -> None:
    (tmp_path / "Dockerfile").write_text(f"FROM {BUSYBOX}\nRUN mkdir /data\nVOLUME /data\n")
    shared("build", "-q", "-t", "withvolume", "--network=none", tmp_path)
    script = "grep ' /data ' /proc/mounts | cut -d' ' -f3"
    flags = ["--network=none", "--rm", "--image-volume", kind]
    found = shared("run", *flags, "withvolume", "sh", "-c", script).word
    assert {"bind": found not in ("", "tmpfs"), "tmpfs": found == "tmpfs", "ignore": found == ""}[
        kind
    ]


@pytest.mark.parametrize(
    ("flags", "names"),
    [
        ("--tz Nope/x", "--tz 'Nope/x'"),
        ("--tz ../../etc/passwd", "--tz '../../etc/passwd'"),
        ("--umask 9", "--umask '9'"),
        ("--umask 01777", "--umask '01777'"),
        ("--oom-score-adj 1001", "--oom-score-adj 1001"),
        ("--timeout -1", "--timeout -1"),
        ("--cpus 1 --cpu-quota 5000", "--cpu-quota"),
        ("--cpu-period 1", "--cpu-period 1"),
        ("--memory-swappiness 101", "--memory-swappiness 101"),
        ("--blkio-weight 5", "--blkio-weight 5"),
        ("--device-read-bps /dev/null:1m", "/dev/null: not a block device"),
        ("--device-write-iops nope:1", "'nope:1'"),
        ("--device-cgroup-rule bad", "'bad'"),
        ("--cgroup-conf ../x=1", "../x"),
        ("--os linux --platform linux/amd64", "--platform"),
        ("--hostuser no-such-user", "'no-such-user'"),
        ("--init --init-path nope", "--init-path 'nope'"),
        ("--pid nope", "--pid 'nope'"),
        ("--pid container:nope", "--pid container:nope"),
        ("--uts container:nope --hostname x", "--uts container:nope"),
        ("--uts ns:/nope", "/nope"),
        ("--systemd nope", "--systemd 'nope'"),
        ("--health-on-failure nope --health-cmd x", "--health-on-failure 'nope'"),
        ("--pod-id-file /nope", "--pod-id-file /nope"),
        ("--image-volume nope", "--image-volume 'nope'"),
    ],
)
def test_bad_values(shared: Tiffin, flags: str, names: str) -> None:
    done = shared.attempt("create", *flags.split(), BUSYBOX, "true")
    assert done.code == 125
    assert names in done.err
    assert done.err.count("\n") == 1
    assert shared("ps", "-aq").out == ""
