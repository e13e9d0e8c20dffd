"""The command line's lean trio: works for what commands do, and gives way when it cannot."""

from __future__ import annotations

import subprocess
import sys


def python(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_trio_without_tls_runs_tasks_threads_and_programs() -> None:
    code = """
import sys
from tiffin.cli import leantrio
leantrio.prepare()
from tiffin.quicktrio import trio
async def main():
    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.sleep, 0)
    await trio.to_thread.run_sync(int)
    done = await trio.run_process(["echo", "ok"], capture_stdout=True)
    print(done.stdout.decode().strip(), "ssl" in sys.modules)
trio.run(main)
"""
    assert python(code) == "ok False"


def test_what_is_left_out_says_so() -> None:
    code = """
from tiffin.cli import leantrio
leantrio.prepare()
from tiffin.quicktrio import trio
try:
    trio.SSLStream(None, None)
except RuntimeError as error:
    print(error)
"""
    assert python(code) == "SSLStream is left out of trio in the command line"


def test_a_trio_that_needs_them_is_imported_whole() -> None:
    code = """
import sys
from tiffin.cli import leantrio
leantrio.prepare()
sys.modules["trio._ssl"] = None  # importing it fails, as a missing name would
from tiffin.quicktrio import trio
print(trio.SSLStream.__init__.__name__, trio._ssl.__name__)
"""
    assert python(code) == "__init__ trio._ssl"


def test_an_engine_inside_another_program_gets_the_whole_of_trio() -> None:
    code = "import tiffin.engine.base, trio; print(trio.SSLStream.__module__)"
    assert python(code) == "trio"
