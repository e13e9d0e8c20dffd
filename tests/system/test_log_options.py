"""Where a log is, how long it grows, and the logs of several containers."""

from __future__ import annotations

import subprocess
from pathlib import Path

from support.cli import BUSYBOX, Tiffin

RUN = ("run", "--network=none")


def test_a_log_begins_anew_at_its_largest(tiffin: Tiffin, tmp_path: Path) -> None:
    log = tmp_path / "own.log"
    flags = ("--name=c", f"--log-opt=path={log}", "--log-opt=max-size=64k")
    tiffin(*RUN, *flags, BUSYBOX, "sh", "-c", "for i in $(seq 2000); do echo line $i; done")
    assert 0 < log.stat().st_size <= (64 << 10) + 100
    assert tiffin("logs", "-n", "1", "c").out == "line 2000\n"
    lines = tiffin("logs", "c").lines
    assert lines == [f"line {n}" for n in range(2001 - len(lines), 2001)]
    config = tiffin.inspect("c")["HostConfig"]["LogConfig"]
    assert config["Path"] == str(log) and config["Size"] != "0B"


def test_of_several(tiffin: Tiffin) -> None:
    for name in ("a", "b"):
        tiffin(*RUN, f"--name={name}", BUSYBOX, "printf", "no newline\\001")
    ids = [tiffin.inspect(name)["Id"][:12] for name in ("a", "b")]
    both = tiffin("logs", "a", "b").out
    assert both == "".join(f"{cid} no newline\x01" for cid in ids)
    named = tiffin("logs", "--names", "--color", "a", "b").out
    assert named.startswith("\x1b[31ma \x1b[0mno newline")
    assert "\x1b[32mb \x1b[0mno newline" in named


def test_several_are_followed_side_by_side(tiffin: Tiffin) -> None:
    """Lines do not mix, also those that come in pieces; it ends with the last container."""
    flags = ("-d", "-i", "--network=none")
    for name in ("a", "b"):
        tiffin("run", *flags, f"--name={name}", BUSYBOX, "cat")
    with (
        tiffin.start("logs", "-f", "--names", "--color", "a", "b") as process,
        tiffin.start("attach", "a", stdin=subprocess.PIPE) as first,
        tiffin.start("attach", "b", stdin=subprocess.PIPE) as second,
    ):
        assert process.stdout is not None and first.stdin is not None and second.stdin is not None
        for typist, text in ((first, b"one "), (second, b"two\n"), (first, b"three\n")):
            typist.stdin.write(text)  # type: ignore[union-attr]
            typist.stdin.flush()  # type: ignore[union-attr]
            if text.endswith(b"\n"):
                line = process.stdout.readline()
                name, colour = ("a", 31) if typist is first else ("b", 32)
                words = b"one three" if typist is first else b"two"
                assert line == b"\x1b[%dm%s \x1b[0m%s\n" % (colour, name.encode(), words)
        first.stdin.close()
        assert first.wait(30) == 0
        second.stdin.write(b"last")
        second.stdin.close()
        assert second.wait(30) == 0
        assert process.wait(30) == 0
        assert process.stdout.read().endswith(b"last\n")


def test_streams_that_pass_through(tiffin: Tiffin) -> None:
    flags = ("--network=none", "--log-driver=passthrough", "--name=c")
    script = "cat; echo oops >&2; exit 4"
    done = tiffin("run", *flags, BUSYBOX, "sh", "-c", script, input="one\ntwo\n", code=4)
    assert (done.out, done.err) == ("one\ntwo\n", "oops\n")
    tiffin.fails("logs", "c", says="keeps no log")
    assert tiffin("start", "-a", "c", input="again", code=4).out == "again"
    tiffin("rm", "c")
    tiffin.fails("run", "-t", *flags, BUSYBOX, "true", says="terminal")
    argv = ("run", *flags, BUSYBOX, "sh", "-c", "trap 'exit 7' TERM; echo up; sleep 60 & wait")
    with tiffin.start(*argv) as process:
        assert process.stdout is not None and process.stdout.readline() == b"up\n"
        tiffin("exec", "c", "true")
        tiffin.fails("attach", "c", says="pass through")
        process.terminate()
        assert process.wait(30) == 7
    assert tiffin.inspect("c")["HostConfig"]["LogConfig"]["Type"] == "passthrough"


def test_bad_options(tiffin: Tiffin, tmp_path: Path) -> None:
    for option in (
        "path=relative",
        "path=/no/such/dir/log",
        f"path={tmp_path}",
        "max-size=x",
        "a=b",
    ):
        tiffin.fails("create", f"--log-opt={option}", BUSYBOX, says="log-opt")
    tiffin.fails("create", "--log-driver=none", "--log-opt=max-size=1m", BUSYBOX, says="no file")
