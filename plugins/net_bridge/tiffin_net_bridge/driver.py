"""`hooks.NetworkDriver`: requests to a worker process, which does the work.

The worker is a process because loading netlink's messages is 40 ms of pure Python: beside the
engine's own start it costs nothing on a second core. It ends when its standard input does.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any

import msgspec
import trio

from tiffin import errors
from tiffin.errors import DriverError, TiffinError
from tiffin.hooks import Attachment, DriverContext, NetworkConfig

BOOT = """
import gc, sys, types
gc.disable()
sys.path[:] = sys.argv[3:]
package = types.ModuleType("tiffin_net_bridge")
package.__path__ = [sys.argv[1]]
sys.modules["tiffin_net_bridge"] = package
from tiffin_net_bridge.worker import main
main(sys.argv[2])
"""
"""What the worker runs: its module, but not the `__init__` of its package (that is a plugin, and
imports half of the engine), and not `site` (the path is ours)."""

PATIENCE = 60.0
"""Seconds until a worker that does not answer is given up."""

_ending: list[subprocess.Popen[bytes]] = []
"""Workers that have been told to end: not waited for, for the kernel may keep them 30 ms."""


class BridgeDriver:
    """One for each engine; starts its worker when it is first needed."""

    name = "bridge"

    def __init__(self, context: DriverContext) -> None:
        self.run = context.run
        self._worker: subprocess.Popen[bytes] | None = None
        self._pipe: trio.StapledStream[trio.lowlevel.FdStream, trio.lowlevel.FdStream] | None = None
        self._one_at_a_time = trio.Lock()

    def warm_up(self) -> None:
        if self._worker is not None:
            return
        _ending[:] = [worker for worker in _ending if worker.poll() is None]
        os.makedirs(self.run, mode=0o700, exist_ok=True)
        package = os.path.dirname(os.path.abspath(__file__))
        self._worker = subprocess.Popen(
            [sys.executable, "-I", "-S", "-c", BOOT, package, self.run, *filter(None, sys.path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            cwd="/",
            process_group=0,  # a Ctrl-C is for the engine, which then undoes what was begun
        )

    async def create(self, network: NetworkConfig) -> None:
        """Nothing: the bridge is made for the first container, and goes with the last."""

    async def remove(self, network: NetworkConfig) -> None:
        await self._ask("remove", network)

    async def attach(self, attachment: Attachment) -> None:
        await self._ask("attach", attachment)

    async def detach(self, attachment: Attachment) -> None:
        await self._ask("detach", attachment)

    async def _ask(self, operation: str, subject: msgspec.Struct) -> None:
        request = json.dumps([operation, msgspec.to_builtins(subject)]).encode() + b"\n"
        async with self._one_at_a_time:
            # A request is milliseconds, and never half done.
            with trio.CancelScope(shield=True):
                answer = await self._exchange(request)
        if answer is not None:
            kind = getattr(errors, answer["error"], DriverError)
            assert issubclass(kind, TiffinError)
            raise kind(answer["what"], hint=answer.get("hint", ""))

    async def _exchange(self, request: bytes) -> dict[str, Any] | None:
        pipe = self._connected()
        line = b""
        try:
            with trio.move_on_after(PATIENCE) as waiting:
                await pipe.send_all(request)
                while not line.endswith(b"\n"):
                    more = await pipe.receive_some()
                    if not more:
                        break
                    line += more
        except trio.BrokenResourceError:
            line = b""
        if not line.endswith(b"\n"):
            await self.close()
            why = f"gave no answer in {PATIENCE:.0f} s" if waiting.cancelled_caught else "ended"
            raise DriverError(f"the network worker {why}", hint="see its message above, if any")
        answer: dict[str, Any] | None = json.loads(line)
        return answer

    def _connected(self) -> trio.StapledStream[trio.lowlevel.FdStream, trio.lowlevel.FdStream]:
        if self._pipe is None:
            self.warm_up()
            worker = self._worker
            assert worker is not None and worker.stdin is not None and worker.stdout is not None
            ends = []
            for file in (worker.stdin, worker.stdout):
                ends.append(trio.lowlevel.FdStream(os.dup(file.fileno())))
                file.close()
            self._pipe = trio.StapledStream(*ends)
        return self._pipe

    async def close(self) -> None:
        worker, self._worker = self._worker, None
        pipe, self._pipe = self._pipe, None
        if worker is None:
            return
        if pipe is not None:
            await trio.aclose_forcefully(pipe)
        for file in (worker.stdin, worker.stdout):
            if file is not None:
                file.close()
        # It has answered all it was asked; one that still loads is not needed.
        worker.kill()
        _ending.append(worker)
