"""AppArmor on a machine that has it: the profile of a container, as the kernel sees it.

On others the tests skip: `TIFFIN_VM_LSM=apparmor scripts/vm-test tests/system/test_apparmor.py`
runs them in the guest.
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.cli import BUSYBOX, Tiffin

from tiffin.hooks import DriverContext
from tiffin.testing.labels import LabelConformance
from tiffin_label_apparmor.driver import AppArmor

ENABLED = Path("/sys/module/apparmor/parameters/enabled")
PROFILES = Path("/sys/kernel/security/apparmor/profiles")


@pytest.fixture
def provider(tmp_path: Path) -> AppArmor:
    return AppArmor(DriverContext(root=str(tmp_path / "own"), run=str(tmp_path / "run")))


class TestConformance(LabelConformance):
    """The suite that any label provider passes."""


pytestmark = pytest.mark.skipif(
    not ENABLED.exists() or not ENABLED.read_text().startswith("Y"),
    reason="AppArmor is not enabled here (run it in the guest, see the top of this file)",
)


@pytest.fixture
def lunch() -> Iterator[str]:
    """A profile of the user's, loaded."""
    text = b"profile tiffin-lunch flags=(attach_disconnected) { file, signal, deny /menu w, }"
    subprocess.run(["apparmor_parser", "--replace", "--skip-cache"], input=text, check=True)
    yield "tiffin-lunch"
    subprocess.run(["apparmor_parser", "--remove"], input=text, check=True)


def current(tiffin: Tiffin, *flags: str) -> str:
    words = ("run", "--rm", "--network=none", *flags, BUSYBOX, "cat", "/proc/self/attr/current")
    return tiffin(*words, timeout=120).word


@pytest.mark.parametrize("runtime", ["runc", "crun"])
def test_the_default_profile(shared: Tiffin, runtime: str) -> None:
    assert current(shared.using(f"--runtime={runtime}")) == "tiffin-default (enforce)"
    assert "tiffin-default (enforce)" in PROFILES.read_text().splitlines()


def test_a_profile_that_was_unloaded_is_loaded_again(shared: Tiffin) -> None:
    name = shared.create("--network=none", BUSYBOX, "cat", "/proc/self/attr/current")
    subprocess.run(["apparmor_parser", "--remove"], input=b"profile tiffin-default {}", check=True)
    assert "tiffin-default" not in PROFILES.read_text()
    assert shared("start", "--attach", name, timeout=120).word == "tiffin-default (enforce)"
    shared("rm", name)


def test_none_when_unconfined_or_privileged(shared: Tiffin) -> None:
    assert current(shared, "--security-opt=apparmor=unconfined") == "unconfined"
    assert current(shared, "--privileged") == "unconfined"


def test_the_users_profile(shared: Tiffin, lunch: str) -> None:
    flag = f"--security-opt=apparmor={lunch}"
    assert current(shared, flag) == f"{lunch} (enforce)"
    assert current(shared, "--privileged", flag) == f"{lunch} (enforce)"
    done = shared.attempt(
        "run", "--rm", "--network=none", flag, BUSYBOX, "sh", "-c", "echo dal > /menu", timeout=120
    )
    assert done.code == 1 and "Permission denied" in done.err


def test_a_profile_that_is_not_loaded_is_named(shared: Tiffin) -> None:
    shared.fails("create", "--security-opt=apparmor=nobody", BUSYBOX, says="'nobody' is not loaded")
    assert shared("ps", "-aq").out == ""


def test_the_default_profile_holds_and_lets_live(shared: Tiffin) -> None:
    """With capabilities and a writable /proc it is AppArmor alone that says no."""
    flags = (
        "--cap-add=SYS_ADMIN",
        "--security-opt=unmask=ALL",
        "--security-opt=seccomp=unconfined",
    )
    shared(
        "run", "-d", "--network=none", "--name=one", *flags, BUSYBOX, "sleep", "1000", timeout=120
    )
    for script in (
        "mount -t tmpfs none /mnt",
        "head -c 1 /proc/kcore",
        "echo h > /proc/sysrq-trigger",
        "echo 1 > /proc/sys/kernel/panic",
        "echo 1 > /proc/sys/vm/swappiness",
    ):
        done = shared.attempt("exec", "one", "sh", "-c", script, timeout=120)
        assert done.code != 0 and "ermission denied" in done.err, (script, done)
    shared("exec", "one", "sh", "-c", "echo x > /file && sleep 100 & kill $!", timeout=120)
    shown = shared("exec", "one", "cat", "/proc/self/attr/current", timeout=120).word
    assert shown == "tiffin-default (enforce)"
    assert shared("inspect", "--format", "{{.AppArmorProfile}}", "one").word == "tiffin-default"
    shared("stop", "-t", "1", "one", timeout=120)
    shared("rm", "one", timeout=120)
