"""Running containers that mean harm to who works with them."""

from __future__ import annotations

import contextlib
import ctypes
import hashlib
import os
import re
import shutil
import stat
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from support import world
from support.cli import BUSYBOX, Tiffin, eventually

AT_FDCWD = -100
EXCHANGE = 2
"""renameat2(2)"""
ROUNDS = 50 if os.environ.get("TIFFIN_TORTURE") == "all" else 2
SECRET = "what only the host has"
RUNTIMES = ["runc", "crun"]


@pytest.fixture(scope="module")
def box(shared: Tiffin) -> str:
    """A running container on overlayfs."""
    return shared.detached("--network=none", BUSYBOX, "sleep", "1000")


@pytest.fixture(scope="module", params=["overlay-runc", "vfs-crun"])
def racer(shared: Tiffin, request: pytest.FixtureRequest) -> tuple[Tiffin, str]:
    """A running container with /t/d, and the flags of its drivers."""
    storage, runtime = request.param.split("-")
    chosen = shared.using(f"--storage-driver={storage}", f"--runtime={runtime}")
    script = "mkdir -p /t/d; echo mine >/t/d/f; exec sleep 1000"
    name = chosen.detached("--network=none", BUSYBOX, "sh", "-c", script)
    eventually(lambda: chosen.attempt("exec", name, "test", "-e", "/t/d/f").code == 0)
    return chosen, name


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside/f").write_text(SECRET)
    (tmp_path / "outside/passwd").write_text("root:x:0:0::/:\nhost:x:0:0::/:\n")
    return tmp_path / "outside"


@contextlib.contextmanager
def swapping(one: Path, other: Path) -> Iterator[Callable[[], int]]:
    """One name is now what it was, now the other, thousands of times a second; gives a function
    that tells how often. On the host: no container is as quick."""
    exchange = ctypes.CDLL(None, use_errno=True).renameat2
    stop = threading.Event()
    swaps = 0

    def swap() -> None:
        nonlocal swaps
        while not stop.is_set():
            swaps += exchange(AT_FDCWD, bytes(one), AT_FDCWD, bytes(other), EXCHANGE) == 0

    thread = threading.Thread(target=swap)
    thread.start()
    try:
        yield lambda: swaps
    finally:
        stop.set()
        thread.join()
        if one.is_symlink():
            exchange(AT_FDCWD, bytes(one), AT_FDCWD, bytes(other), EXCHANGE)


def test_what_is_read_while_a_directory_turns_into_a_link(
    racer: tuple[Tiffin, str], outside: Path, tmp_path: Path
) -> None:
    """CVE-2018-15664, CVE-2019-10152, CVE-2023-0778: `cp`, `export`, `commit` and `diff` of a
    container that puts a link to the host's files where a directory was."""
    chosen, name = racer
    root = Path(f"/proc/{chosen.pid(name)}/root/t")
    os.symlink(outside, root / "l")
    with swapping(root / "d", root / "l") as swaps:
        for number in range(ROUNDS):
            for words in (
                ("cp", f"{name}:/t/d/.", str(tmp_path / f"dir{number}")),
                ("cp", f"{name}:/t/d/f", str(tmp_path / f"file{number}")),
                ("cp", f"{name}:/t", str(tmp_path / f"tree{number}")),
                ("cp", f"{name}:/t/d", "-"),
            ):
                assert SECRET not in chosen.attempt(*words).out
            assert "host" not in chosen.attempt("exec", "-w", "/t/d", name, "ls").out
        chosen.attempt("export", "-o", tmp_path / "export.tar", name)
        assert chosen.attempt("diff", name).code in (0, 125)
        chosen.attempt("commit", "-q", name, "localhost/raced")
        assert swaps() > 500
    os.unlink(root / "l")
    found = subprocess.run(
        ["grep", "-rl", SECRET, tmp_path, "--exclude-dir=outside"],
        capture_output=True,
        text=True,
    ).stdout
    assert found == ""
    assert sorted(os.listdir(outside)) == ["f", "passwd"]
    run = ("run", "--rm", "--network=none", "localhost/raced")
    assert chosen.attempt(*run, "grep", "-r", SECRET, "/t").out == ""


