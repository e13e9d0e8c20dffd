"""What a registry's refusal means, and what to do about it: one line each."""

from __future__ import annotations

import json
from http import HTTPStatus

from ..errors import NotFound, RegistryError

MAX_BODY = 16 << 10
"""Bytes of an error's body that are looked at."""


class Interrupted(Exception):
    """The connection broke, or the registry says that it is busy: worth another try."""

    def __init__(
        self,
        what: str,
        *,
        after: float | None = None,
        tries: int = 100,
        timeout: bool = False,
        error: Exception | None = None,
    ) -> None:
        super().__init__(what)
        self.after = after
        """Seconds that the registry asks us to wait."""
        self.tries = tries
        """More than so many in all are no use."""
        self.timeout = timeout
        self.error = error
        """What to raise when we give up."""


def refusal(
    registry: str, repository: str, what: str, status: int, body: bytes, verb: str = "pull"
) -> Exception:
    """The error for an HTTP status that is no success. `what`: `tag 1.2`, `blob sha256:...`."""
    said = _message(body)
    because = f": {said}" if said else ""
    if status == 401:
        return RegistryError(
            f"{registry} wants to know who you are before you {verb} {repository} (401{because})",
            hint=f"log in with `tiffin login {registry}`, or check the name",
        )
    if status == 403:
        return RegistryError(
            f"{registry} does not let you {verb} {repository} (403{because})",
            hint="log in as somebody who may",
        )
    if status == 404:
        return NotFound(
            f"{registry}/{repository} has no {what} (404{because})",
            hint="check the name and the tag",
        )
    if status == 429:
        return RegistryError(
            f"{registry} has had too many requests for {repository} (429{because})",
            hint="wait a while, or log in for a higher limit",
        )
    if status >= 500:
        return RegistryError(
            f"{registry} failed for {repository} ({status} {_phrase(status)}{because})",
            hint="try again later, or ask whoever runs it",
        )
    return RegistryError(
        f"{registry} has no {what} of {repository} for us ({status} {_phrase(status)}{because})",
        hint="is it a container registry?",
    )


def printable(text: str, limit: int = 160) -> str:
    """One line without control characters: what a registry says goes to a terminal."""
    return "".join(c if c.isprintable() else " " for c in text)[:limit].strip()


def _message(body: bytes) -> str:
    """The first message of distribution-spec's error body."""
    try:
        first = json.loads(body)["errors"][0]
        text = first.get("message") or first.get("code") or ""
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return ""
    return printable(text) if isinstance(text, str) else ""


def _phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "(no such status)"
