"""HTTP POST for consumers of events: one request, one answer, no redirects; proxies from the
environment. Runs in a worker thread of trio."""

from __future__ import annotations

import http.client
import ssl
import urllib.error
import urllib.request
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

import trio
from msgspec import Struct

from . import __version__
from .errors import DriverError, UserError

MOST = 65536
"""Bytes of an answer that are read."""
TRY_AGAIN = frozenset((408, 425, 429, 500, 502, 503, 504))
"""Statuses after which the same request may succeed (RFC 9110, RFC 6585)."""


class Answer(Struct, frozen=True):
    status: int
    reason: str
    body: bytes

    @property
    def good(self) -> bool:
        return 200 <= self.status < 300


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """A redirect would send the events, and the headers that vouch for us, elsewhere."""

    def redirect_request(self, *_: Any) -> None:
        return None


def check_url(url: str, what: str) -> str:
    """Error: UserError for what is no http(s) URL."""
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise UserError(f"{what}: {url!r} is no http or https URL")
    return url


async def post(
    url: str, body: bytes, headers: Mapping[str, str], *, timeout: float = 30.0, ca: str = ""
) -> Answer:
    """Send it and return the answer, whatever its status. `ca` is a file of authorities to trust.
    Errors: DriverError when there is no answer, UserError for an unusable `ca`."""
    context = _context(ca) if url.startswith("https:") else None
    return await trio.to_thread.run_sync(
        _post, url, body, dict(headers), timeout, context, abandon_on_cancel=True
    )


def _context(ca: str) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=ca or None)
    except OSError as error:
        raise UserError(f"{ca}: {error.strerror or error}") from None


def _post(
    url: str,
    body: bytes,
    headers: dict[str, str],
    timeout: float,
    context: ssl.SSLContext | None,
) -> Answer:
    request = urllib.request.Request(url, body, {"User-Agent": f"tiffin/{__version__}", **headers})  # noqa: S310
    secure = [urllib.request.HTTPSHandler(context=context)] if context else []
    opener = urllib.request.build_opener(_NoRedirects, *secure)
    host = urlsplit(url).netloc.rpartition("@")[2]
    try:
        with opener.open(request, timeout=timeout) as answer:
            return Answer(answer.status, answer.reason, answer.read(MOST))
    except urllib.error.HTTPError as error:
        with error:
            return Answer(error.code, str(error.reason), error.read(MOST))
    except (OSError, http.client.HTTPException) as error:
        reason = getattr(error, "reason", error)
        raise DriverError(f"{host}: {reason or type(error).__name__}") from None


def judge(answer: Answer, host: str) -> None:
    """Errors: DriverError when it is worth another try, UserError when it is not."""
    if answer.good:
        return
    first = answer.body.decode(errors="replace").strip().partition("\n")[0][:200]
    what = f"{host} answered {answer.status} {answer.reason}" + (f": {first}" if first else "")
    if answer.status in TRY_AGAIN:
        raise DriverError(what)
    raise UserError(what, hint="trying again would not help")
