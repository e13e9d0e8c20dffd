"""Ids and names: what a container may be called and how one is found by a prefix."""

from __future__ import annotations

import os
import re

from .errors import UserError

NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]*\Z")
"""What podman and docker accept as a name."""


def new_id() -> str:
    """64 hex digits, random; never all decimal digits in the first twelve, so that a short id used
    as a hostname is not taken for a number."""
    while True:
        candidate = os.urandom(32).hex()
        if not candidate[:12].isdecimal():
            return candidate


def short(identifier: str) -> str:
    """The twelve digits that people see; a leading `sha256:` is dropped."""
    return identifier.removeprefix("sha256:")[:12]


def check_name(name: str, what: str = "container") -> str:
    """Return the name, or raise UserError."""
    if not NAME.match(name) or len(name) > 255:
        raise UserError(
            f"{name!r} is not a {what} name",
            hint="use letters, digits, '_', '.' and '-', beginning with a letter or digit",
        )
    return name
