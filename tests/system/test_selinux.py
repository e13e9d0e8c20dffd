"""SELinux on a machine that has it: labels of processes, files and volumes, as the kernel sees.

On others the tests skip: `TIFFIN_VM_LSM=selinux-enforcing scripts/vm-test
tests/system/test_selinux.py` runs them in the guest. The engine runs at the level s0, so that
containers may write to its pipes.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.cli import BUSYBOX, PROGRAM, Tiffin

from tiffin.hooks import DriverContext
from tiffin.testing.labels import LabelConformance
from tiffin_label_selinux.driver import SELinux

ENFORCE = Path("/sys/fs/selinux/enforce")


@pytest.fixture
def provider(tmp_path: Path) -> SELinux:
    return SELinux(DriverContext(root=str(tmp_path / "own"), run=str(tmp_path / "run")))


class TestConformance(LabelConformance):
    """The suite that any label provider passes."""


pytestmark = pytest.mark.skipif(
    not ENFORCE.exists() or ENFORCE.read_text() != "1",
    reason="SELinux is not enforcing here (run it in the guest, see the top of this file)",
)

PAIR = re.compile(r"s0:c\d+,c\d+")


class AtLowest(Tiffin):
    """tiffin as a service runs it: at the level s0, not at a login's range."""

    def argv(self, *args: str | Path) -> list[str]:
        return ["runcon", "-l", "s0", PROGRAM, *super().argv(*args)[1:]]

    def using(self, *flags: str) -> AtLowest:
        other = AtLowest(self.base, *self.flags, *flags)
        other.env = self.env
        return other

    def alone(self, *words: str | Path, code: int = 0) -> str:
        """stdout of `run --rm` without a network."""
        return self("run", "--rm", "--network=none", *words, code=code, timeout=120).word


@pytest.fixture(scope="module")
def box() -> Iterator[AtLowest]:
    fresh = Tiffin.fresh()
    made = AtLowest(fresh.base)
    made("pull", BUSYBOX)
    yield made
    fresh.close()


@pytest.fixture
def volume() -> Iterator[Path]:
    """A directory of the host with a file in it, labelled as the host's own."""
    place = Path("/srv/tiffin-test-volume")
    (place / "below").mkdir(parents=True)
    (place / "below/menu").write_text("dal\n")
    os.symlink("/etc/passwd", place / "link")
    yield place
    shutil.rmtree(place)


def label(path: str | Path) -> str:
    data = os.getxattr(path, "security.selinux", follow_symlinks=False)
    return data.rstrip(b"\0").decode()


def level(context: str) -> str:
    return context.strip("\0\n").split(":", 3)[3]


@pytest.mark.parametrize("runtime", ["runc", "crun"])
@pytest.mark.parametrize("storage", ["overlay", "vfs"])
def test_a_container_runs_in_container_t_with_a_pair_of_its_own(
    box: AtLowest, runtime: str, storage: str
) -> None:
    using = box.using(f"--runtime={runtime}", f"--storage-driver={storage}")
    shown = using.alone(BUSYBOX, "cat", "/proc/self/attr/current").strip("\0\n")
    assert ":container_t:" in shown
    assert PAIR.fullmatch(level(shown))
    assert using.alone(BUSYBOX, "sh", "-c", "echo dal > /menu && cat /menu /etc/hostname") != ""


def test_two_containers_have_different_pairs_and_events_name_them(box: AtLowest) -> None:
    names = [box.create("--network=none", BUSYBOX) for _ in range(3)]
    found = {level(box("inspect", "--format", "{{.ProcessLabel}}", name).word) for name in names}
    assert len(found) == 3
    planned = [e for e in box.events() if e["type"] == "container.creation_planned"][-3:]
    assert {e["data"]["security_labels"]["selinux"]["claim"] for e in planned} == found
    box("rm", *names)


async def test_what_is_made_among_shared_layers_inherits(provider: SELinux, tmp_path: Path) -> None:
    (tmp_path / "layers").mkdir()
    await provider.share(str(tmp_path / "layers"))
    (tmp_path / "layers/new").mkdir()
    assert ":container_ro_file_t:" in label(tmp_path / "layers/new")


def test_exec_has_the_containers_label(box: AtLowest) -> None:
    box("run", "-d", "--network=none", "--name=one", BUSYBOX, "sleep", "1000", timeout=120)
    inside = box("exec", "one", "cat", "/proc/self/attr/current", timeout=120).word.strip("\0\n")
    assert inside == box("inspect", "--format", "{{.ProcessLabel}}", "one").word
    box("rm", "-f", "-t", "0", "one", timeout=120)


def test_a_host_directory_is_readable_with_z_only(box: AtLowest, volume: Path) -> None:
    before = label("/etc/passwd")
    words = (BUSYBOX, "cat", "/mnt/below/menu")
    done = box.attempt("run", "--rm", "--network=none", f"-v{volume}:/mnt", *words, timeout=120)
    assert done.code == 1 and "Permission denied" in done.err
    assert box.alone(f"-v{volume}:/mnt:z", *words) == "dal"
    assert label(volume / "below/menu").endswith(":container_file_t:s0")
    assert box.alone(f"-v{volume}:/mnt:z", *words) == "dal"  # another container
    assert label("/etc/passwd") == before  # the link was not followed


