"""`login` and `logout`: writing auth.json (containers-auth.json(5)), shared with podman."""

from __future__ import annotations

import base64
import fcntl
import json
import os
import tempfile
from typing import Any

from ..errors import UserError
from . import auth, helpers


def path(explicit: str = "") -> str:
    """The file that is written: --authfile, REGISTRY_AUTH_FILE, or podman's default."""
    return explicit or auth.files()[0]


def read(file: str) -> dict[str, Any]:
    """Error: UserError for a file that is no auth.json."""
    try:
        with open(file, "rb") as source:
            document = json.loads(source.read(auth.MAX_FILE) or b"{}")
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{file} is not a readable auth.json: {error}") from None
    if not isinstance(document, dict) or not isinstance(document.get("auths", {}), dict):
        raise UserError(f"{file} is not an auth.json")
    return document


def _write(file: str, document: dict[str, Any]) -> None:
    """In one step, readable by its owner alone."""
    directory = os.path.dirname(os.path.abspath(file))
    os.makedirs(directory, mode=0o700, exist_ok=True)
    fd, temporary = tempfile.mkstemp(dir=directory, prefix=".auth-")  # mode 0600
    try:
        with open(fd, "w", encoding="utf-8") as target:
            json.dump(document, target, indent="\t")
        os.replace(temporary, file)
    except BaseException:  # a cancellation as well; raised again
        os.unlink(temporary)
        raise


def store(file: str, key: str, credentials: auth.Credentials) -> None:
    if helpers.store(read(file), key, credentials):
        return
    pair = f"{credentials.username}:{credentials.password}".encode()
    _change(file, key, {"auth": base64.b64encode(pair).decode("ascii")})


def forget(file: str, key: str) -> bool:
    """False when there was nothing to forget."""
    helped = helpers.erase(read(file), key)
    return _change(file, key, None) or helped


def forget_all(file: str) -> None:
    if os.path.exists(file):
        _write(file, read(file) | {"auths": {}})


def username(file: str, key: str) -> str:
    """Who is logged in; "" for nobody."""
    document = read(file)
    kept = helpers.get(document, key)
    if kept is not None:
        return kept.username
    entry = document.get("auths", {}).get(key, {})
    try:
        return base64.b64decode(entry.get("auth", "")).decode().partition(":")[0]
    except (ValueError, AttributeError):
        return ""


def _change(file: str, key: str, entry: dict[str, str] | None) -> bool:
    """Under a lock, so that of two at once none is lost."""
    directory = os.path.dirname(os.path.abspath(file))
    os.makedirs(directory, mode=0o700, exist_ok=True)
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        document = read(file)
        auths = dict(document.get("auths", {}))
        if entry is None:
            if key not in auths:
                return False
            del auths[key]
        else:
            auths[key] = entry
        _write(file, document | {"auths": auths})
    finally:
        os.close(fd)
    return True
