"""Credential helpers: programs `docker-credential-NAME` that keep logins elsewhere, by the protocol
of docker-credential-helpers: a word, something on standard input, JSON on standard output."""

from __future__ import annotations

import json
import re
import subprocess
from typing import Any

from .. import programs
from ..errors import DriverError, UserError
from .auth import DOCKER_KEYS, Credentials

NAME = re.compile(r"[A-Za-z0-9_.-]+\Z")
TIMEOUT = 60
"""Seconds: a helper may ask a person."""
TOKEN = "<token>"  # noqa: S105
"""What a helper says in place of a name when the secret is an identity token."""
DOCKER_URL = "https://index.docker.io/v1/"


def of(document: dict[str, Any], registry: str) -> str:
    """The helper that an auth.json or config.json names for a registry; empty: none."""
    by_host = document.get("credHelpers")
    if isinstance(by_host, dict) and isinstance(by_host.get(registry), str):
        return str(by_host[registry])
    everything = document.get("credsStore")
    return everything if isinstance(everything, str) else ""


def _server(registry: str, document: dict[str, Any]) -> str:
    """docker keeps its own registry under a URL; a helper for that name alone, under the name."""
    by_host = document.get("credHelpers")
    named = isinstance(by_host, dict) and registry in by_host
    return DOCKER_URL if registry in DOCKER_KEYS and not named else registry


def _run(helper: str, word: str, text: str) -> tuple[int, str]:
    if not NAME.match(helper):
        raise UserError(f"{helper!r} is not the name of a credential helper")
    name = f"docker-credential-{helper}"
    try:
        program = programs.find(name)
    except DriverError:
        raise UserError(
            f"credential helper {name} is not installed", hint="see credHelpers in auth.json"
        ) from None
    try:
        done = subprocess.run(
            [program, word], input=text.encode(), capture_output=True, timeout=TIMEOUT, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise UserError(f"{name} {word}: {error}") from None
    return done.returncode, done.stdout.decode(errors="replace")


def get(document: dict[str, Any], registry: str) -> Credentials | None:
    """What the helper knows of a registry; None: nothing, or there is no helper. Error: UserError
    for one that is not there or makes no sense."""
    helper = of(document, registry)
    if not helper:
        return None
    code, out = _run(helper, "get", _server(registry, document))
    if code:
        return None  # "credentials not found", as far as the protocol tells
    try:
        answer = json.loads(out)
        name, secret = answer["Username"], answer["Secret"]
    except (ValueError, KeyError, TypeError, RecursionError):
        raise UserError(f"docker-credential-{helper} gave no credentials for {registry}") from None
    if not isinstance(name, str) or not isinstance(secret, str):
        raise UserError(f"docker-credential-{helper} gave no credentials for {registry}")
    return Credentials(token=secret) if name == TOKEN else Credentials(name, secret)


def store(document: dict[str, Any], registry: str, credentials: Credentials) -> bool:
    """False when no helper is to have it. Error: UserError when the helper refuses."""
    helper = of(document, registry)
    if not helper:
        return False
    told = {
        "ServerURL": _server(registry, document),
        "Username": credentials.username,
        "Secret": credentials.password,
    }
    code, out = _run(helper, "store", json.dumps(told))
    if code:
        raise UserError(f"docker-credential-{helper} did not keep the login: {out.strip()[:200]}")
    return True


def erase(document: dict[str, Any], registry: str) -> bool:
    """False when there is no helper, or it has nothing."""
    helper = of(document, registry)
    if not helper or get(document, registry) is None:
        return False
    return _run(helper, "erase", _server(registry, document))[0] == 0
