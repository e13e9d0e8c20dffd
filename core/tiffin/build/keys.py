"""What the result of a step depends on, as one digest: the key of the layer cache. Pure."""

from __future__ import annotations

import hashlib
import json
from typing import Any

VERSION = 1
"""Raised when a step of the same key would give something else."""


def key(parent: str, what: str, **more: Any) -> str:
    """The key of a step on the image `parent`: its text once expanded, and whatever else counts
    (arguments, digests of contents, times)."""
    document = json.dumps([VERSION, parent, what, more], sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(document.encode("utf-8", "surrogateescape")).hexdigest()
