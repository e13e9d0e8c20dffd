"""HTTP connections: kept alive, one pool for all hosts, interruptible, credentials kept at home.

A request is made by `Pool.request` in a worker thread of trio. `interrupt` shuts all sockets down,
so that a thread that waits for one ends at once.
"""

from __future__ import annotations

import http.client
import os
import socket
import ssl
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any, BinaryIO
from urllib.parse import urljoin, urlsplit

from .. import __version__
from ..content import canceller
from ..errors import RegistryError
from . import proxy, redirects
from .answers import BROKEN, Origin, Response, broken
from .failures import MAX_BODY, printable

USER_AGENT = f"tiffin/{__version__}"
READ_TIMEOUT = 30.0
"""Seconds without a byte before a connection counts as dead."""
CONNECT_TIMEOUT = 15.0
REDIRECTS = 5
CERTIFICATES = ("/etc/containers/certs.d", "/etc/docker/certs.d")
"""HOST[:PORT]/*.crt in here: further authorities for that registry (containers-certs.d(5))."""


CERT_DIR = "TIFFIN_CERT_DIR"
"""Variable with a directory of such files for all registries (`--cert-dir`)."""


class _Secure(http.client.HTTPSConnection):
    """TLS whose socket is known to the pool before it waits for the other side's handshake."""

    track: Callable[[socket.socket], None]
    _context: ssl.SSLContext
    _tunnel_host: str | None

    def connect(self) -> None:
        http.client.HTTPConnection.connect(self)
        name = self._tunnel_host or self.host
        secure = self._context.wrap_socket(
            self.sock, server_hostname=name, do_handshake_on_connect=False
        )
        self.sock = secure
        self.track(secure)
        secure.do_handshake()


class Pool:
    """Connections. Thread-safe."""

    def __init__(
        self,
        verify: Callable[[Origin], bool],
        read_timeout: float = READ_TIMEOUT,
        connect_timeout: float = CONNECT_TIMEOUT,
    ) -> None:
        self._verify = verify
        """Whether an origin's certificate must be good."""
        self.read_timeout = read_timeout
        self.connect_timeout = connect_timeout
        self._lock = threading.Lock()
        self._idle: dict[Origin, list[http.client.HTTPConnection]] = {}
        self._sockets: set[socket.socket] = set()
        self._contexts: dict[Origin, ssl.SSLContext] = {}
        self._interrupted = False

    def request(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str],
        *,
        body: bytes | BinaryIO | None = None,
        authorization: tuple[Origin, str] | None = None,
        secret: bool = False,
    ) -> Response:
        """Send a request and follow redirects. `authorization` goes to its own origin only: a
        registry that redirects to a storage service, or an attacker who makes it, learns nothing;
        nor does it of a `secret` body.

        Errors: Interrupted (worth another try), RegistryError.
        """
        for _ in range(REDIRECTS + 1):
            origin, target = split(url)
            sent = dict(headers)
            if authorization is not None and authorization[0] == origin:
                sent["Authorization"] = authorization[1]
            response = self._once(method, origin, target, sent, body, url)
            location = response.header("Location")
            if response.status not in (301, 302, 303, 307, 308) or not location:
                return response
            response.read(MAX_BODY)
            try:
                url = urljoin(url, location)
            except ValueError:
                url = location  # `split` will say what is wrong with it
            new = split(url)[0]
            redirects.check(origin, new, addresses, verified=self._verify(origin))
            if secret and new != origin:
                raise RegistryError(
                    f"{origin.netloc} sends us on to {new.netloc} with credentials",
                    hint=redirects.ASK,
                )
        raise RegistryError(
            f"{split(url)[0].netloc} redirects more than {REDIRECTS} times",
            hint="ask whoever runs the registry",
        )

    def _once(
        self,
        method: str,
        origin: Origin,
        target: str,
        headers: dict[str, str],
        body: bytes | BinaryIO | None,
        url: str,
    ) -> Response:
        headers.setdefault("User-Agent", USER_AGENT)
        while True:
            connection, fresh = self._take(origin)
            if not isinstance(body, bytes) and body is not None:
                body.seek(0)  # `Content-Length` is among the headers
            via = getattr(connection, "via", None)
            if via is not None and origin.scheme == "http":
                headers["Host"] = origin.netloc
                if via.authorization:
                    headers["Proxy-Authorization"] = via.authorization
            try:
                connection.request(
                    method,
                    f"http://{origin.netloc}{target}"
                    if via is not None and origin.scheme == "http"
                    else target,
                    body=body,
                    headers=headers,
                )
                return Response(self, origin, connection, url)
            except (*BROKEN, OSError) as error:
                self.forget(connection)
                canceller()()
                # A connection that was kept may have been closed by the other side meanwhile.
                if fresh or isinstance(error, TimeoutError):
                    raise broken(origin.netloc, error) from None

    def warm(self, origin: Origin) -> None:
        """Connect, so that the next request finds a connection. Errors: as `request`."""
        self.give_back(origin, self._connect(origin))

    def _take(self, origin: Origin) -> tuple[http.client.HTTPConnection, bool]:
        with self._lock:
            idle = self._idle.get(origin)
            if idle:
                return idle.pop(), False
        return self._connect(origin), True

    def _connect(self, origin: Origin) -> http.client.HTTPConnection:
        via = proxy.find(origin.scheme, origin.host, origin.port)
        host, port = (via.host, via.port) if via else (origin.host, origin.port)
        connection: Any
        if origin.scheme == "https":
            connection = _Secure(
                host, port, timeout=self.read_timeout, context=self._context(origin)
            )
            connection.track = self._track
            if via:
                sent = {"Proxy-Authorization": via.authorization} if via.authorization else {}
                connection.set_tunnel(origin.host, origin.port, sent)
        else:
            connection = http.client.HTTPConnection(host, port, timeout=self.read_timeout)
        connection.via = via
        connection._create_connection = self._open
        try:
            connection.connect()
        except ssl.SSLCertVerificationError as error:
            self.forget(connection)
            raise RegistryError(
                f"{origin.netloc} has a certificate that is not trusted: {error.verify_message}",
                hint=f"put its authority into {CERTIFICATES[0]}/{origin.netloc}/ca.crt, "
                "or give --tls-verify=false",
            ) from None
        except (OSError, http.client.HTTPException) as error:
            self.forget(connection)
            canceller()()
            raise broken(host, error) from None
        kept: http.client.HTTPConnection = connection
        return kept

    def _open(self, address: tuple[str, int], timeout: float, *_: object) -> socket.socket:
        """Connect to the first address that answers; the socket is known to `interrupt` before it
        waits for anything."""
        canceller()()
        failure: OSError | None = None
        for family, kind, protocol, _name, target in resolve(*address):
            try:
                sock = socket.socket(family, kind, protocol)
            except OSError as error:  # a kernel without IPv6
                failure = failure or error
                continue
            try:
                self._track(sock)
                sock.settimeout(self.connect_timeout)
                sock.connect(target)
                sock.settimeout(timeout)
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                return sock
            except OSError as error:
                failure = error
                with self._lock:
                    self._sockets.discard(sock)
                sock.close()
        raise failure or OSError(f"{address[0]} has no address")

    def _track(self, sock: socket.socket) -> None:
        """From now on `interrupt` ends its waits. Error: ConnectionAbortedError."""
        with self._lock:
            if self._interrupted:
                raise ConnectionAbortedError("interrupted")
            self._sockets.add(sock)

    def _context(self, origin: Origin) -> ssl.SSLContext:
        with self._lock:
            known = self._contexts.get(origin)
        if known is not None:
            return known
        if self._verify(origin):
            context = ssl.create_default_context()
            if given := os.environ.get(CERT_DIR):
                _add_authorities(context, given)
            for directory in CERTIFICATES:
                _add_authorities(context, f"{directory}/{origin.host}:{origin.port}")
                _add_authorities(context, f"{directory}/{origin.netloc}")
        else:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        with self._lock:
            return self._contexts.setdefault(origin, context)

    def give_back(self, origin: Origin, connection: http.client.HTTPConnection) -> None:
        with self._lock:
            if not self._interrupted:
                self._idle.setdefault(origin, []).append(connection)

    def forget(self, connection: http.client.HTTPConnection) -> None:
        connection.close()
        with self._lock:
            self._sockets = {sock for sock in self._sockets if sock.fileno() >= 0}

    def interrupt(self) -> None:
        """End every wait of the threads that use this pool, now and later."""
        with self._lock:
            self._interrupted = True
            for sock in self._sockets:
                with suppress(OSError):
                    # Not SSLSocket's own, which takes the TLS state from under its reader.
                    socket.socket.shutdown(sock, socket.SHUT_RDWR)

    def close(self) -> None:
        with self._lock:
            idle = [connection for kept in self._idle.values() for connection in kept]
            self._idle.clear()
        for connection in idle:
            connection.close()


