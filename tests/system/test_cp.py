"""`cp`, `export`: files in and out of containers, running and stopped."""

from __future__ import annotations

import ctypes
import io
import os
import subprocess
import tarfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from support import world
from support.cli import BUSYBOX, Tiffin, eventually

AT_FDCWD = -100
EXCHANGE = 2
"""renameat2(2)"""


@pytest.fixture(scope="module", params=["overlay", "vfs"])
def chosen(shared: Tiffin, request: pytest.FixtureRequest) -> Tiffin:
    return shared.using(f"--storage-driver={request.param}")


@pytest.fixture(params=["running", "stopped"])
def box(chosen: Tiffin, request: pytest.FixtureRequest) -> Iterator[str]:
    """A container with an empty directory /t."""
    name = chosen.create("--network=none", BUSYBOX, "sh", "-c", "mkdir -p /t; exec sleep 1000")
    chosen("start", name)
    eventually(lambda: chosen.attempt("exec", name, "test", "-d", "/t").code == 0)
    if request.param == "stopped":
        chosen("kill", name)
    yield name
    chosen("rm", "-f", "-t", "0", name)
    assert not world.mounts_below(chosen.base)


@pytest.fixture
def here(tmp_path: Path) -> Path:
    (tmp_path / "src/sub").mkdir(parents=True)
    (tmp_path / "src/f").write_text("1\n")
    (tmp_path / "src/sub/g").write_text("2\n")
    (tmp_path / "src/link").symlink_to("f")
    (tmp_path / "file").write_text("3\n")
    (tmp_path / "slink").symlink_to("src")
    for path in (tmp_path / "src").rglob("*"):
        os.chown(path, 1234, 1234, follow_symlinks=False)
    (tmp_path / "src/f").chmod(0o4750)
    return tmp_path


def inside(tiffin: Tiffin, name: str, path: str = "/t") -> dict[str, str]:
    """What is in a container's directory: name to contents, `->target`, or `/`."""
    data = subprocess.run(
        tiffin.argv("cp", f"{name}:{path}/.", "-"), capture_output=True, check=True
    ).stdout
    found = {}
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        for member in archive.getmembers():
            if member.isfile():
                found[member.name] = archive.extractfile(member).read().decode(errors="replace")  # type: ignore[union-attr]
            elif member.name != ".":
                found[member.name] = f"->{member.linkname}" if member.issym() else "/"
    return found


SRC = {"f": "1\n", "link": "->f", "sub": "/", "sub/g": "2\n"}
UNDER = {"": "/", **{f"/{name}": value for name, value in SRC.items()}}


PLACES = [
    ("file", "/t", {"file": "3\n"}),
    ("file", "/t/", {"file": "3\n"}),
    ("file", "/t/new", {"new": "3\n"}),
    ("file", "t/new", {"new": "3\n"}),
    ("src", "/t", {f"src{name}": value for name, value in UNDER.items()}),
    ("src/", "/t", {f"src{name}": value for name, value in UNDER.items()}),
    ("src/.", "/t", SRC),
    ("src", "/t/new", {f"new{name}": value for name, value in UNDER.items()}),
    ("src/.", "/t/new", {f"new{name}": value for name, value in UNDER.items()}),
    ("src/link", "/t", {"link": "1\n"}),
    ("slink", "/t", {f"slink{name}": value for name, value in UNDER.items()}),
    ("slink/.", "/t", SRC),
]


def test_where_things_go(chosen: Tiffin, box: str, here: Path) -> None:
    """The table of podman-cp(1) and docker-cp(1); each into a directory of its own."""
    for number, (source, target, expected) in enumerate(PLACES):
        (here / "empty").mkdir(exist_ok=True)
        chosen("cp", f"{here}/empty", f"{box}:/t/{number}")
        into = target.replace("t", f"t/{number}", 1)
        assert chosen("cp", source, f"{box}:{into}", cwd=here).out == ""
        assert inside(chosen, box, f"/t/{number}") == expected, (source, target)


NO_PLACES = [
    ("nosuch", "/t", "nosuch"),
    ("file", "/t/new/", "/t/new/"),
    ("file", "/t/no/new", "/t/no/new"),
    ("src", "/t/no/new", "/t/no/new"),
    ("src", "/t/new/", "/t/new/"),
    ("file/", "/t", "directory"),
    ("src", "/etc/passwd", "file"),
    ("file", "/etc/passwd/", "directory"),
]