def test_a_volume_is_not_filled_through_a_link_made_meanwhile(
    racer: tuple[Tiffin, str], outside: Path
) -> None:
    """CVE-2018-15664's like: what the image has at a volume's place is copied into it, and whoever
    is in the container's files at that time may put a link to the host's there."""
    chosen, _ = racer
    script = "mkdir -p /t/d; echo mine >/t/d/f"
    chosen("run", "--name=maker", "--network=none", BUSYBOX, "sh", "-c", script)
    chosen("commit", "-q", "maker", "localhost/filled")
    chosen("rm", "maker")
    found = []
    for number in range(ROUNDS):
        volume = f"raced{number}"
        name = chosen.create("--network=none", "-v", f"{volume}:/t/d", "localhost/filled", "true")
        root = Path(chosen("mount", name).word)
        shutil.rmtree(root / "t/d")  # overlayfs exchanges no directories of a layer
        (root / "t/d").mkdir()
        (root / "t/d/f").write_text("mine\n")
        os.symlink(outside, root / "t/l")
        with swapping(root / "t/d", root / "t/l") as swaps:
            chosen.attempt("start", "-a", name)
            assert swaps() > 50
        for path in (chosen.root / "volumes").glob(f"{volume}/_data/**/*"):
            found.append(path.read_text() if path.is_file() else "")
        chosen("rm", "-f", "-t", "0", name)
        chosen.attempt("volume", "rm", volume)
    assert set(found) <= {"mine\n", ""}
    assert sorted(os.listdir(outside)) == ["f", "passwd"]


def test_sizes_are_not_counted_through_links_made_meanwhile(
    racer: tuple[Tiffin, str], outside: Path
) -> None:
    """`ps --size`, `stats` and `system df` look at the container's own files alone."""
    chosen, name = racer
    (outside / "f").write_bytes(b"x" * (64 << 20))
    root = Path(f"/proc/{chosen.pid(name)}/root/t")
    os.symlink(outside, root / "l")
    with swapping(root / "d", root / "l"):
        for _ in range(ROUNDS):
            size = chosen.attempt("inspect", "--size", "--format", "{{.SizeRw}}", name)
            assert size.code or int(size.word) < 32 << 20
            for words in (("stats", "--no-stream", name), ("system", "df", "-v")):
                assert "67." not in chosen.attempt(*words).out
    os.unlink(root / "l")


def test_who_is_who_while_passwd_turns_into_a_link(
    racer: tuple[Tiffin, str], outside: Path
) -> None:
    """CVE-2024-9676: users are looked up in the container's files, whatever those become."""
    chosen, name = racer
    root = Path(f"/proc/{chosen.pid(name)}/root")
    os.symlink(outside / "passwd", root / "etc/link")
    with swapping(root / "etc/passwd", root / "etc/link") as swaps:
        for _ in range(ROUNDS):
            assert chosen.attempt("exec", "-u", "host", name, "id", "-u").out == ""
            assert "host" not in chosen.attempt("top", name, "user").out
        assert swaps() > 500
    os.unlink(root / "etc/link")


