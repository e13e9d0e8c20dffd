"""Ways to say which containers are meant: --cidfile, --filter, --ignore, --depend."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from support.cli import BUSYBOX, Tiffin

Make = Callable[..., str]


@pytest.fixture
def make(shared: Tiffin) -> Iterator[Make]:
    def run(name: str, *flags: str) -> str:
        return shared(
            "run", "-d", "--name", name, "--network=none", *flags, BUSYBOX, "sleep", "inf"
        ).word

    yield run
    shared("rm", "-fa", "-t", "0")


def states(tiffin: Tiffin) -> dict[str, str]:
    lines = tiffin("ps", "-a", "--format", "{{.Names}} {{.State}}").lines
    return dict(line.split() for line in lines)


def test_the_file_that_run_wrote_names_the_container(
    shared: Tiffin, make: Make, tmp_path: Path
) -> None:
    file = str(tmp_path / "cid")
    make("one", "--cidfile", file)
    make("two")
    for command, state in (
        ("pause", "paused"),
        ("unpause", "running"),
        ("restart -t 0", "running"),
        ("kill", "exited"),
        ("start", None),
        ("stop -t 0", "exited"),
    ):
        if state is None:
            shared("start", "one")
            continue
        shared(*command.split(), "--cidfile", file)
        if command == "kill":
            shared("wait", "one")
        assert states(shared) == {"one": state, "two": "running"}
    shared("rm", "--cidfile", file)
    assert states(shared) == {"two": "running"}


@pytest.mark.parametrize("command", ["stop", "rm", "kill", "pause"])
def test_a_file_that_is_not_there(shared: Tiffin, command: str, tmp_path: Path) -> None:
    file = str(tmp_path / "nope")
    done = shared.attempt(command, "--cidfile", file)
    assert (done.code, done.err) == (125, f"Error: --cidfile {file}: no such file\n")
    if command in ("stop", "rm"):
        assert shared(command, "--ignore", "--cidfile", file).out == ""
    Path(file).touch()
    assert f"--cidfile {file} is empty" in shared.attempt(command, "--cidfile", file).err


def test_filters_choose_among_all(shared: Tiffin, make: Make) -> None:
    make("one", "-l", "tier=web")
    make("two", "-l", "tier=db")
    shared("pause", "--filter", "label=tier=web")
    assert states(shared) == {"one": "paused", "two": "running"}
    shared("unpause", "-f", "label=tier=web")
    shared("restart", "-t", "0", "--filter", "label=tier=db")
    assert states(shared) == {"one": "running", "two": "running"}
    shared("stop", "-t", "0", "--filter", "label=tier=db")
    shared("rm", "--filter", "status=exited")
    assert states(shared) == {"one": "running"}


def test_stop_passes_over_one_that_is_not_there(shared: Tiffin, make: Make) -> None:
    make("one")
    assert shared("stop", "-t", "0", "--ignore", "nope", "one").out == "one\n"
    assert shared.attempt("stop", "nope").code == 125


def test_those_in_its_network_go_with_it(shared: Tiffin, make: Make) -> None:
    owner = make("owner")
    first = shared("create", "--network=container:owner", "--name", "first", BUSYBOX).word
    second = shared("create", "--network=container:first", "--name", "second", BUSYBOX).word
    make("other")
    assert shared.attempt("rm", "-f", "owner").code in (2, 125)
    gone = shared("rm", "-f", "-t", "0", "--depend", "owner").lines
    assert gone == [second, first, owner]
    assert states(shared) == {"other": "running"}
