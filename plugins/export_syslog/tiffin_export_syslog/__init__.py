"""Events to syslog (RFC 5424), over a local socket, UDP (RFC 5426) or TCP (RFC 6587)."""

from __future__ import annotations

import errno
import socket
from collections.abc import Mapping, Sequence
from typing import Any

import trio

from tiffin.hooks import DriverContext, EventConsumer, errors, hookimpl

from .message import LONGEST, message

TIFFIN_HOOK_VERSION = 1

FACILITIES = {"daemon": 3, "auth": 4, "authpriv": 10, **{f"local{n}": 16 + n for n in range(8)}}
PATIENCE = 10.0


@hookimpl
def event_consumer(name: str, context: DriverContext) -> EventConsumer | None:
    return Syslog(name, context)


class Syslog:
    def __init__(self, name: str, context: DriverContext) -> None:
        self.name = name
        settings = context.settings
        self.address = str(settings.get("address", "unix:/dev/log"))
        self.transport, self.place = place(self.address)
        facility = str(settings.get("facility", "authpriv"))
        if facility not in FACILITIES:
            raise errors.UserError(
                f"facility {facility!r} is not known", hint=", ".join(FACILITIES)
            )
        self.facility = FACILITIES[facility]
        self.data = bool(settings.get("data", True))
        self.longest = longest(settings.get("longest", LONGEST))
        self.hostname = str(settings.get("hostname", socket.gethostname()))
        self._socket: socket.socket | None = None

    async def deliver(self, events: Sequence[Mapping[str, Any]]) -> int | None:
        lines = [
            message(
                event,
                facility=self.facility,
                hostname=self.hostname,
                data=self.data,
                longest=self.longest,
            )
            for event in events
        ]
        try:
            await trio.to_thread.run_sync(self._send, lines, abandon_on_cancel=True)
        except OSError as error:
            await self.close()
            if error.errno == errno.EMSGSIZE:
                raise errors.UserError(
                    f"{self.address}: longest = {self.longest} is more than one message may have",
                    hint=f"leave it out: it is {LONGEST} then",
                ) from None
            raise errors.DriverError(f"{self.address}: {error.strerror or error}") from None
        return None

    def _send(self, lines: Sequence[bytes]) -> None:
        if self._socket is None:
            self._socket = self._connected()
        elif self.transport == "tcp":
            self._still_there(self._socket)
        for line in lines:
            if self.transport == "tcp":
                self._socket.sendall(b"%d %s" % (len(line), line))
            else:
                self._socket.send(line)

    def _connected(self) -> socket.socket:
        if self.transport == "tcp":
            return socket.create_connection(self.place, PATIENCE)
        if self.transport == "unix":
            made = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        else:
            host, port = self.place
            family = socket.getaddrinfo(host, port, type=socket.SOCK_DGRAM)[0][0]
            made = socket.socket(family, socket.SOCK_DGRAM)
        made.settimeout(PATIENCE)
        try:
            made.connect(self.place)
        except OSError:
            made.close()
            raise
        return made

    @staticmethod
    def _still_there(connection: socket.socket) -> None:
        """A server that has closed would take one more message and lose it."""
        connection.settimeout(0)
        try:
            if connection.recv(1024) == b"":
                raise ConnectionResetError("the server has closed the connection")
        except BlockingIOError:
            pass  # the rule: servers say nothing
        finally:
            connection.settimeout(PATIENCE)

    async def settle(self, *, last: bool) -> int | None:
        return None

    async def close(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None


def longest(given: object) -> int:
    """Bytes of a message. Error: UserError for less than servers must take (RFC 5424, 6.1)."""
    if isinstance(given, bool) or not isinstance(given, int) or given < 480:
        raise errors.UserError(
            f"syslog longest = {given!r} cannot be used", hint="bytes of a message, 480 at least"
        )
    return given


def place(address: str) -> tuple[str, Any]:
    """(transport, what `connect` takes) of `unix:PATH`, `udp:HOST:PORT` or `tcp:HOST:PORT`.
    Error: UserError."""
    transport, _, rest = address.partition(":")
    if transport == "unix" and rest.startswith("/"):
        return transport, rest
    host, _, port = rest.rpartition(":")
    if transport in ("udp", "tcp") and host and port.isdecimal() and 0 < int(port) < 65536:
        return transport, (host.strip("[]"), int(port))
    raise errors.UserError(
        f"syslog address {address!r} cannot be used",
        hint="unix:/dev/log, udp:HOST:PORT or tcp:HOST:PORT",
    )
