"""`--change` of commit and import: Dockerfile instructions applied to an image's settings.

The instructions that podman-commit(1) lists. Pure.
"""

from __future__ import annotations

import json
import posixpath
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ..errors import UserError

Settings = dict[str, Any]
_INSTRUCTION = re.compile(r"\s*([A-Za-z]+)(?:\s*=\s*|\s+)(.*)\Z", re.DOTALL)
_PORT = re.compile(r"([0-9]{1,5})(?:-([0-9]{1,5}))?(?:/(tcp|udp|sctp))?\Z")
SHELL = ["/bin/sh", "-c"]


def apply(settings: Mapping[str, Any], changes: Sequence[str]) -> Settings:
    """The settings after all changes, in order. Error: UserError that names the change."""
    result = json.loads(json.dumps(dict(settings)))
    for change in changes:
        found = _INSTRUCTION.match(change)
        name = found.group(1).upper() if found else ""
        if found is None or name not in INSTRUCTIONS:
            raise UserError(
                f"--change {change!r} is not known", hint=f"one of {', '.join(INSTRUCTIONS)}"
            )
        try:
            INSTRUCTIONS[name](result, found.group(2).strip())
        except ValueError as error:
            raise UserError(f"--change {change!r} makes no sense: {error}") from None
    assert isinstance(result, dict)
    return result


def _strings(value: str) -> list[str] | None:
    """The exec form, a JSON array of strings; None for anything else."""
    if not value.startswith("["):
        return None
    try:
        words = json.loads(value)
    except ValueError:
        return None
    return words if all(isinstance(word, str) for word in words) else None


def _words(value: str) -> list[str]:
    import shlex  # latency: rarely needed

    return _strings(value) or shlex.split(value)


def _pairs(value: str) -> list[tuple[str, str]]:
    """`A=b C="d e"`, or the old `A the rest`."""
    first = value.split(None, 1)
    if first and "=" not in first[0]:
        if len(first) == 1:
            raise ValueError("a value is missing")
        return [(first[0], first[1])]
    pairs = []
    for word in _words(value):
        name, equals, text = word.partition("=")
        if not equals or not name:
            raise ValueError(f"{word!r} is not NAME=VALUE")
        pairs.append((name, text))
    return pairs


def _command(key: str) -> Callable[[Settings, str], None]:
    def change(settings: Settings, value: str) -> None:
        words = _strings(value)
        if words is None:
            words = [*SHELL, value] if value else []
        _set(settings, key, words)

    return change


def _set(settings: Settings, key: str, value: Any) -> None:
    if value:
        settings[key] = value
    else:
        settings.pop(key, None)


def _env(settings: Settings, value: str) -> None:
    env = list(settings.get("Env") or ())
    for name, text in _pairs(value):
        entry = f"{name}={text}"
        same = [i for i, old in enumerate(env) if old.partition("=")[0] == name]
        if same:
            env[same[0]] = entry
        else:
            env.append(entry)
    settings["Env"] = env


def _label(settings: Settings, value: str) -> None:
    settings["Labels"] = {**(settings.get("Labels") or {}), **dict(_pairs(value))}


def expose(settings: Settings, value: str) -> None:
    ports = dict(settings.get("ExposedPorts") or {})
    for word in value.split():
        found = _PORT.match(word.lower())
        first = int(found.group(1)) if found else 0
        last = int(found.group(2) or first) if found else 0
        if found is None or not 0 < first <= last < 65536:
            raise ValueError(f"{word!r} is not a port")
        for port in range(first, last + 1):
            ports[f"{port}/{found.group(3) or 'tcp'}"] = {}
    settings["ExposedPorts"] = ports


def _volume(settings: Settings, value: str) -> None:
    settings["Volumes"] = {**(settings.get("Volumes") or {}), **{w: {} for w in _words(value)}}


def _workdir(settings: Settings, value: str) -> None:
    if not value:
        raise ValueError("a directory is missing")
    base = settings.get("WorkingDir") or "/"
    settings["WorkingDir"] = posixpath.normpath(posixpath.join("/", base, value))


def _user(settings: Settings, value: str) -> None:
    _set(settings, "User", value)


def _stop_signal(settings: Settings, value: str) -> None:
    if not re.match(r"[A-Za-z0-9+-]+\Z", value):
        raise ValueError(f"{value!r} is not a signal")
    settings["StopSignal"] = value


def _on_build(settings: Settings, value: str) -> None:
    settings["OnBuild"] = [*(settings.get("OnBuild") or ()), value]


INSTRUCTIONS: dict[str, Callable[[Settings, str], None]] = {
    "CMD": _command("Cmd"),
    "ENTRYPOINT": _command("Entrypoint"),
    "ENV": _env,
    "EXPOSE": expose,
    "LABEL": _label,
    "ONBUILD": _on_build,
    "STOPSIGNAL": _stop_signal,
    "USER": _user,
    "VOLUME": _volume,
    "WORKDIR": _workdir,
}
