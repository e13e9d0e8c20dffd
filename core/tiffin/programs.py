"""Running the distribution's programs: found on PATH, each missing one named with its package."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence

import trio

from .errors import DriverError

SEARCH = os.pathsep.join(
    ("/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin")
)
"""Looked at after PATH: an ordinary user's PATH often lacks the sbin directories."""


def find(name: str, package: str = "") -> str:
    """Absolute path of a program. Error: DriverError that says which package has it.

    Not in the current directory, which is what an empty PATH, or part of it, would mean (CWE-426).
    """
    for directory in f"{os.environ.get('PATH', '')}{os.pathsep}{SEARCH}".split(os.pathsep):
        path = os.path.join(directory, name)
        if directory and os.path.isfile(path) and os.access(path, os.X_OK):
            return os.path.abspath(path)
    raise DriverError(f"{name} is not installed", hint=f"install it: apt install {package or name}")


async def run(
    argv: Sequence[str],
    *,
    package: str = "",
    stdin: bytes | None = None,
    timeout: float = 60.0,
    check: bool = True,
    env: Mapping[str, str] | None = None,
    cwd: str | None = None,
) -> tuple[int, bytes, bytes]:
    """Run to the end and return (exit code, stdout, stderr).

    `env`: instead of our own environment. `timeout` is in seconds; the program is killed when it
    is over or when we are cancelled.
    Errors: DriverError when missing, when too slow, or, with `check`, when it fails.
    """
    program = argv[0] if os.path.isabs(argv[0]) else find(argv[0], package)
    try:
        with trio.fail_after(timeout):
            done = await trio.run_process(
                [program, *argv[1:]],
                stdin=b"" if stdin is None else stdin,
                capture_stdout=True,
                capture_stderr=True,
                check=False,
                env=env,
                cwd=cwd,
            )
    except trio.TooSlowError:
        raise DriverError(f"{argv[0]} did not finish in {timeout:.0f} seconds") from None
    except OSError as error:
        raise DriverError(f"cannot run {program}: {error.strerror}") from None
    if check and done.returncode:
        raise DriverError(f"{os.path.basename(program)}: {last_line(done.stderr)}")
    return done.returncode, done.stdout, done.stderr


def last_line(stderr: bytes) -> str:
    """The line of a program's stderr that names the cause: the last that is not empty."""
    lines = [line for line in stderr.decode(errors="replace").splitlines() if line.strip()]
    return lines[-1].strip() if lines else "failed without a message"


__all__ = ["find", "last_line", "run"]
