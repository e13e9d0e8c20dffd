"""Flags that no other test needs, each by what a person sees of it."""

from __future__ import annotations

import json
import re
from pathlib import Path

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


@pytest.mark.parametrize(
    ("flag", "told"),
    [
        ("--log-level=info", r'time="20\d\d-[^"]+Z" level=info msg="(\d+) ([a-z._]+) [a-z]+/?\S*"'),
        ("--log-level=debug", r'time="20\d\d-[^"]+Z" level=debug msg="(\d+) ([a-z._]+) .*"'),
        ("--debug", r'time="20\d\d-[^"]+Z" level=debug msg="(\d+) ([a-z._]+) .*"'),
    ],
)
def test_a_lower_log_level_tells_each_event_as_it_is_recorded(
    shared: Tiffin, flag: str, told: str
) -> None:
    last = shared.events()[-1]["seq"]
    done = shared.using(flag)("run", "--rm", "--network=none", BUSYBOX, "echo", "hi")
    assert done.out == "hi\n"
    found = [re.fullmatch(told, line) for line in done.err.splitlines()]
    assert all(found), done.err
    own = [e for e in shared.events("--after", str(last)) if e["actor"]["front_end"] == "cli"]
    assert [(int(m[1]), m[2]) for m in found if m] == [(e["seq"], e["type"]) for e in own]
    assert ("sleep" in done.err or "echo" in done.err) == (flag != "--log-level=info")


@pytest.mark.parametrize("runtime", ["runc", "crun"])
@pytest.mark.parametrize("path", ["", ":/no/such/directory"])
def test_programs_are_found_where_they_are_whatever_PATH_says(
    shared: Tiffin, runtime: str, path: str, tmp_path: Path
) -> None:
    """And never in the current directory, which may be anybody's."""
    for name in ("conmon", "crun", "runc", "nft", "ip", "unshare", "umount"):
        (tmp_path / name).write_text("#!/bin/sh\necho mine >&2\nexit 99\n")
        (tmp_path / name).chmod(0o755)
    chosen = shared.using(f"--runtime={runtime}")
    done = chosen("run", "--rm", BUSYBOX, "echo", "hi", env={"PATH": path}, cwd=tmp_path)
    assert (done.out, done.err) == ("hi\n", "")


@pytest.mark.parametrize("level", ["warn", "error", "fatal"])
def test_a_higher_log_level_tells_nothing(shared: Tiffin, level: str) -> None:
    done = shared.using(f"--log-level={level}")("create", BUSYBOX)
    assert done.err == ""


def test_hostname_timestamps_and_the_latest(shared: Tiffin) -> None:
    shared("run", "--network=none", "--name=first", BUSYBOX, "true")
    shared("run", "--network=none", "--name=second", "--hostname=kitchen", BUSYBOX, "hostname")
    assert shared("ps", "--latest", "--format", "{{.Names}}").word == "second"
    assert shared("ps", "-l", "-q").out == shared("ps", "-aq", "--filter=name=second").out
    stamp = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}(Z|[+-]\d\d:\d\d) kitchen\n"
    for flag in ("-t", "--timestamps"):
        assert re.fullmatch(stamp, shared("logs", flag, "second").out)
    shared("rm", "first", "second")


def test_ps_shows_sizes(shared: Tiffin) -> None:
    write = ("sh", "-c", "head -c 3000 /dev/zero > /three")
    shared("run", "--network=none", "--name=sized", BUSYBOX, *write)
    heading, line = shared("ps", "-a", "-s", "--filter=name=sized").lines
    assert heading.endswith("SIZE") and re.search(r"  3kB \(virtual [\d.]+MB\)$", line), line
    shown = shared("ps", "-a", "--filter=name=sized", "--format={{.Size}}").word
    assert line.endswith(shown) and shown.startswith("3kB (virtual ")
    (plain,) = json.loads(shared("ps", "-as", "--filter=name=sized", "--format=json").out)
    assert plain["Size"]["rwSize"] == 3000 and plain["Size"]["rootFsSize"] > 100_000
    shared("rm", "sized")


@pytest.mark.parametrize("runtime", ["runc", "crun"])
def test_exec_in_a_directory_that_is_not_there(shared: Tiffin, runtime: str) -> None:
    name = shared.using(f"--runtime={runtime}").detached("--network=none", BUSYBOX, "sleep", "1000")
    shared.fails("exec", "-w", "/nosuch", name, "true", code=127, says="/nosuch")
    shared("rm", "-f", "-t0", name)