def test_a_passwd_that_is_no_file_or_never_ends(shared: Tiffin, box: str) -> None:
    """CVE-2024-9676 and its like: a pipe that nobody writes to, a device, terabytes of zeros."""
    root = Path(f"/proc/{shared.pid(box)}/root/etc")
    makers: tuple[Callable[[Path], object], ...] = (
        os.mkfifo,
        lambda path: os.mknod(path, stat.S_IFCHR | 0o666, os.makedev(1, 5)),
        lambda path: os.symlink("/dev/zero", path),
        lambda path: os.symlink("/proc/self/fd/0", path),
        lambda path: os.symlink("passwd", path),
        lambda path: os.mkdir(path),
        lambda path: subprocess.run(["truncate", "-s", "4T", path], check=True),
    )
    for make in makers:
        (root / "passwd").unlink()
        make(root / "passwd")
        if (root / "passwd").is_fifo():  # runc itself would wait for it
            shared.fails("exec", "-u", "12", box, "true", says="is a pipe")
        else:
            who = shared("exec", "-u", "12", box, "grep", "Uid:", "/proc/self/status")
            assert who.out.split()[1] == "12"
            shared.fails("exec", "-u", "ann", box, "true", says="no user")
        assert "sleep" in shared("top", box).out
        if (root / "passwd").is_dir() and not (root / "passwd").is_symlink():
            (root / "passwd").rmdir()
            (root / "passwd").touch()
    (root / "passwd").unlink()
    (root / "passwd").write_text("root:x:0:0::/root:/bin/sh\n")


# --- what a process gets --------------------------------------------------------------------------


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_no_descriptor_of_ours_is_inherited(shared: Tiffin, tmp_path: Path, runtime: str) -> None:
    """CVE-2024-21626: neither the runtime's and conmon's descriptors, nor what our caller has
    open, are there in a container, or under /proc/self/fd for a working directory."""
    secret = tmp_path / "secret"
    secret.write_text(SECRET)
    chosen = shared.using(f"--runtime={runtime}")
    leaked = os.open("/", os.O_RDONLY | os.O_DIRECTORY)
    os.set_inheritable(leaked, True)
    try:
        listing = "for fd in /proc/self/fd/*; do readlink $fd; done; true"
        run = ("run", "--network=none")
        name = chosen(*run, "-d", BUSYBOX, "sleep", "1000", pass_fds=(leaked,)).word
        for done in (
            chosen(*run, "--rm", BUSYBOX, "sh", "-c", listing, pass_fds=(leaked,)),
            chosen("exec", name, "sh", "-c", listing, pass_fds=(leaked,)),
        ):
            odd = [line for line in done.lines if not line.startswith(("pipe:", "/dev/null"))]
            assert all(line.startswith("/proc/") for line in odd), done.out
        own = os.listdir(f"/proc/{chosen.pid(name)}/fd")
        assert sorted(own) == ["0", "1", "2"]
        for number in (3, 7, leaked):
            words = ("exec", "-w", f"/proc/self/fd/{number}", name)
            done = chosen.attempt(*words, "cat", f"{'../' * 20}{secret}", pass_fds=(leaked,))
            assert SECRET not in done.out and done.code, number
    finally:
        os.close(leaked)
    chosen("rm", "-f", "-t", "0", name)


KEYS = """
import ctypes, os, platform, sys
libc = ctypes.CDLL(None, use_errno=True)
ADD, CTL = {"x86_64": (248, 250), "aarch64": (217, 219)}[platform.machine()]
SESSION, ID, JOIN, SEARCH = -3, 0, 1, 10
if len(sys.argv) > 1:  # outside: a session with a key in it, and tiffin in that session
    libc.syscall(CTL, JOIN, None)
    assert libc.syscall(ADD, b"user", b"ours", b"secret", 6, SESSION) > 0
    os.execv(sys.argv[1], sys.argv[1:])
found = libc.syscall(CTL, SEARCH, SESSION, b"user", b"ours", 0)
print("key found" if found > 0 else os.strerror(ctypes.get_errno()))
"""
"""keyctl(2)"""


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_a_container_has_a_session_keyring_of_its_own(shared: Tiffin, runtime: str) -> None:
    """What our caller keeps in theirs (tickets, keys of file systems) is not to be had inside."""
    chosen = shared.using(f"--runtime={runtime}")
    look = ("chroot", "/host", os.path.realpath(sys.executable), "-I", "-c", KEYS)
    host = ("--network=none", "-v", "/:/host:ro")

    def in_a_session(*words: str) -> str:
        argv = [sys.executable, "-c", KEYS, *chosen.argv(*words)]
        done = subprocess.run(argv, capture_output=True, text=True, env=chosen.environment())
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    loose = "--security-opt=seccomp=unconfined"
    none = ("Required key not available", "Key has been revoked")
    assert in_a_session("run", "--rm", *host, loose, BUSYBOX, *look) in none
    refused = in_a_session("run", "--rm", *host, BUSYBOX, *look)
    assert refused in (*none, "Operation not permitted", "Function not implemented")
    name = in_a_session("run", "-d", *host, loose, BUSYBOX, "sleep", "1000")
    assert in_a_session("exec", name, *look) in none
    shared("rm", "-f", "-t", "0", name)