def test_where_nothing_can_go(chosen: Tiffin, box: str, here: Path) -> None:
    for source, target, says in NO_PLACES:
        chosen.fails("cp", f"{here}/{source}", f"{box}:{target}", says=says)
    assert inside(chosen, box) == {}


def test_out_of_a_container(chosen: Tiffin, box: str, here: Path) -> None:
    chosen("cp", f"{here}/src", f"{box}:/t/s")
    for source, target, expected in (
        ("/t/s", "o", "o/s/sub/g"),
        ("/t/s/.", "o", "o/sub/g"),
        ("/t/s", "o/new", "o/new/sub/g"),
        ("/t/s/f", "o/x", "o/x"),
        ("t/s/link", "o", "o/f"),
    ):
        (here / "o").mkdir()
        chosen("cp", f"{box}:{source}", target, cwd=here)
        assert (here / expected).is_file()
        assert all(path.lstat().st_uid == os.getuid() for path in (here / "o").rglob("*"))
        subprocess.run(["rm", "-r", here / "o"], check=True)
    chosen.fails("cp", f"{box}:/nosuch", str(here), says="/nosuch")
    chosen.fails("cp", f"{box}:/t/s/f", f"{here}/no/x", says="no/x")


def test_owners_modes_and_times(chosen: Tiffin, box: str, here: Path) -> None:
    os.utime(here / "src/f", ns=(1_000_000_007, 1_000_000_007))
    chosen("cp", f"{here}/src/f", f"{box}:/t/ours")
    chosen("cp", "-a=false", f"{here}/src/f", f"{box}:/t/theirs")
    data = subprocess.run(chosen.argv("cp", f"{box}:/t", "-"), capture_output=True).stdout
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        ours, theirs = archive.getmember("t/ours"), archive.getmember("t/theirs")
    assert (ours.uid, ours.mode, ours.mtime) == (0, 0o4750, 1.000000007)
    assert (theirs.uid, theirs.gid) == (1234, 1234)


def test_a_tree_over_another_merges(chosen: Tiffin, box: str, here: Path) -> None:
    chosen("cp", f"{here}/src/.", f"{box}:/t")
    (here / "src/f").write_text("new\n")
    (here / "src/sub/g").unlink()
    chosen("cp", f"{here}/src/.", f"{box}:/t")
    assert inside(chosen, box) == {**SRC, "f": "new\n"}
    (here / "w/f").mkdir(parents=True)
    chosen.fails("cp", f"{here}/w/.", f"{box}:/t", says="--overwrite")
    chosen("cp", "--overwrite", f"{here}/w/.", f"{box}:/t")
    assert inside(chosen, box)["f"] == "/"


def test_streams(chosen: Tiffin, box: str, here: Path) -> None:
    for flag in ("-c", "-cz"):
        data = subprocess.run(["tar", flag, "-C", here / "src", "."], capture_output=True).stdout
        chosen("cp", "-", f"{box}:/t", input=data)
        assert inside(chosen, box) == SRC
    out = subprocess.run(chosen.argv("cp", f"{box}:/t/f", "-"), capture_output=True).stdout
    with tarfile.open(fileobj=io.BytesIO(out)) as archive:
        assert archive.getnames() == ["f"]
    for data in (b"", b"no tar" * 200):
        done = chosen("cp", "-", f"{box}:/t", input=data, code=125)
        assert len(done.err.splitlines()) == 1
    assert "no directory" in chosen("cp", "-", f"{box}:/etc/passwd", input=b"x", code=125).err


def test_between_containers_and_onto_itself(chosen: Tiffin, box: str, here: Path) -> None:
    other = chosen.create("--network=none", BUSYBOX)
    chosen("cp", f"{here}/src", f"{box}:/t/s")
    chosen("cp", f"{box}:/t/s", f"{other}:/copy")
    assert inside(chosen, other, "/copy") == SRC
    chosen("cp", f"{box}:/bin", f"{box}:/")
    assert "busybox" in inside(chosen, box, "/bin")
    chosen.fails("cp", f"{box}:/", f"{box}:/t", says="itself")
    chosen("rm", other)
    chosen.fails("cp", "a", "b", says="container")
    chosen.fails("cp", "a", "no-such-box:/b", says="no-such-box")


