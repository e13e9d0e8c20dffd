"""Fixtures of the system tests. They run as root on Linux, on the real kernel, or fail."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from support import images, registry, world
from support.cli import BUSYBOX, Tiffin
from support.person import Person, TheirTiffin, person

from tiffin.content import ContentStore
from tiffin.registry import client

HERE = Path(__file__).parent


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "registry: needs docker-registry and skopeo")
    config.addinivalue_line("markers", "outside: runs on the machine itself (see scripts/test)")
    # A background job, or one under nohup, is born with these ignored; so would be all we start.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGQUIT, signal.SIG_DFL)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if "registry_address" in set(getattr(item, "fixturenames", ())):
            item.add_marker(pytest.mark.registry)


@pytest.fixture(scope="session", autouse=True)
def nothing_left_behind() -> Iterator[None]:
    """After all tests the machine is as it was: no mount, network namespace, link, cgroup, rule,
    process or directory more than before."""
    if not sys.platform.startswith("linux") or os.geteuid() != 0:
        pytest.fail("the system tests need root on Linux: run make test as root", pytrace=False)
    before = world.snapshot()
    yield
    end = time.monotonic() + 5
    while (left := world.snapshot() - before) and time.monotonic() < end:
        time.sleep(0.1)  # the kernel drops some things after the processes that held them
    assert not left, "left behind:\n" + "\n".join(sorted(left))


@pytest.fixture
def tiffin() -> Iterator[Tiffin]:
    """tiffin with an empty store of its own, which must be empty again at the end."""
    command = Tiffin.fresh()
    yield command
    command.close()


@pytest.fixture(scope="module")
def shared() -> Iterator[Tiffin]:
    """tiffin with a store that the tests of one module share; the base image is there."""
    command = Tiffin.fresh()
    command("pull", "embedded:busybox")
    yield command
    command.close()


@pytest.fixture(scope="module")
def who() -> Iterator[Person]:
    """An ordinary user of this machine; a module may have one of its own kind."""
    with person() as made:
        yield made


@pytest.fixture(scope="module")
def theirs(who: Person) -> Iterator[TheirTiffin]:
    """tiffin as that user has it; the base image is there."""
    made = TheirTiffin.of(who)
    made("pull", BUSYBOX)
    yield made
    made.close()


@pytest.fixture(scope="session")
def registry_address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """HOST:PORT of a docker-registry with nothing in it."""
    with registry.docker_registry(tmp_path_factory.mktemp("registry")) as address:
        yield address


@pytest.fixture(scope="session")
def layout(tmp_path_factory: pytest.TempPathFactory) -> images.Layout:
    """An OCI layout with one image, tagged `latest`."""
    return images.simple(tmp_path_factory.mktemp("images") / "simple")


@pytest.fixture
def store(tmp_path: Path) -> ContentStore:
    return ContentStore(str(tmp_path / "store/blobs"))


@pytest.fixture
def no_credentials_of_the_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / "run"))
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "REGISTRY_AUTH_FILE"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Short pauses between tries."""
    monkeypatch.setattr(client, "FIRST_PAUSE", 0.01)