@pytest.fixture(scope="module", params=RUNTIMES)
def ordinary(shared: Tiffin, request: pytest.FixtureRequest) -> str:
    """A running container whose user is not root."""
    flags = ("--network=none", "--cap-add=NET_ADMIN", "-u", "1000:1000")
    return shared.using(f"--runtime={request.param}").detached(*flags, BUSYBOX, "sleep", "1000")


def test_inheritable_and_ambient_capabilities_are_empty(shared: Tiffin, ordinary: str) -> None:
    """CVE-2022-24769, CVE-2022-27649, CVE-2022-27650, CVE-2022-27651, CVE-2022-29162: of `run` and
    `exec`, root and others."""
    show = ("grep", "-E", "CapInh|CapAmb", "/proc/self/status")
    nothing = "CapInh:\t0000000000000000\nCapAmb:\t0000000000000000\n"
    for words in ((), ("-u", "0"), ("--privileged",)):
        assert shared("exec", *words, ordinary, *show).out == nothing, words
    assert world.status(shared.pid(ordinary), "CapInh") == "0" * 16


def test_groups_that_deny_cannot_be_left(shared: Tiffin, ordinary: str) -> None:
    """CVE-2022-2989, CVE-2022-2990, CVE-2022-36109, CVE-2023-25173: a process has its own group
    among the supplementary ones, and none of our caller's."""
    assert world.status(shared.pid(ordinary), "Groups") == "1000"
    for words, groups in (((), "1000"), (("-u", "7:8"), "8"), (("-u", "0"), "0")):
        assert shared("exec", *words, ordinary, "id", "-G").word == groups


def test_the_hosts_network_has_no_door_of_ours(shared: Tiffin) -> None:
    """CVE-2020-15257: who was on the host's network reached the engine by an abstract socket."""
    sockets = "grep -o ' @.*' /proc/net/unix | sort"
    before = shared("run", "--rm", "--network=host", BUSYBOX, "sh", "-c", sockets).lines
    name = shared.detached("--network=host", BUSYBOX, "sleep", "1000")
    with shared.start("exec", name, "sh", "-c", "echo here; sleep 1000") as process:
        assert process.stdout is not None and process.stdout.readline() == b"here\n"
        after = shared("exec", name, "sh", "-c", sockets).lines
        process.kill()
    ours = [line for line in set(after) - set(before) if re.search("conmon|tiffin|crun|runc", line)]
    assert ours == []
    shared("rm", "-f", "-t", "0", name)


def test_nothing_of_our_environment_gets_inside(shared: Tiffin) -> None:
    """CVE-2020-14370, CVE-2021-3602: what is in the environment of the engine, or of conmon, stays
    out of the container's."""
    ours = {"PASSWORD": SECRET}
    name = shared("run", "-d", "--network=none", BUSYBOX, "sleep", "1000", env=ours).word
    for pid in (shared.pid(name), shared.conmon(name)):
        assert SECRET.encode() not in Path(f"/proc/{pid}/environ").read_bytes()
    assert SECRET not in shared("exec", name, "env", env=ours).out
    shared("rm", "-f", "-t", "0", name)


