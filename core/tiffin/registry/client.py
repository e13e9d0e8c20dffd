"""A registry's repository: manifests and blobs, patiently.

http.client in worker threads: it is in the standard library, and reading, hashing and writing of
large blobs release the interpreter there. The thread's work ends when its trio task is cancelled.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Any, TypeVar
from urllib.parse import urlencode

import trio

from ..content import ContentStore, Writer, canceller
from ..errors import ImageError, RegistryError
from ..images import digest as digests
from ..images.manifest import ACCEPT, MAX_MANIFEST
from . import auth, redirects
from .answers import Origin, Response
from .failures import MAX_BODY, Interrupted, printable, refusal
from .http import CONNECT_TIMEOUT, READ_TIMEOUT, Pool, addresses, split
from .proxy import is_loopback

T = TypeVar("T")

ENDPOINTS = {"docker.io": "registry-1.docker.io"}
TRIES = 4
"""In a row, without progress."""
MAX_TRIES = 50
"""In all, for one blob."""
PROGRESS = 64 << 10
"""Bytes that make a try worth its while."""
FIRST_PAUSE = 0.25
"""Seconds before the second try; doubled for each further one."""
MAX_WAIT = 5.0
"""Seconds of pauses for one request, whatever Retry-After says."""
CHUNK = 256 << 10
MAX_TOKEN = 64 << 10

Advanced = Callable[[str, int], None]


class Registry:
    """One repository of a registry. `async with` closes the connections.

    Loopback may speak http or have any certificate, as all may with `tls_verify` false. Timeouts
    are in seconds.
    """

    def __init__(
        self,
        registry: str,
        repository: str,
        *,
        tls_verify: bool = True,
        credentials: auth.Credentials | None = None,
        read_timeout: float = READ_TIMEOUT,
        connect_timeout: float = CONNECT_TIMEOUT,
    ) -> None:
        self.registry = registry
        self.repository = repository
        self.tls_verify = tls_verify
        self._credentials = credentials
        self._looked_up = credentials is not None
        self._host = ENDPOINTS.get(registry, registry)
        self._pool = Pool(self._verify, read_timeout, connect_timeout)
        self._origin: Origin | None = None
        self._authorization: tuple[Origin, str] | None = None
        self._lock = threading.Lock()
        self._scopes: list[str] = []
        """What a token must be good for besides what the registry asks for."""

    async def __aenter__(self) -> Registry:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._pool.close()

    async def manifest(self, version: str, size: int | None = None) -> tuple[bytes, str]:
        """(bytes, media type) of the manifest of a tag or digest; verified when by digest.

        Errors: NotFound, RegistryError.
        """
        return await self._in_thread(self._manifest, version, size)

    async def blob(
        self, digest: str, size: int, content: ContentStore, advanced: Advanced | None = None
    ) -> bool:
        """Fetch a blob into the store, from where an earlier try stopped; False if it was there.

        Errors: NotFound, RegistryError, ImageError (wrong content), StorageFull.
        """

        def tell(count: int) -> None:
            if advanced is not None:
                trio.from_thread.run_sync(advanced, digest, count)

        if content.has(digest):
            return False
        return await self._in_thread(self._blob, digest, size, content, tell)

    async def small(self, digest: str, size: int) -> bytes:
        """A blob of a few bytes (a config), verified, not stored. Errors: as `blob`."""
        return await self._in_thread(self._small, digest, size)

    # --- below here: worker threads ---------------------------------------------------------------

    async def _in_thread(self, work: Callable[..., T], *arguments: Any) -> T:
        """Run blocking work; when we are cancelled, its sockets are shut so that it ends."""
        finished = False
        failure: Exception | None = None

        async def watch() -> None:
            try:
                await trio.sleep_forever()
            finally:
                if not finished:
                    self._pool.interrupt()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(watch)
            try:
                result = await trio.to_thread.run_sync(work, *arguments)
            except Exception as error:  # raised below, outside of the nursery's group
                failure = error
            finally:
                finished = True
            nursery.cancel_scope.cancel()
        if failure is not None:
            raise failure
        return result

    def _verify(self, origin: Origin) -> bool:
        return self.tls_verify and not is_loopback(origin.host)

    def _manifest(self, version: str, size: int | None) -> tuple[bytes, str]:
        what = f"manifest {version}" if ":" in version else f"tag {version}"

        def get() -> tuple[bytes, str]:
            headers = {"Accept": ", ".join(ACCEPT)}
            response = self._get(f"manifests/{version}", headers, what)
            data = response.read(MAX_MANIFEST)
            if len(data) > MAX_MANIFEST:
                raise RegistryError(
                    f"{self.registry}/{self.repository} has a manifest larger than "
                    f"{MAX_MANIFEST >> 20} MiB",
                    hint="this is no image",
                )
            return data, response.header("Content-Type")

        data, media_type = self._patiently(get)
        if digests.is_digest(version):
            if digests.of(data) != version:
                raise RegistryError(
                    f"{self.registry} sent a manifest with another digest than {version}"
                )
            if size is not None and len(data) != size:
                raise RegistryError(f"{version} has {len(data)} bytes, the index says {size}")
        return data, media_type.partition(";")[0].strip().lower()

    def _small(self, digest: str, size: int) -> bytes:
        def get() -> bytes:
            response = self._get(f"blobs/{digest}", {}, f"blob {digest}")
            data = response.read(size)
            if len(data) < size:
                raise Interrupted(f"{self.registry} sent {len(data)} of the {size} bytes of a blob")
            return data

        data = self._patiently(get)
        if digests.of(data) != digest:
            raise ImageError(f"blob has the wrong digest: {digests.of(data)}, not {digest}")
        return data

    def _blob(
        self, digest: str, size: int, content: ContentStore, tell: Callable[[int], None]
    ) -> bool:
        with content.download(digest, size) as writer:
            if writer is None:
                return False
            resumed = writer.size
            if resumed:
                tell(resumed)

            def get() -> None:
                if writer.size < size:
                    self._download(digest, size, writer, tell)

            self._patiently(get, lambda: writer.size)
            if resumed and writer.digest != digest:
                # What an earlier try left behind was damaged (a crash): not the registry's fault.
                self._restart(writer, tell)
                self._patiently(get, lambda: writer.size)
        return True

    def _restart(self, writer: Writer, tell: Callable[[int], None]) -> None:
        if writer.size:
            tell(-writer.size)
            writer.restart()

    def _download(
        self, digest: str, size: int, writer: Writer, tell: Callable[[int], None]
    ) -> None:
        """One try, from where the writer stands. Error: Interrupted when it is not the end."""
        start = writer.size
        headers = {"Range": f"bytes={start}-"} if start else {}
        response = self._get(f"blobs/{digest}", headers, f"blob {digest}", ranged=bool(start))
        if response.status == 416:
            response.drop()
            self._restart(writer, tell)
            raise Interrupted(f"{self.registry} has less of a blob than it sent before")
        if response.status == 206:
            if not response.header("Content-Range").startswith(f"bytes {start}-"):
                response.drop()
                self._restart(writer, tell)
                raise Interrupted(f"{self.registry} sent another part of a blob than asked for")
        else:
            self._restart(writer, tell)
        check_cancelled = canceller()
        try:
            while data := response.read_some(CHUNK):
                writer.write(data)
                tell(len(data))
                check_cancelled()
        except BaseException:  # a cancellation as well; raised again
            response.drop()
            raise
        response.done()
        if writer.size < size:
            raise Interrupted(f"{self.registry} sent {writer.size} of the {size} bytes of a blob")

    def _patiently(self, work: Callable[[], T], position: Callable[[], int] = lambda: 0) -> T:
        """Try again after a hang-up, a 5xx or a 429, as long as it helps. Error: RegistryError."""
        tries, waited, best = 0, 0.0, position()
        for _ in range(MAX_TRIES):
            try:
                return work()
            except Interrupted as error:
                last = error
            canceller()()
            if position() >= best + PROGRESS:
                tries, waited, best = 0, 0.0, position()
            tries += 1
            pause = FIRST_PAUSE * 2 ** (tries - 1) if last.after is None else last.after
            if tries >= min(TRIES, last.tries) or waited + pause > MAX_WAIT:
                break
            waited += pause
            trio.from_thread.run(trio.sleep, pause)
        if last.error is not None:
            raise last.error
        raise RegistryError(
            f"cannot fetch {self.registry}/{self.repository}: {last}",
            hint="is the registry up, and its name right?",
        )

    def _get(
        self, path: str, headers: dict[str, str], what: str, *, ranged: bool = False
    ) -> Response:
        """A good answer. Errors: Interrupted, NotFound, RegistryError."""
        origin = self._locate()
        url = f"{origin.scheme}://{origin.netloc}/v2/{self.repository}/{path}"
        for attempt in range(2):
            response = self._pool.request("GET", url, headers, authorization=self._authorization)
            if response.status in (200, 206) or (ranged and response.status == 416):
                return response
            asked = auth.challenges(response.headers("WWW-Authenticate"))
            here = response.status == 401 and response.origin == origin and not attempt
            failure = self._failure(response, what)
            if not here or not self._authorize(origin, asked):
                raise failure
        raise failure

    def _failure(self, response: Response, what: str) -> Exception:
        """The error for an answer that is no good; Interrupted for one that may be better later."""
        status = response.status
        after = _seconds(response.header("Retry-After"))
        body = response.read(MAX_BODY)
        error = refusal(self.registry, self.repository, what, status, body)
        if status == 429 or status >= 500:
            return Interrupted(str(error), after=after, error=error)
        return error

    def _locate(self) -> Origin:
        """https, or http where that is allowed and https fails. Errors: Interrupted,
        RegistryError."""
        with self._lock:
            if self._origin is not None:
                return self._origin
            plain = not self.tls_verify or is_loopback(split(f"https://{self._host}/")[0].host)
            first: Interrupted | None = None
            for scheme in ("https", "http") if plain else ("https",):
                origin = split(f"{scheme}://{self._host}/")[0]
                try:
                    self._pool.warm(origin)
                except Interrupted as error:
                    first = first or error
                    if error.timeout:
                        break
                    continue
                self._origin = origin
                return origin
            assert first is not None
            raise first

    # --- who we are -------------------------------------------------------------------------------

    def _authorize(self, origin: Origin, asked: list[auth.Challenge]) -> bool:
        """Answer a challenge; False when there is nothing (new) that we can say."""
        by_scheme = {challenge.scheme: challenge.parameters for challenge in asked}
        credentials = self._known()
        if "bearer" in by_scheme:
            token = self._token(origin, by_scheme["bearer"], credentials)
            self._authorization = origin, f"Bearer {token}"
            return True
        if "basic" in by_scheme and credentials is not None and credentials.username:
            basic = origin, credentials.basic()
            if self._authorization == basic:
                return False
            self._authorization = basic
            return True
        return False

    def _known(self) -> auth.Credentials | None:
        if not self._looked_up:
            self._credentials = auth.stored(self.registry, self.repository)
            self._looked_up = True
        return self._credentials

    def _token(
        self, origin: Origin, parameters: dict[str, str], credentials: auth.Credentials | None
    ) -> str:
        """A token from where the challenge says (distribution: token authentication; with an
        identity token, OAuth 2). Errors: Interrupted, RegistryError."""
        url = parameters.get("realm", "")
        realm, _ = split(url)
        if realm.scheme == "http" and origin.scheme == "https":
            raise RegistryError(
                f"{self.registry} wants credentials sent in the clear to {realm.netloc}",
                hint="ask whoever runs it",
            )
        redirects.check(origin, realm, addresses, verified=self._verify(origin))
        scopes = [parameters.get("scope") or f"repository:{self.repository}:pull", *self._scopes]
        fields = {"scope": " ".join(dict.fromkeys(scopes))}
        if parameters.get("service"):
            fields["service"] = parameters["service"]
        if credentials is not None and credentials.token:
            form = {
                "grant_type": "refresh_token",
                "client_id": "tiffin",
                "refresh_token": credentials.token,
                **fields,
            }
            headers = {"Content-Type": "application/x-www-form-urlencoded"}
            body = urlencode(form).encode()
            response = self._pool.request("POST", url, headers, body=body, secret=True)
        else:
            joined = f"{url}{'&' if '?' in url else '?'}{urlencode(fields)}"
            basic = (realm, credentials.basic()) if credentials is not None else None
            response = self._pool.request("GET", joined, {}, authorization=basic)
        if response.status != 200:
            raise self._failure(response, "token")
        try:
            answer = json.loads(response.read(MAX_TOKEN))
            token = answer.get("token") or answer.get("access_token")
        except (ValueError, AttributeError, RecursionError):
            token = None
        if not isinstance(token, str) or not token.isascii() or printable(token, 1 << 16) != token:
            raise RegistryError(f"{realm.netloc} gave no usable token for {self.registry}")
        return token


def _seconds(retry_after: str) -> float | None:
    """Retry-After: seconds or a date (RFC 9110, 10.2.3)."""
    if not retry_after:
        return None
    if retry_after.isdecimal():
        return float(retry_after[:9])
    import time
    from email.utils import parsedate_to_datetime  # latency: rare

    try:
        return max(0.0, parsedate_to_datetime(retry_after).timestamp() - time.time())
    except (ValueError, OverflowError):
        return None
