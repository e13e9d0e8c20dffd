"""The engine's end of a connection to a worker: one request and its answer at a time."""

from __future__ import annotations

import json
import os
import socket
from typing import Any

import trio

PATIENCE = 60.0
"""Seconds until a worker that does not answer is given up."""


class Silent(Exception):
    """The worker gave no answer; the text says how it ended."""


class Pipe:
    def __init__(self, connection: socket.socket) -> None:
        """Takes the connection over."""
        self._stream = trio.lowlevel.FdStream(os.dup(connection.fileno()))
        connection.close()
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
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            line = b""
        if not line.endswith(b"\n"):
            late = waiting.cancelled_caught
            raise Silent(f"gave no answer in {PATIENCE:.0f} s" if late else "ended")
        return json.loads(line)

    async def close(self) -> None:
        await trio.aclose_forcefully(self._stream)
