"""What can be wrong with an ordinary user's account or machine: one line each, and nothing left."""

from __future__ import annotations

import contextlib
import os
import shutil
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from support import world
from support.cli import BUSYBOX, eventually, tree
from support.person import Person, TheirTiffin, edit_ranges, person

RUN = ("run", "--rm", "--network=none", BUSYBOX, "id", "-u")
LIMIT = Path("/proc/sys/user/max_user_namespaces")


@pytest.fixture
def theirs(who: Person) -> Iterator[TheirTiffin]:
    first, count = who.range()
    made = TheirTiffin.of(who)
    try:
        yield made
    finally:
        who.set_ranges(f"{first}:{count}")
        made.close()


def nothing_was_made(theirs: TheirTiffin) -> None:
    assert not theirs.root.exists()
    assert tree(theirs.run) <= {"namespace.lock"}
    assert theirs.who.processes() == []


def test_ranges_that_overlap_one_another(theirs: TheirTiffin) -> None:
    theirs.who.set_ranges("700000:65536", "750000:65536")
    line = theirs.fails(*RUN, says="/etc/subuid: the range 700000:65536")
    assert "overlaps 750000:65536" in line and "usermod --del-subuids" in line
    nothing_was_made(theirs)
    assert "overlaps" in theirs("info").out


def test_ranges_that_overlap_anothers(theirs: TheirTiffin) -> None:
    with person(ranges=False) as other:
        other.set_ranges("800000:100")
        theirs.who.set_ranges("799990:65536")
        theirs.fails(*RUN, says="overlaps 800000:100")
    nothing_was_made(theirs)


def test_a_range_with_the_users_own_id(theirs: TheirTiffin) -> None:
    theirs.who.set_ranges(f"{theirs.who.uid - 1}:10")
    theirs.fails(*RUN, says="own id")
    nothing_was_made(theirs)


def test_several_ranges_are_one_after_the_other(theirs: TheirTiffin) -> None:
    theirs.who.set_ranges("700000:1000", "900000:64536")
    words = theirs("unshare", "cat", "/proc/self/uid_map").out.split()
    own = ["0", str(theirs.who.uid), "1"]
    assert words == [*own, "1", "700000", "1000", "1001", "900000", "64536"]


def test_ranges_by_number_instead_of_name(theirs: TheirTiffin) -> None:
    who = theirs.who
    who.set_ranges()
    with _line_added(f"{who.uid}:700000:65536\n"):
        assert "700000" in theirs("unshare", "cat", "/proc/self/uid_map").out


@contextlib.contextmanager
def _line_added(line: str) -> Iterator[None]:
    edit_ranges(line, [line])
    try:
        yield
    finally:
        edit_ranges(line, [])


def test_ranges_that_are_too_small(theirs: TheirTiffin) -> None:
    theirs.who.set_ranges("700000:10")
    assert theirs(*RUN).word == "0"
    asked = ("run", "--rm", "--network=none", "--user=33", BUSYBOX, "id")
    line = theirs.fails(*asked, says="--user 33: uid 33 is not there: /etc/subuid gives you 10")
    assert "usermod --add-subuids" in line
    assert theirs("ps", "-aq").out == ""
    assert "fewer than 65536" in theirs("info").out


def test_an_image_with_files_of_an_id_that_is_not_there(theirs: TheirTiffin) -> None:
    theirs.who.set_ranges("700000:10")
    tar = theirs.base / "files.tar"
    (theirs.base / "file").write_text("x")
    argv = ["tar", "cf", str(tar), "--owner=42", "--group=0", "-C", str(theirs.base), "file"]
    subprocess.run(argv, check=True)
    tar.chmod(0o644)
    line = theirs.fails(
        "import", str(tar), "much:1", says="an owner, 42:0, whom you have no id for"
    )
    assert "usermod --add-subuids" in line
    assert theirs("images", "-aq").out == ""
    assert not list(theirs.root.glob("storage/*/layers/*"))


def test_a_user_without_ranges_is_root_of_their_own_id_alone(theirs: TheirTiffin) -> None:
    theirs.who.set_ranges()
    assert theirs(*RUN).word == "0"
    theirs.fails("run", "--rm", "--network=none", "--user=1", BUSYBOX, "id", says="no ids")
    assert theirs("run", "--rm", "--network=none", "-t", BUSYBOX, "tty").word.startswith("/dev/")
    missing = theirs("info", "-f", "{{json .rootless.missing}}").out
    assert "/etc/subuid gives" in missing and "usermod --add-subuids" in missing


def test_newuidmap_without_privilege(theirs: TheirTiffin) -> None:
    with _bound(Path("/usr/bin/newuidmap"), theirs.base, mode=0o755):
        line = theirs.fails(*RUN, says="/usr/bin/newuidmap has no privilege")
        assert "chmod u+s" in line and "chmod u+s" in theirs("info").out
    nothing_was_made(theirs)


def test_newgidmap_is_not_there(theirs: TheirTiffin) -> None:
    with _bound(Path("/usr/bin/newgidmap"), theirs.base, mode=0o644):
        line = theirs.fails(*RUN, says="newgidmap is not installed")
        assert "apt install uidmap" in line
    nothing_was_made(theirs)