REFUSED = [
    "echo x >/proc/sys/kernel/core_pattern", "echo b >/proc/sysrq-trigger",
    "echo 1 >/proc/sys/vm/drop_caches", "echo x >/proc/sys/kernel/modprobe",
    "echo 1 >/proc/sys/net/ipv4/ip_forward", "echo 0 >/proc/irq/default_smp_affinity",
    "mount -t tmpfs none /tmp", "mount -o remount,rw /proc/sys", "umount /proc/sys",
    "unshare -m true", "unshare -u true", "unshare -n true",
    "unshare -Urm umount /proc/sys", "unshare -Urmp mount -t proc none /tmp",
    "unshare -Urmn mount -t sysfs none /tmp", "unshare -Urm mount -t cgroup -o memory none /tmp",
    "unshare -Urm mount -o remount,rw,bind /proc/sys", "mkdir /sys/fs/cgroup/memory/x",
    "echo x >/sys/kernel/uevent_helper",
    "echo '|/x' >/sys/fs/cgroup/memory/release_agent", "echo x >/sys/kernel/mm/ksm/run",
    "hostname evil", "echo 1 >/sys/fs/cgroup/memory/memory.limit_in_bytes",
    "swapon /dev/zero", "insmod /x.ko", "dmesg",
    "test -s /proc/kcore && head -c 1 /proc/kcore | grep .", "cat /proc/keys | grep .",
    "cat /proc/timer_list | grep .", "ls /sys/firmware | grep .", "ls /sys/dev/block | grep .",
    "mknod /disk b 8 0 && head -c 1 /disk", "mknod /mem c 1 1 && head -c 1 /mem",
    "mknod /kmsg c 1 11 && head -c 1 /kmsg", "ls -d /dev/kmsg", "ls -d /dev/mem", "ls -d /dev/sd*",
    "arping -c 1 -I lo 127.0.0.1",
    "nice -n -20 true 2>&1 | grep -v . && renice -20 1",
]  # fmt: skip


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_the_kernels_settings_and_devices_are_out_of_reach(shared: Tiffin, runtime: str) -> None:
    """CVE-2022-0492 (release_agent), CVE-2022-0811 (core_pattern), and what else a root without
    its powers must not do."""
    pattern = Path("/proc/sys/kernel/core_pattern").read_text()
    script = "\n".join(f"( {line} ) >/dev/null 2>&1 && echo '{line}'" for line in REFUSED)
    run = ("run", "--rm", "--network=none", BUSYBOX, "sh", "-c", f"{script}\ntrue")
    assert shared.using(f"--runtime={runtime}")(*run).lines == []
    assert Path("/proc/sys/kernel/core_pattern").read_text() == pattern


def test_dev_has_the_harmless_devices_only(shared: Tiffin, box: str) -> None:
    found = set(shared("exec", box, "ls", "/dev").lines)
    streams = {"console", "fd", "ptmx", "pts", "stderr", "stdin", "stdout", "tty"}
    harmless = {"core", "full", "mqueue", "null", "random", "shm", "urandom", "zero"}
    assert found <= streams | harmless, found


@pytest.mark.parametrize(
    "given",
    ["kernel.core_pattern=|/x", "kernel.shm_rmid_forced=1+kernel.core_pattern=|/x",
     "net.ipv4.ip_forward=1\nkernel.core_pattern=|/x", "net/../kernel/core_pattern=|/x",
     "net.ipv4/../../kernel/core_pattern=|/x", "kernel.sem/../core_pattern=|/x"],
)  # fmt: skip
def test_a_sysctl_does_not_reach_the_hosts(shared: Tiffin, given: str) -> None:
    """CVE-2022-0811: `+` and the like between two settings."""
    pattern = Path("/proc/sys/kernel/core_pattern").read_text()
    shared.attempt("run", "--rm", "--network=none", f"--sysctl={given}", BUSYBOX, "true")
    assert Path("/proc/sys/kernel/core_pattern").read_text() == pattern


