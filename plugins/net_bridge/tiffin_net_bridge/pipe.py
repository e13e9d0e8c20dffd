"""The engine's end of the pipes to the worker: one request and its answer at a time."""

from __future__ import annotations

import json
import os
import subprocess
from typing import Any

import trio

PATIENCE = 60.0
"""Seconds until a worker that does not answer is given up."""


class Silent(Exception):
    """The worker gave no answer; the text says how it ended."""


class Pipe:
    def __init__(self, worker: subprocess.Popen[bytes]) -> None:
        """Takes the worker's standard input and output over."""
        assert worker.stdin is not None and worker.stdout is not None
        ends = []
        for file in (worker.stdin, worker.stdout):
            ends.append(trio.lowlevel.FdStream(os.dup(file.fileno())))
            file.close()
        self._stream = trio.StapledStream(*ends)
        self._one_at_a_time = trio.Lock()

    async def exchange(self, request: list[Any]) -> Any:
        """The worker's answer, None for "done". Error: Silent."""
        async with self._one_at_a_time:
            with trio.CancelScope(shield=True):  # milliseconds, and never half done
                answer = await self._exchange(json.dumps(request).encode() + b"\n")
        return answer

    async def _exchange(self, request: bytes) -> Any:
        line = b""
        try:
            with trio.move_on_after(PATIENCE) as waiting:
                await self._stream.send_all(request)
                while not line.endswith(b"\n"):
                    more = await self._stream.receive_some()
                    if not more:
                        break
                    line += more
        except trio.BrokenResourceError:
            line = b""
        if not line.endswith(b"\n"):
            late = waiting.cancelled_caught
            raise Silent(f"gave no answer in {PATIENCE:.0f} s" if late else "ended")
        return json.loads(line)

    async def close(self) -> None:
        await trio.aclose_forcefully(self._stream)
