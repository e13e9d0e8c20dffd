"""A client of one registry: manifests and blobs, over kept-alive connections, in threads.

http.client in worker threads, because reading, hashing and writing large blobs there costs less than
any asynchronous library, and because it is here already. Every loop can be cancelled.
"""

from __future__ import annotations

import http.client
import json
import queue
import socket
import time
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import quote, urlencode, urljoin, urlsplit

import trio

from ..content import ContentStore
from ..errors import RegistryError, TiffinError
from ..images import manifest
from ..images.manifest import Descriptor
from ..images.reference import Reference
from . import auth

TIMEOUT = 30.0
"""Seconds without a byte before a connection counts as dead."""
TRIES = 4
REDIRECTS = 5
PATIENCE = 8.0
"""Seconds in all that we wait for a registry that asks us to come back later."""
CHUNK = 1 << 20
LOOPBACK = ("localhost", "127.", "[::1]", "::1")
DOCKER_HOST = "registry-1.docker.io"


class Refused(Exception):
    """An answer that is no success: status, and what the registry says."""

    def __init__(self, status: int, text: str, headers: Mapping[str, str]) -> None:
        super().__init__(f"{status}")
        self.status = status
        self.text = text
        self.headers = headers


class Client:
    """One registry and repository. `tls_verify` false allows plain HTTP and any certificate."""

    def __init__(self, reference: Reference, *, tls_verify: bool = True) -> None:
        self.reference = reference
        self.tls_verify = tls_verify
        registry = DOCKER_HOST if reference.registry == "docker.io" else reference.registry
        self.host = registry
        self.local = registry.startswith(LOOPBACK)
        self._scheme = ""
        self._token = ""
        self._idle: queue.SimpleQueue[http.client.HTTPConnection] = queue.SimpleQueue()

    # --- what callers use -------------------------------------------------------------------------

    async def manifest(self, wanted: str) -> tuple[bytes, str]:
        """(bytes, content type) of a manifest by tag or digest; one by digest is verified."""
        return await trio.to_thread.run_sync(self._manifest, wanted, abandon_on_cancel=True)

    async def blob(
        self, descriptor: Descriptor, content: ContentStore, advanced: Callable[[int], None]
    ) -> bool:
        """Fetch a blob into the store, from where an earlier try left off. False when it was there.
        `advanced` is told the bytes, from the thread."""
        return await trio.to_thread.run_sync(self._blob, descriptor, content, advanced)

    def close(self) -> None:
        while not self._idle.empty():
            self._idle.get_nowait().close()

    # --- requests ---------------------------------------------------------------------------------

    def _manifest(self, wanted: str) -> tuple[bytes, str]:
        def get() -> tuple[bytes, str]:
            headers = {"Accept": ", ".join(manifest.ACCEPT)}
            with self._get(f"manifests/{quote(wanted, safe=':')}", headers) as response:
                data = response.read(manifest.MAX_MANIFEST + 1)
                if len(data) > manifest.MAX_MANIFEST:
                    raise RegistryError(f"{self.reference}: the manifest is larger than 4 MiB")
                if response.length:
                    raise http.client.IncompleteRead(data)
                return data, response.headers.get("Content-Type", "")

        data, kind = self._patiently(get, "manifest")
        if wanted.startswith("sha256:") and manifest.digest_of(data) != wanted:
            raise RegistryError(f"{self.reference}: the manifest is not what its digest says")
        return data, kind

    def _blob(
        self, descriptor: Descriptor, content: ContentStore, advanced: Callable[[int], None]
    ) -> bool:
        if content.has(descriptor.digest):
            return False
        with content.incoming(descriptor.digest) as partial:
            if partial is None:
                return False
            advanced(partial.take_up())

            def get() -> None:
                assert partial is not None
                headers = {"Range": f"bytes={partial.size}-"} if partial.size else {}
                with self._get(f"blobs/{descriptor.digest}", headers) as response:
                    if partial.size and response.status != 206:
                        advanced(-partial.size)
                        partial.restart()
                    while chunk := response.read(CHUNK):
                        partial.write(chunk)
                        advanced(len(chunk))
                        if partial.size > descriptor.size:
                            raise RegistryError(
                                f"{self.reference}: blob {descriptor.digest} is larger than its "
                                "manifest says"
                            )
                        trio.from_thread.check_cancelled()
                    if partial.size < descriptor.size:
                        raise http.client.IncompleteRead(b"")

            if partial.size > descriptor.size:
                partial.restart()
            if partial.size < descriptor.size or not descriptor.size:
                self._patiently(get, "blob")
        return True

    def _patiently(self, get: Callable[[], Any], what: str) -> Any:
        """Try again after a hang-up, a 5xx or a 429, for a while. Error: RegistryError."""
        waited = 0.0
        for attempt in range(TRIES):
            pause = 0.25 * 2**attempt
            try:
                return get()
            except Refused as refused:
                again = refused.status == 429 or refused.status >= 500
                asked = refused.headers.get("Retry-After", "")
                if asked.isdecimal():
                    pause = float(asked)
                last: Exception = self._explain(refused, what)
            except (http.client.HTTPException, OSError) as error:
                if isinstance(error, OSError) and error.errno in (28, 122):  # ENOSPC, EDQUOT
                    raise
                again = True
                last = RegistryError(
                    f"{self.reference.registry}: {self._reason(error)}",
                    hint="is the registry up, and its name right?",
                )
            if not again or attempt + 1 == TRIES or waited + pause > PATIENCE:
                raise last
            deadline = time.monotonic() + pause
            while time.monotonic() < deadline:
                trio.from_thread.check_cancelled()
                time.sleep(min(0.1, pause))
            waited += pause
        raise AssertionError("unreachable")

    @staticmethod
    def _reason(error: Exception) -> str:
        if isinstance(error, TimeoutError):
            return "does not answer"
        if isinstance(error, http.client.IncompleteRead):
            return "hung up in the middle of an answer"
        if isinstance(error, (http.client.RemoteDisconnected, http.client.BadStatusLine)):
            return "hung up without an answer"
        if isinstance(error, socket.gaierror):
            return "there is no host of that name"
        return str(getattr(error, "strerror", None) or error or type(error).__name__)

    def _explain(self, refused: Refused, what: str) -> TiffinError:
        """One line for a refusal: whose it is, and what to do."""
        name = str(self.reference)
        said = _message(refused.text)
        if refused.status in (401, 403):
            return RegistryError(
                f"{name}: {self.reference.registry} does not let you have it ({refused.status})",
                hint="log in there, or check the name",
            )
        if refused.status == 404:
            return RegistryError(f"{name}: no such image in {self.reference.registry}", hint=said)
        if refused.status == 429:
            return RegistryError(
                f"{name}: {self.reference.registry} wants fewer requests (429)",
                hint="try again later, or log in",
            )
        if refused.status >= 500:
            return RegistryError(
                f"{name}: {self.reference.registry} has a fault of its own ({refused.status})",
                hint=said or "try again later",
            )
        return RegistryError(
            f"{name}: {self.reference.registry} refused the {what} ({refused.status})", hint=said
        )

    # --- connections ------------------------------------------------------------------------------

    def _get(self, path: str, headers: dict[str, str]) -> _Response:
        """GET below /v2/REPOSITORY/, authorised, redirects followed. Error: Refused."""
        url = f"/v2/{self.reference.repository}/{path}"
        for attempt in (1, 2):
            authorised = {**headers, "Authorization": self._token} if self._token else headers
            response = self._request(url, authorised)
            if response.status in (301, 302, 303, 307, 308):
                return self._redirected(response, headers)
            if response.status == 401 and attempt == 1:
                asked = response.headers.get("WWW-Authenticate", "")
                response.discard()
                self._authorise(asked)
                continue
            return response.checked()
        raise AssertionError("unreachable")

    def _request(self, path: str, headers: Mapping[str, str]) -> _Response:
        try:
            connection, reused = self._idle.get_nowait(), True
        except queue.Empty:
            connection, reused = self._connect(), False
        try:
            return self._send(connection, path, headers)
        except (http.client.HTTPException, OSError):
            connection.close()
            if not reused:
                raise
        connection = self._connect()  # the server had closed the idle one
        return self._send(connection, path, headers)

    def _send(
        self, connection: http.client.HTTPConnection, path: str, headers: Mapping[str, str]
    ) -> _Response:
        connection.request("GET", path, headers={"User-Agent": "tiffin", **headers})
        return _Response(connection, connection.getresponse(), self._idle)

    def _connect(self) -> http.client.HTTPConnection:
        if self._scheme:
            return _open(self._scheme, self.host, self.tls_verify)
        schemes = ["https", "http"] if self.local or not self.tls_verify else ["https"]
        if self.local:
            schemes = ["http", "https"] if _speaks_http(self.host) else schemes
        failure: Exception | None = None
        for scheme in schemes:
            try:
                connection = _open(scheme, self.host, self.tls_verify)
            except OSError as error:
                failure = failure or error
                continue
            self._scheme = scheme
            return connection
        assert failure is not None
        raise failure

    def _redirected(self, response: _Response, headers: Mapping[str, str]) -> _Response:
        """Follow to a blob's real place. Credentials go to no other host."""
        base = f"{self._scheme}://{self.host}"
        for _ in range(REDIRECTS):
            place = response.headers.get("Location", "")
            response.discard()
            url = urljoin(base, place)
            parts = urlsplit(url)
            if parts.scheme not in ("http", "https") or not parts.hostname:
                raise RegistryError(f"{self.reference}: redirected to {url[:100]!r}")
            if parts.scheme == "http" and self._scheme == "https" and self.tls_verify:
                raise RegistryError(f"{self.reference}: redirected from https to plain http")
            connection = _open(parts.scheme, parts.netloc.rpartition("@")[2], self.tls_verify)
            path = parts.path + (f"?{parts.query}" if parts.query else "")
            sent = {"User-Agent": "tiffin", **headers}
            if parts.netloc == self.host and self._token:
                sent["Authorization"] = self._token
            connection.request("GET", path or "/", headers=sent)
            response = _Response(connection, connection.getresponse(), None)
            if response.status not in (301, 302, 303, 307, 308):
                return response.checked()
            base = url
        response.discard()
        raise RegistryError(f"{self.reference}: redirected more than {REDIRECTS} times")

    def _authorise(self, asked: str) -> None:
        """Basic, or a bearer token from where the registry says (distribution-spec, token
        authentication). Error: RegistryError, Refused."""
        basic = auth.basic_for(self.reference.registry, self.reference.repository)
        scheme, parameters = auth.challenge(asked)
        if scheme == "basic":
            if not basic:
                raise Refused(401, "", {})
            self._token = basic
            return
        realm = urlsplit(parameters.get("realm", ""))
        if scheme != "bearer" or realm.scheme not in ("http", "https") or not realm.hostname:
            raise Refused(401, "", {})
        if realm.scheme == "http" and self._scheme == "https":
            raise RegistryError(f"{self.reference}: the registry sends credentials to plain http")
        query = {
            "scope": parameters.get("scope", f"repository:{self.reference.repository}:pull"),
            "service": parameters.get("service", ""),
        }
        connection = _open(realm.scheme, realm.netloc.rpartition("@")[2], self.tls_verify)
        try:
            path = f"{realm.path or '/'}?{urlencode({k: v for k, v in query.items() if v})}"
            headers = {"User-Agent": "tiffin", **({"Authorization": basic} if basic else {})}
            connection.request("GET", path, headers=headers)
            response = _Response(connection, connection.getresponse(), None).checked()
            document = json.loads(response.read(1 << 20))
            token = document.get("token") or document.get("access_token")
        except (ValueError, AttributeError):
            raise RegistryError(
                f"{self.reference}: the registry's token server is broken"
            ) from None
        finally:
            connection.close()
        if not isinstance(token, str) or not token.isprintable():
            raise RegistryError(f"{self.reference}: the registry's token server gave no token")
        self._token = f"Bearer {token}"