def test_bind_mounts_are_part_of_it(chosen: Tiffin, here: Path) -> None:
    """Those of a stopped container are mounted where nobody else sees them."""
    name = chosen.create("--network=none", f"-v={here}/src:/vol", BUSYBOX, "sleep", "1000")
    chosen("cp", f"{here}/file", f"{name}:/vol/one")
    chosen("start", name)
    chosen("cp", f"{here}/file", f"{name}:/vol/two")
    chosen("cp", f"{here}/file", f"{name}:/etc/hosts")
    assert (here / "src/one").exists() and (here / "src/two").exists()
    assert chosen("exec", name, "cat", "/etc/hosts").out == "3\n"
    chosen("rm", "-f", "-t", "0", name)


def test_links_end_within_the_container(chosen: Tiffin, box: str, here: Path) -> None:
    """CVE-2018-15664, CVE-2019-14271: what a link in the container names is in the container."""
    outside = here / "outside"
    outside.mkdir()
    (outside / "secret").write_text("host\n")
    (here / "links").mkdir()
    (here / "links/dir").symlink_to(outside)
    (here / "links/file").symlink_to(outside / "secret")
    (here / "links/up").symlink_to("../../../../../../../../etc/passwd")
    chosen("cp", f"{here}/links/.", f"{box}:/t")
    chosen.fails("cp", f"{here}/file", f"{box}:/t/dir/x", says="/t/dir/x")
    chosen.fails("cp", f"{box}:/t/file", f"{here}/stolen", says="/t/file")
    chosen("cp", f"{box}:/t/up", f"{here}/passwd")
    assert (here / "passwd").read_text() != Path("/etc/passwd").read_text()
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w") as archive:
        for path in ("dir/from-tar", "../../escape"):
            info = tarfile.TarInfo(path)
            archive.addfile(info)
    assert chosen.attempt("cp", "-", f"{box}:/t", input=data.getvalue()).code == 125
    assert sorted(os.listdir(outside)) == ["secret"]


def test_a_container_that_swaps_a_directory_for_a_link(shared: Tiffin, here: Path) -> None:
    """CVE-2018-15664, CVE-2019-10152: while we copy, /t/d is now a directory, now a link to the
    host's directory."""
    outside = here / "outside"
    outside.mkdir()
    name = shared.detached("--network=none", BUSYBOX, "sh", "-c", "mkdir -p /t/d; sleep 1000")
    root = Path(f"/proc/{shared.pid(name)}/root/t")
    eventually(lambda: (root / "d").is_dir())
    stop = threading.Event()
    os.symlink(outside, root / "l")

    exchange = ctypes.CDLL(None, use_errno=True).renameat2
    swaps = 0

    def swap() -> None:
        nonlocal swaps
        while not stop.is_set():
            done = exchange(AT_FDCWD, bytes(root / "d"), AT_FDCWD, bytes(root / "l"), EXCHANGE)
            swaps += done == 0

    thread = threading.Thread(target=swap)
    thread.start()
    try:
        for _ in range(15):
            shared.attempt("cp", f"{here}/src/.", f"{name}:/t/d")
            shared.attempt("cp", f"{here}/file", f"{name}:/t/d/file")
    finally:
        stop.set()
        thread.join()
    assert os.listdir(outside) == []
    assert swaps > 1000
    shared("rm", "-f", "-t", "0", name)


def test_what_was_copied_is_an_event(chosen: Tiffin, box: str, here: Path) -> None:
    chosen("cp", f"{here}/file", f"{box}:/t")
    (event,) = chosen.events("--filter", f"container={box}", "--filter", "event=files_copied")
    assert event["data"] == {"path": "/t"}


def test_export(chosen: Tiffin, box: str, here: Path) -> None:
    chosen("cp", f"{here}/src", f"{box}:/t/.wh.src")
    chosen("export", "-o", here / "x.tar", box)
    with tarfile.open(here / "x.tar") as archive:
        names = archive.getnames()
        assert {"bin/busybox", "t/.wh.src/sub/g", "etc/passwd"} <= set(names)
        assert archive.extractfile("t/.wh.src/f").read() == b"1\n"  # type: ignore[union-attr]
    piped = subprocess.run(chosen.argv("export", box), capture_output=True, check=True).stdout
    with tarfile.open(fileobj=io.BytesIO(piped)) as archive:
        assert archive.getnames() == names
    chosen.fails("export", "-o", str(here / "y.tar"), "no-such-box", says="no-such-box")
    assert not (here / "y.tar").exists()
