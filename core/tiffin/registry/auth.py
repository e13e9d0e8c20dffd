"""Credentials: the files of podman and docker, and the token flow of the distribution API."""

from __future__ import annotations

import base64
import binascii
import json
import os
import re
from typing import Any

CHALLENGE = re.compile(r'([a-zA-Z0-9_-]+)="((?:[^"\\]|\\.)*)"')


def files() -> list[str]:
    """Where credentials may be, first wins (containers-auth.json(5), docker's config.json)."""
    env = os.environ
    found = []
    if env.get("REGISTRY_AUTH_FILE"):
        found.append(env["REGISTRY_AUTH_FILE"])
    run = env.get("XDG_RUNTIME_DIR") or f"/run/containers/{os.geteuid()}"
    found += [
        f"{run}/containers/auth.json",
        f"/run/containers/{os.geteuid()}/auth.json",
        os.path.expanduser("~/.config/containers/auth.json"),
        os.path.expanduser("~/.docker/config.json"),
    ]
    return found


def basic_for(registry: str, repository: str) -> str:
    """Value of an Authorization header for a registry, or nothing. The most specific entry wins:
    `host/a/b`, `host/a`, `host`."""
    names = [registry]
    for part in repository.split("/"):
        names.append(f"{names[-1]}/{part}")
    if registry == "docker.io":
        names.insert(0, "https://index.docker.io/v1/")
    for path in files():
        entries = _entries(path)
        for name in reversed(names):
            encoded = (entries.get(name) or {}).get("auth")
            if isinstance(encoded, str) and encoded:
                try:
                    base64.b64decode(encoded, validate=True)
                except (binascii.Error, ValueError):
                    continue
                return f"Basic {encoded}"
    return ""


def _entries(path: str) -> dict[str, Any]:
    try:
        with open(path, "rb") as file:
            entries = json.load(file).get("auths")
    except (OSError, ValueError, AttributeError):
        return {}
    return entries if isinstance(entries, dict) else {}


def challenge(header: str) -> tuple[str, dict[str, str]]:
    """(scheme in lower case, parameters) of a WWW-Authenticate header (RFC 7235)."""
    scheme, _, rest = header.strip().partition(" ")
    return scheme.lower(), {name.lower(): value for name, value in CHALLENGE.findall(rest)}
