"""`hooks.NetworkDriver`: requests to a worker process, which does the work.

The worker is a process because loading netlink's messages is 40 ms of pure Python: beside the
engine's own start it costs nothing on a second core. Commands that are at work at the same moment
share one (`door`); it ends with the last of them.
A driver is made, and its worker started, before trio is loaded: so no import of it here.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import msgspec

from tiffin.errors import Conflict, DriverError, TiffinError, UserError
from tiffin.hooks import Attachment, DriverContext, NetworkConfig, Rule, errors

from . import door

if TYPE_CHECKING:
    from .pipe import Pipe

BOOT = """
import gc, sys, types
gc.disable()
sys.path[:] = sys.argv[5:]
package = types.ModuleType("tiffin_net_bridge")
package.__path__ = [sys.argv[1]]
sys.modules["tiffin_net_bridge"] = package
from tiffin_net_bridge.serving import main
main(sys.argv[2], int(sys.argv[3]), sys.argv[4])
"""
"""What the worker runs: its module, but not the `__init__` of its package (that is a plugin, and
imports half of the engine), and not `site` (the path is ours)."""

OPTIONS = ("mtu", "isolate", "vlan")
"""Of `network create --opt`; the engine has read `mtu` already."""
ISOLATE = {
    **dict.fromkeys(("true", "1", "t", "T", "TRUE", "True"), "true"),
    **dict.fromkeys(("false", "0", "f", "F", "FALSE", "False"), "false"),
    "strict": "strict",
}
"""From other isolated networks, not at all (in all of Go's words, as podman takes them), from all
other networks."""

_ending: list[subprocess.Popen[bytes]] = []
"""Workers that we have done with: not waited for, for others may not have."""


class BridgeDriver:
    """One for each engine; starts its worker when it is first needed."""

    name = "bridge"
    owns_subnets = True
    has_mac = True
    serves_names = True

    def __init__(self, context: DriverContext) -> None:
        self.run = context.run
        self.home = f"{context.run}/{door.HOME}" if context.rootless else ""
        """Where the bridges are; the worker enters it. An ordinary user's containers publish ports
        by a network of their own: what listens on the host must be there."""
        self.publishes = not context.rootless
        self._entered = 0
        """The inode of the namespace at `home` that our worker is in."""
        self._worker: subprocess.Popen[bytes] | None = None
        """The one that we have started; None when another command has."""
        self._connection: socket.socket | None = None
        self._pipe: Pipe | None = None

    def warm_up(self) -> None:
        if self.home or self._connection is not None or self._pipe is not None:
            return
        self._find()

    def _find(self) -> None:
        _ending[:] = [worker for worker in _ending if worker.poll() is None]
        os.makedirs(self.run, mode=0o700, exist_ok=True)
        self._connection = door.find(self.run) or self._start()

    def _start(self) -> socket.socket:
        """A connection to a new worker, or to one that another command has begun to start."""
        listening = door.build(self.run)
        if listening is None and (found := door.find(self.run)) is not None:
            return found
        if listening is None:
            return self._spawn(-1)
        with listening:
            return self._spawn(listening.fileno())

    def _spawn(self, listening: int) -> socket.socket:
        package = os.path.dirname(os.path.abspath(__file__))
        ours, its = socket.socketpair()
        with its:
            self._worker = subprocess.Popen(
                [
                    sys.executable,
                    "-I",
                    "-S",
                    "-c",
                    BOOT,
                    package,
                    self.run,
                    str(listening),
                    self.home,
                    *filter(None, sys.path),
                ],
                stdin=its.fileno(),
                stdout=subprocess.DEVNULL,
                pass_fds=() if listening < 0 else (listening,),
                cwd="/",
                # A Ctrl-C is for the engine, which then undoes what was begun.
                start_new_session=True,
            )
        return ours

    async def create(self, network: NetworkConfig) -> NetworkConfig:
        """The bridge is made for the first container, and goes with the last."""
        options = dict(network.options)
        for key, value in network.options.items():
            if key not in OPTIONS:
                raise UserError(f"--opt {key}: not an option of bridges", hint=", ".join(OPTIONS))
            if key == "isolate":
                if value not in ISOLATE:
                    raise UserError(f"--opt isolate={value}", hint="one of true, false, strict")
                options[key] = ISOLATE[value]
            if key == "vlan" and not (value.isdecimal() and 1 <= int(value) <= 4094):
                raise UserError(f"--opt vlan={value}: not a VLAN", hint="1 to 4094")
        if network.interface in (name for _, name in socket.if_nameindex()):
            raise Conflict(
                f"interface {network.interface} exists and is not tiffin's",
                hint="choose another --interface-name",
            )
        return msgspec.structs.replace(network, options=options)

    async def remove(self, network: NetworkConfig) -> None:
        await self._ask("remove", network)

    async def update(self, network: NetworkConfig) -> None:
        await self._ask("update", network)

    async def attach(self, attachment: Attachment) -> None:
        await self._ask("attach", attachment)

    async def publish(self, attachment: Attachment) -> None:
        await self._ask("publish", attachment)

    async def reload(self, attachment: Attachment) -> None:
        await self._ask("reload", attachment)

    async def detach(self, attachment: Attachment) -> None:
        await self._ask("detach", attachment)

    async def rules(self, network: NetworkConfig, attachments: Sequence[Attachment]) -> list[Rule]:
        found = await self._ask("rules", [network, *attachments])
        return msgspec.convert(found, list[Rule])

    async def sweep(self, network: NetworkConfig, attachments: Sequence[Attachment]) -> None:
        await self._ask("sweep", [network, *attachments])

    async def _ask(self, operation: str, subject: object) -> Any:
        from .pipe import Silent

        if self.home:
            if not os.path.ismount(self.home):
                if operation in ("attach", "reload", "publish"):
                    raise DriverError(f"{self.home}: no network namespace is there")
                return [] if operation == "rules" else None  # with it all of it is gone
            if self._entered != (number := os.stat(self.home).st_ino):
                await self.close()
                self._entered = number
        pipe, own = self._connected(), self._worker is not None
        try:
            answer = await pipe.exchange([operation, msgspec.to_builtins(subject)])
        except Silent as error:
            if self._pipe is pipe:
                await self.close()
            if own:
                raise DriverError(
                    f"the network worker {error}", hint="see its message above, if any"
                ) from None
            # Another command's, which was killed. What it may have begun can be done once more.
            if self._pipe is None and self._connection is None:
                self._connection = self._start()
            return await self._ask(operation, subject)
        if isinstance(answer, dict):
            kind = getattr(errors, answer["error"], DriverError)
            assert issubclass(kind, TiffinError)
            raise kind(answer["what"], hint=answer.get("hint", ""))
        return answer

    def _connected(self) -> Pipe:
        from .pipe import Pipe

        if self._pipe is None:
            if self._connection is None:
                self._find()
            assert self._connection is not None
            self._pipe, self._connection = Pipe(self._connection), None
        return self._pipe

    async def close(self) -> None:
        worker, self._worker = self._worker, None
        pipe, self._pipe = self._pipe, None
        connection, self._connection = self._connection, None
        if pipe is not None:
            await pipe.close()
        if connection is not None:
            connection.close()
        if worker is not None:  # it ends by itself, when nobody else is connected
            _ending.append(worker)
