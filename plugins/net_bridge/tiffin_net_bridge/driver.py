"""`hooks.NetworkDriver`: requests to a worker process, which does the work.

The worker is a process because loading pyroute2 takes a tenth of a second of pure Python: beside
the engine's own start it costs nothing on a second core. It ends when its standard input does.
"""

from __future__ import annotations

import contextlib
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


class BridgeDriver:
    """One for each engine; starts its worker when it is first needed."""

    name = "bridge"

    def __init__(self, context: DriverContext) -> None:
        self.run = context.run
        self._worker: subprocess.Popen[bytes] | None = None
        self._one_at_a_time = trio.Lock()

    def warm_up(self) -> None:
        if self._worker is None:
            os.makedirs(self.run, mode=0o700, exist_ok=True)
            self._worker = subprocess.Popen(
                [sys.executable, "-I", "-m", "tiffin_net_bridge.worker", self.run],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                cwd="/",
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
            with trio.CancelScope(shield=True):  # a request is milliseconds, and never half done
                answer = await trio.to_thread.run_sync(self._exchange, request)
        if answer is not None:
            kind = getattr(errors, answer["error"], DriverError)
            assert issubclass(kind, TiffinError)
            raise kind(answer["what"], hint=answer.get("hint", ""))

    def _exchange(self, request: bytes) -> dict[str, Any] | None:
        self.warm_up()
        worker = self._worker
        assert worker is not None and worker.stdin is not None and worker.stdout is not None
        try:
            worker.stdin.write(request)
            worker.stdin.flush()
            line = worker.stdout.readline()
        except BrokenPipeError:
            line = b""
        if not line:
            self._worker = None
            worker.kill()
            worker.wait()
            raise DriverError("the network worker ended unexpectedly", hint="see its message above")
        answer: dict[str, Any] | None = json.loads(line)
        return answer

    async def close(self) -> None:
        worker, self._worker = self._worker, None
        if worker is None:
            return
        for pipe in (worker.stdin, worker.stdout):
            if pipe is not None:
                with contextlib.suppress(BrokenPipeError):
                    pipe.close()
        # It has answered all it was asked and ends by itself; one that still loads is not needed.
        worker.kill()
        await trio.to_thread.run_sync(worker.wait)