def _add_authorities(context: ssl.SSLContext, directory: str) -> None:
    try:
        names = sorted(os.listdir(directory))
    except OSError:
        return
    for name in names:
        if name.endswith(".crt"):
            try:
                context.load_verify_locations(f"{directory}/{name}")
            except (OSError, ssl.SSLError):
                raise RegistryError(f"{directory}/{name} is not a certificate") from None
        elif name.endswith(".cert"):  # ours, for registries that want to know who we are
            key = f"{directory}/{name.removesuffix('.cert')}.key"
            try:
                context.load_cert_chain(f"{directory}/{name}", key)
            except (OSError, ssl.SSLError):
                raise RegistryError(
                    f"{directory}/{name} is no certificate with a key", hint=f"its key is {key}"
                ) from None


def resolve(host: str, port: int) -> list[tuple[Any, ...]]:
    """Addresses of a host; in a thread of trio's it can be cancelled. `localhost` is the loopback
    interface whatever the resolver says, which may know nothing of it (RFC 6761, 6.3)."""
    import trio

    if f".{host.rstrip('.').lower()}".endswith(".localhost"):
        found = ((socket.AF_INET, ("127.0.0.1", port)), (socket.AF_INET6, ("::1", port, 0, 0)))
        return [(family, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", at) for family, at in found]
    try:
        trio.from_thread.check_cancelled()
    except RuntimeError:
        return list(socket.getaddrinfo(host, port, type=socket.SOCK_STREAM))
    return list(trio.from_thread.run(_resolve, host, port))


def addresses(origin: Origin) -> list[str]:
    """The addresses of an origin, as texts; of one behind a proxy no more than its name says."""
    if proxy.find(origin.scheme, origin.host, origin.port):
        return [origin.host]
    try:
        return [str(found[4][0]) for found in resolve(origin.host, origin.port)]
    except OSError:
        return []  # the request will say so


async def _resolve(host: str, port: int) -> list[tuple[Any, ...]]:
    import trio

    return list(await trio.socket.getaddrinfo(host, port, type=socket.SOCK_STREAM))


def split(url: str) -> tuple[Origin, str]:
    """(origin, path and query). Error: RegistryError for what is no http URL."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        host = None
    if not host or parts.scheme not in ("http", "https") or not url.isascii() or " " in url:
        raise RegistryError(f"{printable(url)!r} is not an address a registry may send us to")
    port = port or (443 if parts.scheme == "https" else 80)
    query = f"?{parts.query}" if parts.query else ""
    return Origin(parts.scheme, host, port), f"{parts.path or '/'}{query}"