class _Response:
    """An answer; its connection goes back to the idle ones when all was read."""

    def __init__(
        self,
        connection: http.client.HTTPConnection,
        response: http.client.HTTPResponse,
        idle: queue.SimpleQueue[http.client.HTTPConnection] | None,
    ) -> None:
        self._connection = connection
        self._response = response
        self._idle = idle
        self.status = response.status
        self.headers = response.headers

    @property
    def length(self) -> int | None:
        return self._response.length

    def read(self, count: int) -> bytes:
        return self._response.read(count)

    def checked(self) -> _Response:
        """Itself when it is a success. Error: Refused."""
        if 200 <= self.status < 300:
            return self
        text = self._response.read(8192).decode("utf-8", "replace")
        self._connection.close()
        raise Refused(self.status, text, dict(self.headers.items()))

    def discard(self) -> None:
        self._response.read(1 << 16)
        self.__exit__()

    def __enter__(self) -> _Response:
        return self

    def __exit__(self, *_: object) -> None:
        if self._idle is not None and self._response.isclosed() and not self._response.will_close:
            self._idle.put(self._connection)
        else:
            self._connection.close()


def _open(scheme: str, host: str, verify: bool) -> http.client.HTTPConnection:
    """A connection, through the proxy that the environment names for the host."""
    from urllib.request import getproxies, proxy_bypass

    name = urlsplit(f"//{host}").hostname or host
    proxy = "" if name.startswith(LOOPBACK) or proxy_bypass(name) else getproxies().get(scheme, "")
    connection: http.client.HTTPConnection
    if scheme == "https":
        import ssl  # 6 ms, not needed for a registry on this machine

        context = ssl.create_default_context()
        if not verify:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        connection = http.client.HTTPSConnection(
            _proxy_host(proxy) or host, timeout=TIMEOUT, context=context
        )
        if proxy:
            connection.set_tunnel(host)
    else:
        connection = http.client.HTTPConnection(host, timeout=TIMEOUT)
    connection.connect()
    return connection


def _proxy_host(proxy: str) -> str:
    return urlsplit(proxy if "//" in proxy else f"//{proxy}").netloc.rpartition("@")[2]


def _speaks_http(host: str) -> bool:
    """A registry on loopback is asked in the clear first: does it answer so?"""
    connection = http.client.HTTPConnection(host, timeout=5)
    try:
        connection.request("GET", "/v2/", headers={"User-Agent": "tiffin"})
        connection.getresponse().read(1024)
    except (http.client.HTTPException, OSError):
        return False
    finally:
        connection.close()
    return True


def _message(text: str) -> str:
    """What the registry says of an error (distribution-spec, error codes), as one short line."""
    try:
        error = json.loads(text)["errors"][0]
        said = str(error.get("message") or error.get("code") or "")
    except (ValueError, KeyError, IndexError, TypeError, AttributeError):
        return ""
    return " ".join(said.split())[:120]
