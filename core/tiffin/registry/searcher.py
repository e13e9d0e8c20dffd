"""What a registry has: by the search of version 1 of its API, where it offers that, else by the
catalogue of version 2 (distribution-spec: tags; `_catalog` is the distribution project's own)."""

from __future__ import annotations

import json
import re
from typing import Any
from urllib.parse import urlencode, urljoin

from ..errors import NotFound, RegistryError
from .answers import Response
from .client import ENDPOINTS
from .pusher import Pusher

MAX_ANSWER = 8 << 20
PAGES = 100
INDEXES = {"docker.io": "index.docker.io"}
LINK = re.compile(r'<([^>]+)>\s*;\s*rel="?next"?')


class Searcher(Pusher):
    """As `Pusher`; methods run in worker threads."""

    async def __aenter__(self) -> Searcher:
        return self

    async def search(self, term: str, limit: int) -> list[dict[str, Any]]:
        """At most `limit` repositories with the term in their names: name, description, stars,
        official, automated. Errors: RegistryError, NotFound when it offers no search."""
        return await self._in_thread(self._search, term, limit)

    async def tags(self, limit: int) -> list[str]:
        """At most `limit` tags of the repository. Errors: NotFound, RegistryError."""
        return await self._in_thread(self._tags, limit)

    def _search(self, term: str, limit: int) -> list[dict[str, Any]]:
        def once() -> list[dict[str, Any]]:
            found = self._version_1(term, limit)
            return self._catalogue(term, limit) if found is None else found

        return self._patiently(once)

    def _version_1(self, term: str, limit: int) -> list[dict[str, Any]] | None:
        origin = self._locate()
        index = INDEXES.get(self.registry)
        top = f"{origin.scheme}://{index or origin.netloc}/v1/search"
        response = self._send("GET", f"{top}?{urlencode({'q': term, 'n': limit})}", ok=ANY)
        if response.status != 200:
            response.read(MAX_ANSWER)
            return None
        answer = self._json(response)
        if not isinstance(answer.get("results"), list):
            return None
        return [
            {
                "name": _text(one.get("name")),
                "description": _text(one.get("description")),
                "stars": one["star_count"] if isinstance(one.get("star_count"), int) else 0,
                "official": bool(one.get("is_official")),
                "automated": bool(one.get("is_automated")),
            }
            for one in answer["results"]
            if isinstance(one, dict)
        ][:limit]

    def _catalogue(self, term: str, limit: int) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = []
        for name in self._pages("_catalog", "repositories", root=True):
            if term in name:
                found.append({"name": name, "description": "", "stars": 0})
            if len(found) == limit:
                break
        return found

    def _tags(self, limit: int) -> list[str]:
        def once() -> list[str]:
            found: list[str] = []
            for tag in self._pages("tags/list", "tags"):
                found.append(tag)
                if len(found) == limit:
                    break
            return found

        return self._patiently(once)

    def _pages(self, path: str, key: str, *, root: bool = False) -> list[str]:
        """All of a list that comes in pages (distribution-spec, "Listing Tags")."""
        origin = self._locate()
        top = f"{origin.scheme}://{origin.netloc}/v2/"
        url = f"{top}{path}" if root else f"{top}{self.repository}/{path}"
        found: list[str] = []
        for _ in range(PAGES):
            response = self._send("GET", url, ok=(200, 404))
            if response.status == 404:
                response.read(MAX_ANSWER)
                what = "it offers no search" if root else f"it has no {self.repository}"
                raise NotFound(f"{self.registry}: {what}")
            answer = self._json(response)
            listed = answer.get(key)
            found += (
                [_text(one) for one in listed if isinstance(one, str)]
                if isinstance(listed, list)
                else []
            )
            link = LINK.search(response.header("Link"))
            if link is None:
                break
            following = urljoin(url, link[1])
            if not following.startswith(top):  # nobody sends us elsewhere
                break
            url = following
        return found

    def _json(self, response: Response) -> dict[str, Any]:
        try:
            answer = json.loads(response.read(MAX_ANSWER))
        except (ValueError, RecursionError):
            answer = None
        if not isinstance(answer, dict):
            raise RegistryError(f"{self.registry} gave no usable answer to a search")
        return answer


ANY = tuple(status for status in range(200, 500) if status not in (401, 407, 429))


def _text(value: Any) -> str:
    """For a terminal."""
    text = value if isinstance(value, str) else ""
    return "".join(c if c.isprintable() else " " for c in text)


__all__ = ["ENDPOINTS", "Searcher"]
