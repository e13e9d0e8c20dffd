"""`--health-*` of `create` and `run`."""

from __future__ import annotations

import json

from .. import units
from ..errors import UserError
from ..options import Health

TYPE_CHECKING = False  # without importing typing
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

SECOND = 1_000_000_000
LONGEST = 366 * 86400 * SECOND


def parse(options: Mapping[str, Any]) -> Health:
    """What the flags ask for; what they do not is the image's. Error: UserError."""
    if options["no_healthcheck"]:
        if options["health_cmd"]:
            raise UserError("--no-healthcheck and --health-cmd contradict each other")
        return Health(test=("NONE",))
    interval = options["health_interval"]
    retries = options["health_retries"]
    if retries is not None and retries < 1:
        raise UserError(f"--health-retries {retries} is too small", hint="at least 1")
    return Health(
        test=command(options["health_cmd"]),
        interval=_time("interval", "0" if interval == "disable" else interval, 0),
        timeout=_time("timeout", options["health_timeout"], 1),
        start_period=_time("start-period", options["health_start_period"], 0),
        retries=retries or 0,
        on_failure=options["health_on_failure"].removeprefix("none"),
    )


def _time(name: str, text: str, least: int) -> int:
    if not text:
        return -1
    value = units.parse_duration(text, f"--health-{name}")
    if not least <= value <= LONGEST:
        why = "negative" if value < 0 else "0" if value < LONGEST else "too long"
        raise UserError(f"--health-{name} {text} is {why}", hint="write 30s or 1m30s")
    return value


def command(text: str) -> tuple[str, ...]:
    """By podman's rules: a JSON array of several words is run as it is, anything else by the
    container's sh; `CMD ...`, `CMD-SHELL ...` and `none` are understood as in a Dockerfile."""
    if "\0" in text:
        raise UserError(f"--health-cmd {text!r} contains a zero byte")
    if not text:
        return ()
    words: Any = None
    if text.lstrip().startswith("["):
        try:
            words = json.loads(text)
        except (ValueError, RecursionError):
            words = None  # `[ -e /ready ]` is a line for sh
    if not (isinstance(words, list) and words and all(isinstance(word, str) for word in words)):
        kind, _, rest = text.strip().partition(" ")
        if kind.upper() == "NONE" and not rest:
            return ("NONE",)
        if kind == "CMD":
            return ("CMD", *rest.split())
        return ("CMD-SHELL", rest.strip() if kind == "CMD-SHELL" else text)
    if words[0].upper() == "NONE":
        return ("NONE",)
    if words[0] in ("CMD", "CMD-SHELL"):
        return tuple(words)
    return ("CMD", *words) if len(words) > 1 else ("CMD-SHELL", words[0])
