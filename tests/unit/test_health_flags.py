"""What `--health-*` means, alone and over an image's HEALTHCHECK."""

from __future__ import annotations

from typing import Any

import pytest

from tiffin.cli.container_flags import FLAGS
from tiffin.cli.container_options import options_from
from tiffin.cli.flags import Command, parse
from tiffin.cli.health_flags import command
from tiffin.engine.health import settle
from tiffin.errors import ImageError, UserError
from tiffin.options import ContainerOptions, Health

SECOND = 1_000_000_000
RUN = Command("run", "IMAGE", "Run", FLAGS, (1, None), (), lambda _: 0, interspersed=False)
IMAGE = {"Healthcheck": {"Test": ["CMD", "look"], "Interval": 7 * SECOND, "Retries": 9}}


def asked(*words: str) -> ContainerOptions:
    options, arguments = parse(RUN, [*words, "image"])
    return options_from(options, arguments)


def settled(image: dict[str, Any], *words: str) -> Health:
    return settle(asked(*words), image).health


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("curl localhost || exit 1", ("CMD-SHELL", "curl localhost || exit 1")),
        ('["ls", "/"]', ("CMD", "ls", "/")),
        ('["ls /"]', ("CMD-SHELL", "ls /")),
        ('["CMD-SHELL", "ls /"]', ("CMD-SHELL", "ls /")),
        ("CMD ls /", ("CMD", "ls", "/")),
        ("CMD-SHELL ls /", ("CMD-SHELL", "ls /")),
        ("[ -e /ready ]", ("CMD-SHELL", "[ -e /ready ]")),
        ("none", ("NONE",)),
        ('["NONE"]', ("NONE",)),
    ],
)
def test_a_command_is_what_podman_takes_it_for(text: str, meant: tuple[str, ...]) -> None:
    assert command(text) == meant


def test_defaults_and_times() -> None:
    assert settled({}, "--health-cmd=x") == Health(
        ("CMD-SHELL", "x"), 30 * SECOND, 30 * SECOND, 0, 3
    )
    flags = "--health-interval=1m --health-timeout=2s --health-start-period=3s --health-retries=4"
    found = settled({}, "--health-cmd=x", *flags.split())
    assert found == Health(("CMD-SHELL", "x"), 60 * SECOND, 2 * SECOND, 3 * SECOND, 4)
    assert settled({}, "--health-cmd=x", "--health-interval=disable").interval == 0


def test_the_images_check_and_flags_over_it() -> None:
    assert settled(IMAGE) == Health(("CMD", "look"), 7 * SECOND, 30 * SECOND, 0, 9)
    over = settled(IMAGE, "--health-retries=2")
    assert (over.test, over.interval, over.retries) == (("CMD", "look"), 7 * SECOND, 2)
    assert settled(IMAGE, "--health-cmd=mine").retries == 3
    for words in (["--no-healthcheck"], ["--health-cmd=none"]):
        assert settled(IMAGE, *words) == Health()
    assert settled({"Healthcheck": {"Test": ["NONE"]}}) == Health()
    assert settled({"Healthcheck": {"Test": None, "Interval": 5}}) == Health()


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--health-cmd=x", "--no-healthcheck"], "contradict"),
        (["--health-cmd=x", "--health-interval=often"], "--health-interval 'often'"),
        (["--health-cmd=x", "--health-interval=-1s"], "negative"),
        (["--health-cmd=x", "--health-timeout=0s"], "--health-timeout 0s"),
        (["--health-cmd=x", "--health-retries=0"], "--health-retries 0"),
        (["--health-cmd=x", "--health-start-period=9999999h"], "too long"),
        (["--health-interval=3s"], "has none"),
        (["--health-cmd=CMD"], "no command"),
    ],
)
def test_bad_ones_are_refused(words: list[str], says: str) -> None:
    with pytest.raises(UserError, match=says):
        settled({}, *words)


@pytest.mark.parametrize("test", ["text", ["WHAT", "x"], [1, 2], {"a": 1}])
def test_a_broken_one_of_an_image_is_the_images_fault(test: Any) -> None:
    with pytest.raises(ImageError, match="HEALTHCHECK"):
        settled({"Healthcheck": {"Test": test}})