@contextlib.contextmanager
def _bound(program: Path, directory: Path, *, mode: int) -> Iterator[None]:
    """A copy of a program, with another mode, in its place."""
    copy = directory / program.name
    shutil.copyfile(program, copy)
    copy.chmod(mode)
    subprocess.run(["mount", "--bind", copy, program], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", program], check=True)


def test_user_namespaces_are_switched_off(theirs: TheirTiffin) -> None:
    """The limit is one of each user namespace: here, of one with all ids of the machine."""
    with subprocess.Popen(["unshare", "--user", "cat"], stdin=subprocess.PIPE) as process:
        _map_everything(process.pid)
        within = ["nsenter", "--user", "--target", str(process.pid)]
        limited = ["sh", "-c", f'echo 0 >{LIMIT} && exec "$@"', "sh", *theirs.argv(*RUN)]
        done = subprocess.run(
            [*within, *limited], capture_output=True, text=True, env=theirs.environment()
        )
        process.communicate()
    assert (done.returncode, done.stderr.count("\n")) == (125, 1)
    assert "user namespaces are switched off" in done.stderr
    assert "sysctl -w user.max_user_namespaces=" in done.stderr
    nothing_was_made(theirs)


def _map_everything(pid: int) -> None:
    own = world.namespace("self", "user")
    eventually(lambda: world.namespace(pid, "user") != own)
    for name in ("uid_map", "gid_map"):
        Path(f"/proc/{pid}/{name}").write_text("0 0 4294967295")


@pytest.fixture
def fallback(theirs: TheirTiffin) -> Iterator[Path]:
    """Where run state goes when there is no runtime directory; the environment names none."""
    boot = Path("/proc/sys/kernel/random/boot_id").read_text()[:8]
    theirs.env["XDG_RUNTIME_DIR"] = ""
    place = Path(f"/tmp/tiffin-{theirs.who.uid}-{boot}")
    yield place
    if place.is_symlink() or not place.is_dir():
        place.unlink(missing_ok=True)
    else:
        shutil.rmtree(place)


def test_no_runtime_directory_means_one_in_tmp_for_the_user_alone(
    theirs: TheirTiffin, fallback: Path
) -> None:
    assert theirs(*RUN).word == "0"
    status = fallback.stat()
    assert (status.st_uid, stat.S_IMODE(status.st_mode)) == (theirs.who.uid, 0o700)
    assert str(fallback) in theirs("info").out
    theirs("rmi", BUSYBOX)
    theirs.who.log_out()
    shutil.rmtree(theirs.root)


@pytest.mark.parametrize("kind", ["link", "open", "another's"])
def test_a_fallback_that_is_not_the_users_alone_is_refused(
    theirs: TheirTiffin, fallback: Path, kind: str
) -> None:
    if kind == "link":
        fallback.symlink_to(theirs.base / "home")
    else:
        fallback.mkdir()
        fallback.chmod(0o777 if kind == "open" else 0o700)
        if kind == "open":
            os.chown(fallback, theirs.who.uid, theirs.who.gid)
    line = theirs.fails(*RUN, says=f"{fallback} ")
    assert "XDG_RUNTIME_DIR" in line
    theirs.fails("ps", says=f"{fallback} ")
    assert not theirs.root.exists() and theirs.who.processes() == []


def test_a_runtime_directory_of_somebody_else_is_passed_over(
    theirs: TheirTiffin, fallback: Path
) -> None:
    """As after `su` without `-`."""
    somebodys = theirs.base / "root-run"
    somebodys.mkdir(mode=0o755)
    theirs.env["XDG_RUNTIME_DIR"] = str(somebodys)
    assert theirs("info", "-f", "{{.store.runRoot}}").word == f"{fallback}/tiffin"


def test_limits_that_cannot_be_set_are_an_error_and_not_asking_is_none(theirs: TheirTiffin) -> None:
    for flag in ("--memory=64m", "--cpus=0.5", "--pids-limit=10"):
        name = flag.partition("=")[0]
        theirs.fails(
            "run",
            flag,
            "--network=none",
            BUSYBOX,
            "id",
            says=f"{name}: a container without a cgroup",
        )
    assert theirs("ps", "-aq").out == ""


def test_mount_is_refused_where_nobody_would_see_it(theirs: TheirTiffin) -> None:
    theirs("create", "--name=box", "--network=none", BUSYBOX, "id")
    assert "tiffin unshare" in theirs.fails("mount", "box", says="mount:")
    listing = theirs("unshare", "sh", "-c", "ls $(tiffin mount box) && tiffin unmount box").out
    assert "bin" in listing.split()
    theirs("rm", "box")


def test_unshare_is_root_over_the_users_files(theirs: TheirTiffin) -> None:
    assert theirs("unshare", "id", "-u").word == "0"
    theirs("unshare", "sh", "-c", "touch $HOME/a; chown 5:5 $HOME/a")
    first, _ = theirs.who.range()
    assert (theirs.base / "home/a").stat().st_uid == first + 4
    theirs.fails("unshare", "no-such-program", code=127, says="not found")
    assert theirs("unshare", "sh", "-c", "exit 7", code=7).code == 7
    assert world.alive(theirs.keeper())
