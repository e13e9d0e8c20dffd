"""Events as HTTP POSTs."""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit

from tiffin.hooks import DriverContext, EventConsumer, errors, hookimpl, post_tools

TIFFIN_HOOK_VERSION = 1

TOO_MUCH = 413
"""Content Too Large (RFC 9110)."""


@hookimpl
def event_consumer(name: str, context: DriverContext) -> EventConsumer | None:
    return Webhook(name, context)


class Webhook:
    def __init__(self, name: str, context: DriverContext) -> None:
        self.name = name
        settings = context.settings
        where = f"consumer.{name} in tiffin.toml"
        if "url" not in settings:
            raise errors.UserError(f"{where}: no url", hint="it says where the events go")
        self._post = post_tools()
        self.url = self._post.check_url(str(settings["url"]), f"{where}: url")
        self.host = urlsplit(self.url).hostname or ""
        self.lines = bool(settings.get("lines", False))
        self.secret = secret(settings)
        self.headers = {str(k): str(v) for k, v in dict(settings.get("headers", {})).items()}
        self.ca = str(settings.get("ca", ""))
        self.timeout = float(settings.get("timeout", 30))

    async def deliver(self, events: Sequence[Mapping[str, Any]]) -> int | None:
        parts = [json.dumps(event, separators=(",", ":")) for event in events]
        text = "\n".join(parts) + "\n" if self.lines else f"[{','.join(parts)}]"
        body = text.encode()
        headers = {
            "Content-Type": "application/x-ndjson" if self.lines else "application/json",
            "X-Tiffin-Delivery": f"{events[0]['seq']}-{events[-1]['seq']}",
            **self.headers,
        }
        if self.secret:
            signature = hmac.new(self.secret, body, hashlib.sha256).hexdigest()
            headers["X-Tiffin-Signature"] = f"sha256={signature}"
        answer = await self._post.post(self.url, body, headers, timeout=self.timeout, ca=self.ca)
        if answer.status == TOO_MUCH and len(events) > 1:
            half = len(events) // 2
            await self.deliver(events[:half])
            return await self.deliver(events[half:])
        self._post.judge(answer, self.host)
        return None

    async def settle(self, *, last: bool) -> int | None:
        return None

    async def close(self) -> None:
        """There is no connection to close: each POST has its own."""


def secret(settings: Mapping[str, Any]) -> bytes:
    """`secret`, or what the file `secret_file` holds without the newline at its end."""
    if path := settings.get("secret_file"):
        try:
            with open(str(path), "rb") as file:
                return file.read().rstrip(b"\n")
        except OSError as error:
            raise errors.UserError(f"secret_file {path}: {error.strerror}") from None
    return str(settings.get("secret", "")).encode()
