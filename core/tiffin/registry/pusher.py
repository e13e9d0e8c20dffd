"""A repository that we write to (distribution-spec, "Push"): blobs, then the manifest.

What the registry has is not sent again; what another of its repositories has is mounted from there.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import BinaryIO
from urllib.parse import urlencode, urljoin

from ..content import ContentStore
from ..errors import NotFound, RegistryError
from . import auth, redirects
from .answers import Response
from .client import Registry
from .failures import MAX_BODY, Interrupted, refusal
from .http import addresses, split

EXISTS, MOUNTED, SENT = "exists", "mounted", "done"


class Pusher(Registry):
    """As `Registry`; methods run in worker threads."""

    async def __aenter__(self) -> Pusher:
        return self

    async def push_blob(
        self, digest: str, content: ContentStore, sources: Sequence[str] = ()
    ) -> str:
        """Bring a blob there: EXISTS, MOUNTED (from one of the repositories `sources`) or SENT.

        Errors: NotFound (the blob is not here), RegistryError.
        """
        return await self._in_thread(self._push_blob, digest, content, sources)

    async def push_manifest(self, version: str, data: bytes, media_type: str) -> None:
        """Error: RegistryError."""
        await self._in_thread(self._push_manifest, version, data, media_type)

    async def check_login(self) -> None:
        """Ask for the API's root with our credentials. Error: RegistryError when it refuses."""
        await self._in_thread(self._check_login)

    # --- worker threads ---------------------------------------------------------------------------

    def _push_blob(self, digest: str, content: ContentStore, sources: Sequence[str]) -> str:
        def once() -> str:
            response = self._send("HEAD", f"blobs/{digest}", ok=(200, 404))
            response.read(MAX_BODY)
            if response.status == 200:
                return EXISTS
            for source in sources:
                location = self._begin(digest, source)
                if not location:
                    return MOUNTED
                return self._upload(location, digest, content)
            return self._upload(self._begin(digest, ""), digest, content)

        return self._patiently(once)

    def _begin(self, digest: str, source: str) -> str:
        """Where to send a blob to; "" when it was mounted from another repository."""
        query = ""
        if source:
            self._scopes = [f"repository:{source}:pull"]
            query = f"?{urlencode({'mount': digest, 'from': source})}"
        response = self._send("POST", f"blobs/uploads/{query}", ok=(201, 202), body=b"")
        response.read(MAX_BODY)
        if response.status == 201:
            return ""
        location = urljoin(response.url, response.header("Location"))
        if not response.header("Location"):
            raise RegistryError(f"{self.registry} does not say where blobs of an upload go")
        origin = self._locate()
        redirects.check(origin, split(location)[0], addresses, verified=self._verify(origin))
        return location

    def _upload(self, location: str, digest: str, content: ContentStore) -> str:
        url = f"{location}{'&' if '?' in location else '?'}{urlencode({'digest': digest})}"
        with content.open(digest) as file:
            headers = {
                "Content-Type": "application/octet-stream",
                "Content-Length": str(os.fstat(file.fileno()).st_size),
            }
            response = self._send("PUT", url, ok=(201, 204), headers=headers, body=file)
            response.read(MAX_BODY)
        return SENT

    def _push_manifest(self, version: str, data: bytes, media_type: str) -> None:
        def once() -> None:
            headers = {"Content-Type": media_type}
            path = f"manifests/{version}"
            self._send("PUT", path, ok=(200, 201, 202), headers=headers, body=data).read(MAX_BODY)

        self._patiently(once)

    def _check_login(self) -> None:
        def once() -> None:
            self._send("GET", "", ok=(200,), root=True).read(MAX_BODY)

        self._patiently(once)

    def _send(
        self,
        method: str,
        path: str,
        *,
        ok: Sequence[int],
        headers: dict[str, str] | None = None,
        body: bytes | BinaryIO | None = None,
        root: bool = False,
    ) -> Response:
        """A good answer to a request for a path of the repository, for a whole URL, or (`root`)
        for the API's root. Errors: Interrupted, RegistryError."""
        origin = self._locate()
        url = path
        if not path.startswith(("http://", "https://")):
            top = f"{origin.scheme}://{origin.netloc}/v2/"
            url = top if root else f"{top}{self.repository}/{path}"
        for attempt in range(3):
            used = self._authorization
            response = self._pool.request(method, url, headers or {}, body=body, authorization=used)
            if response.status in ok:
                return response
            asked = auth.challenges(response.headers("WWW-Authenticate"))
            here = response.status == 401 and response.origin == origin and attempt < 2
            failure = self._refused(response, path)
            if here and self._authorization != used:
                continue  # another thread was told the same, and has answered it
            if not here or not self._authorize(origin, asked):
                raise failure
        raise failure

    def _refused(self, response: Response, what: str) -> Exception:
        status = response.status
        error = refusal(
            self.registry, self.repository, what, status, response.read(MAX_BODY), "push to"
        )
        if status == 429 or status >= 500:
            return Interrupted(str(error), error=error)
        if isinstance(error, NotFound):  # who may not write is often told that there is nothing
            return RegistryError(
                f"{self.registry} takes nothing for {self.repository} (404)",
                hint="does the repository exist, and may you write to it?",
            )
        return error
