"""An event as a message of RFC 5424. The numbers in comments are its sections."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

SD_ID = "tiffin@32473"
"""Structured data's name: 32473 is the enterprise number for private use (RFC 5612)."""
NOTICE, WARNING = 5, 4
LONGEST = 8096
"""Bytes that rsyslog takes unless told otherwise; it cuts what is longer, wherever that is."""


def message(
    event: Mapping[str, Any], *, facility: int, hostname: str, data: bool, longest: int = LONGEST
) -> bytes:
    """HEADER, STRUCTURED-DATA and MSG (6). `data`: with the event's details as a parameter, unless
    the message would get too long; then their length is told, and seq and hash say where to look.
    """
    actor = event["actor"]
    failed = event["type"].endswith("failed") or event["data"].get("exit_code", 0) != 0
    priority = facility * 8 + (WARNING if failed else NOTICE)
    parameters = {
        "seq": event["seq"],
        "stream": event["stream"],
        "version": event["version"],
        "command": event["command"],
        "uid": actor.get("uid", ""),
        "loginuid": actor.get("loginuid", ""),
        "session": actor.get("session", ""),
        "front_end": actor.get("front_end", ""),
        "program": actor.get("program", ""),
        **({"cause": actor["cause"]} if "cause" in actor else {}),
        "time": event["time"],
        "hash": event["hash"],
    }
    details = json.dumps(event["data"], separators=(",", ":")) if data else ""
    more: list[dict[str, Any]] = [{"data": details}, {"left_out": len(details)}] if data else [{}]
    made = [_made(event, priority, hostname, parameters | one) for one in more]
    return next((text for text in made if len(text) <= longest), made[-1])


def _made(
    event: Mapping[str, Any], priority: int, hostname: str, parameters: Mapping[str, Any]
) -> bytes:
    structured = "".join(f' {name}="{escaped(str(value))}"' for name, value in parameters.items())
    header = " ".join(
        (
            f"<{priority}>1",
            timestamp(event["time"]),
            word(hostname, 255),
            "tiffin",
            word(str(event["actor"].get("pid", "")), 128),
            word(event["type"], 32),
        )
    )
    text = f"{event['type']} {event['stream']}"
    return f"{header} [{SD_ID}{structured}] \ufeff{text}".encode("utf-8", "replace")


def timestamp(time: str) -> str:
    """At most six digits of a second (6.2.3)."""
    whole, _, rest = time.rstrip("Z").partition(".")
    return f"{whole}.{rest[:6]}Z" if rest else f"{whole}Z"


def word(text: str, longest: int) -> str:
    """Printable ASCII without spaces, or the nil value (6)."""
    plain = "".join(c for c in text if 33 <= ord(c) <= 126)
    return plain[:longest] or "-"


def escaped(value: str) -> str:
    """A parameter's value (6.3.3)."""
    for char in ("\\", '"', "]"):
        value = value.replace(char, "\\" + char)
    return value