# --- the runtime itself ---------------------------------------------------------------------------


ATTACK = """
while :; do
    for p in /proc/[0-9]*; do
        case $(readlink $p/exe 2>/dev/null) in
            */busybox|"") ;;
            *) echo seen $(readlink $p/exe); ( echo pwned >$p/exe ) 2>/dev/null && echo written ;;
        esac
    done
done
"""


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_the_runtime_cannot_be_overwritten_through_proc(shared: Tiffin, runtime: str) -> None:
    """CVE-2019-5736: `exec /proc/self/exe` runs the runtime's program inside the container, which
    writes to it through /proc/PID/exe."""
    program = Path(shutil.which(runtime) or "")
    before = hashlib.sha256(program.read_bytes()).digest()
    chosen = shared.using(f"--runtime={runtime}")
    name = chosen.detached("--network=none", BUSYBOX, "sh", "-c", ATTACK)
    for _ in range(3):
        chosen.attempt("exec", name, "/proc/self/exe", "--help")
        chosen.attempt("exec", name, "/proc/self/exe", "init")
    said = chosen("logs", name).out
    assert "written" not in said
    assert hashlib.sha256(program.read_bytes()).digest() == before
    chosen("rm", "-f", "-t", "0", name)


def test_a_process_cannot_lie_about_itself_in_top(shared: Tiffin) -> None:
    """CVE-2022-1227: `top` runs nothing in the container, and takes a name for what it is."""
    script = (
        "printf ') R 1\\n\\033[31m' >/proc/self/comm; printf '#!/bin/sh\\necho pwned' >/bin/ps; "
        "chmod +x /bin/ps; while :; do sleep 1; done"
    )
    name = shared.detached("--network=none", BUSYBOX, "sh", "-c", script)
    eventually(lambda: ") R 1" in shared("top", name, "comm").out)
    done = shared("top", name, "pid,comm,state")
    assert done.lines[1].split()[0] == "1" and "\x1b" not in done.out and "pwned" not in done.out
    shared("rm", "-f", "-t", "0", name)


# --- floods ---------------------------------------------------------------------------------------


MEASURED = (
    *(sys.executable, "-I", "-c"),
    "import resource, subprocess, sys; subprocess.run(sys.argv[1:]);"
    "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss, file=sys.stderr)",
)
"""Runs a command and says on stderr how many KiB it had at most. In between, because a process
counts what its parent had when it was born."""


def memory(argv: list[str], env: dict[str, str]) -> tuple[int, int]:
    """(bytes on stdout, the most MiB that the process had)."""
    with subprocess.Popen(
        [*MEASURED, *argv], stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=env
    ) as done:
        assert done.stdout is not None and done.stderr is not None
        size = 0
        while piece := done.stdout.read(1 << 20):
            size += len(piece)
        said = done.stderr.read().split()
    return size, int(said[-1]) >> 10


def test_a_flood_of_output_fills_neither_memory_nor_disk(shared: Tiffin) -> None:
    """CVE-2022-1708, CVE-2022-31030: of `run`, `exec` and `logs`, with lines and without."""
    flood = ("sh", "-c", "yes 'a line of output' | head -c 24000000; head -c 24000000 /dev/zero")
    name = shared.detached("--network=none", BUSYBOX, "sleep", "1000")
    run = ("run", "--name=flood", "--network=none", "--log-opt=max-size=256k", BUSYBOX)
    env = shared.environment()
    for words in ((*run, *flood), ("exec", name, *flood)):
        size, most = memory(shared.argv(*words), env)
        assert size == 48_000_000, words
        assert most < 150, words
    log = shared.inspect("flood")["HostConfig"]["LogConfig"]
    assert log["Size"] == "262kB"
    assert os.stat(log["Path"]).st_size <= 2 * 262_144
    assert memory(shared.argv("logs", "flood"), env)[1] < 100
    shared("rm", "-f", "-t", "0", name, "flood")