def test_a_named_volume_is_for_all_containers(box: AtLowest) -> None:
    box.alone("-vlunch:/mnt", BUSYBOX, "sh", "-c", "echo dal > /mnt/menu")
    assert box.alone("-vlunch:/mnt", BUSYBOX, "cat", "/mnt/menu") == "dal"
    box("volume", "rm", "lunch")


def test_a_private_volume_is_one_containers(box: AtLowest, volume: Path) -> None:
    first = box.create("--network=none", f"-v{volume}:/mnt:Z", BUSYBOX, "cat", "/mnt/below/menu")
    assert box("start", "--attach", first, timeout=120).word == "dal"
    pair = level(box("inspect", "--format", "{{.MountLabel}}", first).word)
    assert level(label(volume / "below/menu")) == pair
    other = box.attempt(
        "run", "--rm", "--network=none", f"-v{volume}:/mnt", BUSYBOX, "cat", "/mnt/below/menu",
        timeout=120,
    )  # fmt: skip
    assert other.code == 1 and "Permission denied" in other.err
    box("rm", first)


def test_places_of_the_system_are_not_relabelled(box: AtLowest) -> None:
    before = label("/etc")
    count = len(box("ps", "-aq").lines)
    for place in ("/", "/etc", "/usr", "/home", "/etc/../usr"):
        box.fails("create", "--network=none", f"-v{place}:/mnt:Z", BUSYBOX, says="relabel")
    assert label("/etc") == before
    assert len(box("ps", "-aq").lines) == count


@pytest.mark.parametrize(
    "flags",
    [
        ("--security-opt=label=disable",),
        ("--privileged",),
        ("--pid=host",),
        ("--ipc=host",),
    ],
)
def test_label_separation_turned_off(box: AtLowest, volume: Path, flags: tuple[str, ...]) -> None:
    script = "cat /proc/self/attr/current /mnt/below/menu"
    shown = box.alone(*flags, f"-v{volume}:/mnt", BUSYBOX, "sh", "-c", script)
    assert ":container_t:" not in shown and shown.endswith("dal")


def test_chosen_type_and_level(box: AtLowest) -> None:
    opt = "--security-opt=label="
    shown = box.alone(f"{opt}level:s0:c7,c8", BUSYBOX, "cat", "/proc/self/attr/current")
    assert level(shown) == "s0:c7,c8"
    shown = box.alone(f"{opt}type:spc_t", BUSYBOX, "cat", "/proc/self/attr/current")
    assert ":spc_t:" in shown
    box.fails("create", f"{opt}level:nonsense", BUSYBOX, says="level")
    box.fails("create", f"{opt}nonsense", BUSYBOX, says="label=nonsense")


def test_nested_sees_the_policy(box: AtLowest) -> None:
    opt = "--security-opt=label="
    assert box.alone(BUSYBOX, "ls", "/sys/fs/selinux") == ""
    shown = box.alone(f"{opt}nested", f"{opt}type:spc_t", BUSYBOX, "cat", "/sys/fs/selinux/enforce")
    assert shown == "1"


@pytest.mark.parametrize("runtime", ["runc", "crun"])
def test_what_else_a_container_is_given_works_under_its_label(box: AtLowest, runtime: str) -> None:
    using = box.using(f"--runtime={runtime}")
    script = "echo dal > /t/menu && echo > /dev/shm/x && cat /t/menu /etc/hosts /etc/resolv.conf"
    shown = using.alone("--init", "--read-only", "--tmpfs=/t", BUSYBOX, "sh", "-c", script)
    assert shown.startswith("dal") and "localhost" in shown


def test_an_image_committed_from_a_labelled_container_runs(box: AtLowest) -> None:
    script = "mkdir /own && cp /bin/busybox /own"
    cid = box("run", "-d", "--network=none", BUSYBOX, "sh", "-c", script, timeout=120).word
    assert box("wait", cid, timeout=120).word == "0"
    box("commit", "-q", cid, "carte", timeout=120)
    box("rm", cid)
    assert box.alone("carte", "/own/busybox", "echo", "dal") == "dal"
    box("rmi", "carte")


def test_a_container_is_labelled_where_it_is_migrated_to(box: AtLowest) -> None:
    script = "[ -e /busybox ] || cp /bin/busybox /; echo more >> /menu; exec /busybox echo dal"
    cid = box.create("--network=none", BUSYBOX, "sh", "-c", script)
    for target in ("vfs", "overlay", ""):
        assert box("start", "--attach", cid, timeout=120).word == "dal"
        if target:
            assert box("storage", "migrate", "--to", target, cid, timeout=120).word == cid
    box("rm", cid)
