"""Who we are to a registry: stored credentials, and what a `WWW-Authenticate` header asks for.

Files and their format: containers-auth.json(5). Challenges: RFC 9110 section 11.6.1; token
authentication: the distribution project's token specification.
"""

from __future__ import annotations

import base64
import binascii
import json
import os
import re
from typing import Any

from msgspec import Struct

from ..errors import UserError

DOCKER_KEYS = ("docker.io", "index.docker.io", "registry-1.docker.io")
MAX_FILE = 1 << 20


class Credentials(Struct, frozen=True):
    """A name and password, or (`token`) an identity token. Never printed."""

    username: str = ""
    password: str = ""
    token: str = ""

    def __repr__(self) -> str:
        return f"Credentials({self.username!r}, ...)"

    def basic(self) -> str:
        pair = f"{self.username}:{self.password}".encode()
        return f"Basic {base64.b64encode(pair).decode('ascii')}"


class Challenge(Struct, frozen=True):
    scheme: str
    """Lower case: `basic`, `bearer`."""
    parameters: dict[str, str]


def files() -> list[str]:
    """Where credentials may be, most important first. A file that `REGISTRY_AUTH_FILE` names is
    the only one."""
    environment = os.environ
    explicit = environment.get("REGISTRY_AUTH_FILE")
    if explicit:
        return [explicit]
    uid = os.geteuid()
    runtime = environment.get("XDG_RUNTIME_DIR")
    paths = [f"{runtime}/containers/auth.json"] if runtime else []
    paths.append(f"/run/containers/{uid}/auth.json")
    config = environment.get("XDG_CONFIG_HOME") or os.path.expanduser("~/.config")
    paths.append(f"{config}/containers/auth.json")
    docker = environment.get("DOCKER_CONFIG") or os.path.expanduser("~/.docker")
    paths.append(f"{docker}/config.json")
    return paths


def stored(registry: str, repository: str) -> Credentials | None:
    """The credentials for a repository: those of the longest matching key of the first file that
    has any. Error: UserError for a file that `REGISTRY_AUTH_FILE` names and that is no good."""
    explicit = "REGISTRY_AUTH_FILE" in os.environ
    for path in files():
        try:
            with open(path, "rb") as file:
                document = json.loads(file.read(MAX_FILE))
            auths = document.get("auths")
        except FileNotFoundError:
            continue
        except (OSError, ValueError, AttributeError, RecursionError):
            if explicit:
                raise UserError(f"{path} is not a readable auth.json") from None
            continue
        helped = document.get("credHelpers") or document.get("credsStore")
        if isinstance(auths, dict):
            found = _match(auths, registry, repository)
            if found is not None:
                return found
        if helped:
            from . import helpers  # rarely

            found = helpers.get(document, registry)
            if found is not None:
                return found
    return None


def _match(auths: dict[str, Any], registry: str, repository: str) -> Credentials | None:
    by_key = {_key(key): entry for key, entry in auths.items()}
    hosts = DOCKER_KEYS if registry in DOCKER_KEYS else (registry,)
    for host in hosts:
        name = f"{host}/{repository}"
        while True:
            if isinstance(entry := by_key.get(name), dict):
                found = _entry(entry)
                if found is not None:
                    return found
            if "/" not in name:
                break
            name = name.rpartition("/")[0]
    return None


def _key(key: str) -> str:
    """Docker writes URLs (`https://index.docker.io/v1/`), podman names."""
    bare = re.sub(r"\Ahttps?://", "", key).rstrip("/")
    return re.sub(r"/v[12]\Z", "", bare)


def _entry(entry: dict[str, Any]) -> Credentials | None:
    token = entry.get("identitytoken")
    if isinstance(token, str) and token:
        return Credentials(token=token)
    try:
        pair = base64.b64decode(entry.get("auth") or "").decode()
    except (binascii.Error, ValueError, TypeError):
        return None
    username, colon, password = pair.partition(":")
    return Credentials(username, password.rstrip("\0")) if colon and username else None


_PARAMETER = re.compile(r'[\s,]*([A-Za-z0-9_-]+)\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s,"]+))')
_SCHEME = re.compile(r"[\s,]*([A-Za-z][A-Za-z0-9._-]*)(?=\s|,|\Z)(?!\s*=)")


def challenges(headers: list[str]) -> list[Challenge]:
    """All challenges of the `WWW-Authenticate` headers, in order; nonsense is skipped."""
    found = []
    for header in headers:
        position = 0
        while scheme := _SCHEME.match(header, position):
            position = scheme.end()
            parameters = {}
            while parameter := _PARAMETER.match(header, position):
                name, quoted, bare = parameter.groups()
                value = re.sub(r"\\(.)", r"\1", quoted) if quoted is not None else bare
                parameters[name.lower()] = value
                position = parameter.end()
            found.append(Challenge(scheme.group(1).lower(), parameters))
    return found
