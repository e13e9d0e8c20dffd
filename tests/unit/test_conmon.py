"""conmon's command line, its reports, and the messages of runtimes."""

from itertools import pairwise

import msgspec
import pytest

from tiffin import conmon, oci_runtime
from tiffin.conmon import Monitor
from tiffin.errors import RuntimeFailed, UserError
from tiffin.hooks import DriverContext
from tiffin_runtime_runc import oci_runtime as oci_runtime_of_runc

RUNC = oci_runtime_of_runc("runc", DriverContext(root="/r", run="/r"))
assert isinstance(RUNC, oci_runtime.CommandLineRuntime)
PLAIN = Monitor(
    container="c" * 64, runtime="/usr/bin/runc", bundle="/b", run="/r", failure=RUNC.failure
)


def words(argv: list[str], flag: str) -> list[str]:
    return [value for name, value in pairwise(argv) if name == flag]


def test_the_command_line_of_a_container() -> None:
    argv = conmon.arguments(
        msgspec.structs.replace(
            PLAIN,
            name="box",
            arguments=("--root", "/state"),
            log="/l/ctr.log",
            stdin=True,
            exit_command=("/bin/ex", "--x", "y z"),
        ),
        "/usr/bin/conmon",
    )
    assert argv[:3] == ["/usr/bin/conmon", "--api-version", "1"]
    for flag, value in {
        "-c": "c" * 64,
        "-u": "c" * 64,
        "-n": "box",
        "-r": "/usr/bin/runc",
        "-b": "/b",
        "-p": "/r/pidfile",
        "--conmon-pidfile": "/r/conmon.pid",
        "--exit-dir": "/r/exits",
        "--persist-dir": "/r/persist",
        "-l": "k8s-file:/l/ctr.log",
        "--exit-command": "/bin/ex",
    }.items():
        assert words(argv, flag) == [value]
    runtime = [word.partition("=")[2] for word in argv if word.startswith("--runtime-arg=")]
    assert runtime == ["--root", "/state", "--log", "/r/oci-log", "--log-format", "json"]
    assert argv[-2:] == ["--exit-command-arg=--x", "--exit-command-arg=y z"]
    assert "-i" in argv
    assert "-t" not in argv


def test_a_terminal_is_its_own_stdin() -> None:
    argv = conmon.arguments(
        msgspec.structs.replace(PLAIN, terminal=True, stdin=True, log=""),
        "conmon",
    )
    assert "-t" in argv
    assert "-i" not in argv
    assert words(argv, "-l") == ["none"]


def test_the_command_line_of_an_exec() -> None:
    monitor = msgspec.structs.replace(PLAIN, session="s")
    argv = conmon.exec_arguments(monitor, "conmon", "/spec", attach=True)
    assert (words(argv, "-c"), words(argv, "-u")) == (["c" * 64], ["s"])
    assert words(argv, "--exec-process-spec") == ["/spec"]
    assert "--exec-attach" in argv
    assert "--exec-attach" not in conmon.exec_arguments(monitor, "conmon", "/spec", attach=False)


def test_a_log_path_that_conmon_would_cut() -> None:
    with pytest.raises(UserError, match="colon"):
        conmon.arguments(msgspec.structs.replace(PLAIN, log="/a:b"), "conmon")


def test_reports() -> None:
    assert conmon.parse_report(b'{"data": 42}').data == 42
    failed = conmon.parse_report(b'{"data": -1, "message": "a \\"b\\"\\nc"}')
    assert (failed.data, failed.message) == (-1, 'a "b"\nc')
    broken = conmon.parse_report(b'{"data": -1, "message": "\x01 \xff"}')
    assert (broken.data, broken.message) == (-1, "\x01 \ufffd")
    with pytest.raises(RuntimeFailed, match="no report"):
        conmon.parse_report(b"garbage")


@pytest.mark.parametrize(
    ("text", "cause"),
    [
        ("", ""),
        ("one\n\ntwo\n", "two"),
        ('time="x" level=error msg="runc create failed: broken \\"it\\""\n', 'broken "it"'),
        ('{"level":"error","msg":"bad"}\n{"level":"warning","msg":"odd"}\n', "bad"),
        ('{"msg":"x"\n', '{"msg":"x"'),
        ('{"msg":"a\\nb","level":"error"}', "a b"),
        (
            'time="x" level=error msg="exec failed: unable to start container process: boom"',
            "boom",
        ),
    ],
)
def test_the_cause_is_one_line(text: str, cause: str) -> None:
    assert RUNC.cause(text) == cause
    assert RUNC.cause(text.encode()) == cause


@pytest.mark.parametrize(
    ("cause", "code"),
    [
        ('exec: "x": executable file not found in $PATH', 127),
        ('exec: "/x": stat /x: no such file or directory', 127),
        ("executable file `x` not found in $PATH: No such file or directory", 127),
        ("exec /script: no such file or directory", 127),
        ('exec: "/x": permission denied', 126),
        ('exec: "/tmp": is a directory', 126),
        ("open executable: Permission denied", 126),
        ("open executable: Operation not permitted", 126),
        ("exec container process `/x`: Exec format error", 126),
        ("error stat'ing file `/nosuch`: No such file or directory", 125),
        ("setrlimit `RLIMIT_NOFILE`: Operation not permitted", 125),
        ("error running hook #0: fork/exec /hook: no such file or directory", 125),
        ("", 125),
    ],
)
def test_whose_fault_it_is(cause: str, code: int) -> None:
    error = RUNC.failure(cause, "start")
    assert error.exit_code == code
    assert str(error).startswith("runc: ")
