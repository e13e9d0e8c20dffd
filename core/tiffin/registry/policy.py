"""policy.json (containers-policy.json(5)): which images may come in. Signatures are not checked
here, so where one is demanded the image is refused."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from typing import Any

from ..errors import UserError
from ..images.reference import Reference

ACCEPT, REJECT = "insecureAcceptAnything", "reject"
MAX_FILE = 4 << 20


def path() -> str:
    """The file that holds; empty: there is none, and everything may come in."""
    config = os.environ.get("XDG_CONFIG_HOME") or os.path.expanduser("~/.config")
    for found in (f"{config}/containers/policy.json", "/etc/containers/policy.json"):
        if os.path.exists(found):
            return found
    return ""


def scopes(reference: Reference) -> Iterator[str]:
    """What may be written for an image, the most exact first."""
    name = f"{reference.registry}/{reference.repository}"
    yield str(reference)
    if reference.tag and not reference.digest:
        yield f"{name}:{reference.tag}"
    while name:
        yield name
        name = name.rpartition("/")[0]
    host = reference.registry.partition(":")[0]
    while "." in host:
        host = host.partition(".")[2]
        yield f"*.{host}"
    yield ""


def check(reference: Reference) -> None:
    """An image of a registry. Error: UserError when the policy refuses it."""
    document, file = _load()
    if document is not None:
        _decide(_wanted(document, file, "docker", scopes(reference)), str(reference), file)


def check_file(transport: str, name: str) -> None:
    """An archive or a directory, by its absolute path. Error: UserError when the policy refuses
    it."""
    document, file = _load()
    if document is None:
        return
    parents = [name]
    while parents[-1] != "/" and "/" in parents[-1]:
        parents.append(os.path.dirname(parents[-1]))
    _decide(_wanted(document, file, transport, iter([*parents, ""])), name, file)


def _load() -> tuple[dict[str, Any] | None, str]:
    file = path()
    if not file:
        return None, ""
    try:
        with open(file, "rb") as source:
            document = json.loads(source.read(MAX_FILE))
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{file} cannot be read: {error}") from None
    if not isinstance(document, dict) or not isinstance(document.get("default"), list):
        raise UserError(f"{file} is not a policy: it has no default")
    return document, file


def _wanted(document: dict[str, Any], file: str, transport: str, names: Iterator[str]) -> Any:
    transports = document.get("transports") or {}
    by_scope = transports.get(transport) if isinstance(transports, dict) else None
    if isinstance(by_scope, dict):
        for name in names:
            if name in by_scope:
                return by_scope[name]
    return document["default"]


def _decide(requirements: Any, name: str, file: str) -> None:
    kinds = (
        [one.get("type") if isinstance(one, dict) else None for one in requirements]
        if isinstance(requirements, list)
        else [None]
    )
    if REJECT in kinds or not kinds:
        raise UserError(f"{name} is refused by the policy", hint=f"see {file}")
    other = [kind for kind in kinds if kind != ACCEPT]
    if other:
        raise UserError(
            f"{name}: the policy demands {other[0]!r}, which cannot be checked here",
            hint=f"see {file}; known are {ACCEPT} and {REJECT}",
        )
