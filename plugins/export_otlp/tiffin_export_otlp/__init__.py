"""Events as OpenTelemetry traces, over OTLP/HTTP with JSON."""

from __future__ import annotations

import json
import os
import socket
import sys
from collections.abc import Mapping, Sequence
from time import time_ns
from typing import Any
from urllib.parse import unquote, urlsplit

from tiffin.hooks import DriverContext, EventConsumer, event_steps, hookimpl, post_tools

from .traces import Span, Traces, attributes

TIFFIN_HOOK_VERSION = 1

SECOND = 1_000_000_000
AT_ONCE = 512
"""Spans of one request."""


@hookimpl
def event_consumer(name: str, context: DriverContext) -> EventConsumer | None:
    return Otlp(name, context)


class Otlp:
    def __init__(self, name: str, context: DriverContext) -> None:
        self.name = name
        settings = context.settings
        self._post = post_tools()
        given = settings.get("endpoint") or os.environ.get("OTEL_EXPORTER_OTLP_ENDPOINT")
        endpoint = str(given or "http://localhost:4318").rstrip("/")
        self._post.check_url(endpoint, f"consumer {name}: endpoint")
        self.url = endpoint if endpoint.endswith("/v1/traces") else f"{endpoint}/v1/traces"
        self.host = urlsplit(self.url).hostname or ""
        self.headers = headers(settings)
        self.ca = str(settings.get("ca", ""))
        self.timeout = float(settings.get("timeout", 30))
        self.quiet = int(float(settings.get("quiet", 2)) * SECOND)
        self._traces = Traces(event_steps())
        self._newest = 0
        self._waiting: list[Span] = []
        """Spans that nobody has taken yet."""
        self._seen = 0

    async def deliver(self, events: Sequence[Mapping[str, Any]]) -> int | None:
        for event in events:
            if event["seq"] > self._seen:  # not what came before because sending failed
                self._waiting += self._traces.add(event)
                self._newest = max(self._newest, event["timeNano"])
                self._seen = event["seq"]
        self._waiting += self._traces.finished(self._newest, self.quiet)
        await self._send()
        return self._traces.needed

    async def settle(self, *, last: bool) -> int | None:
        self._waiting += self._traces.finished(time_ns(), 0 if last else self.quiet)
        await self._send()
        return self._traces.needed

    async def _send(self) -> None:
        while self._waiting:
            batch = self._waiting[:AT_ONCE]
            body = json.dumps(request(batch), separators=(",", ":")).encode()
            answer = await self._post.post(
                self.url,
                body,
                {"Content-Type": "application/json", **self.headers},
                timeout=self.timeout,
                ca=self.ca,
            )
            self._post.judge(answer, self.host)
            self._check(answer.body)
            del self._waiting[: len(batch)]

    def _check(self, body: bytes) -> None:
        """A collector may take only a part (`partialSuccess`); the rest must not be sent again, so
        there is nothing to do but to say so."""
        try:
            partial = json.loads(body or b"{}").get("partialSuccess") or {}
            rejected = int(partial.get("rejectedSpans", 0))
        except (ValueError, AttributeError, TypeError):
            return
        if rejected:
            why = str(partial.get("errorMessage", ""))[:200]
            print(
                f"consumer {self.name}: {self.host} rejected {rejected} spans: {why!r}",
                file=sys.stderr,
            )

    async def close(self) -> None:
        """Spans that were not sent come again: the cursor has not moved past their events."""


def headers(settings: Mapping[str, Any]) -> dict[str, str]:
    """Those of tiffin.toml, else of OTEL_EXPORTER_OTLP_HEADERS (`key=value,...`, URL-encoded)."""
    if "headers" in settings:
        return {str(key): str(value) for key, value in dict(settings["headers"]).items()}
    found = {}
    for pair in os.environ.get("OTEL_EXPORTER_OTLP_HEADERS", "").split(","):
        key, equals, value = pair.partition("=")
        if equals:
            found[key.strip()] = unquote(value.strip())
    return found


def request(spans: Sequence[Span]) -> dict[str, Any]:
    """ExportTraceServiceRequest."""
    resource = {"service.name": "tiffin", "host.name": socket.gethostname()}
    scope = {"scope": {"name": "tiffin"}, "spans": list(spans)}
    return {
        "resourceSpans": [{"resource": {"attributes": attributes(resource)}, "scopeSpans": [scope]}]
    }
