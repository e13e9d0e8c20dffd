"""The command line's lean trio: works for what commands do, and gives way when it cannot."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tiffin import cli


def python(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_trio_without_tls_runs_tasks_threads_and_programs() -> None:
    code = """
import sys
from tiffin import lean
lean.prepare()
lean.load_trio()
import trio
async def main():
    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.sleep, 0)
    await trio.to_thread.run_sync(int)
    done = await trio.run_process(["echo", "ok"], capture_stdout=True)
    print(done.stdout.decode().strip(), "ssl" in sys.modules)
trio.run(main)
"""
    assert python(code) == "ok False"


def test_no_command_loads_trio_whole() -> None:
    """Whichever of their modules that use it is imported first."""
    folder = Path(cli.__path__[0])
    modules = [path.stem for path in folder.glob("*.py") if "import trio" in path.read_text()]
    assert "session" in modules
    for module in modules:
        code = f"""
import sys
from tiffin import lean
lean.prepare()
import tiffin.cli.{module}
import tiffin.engine
import trio
print("ssl" in sys.modules)
"""
        assert python(code) == "False", module


def test_what_is_put_off_comes_when_it_is_asked_for() -> None:
    code = """
import sys
from tiffin import lean
lean.prepare()
lean.load_trio()
import trio
before = "trio._channel" in sys.modules
kinds = [type(value).__name__ for name, module in list(sys.modules.items())
         if name.partition(".")[0] == "trio" for value in list(vars(module).values())]
assert not {"Later", "PutOff"}.intersection(kinds)
send, receive = trio.open_memory_channel(1)
send.send_nowait(7)
print(before, receive.receive_nowait(), trio.Path("/a"), trio.socket.AF_UNIX)
print(trio.SSLStream.__name__)
try:
    trio.no_such_thing
except AttributeError as error:
    print(error)
import attrs, trio.testing
print(attrs.asdict.__name__, trio.testing.MockClock.__name__)
"""
    assert python(code).splitlines() == [
        "False 7 /a 1",
        "SSLStream",
        "module 'trio' has no attribute 'no_such_thing'",
        "asdict MockClock",
    ]


def test_what_stood_in_is_gone_afterwards() -> None:
    code = """
import sys
from tiffin import lean
lean.prepare()
lean.load_msgspec()
lean.load_trio()
print(sorted({"logging", "ctypes.util", "typing_extensions", "attr"}.intersection(sys.modules)))
import ctypes.util, logging, typing_extensions
from trio._core import _asyncgens
_asyncgens.ASYNCGEN_LOGGER.error("said")
print(logging.INFO, ctypes.util.find_library("c"), typing_extensions.Self.__module__)
"""
    assert python(code).splitlines() == ["[]", "20 libc.so.6 typing"]


def test_a_plugin_loaded_before_trio_finds_everything() -> None:
    code = """
from tiffin import lean
lean.prepare()
import typing_extensions, attrs
lean.load_trio()
import trio
print(trio._core._run.Task.__attrs_attrs__[0].__class__.__module__)
"""
    assert python(code) == "attr._make"


def test_a_trio_that_needs_more_is_imported_whole() -> None:
    code = """
import sys
from tiffin import lean
from tiffin.lean import attrs
lean.prepare()
attrs.define = None  # as if trio asked for something that is not here
lean.load_trio()
import trio
print(trio._core._run.Task.__attrs_attrs__[0].__class__.__module__, trio.SSLStream.__name__)
trio.run(trio.sleep, 0)
"""
    assert python(code) == "attr._make SSLStream"


def test_an_engine_inside_another_program_gets_the_whole_of_trio() -> None:
    code = "import tiffin.engine.base, trio; print(trio.SSLStream.__module__)"
    assert python(code) == "trio"


def test_waiting_for_all_others_to_wait_works_in_order() -> None:
    code = """
import sys
from tiffin import lean
lean.prepare()
lean.load_trio()
import trio
print("sortedcontainers" in sys.modules)
from trio.testing import wait_all_tasks_blocked
order = []
async def waits(cushion):
    await wait_all_tasks_blocked(cushion)
    order.append(cushion)
async def main():
    async with trio.open_nursery() as nursery:
        for cushion in (0.03, 0.0, 0.01):
            nursery.start_soon(waits, cushion)
    print(order)
trio.run(main)
"""
    assert python(code).splitlines() == ["False", "[0.0, 0.01, 0.03]"]
