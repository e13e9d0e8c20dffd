"""Flags that no other test needs, each by what a person sees of it."""

from __future__ import annotations

import re

import pytest
from support.cli import BUSYBOX, Tiffin


@pytest.mark.parametrize(
    "args",
    [
        ["history", "nosuch"],
        ["start", "nosuch"],
        ["rm", "nosuch"],
        ["rmi", "nosuch"],
        ["inspect", "nosuch"],
        ["network", "inspect", "nosuch"],
    ],
    ids=" ".join,
)
def test_debug_shows_what_the_line_does_not(shared: Tiffin, args: list[str]) -> None:
    plain = shared.attempt(*args)
    debug = shared.attempt("--debug", *args)
    assert plain.code == debug.code > 0
    assert "Traceback" not in plain.err
    assert "Traceback" in debug.err
    assert plain.err.splitlines()[-1] == debug.err.splitlines()[-1]


def test_hostname_timestamps_and_the_latest(shared: Tiffin) -> None:
    shared("run", "--network=none", "--name=first", BUSYBOX, "true")
    shared("run", "--network=none", "--name=second", "--hostname=kitchen", BUSYBOX, "hostname")
    assert shared("ps", "--latest", "--format", "{{.Names}}").word == "second"
    assert shared("ps", "-l", "-q").out == shared("ps", "-aq", "--filter=name=second").out
    stamp = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}(Z|[+-]\d\d:\d\d) kitchen\n"
    for flag in ("-t", "--timestamps"):
        assert re.fullmatch(stamp, shared("logs", flag, "second").out)
    shared("rm", "first", "second")
