"""An answer to a request, as it comes: in time, and with whose fault it is when it does not."""

from __future__ import annotations

import http.client
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Protocol

from msgspec import Struct

from ..content import canceller
from ..errors import RegistryError
from .failures import Interrupted, printable

SLOWEST = 100
"""Bytes a second, over the read timeout, below which a body is given up."""
BROKEN = (http.client.HTTPException, ConnectionError, TimeoutError, EOFError, ssl.SSLError)


class Origin(Struct, frozen=True):
    """Scheme, host and port: what credentials are for."""

    scheme: str
    host: str
    port: int

    @property
    def netloc(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        default = 443 if self.scheme == "https" else 80
        return host if self.port == default else f"{host}:{self.port}"


class Connections(Protocol):
    """Where a connection goes when the answer has been read."""

    read_timeout: float

    def give_back(self, origin: Origin, connection: http.client.HTTPConnection) -> None: ...

    def forget(self, connection: http.client.HTTPConnection) -> None: ...


class Response:
    """An answer whose body has not been read. Read it to its end and `done`, or `drop` it."""

    def __init__(
        self, pool: Connections, origin: Origin, connection: http.client.HTTPConnection, url: str
    ) -> None:
        self._pool = pool
        self._connection = connection
        self.origin = origin
        self.url = url
        with _within(connection.sock, pool.read_timeout):
            self.raw = connection.getresponse()
        self.status = self.raw.status
        self._since = time.monotonic()
        self._got = 0

    def header(self, name: str) -> str:
        return self.raw.getheader(name) or ""

    def headers(self, name: str) -> list[str]:
        return self.raw.headers.get_all(name) or []

    def read(self, limit: int) -> bytes:
        """The whole body, but no more than `limit` bytes and one. Error: Interrupted."""
        parts, size = [], 0
        while size <= limit and (part := self.read_some(limit + 1 - size)):
            parts.append(part)
            size += len(part)
        self.done()
        return b"".join(parts)

    def read_some(self, count: int) -> bytes:
        """What has come, at most `count` bytes; empty at the end. Error: Interrupted."""
        try:
            data = self.raw.read1(count)
            if not data and self.raw.length:
                raise http.client.IncompleteRead(b"")
        except BROKEN as error:
            self.drop()
            canceller()()
            raise broken(self.origin.netloc, error) from None
        self._got += len(data)
        if (now := time.monotonic()) - self._since > self._pool.read_timeout:
            if data and self._got < SLOWEST * self._pool.read_timeout:
                self.drop()
                raise Interrupted(f"{self.origin.netloc} answers too slowly", tries=2)
            self._since, self._got = now, 0
        return data

    def done(self) -> None:
        """Give the connection back; it is closed unless the body has been read to its end."""
        if self.raw.length == 0:
            self.raw.close()
        if self.raw.isclosed() and not self.raw.will_close:
            self._pool.give_back(self.origin, self._connection)
        else:
            self.drop()

    def drop(self) -> None:
        self.raw.close()
        self._pool.forget(self._connection)


@contextmanager
def _within(sock: socket.socket, seconds: float) -> Iterator[None]:
    """Shut a socket that is read unless that is done in time. A timeout of the socket's begins anew
    with every byte, and so does reading with each of endlessly many `100 Continue`.
    Error: TimeoutError."""
    late = threading.Event()

    def end() -> None:
        late.set()
        with suppress(OSError):
            socket.socket.shutdown(sock, socket.SHUT_RDWR)

    timer = threading.Timer(seconds, end)
    timer.daemon = True
    timer.start()
    try:
        try:
            yield
        except (*BROKEN, OSError):
            if not late.is_set():
                raise
        if late.is_set():  # without an error, too: to http.client, a head may end anywhere
            raise TimeoutError
    finally:
        timer.cancel()


def broken(host: str, error: BaseException) -> Interrupted:
    """What went wrong with a connection, in words."""
    if isinstance(error, socket.gaierror):
        what = f"{host} has no address that can be found"
        final = RegistryError(what, hint="check the name and the network")
        return Interrupted(what, tries=1, error=final)
    if isinstance(error, TimeoutError):
        return Interrupted(f"{host} did not answer in time", tries=2, timeout=True)
    if isinstance(error, ConnectionRefusedError):
        return Interrupted(f"{host} refuses connections", tries=2)
    if isinstance(error, ssl.SSLError):
        reason = printable(str(error.reason or "it hung up")).replace("_", " ").lower()
        return Interrupted(f"{host} does not speak TLS properly: {reason}", tries=2)
    if isinstance(error, (ConnectionError, EOFError, http.client.IncompleteRead)):
        return Interrupted(f"{host} hung up")
    if isinstance(error, OSError) and error.strerror:
        return Interrupted(f"{host} cannot be reached: {error.strerror}", tries=2)
    return Interrupted(f"{host} does not speak HTTP properly", tries=2)
