"""`--env`, `--env-file`, `--label` and `--label-file`."""

from __future__ import annotations

import os

from ..errors import UserError
from . import flag_words

TYPE_CHECKING = False  # without importing typing
if TYPE_CHECKING:
    from collections.abc import Iterable


MAX_FILE = 16 << 20
"""Bytes of an --env-file or --label-file."""


def _lines(flag: str, path: str) -> list[str]:
    """The lines of a file that are neither empty nor comments."""
    try:
        with open(path, "rb") as file:
            data = file.read(MAX_FILE + 1)
    except OSError as error:
        raise UserError(f"{flag} {path}: {error.strerror}") from None
    except ValueError:
        raise UserError(f"{flag} {path!r} is not a path") from None
    if len(data) > MAX_FILE:
        raise UserError(f"{flag} {path}: larger than {MAX_FILE >> 20} MiB")
    lines = []
    for number, line in enumerate(data.decode("utf-8", "surrogateescape").split("\n"), 1):
        text = line.strip(" \t\r\ufeff") if number == 1 else line.strip(" \t\r")
        if text and not text.startswith("#"):
            if "\0" in text:
                raise UserError(f"{flag} {path}, line {number}: contains a zero byte")
            lines.append(line.lstrip(" \t\ufeff").rstrip("\r"))
    return lines


def _variables(flag: str, items: Iterable[str]) -> Iterable[tuple[str, str]]:
    """NAME=VALUE as it is; NAME from our environment, if it is there; PRE* likewise for all."""
    for item in items:
        name, equals, value = flag_words.clean(flag, item).partition("=")
        if not name or name != name.strip():
            raise UserError(f"{flag} {item!r} has no name", hint="write NAME=VALUE or NAME")
        if equals:
            yield name, value
        elif name.endswith("*"):
            prefix = name[:-1]
            yield from ((key, os.environ[key]) for key in os.environ if key.startswith(prefix))
        elif name in os.environ:
            yield name, os.environ[name]


def environment(items: Iterable[str], files: Iterable[str]) -> tuple[tuple[str, str], ...]:
    """What `-e` (`items`) and `--env-file` give. Files first, so that -e goes over them; the last
    value of a name counts. Error: UserError."""
    found: dict[str, str] = {}
    for path in files:
        found.update(_variables(f"--env-file {path}:", _lines("--env-file", path)))
    found.update(_variables("--env", items))
    return tuple(found.items())


PROXIES = ("http_proxy", "https_proxy", "ftp_proxy", "no_proxy")


def of_host(wanted: bool) -> tuple[tuple[str, str], ...]:
    """`--env-host`. What is no UTF-8 cannot be in config.json, and is left out."""
    return tuple(item for item in os.environ.items() if wanted and _plain(item[1]))


def proxies(wanted: bool) -> tuple[tuple[str, str], ...]:
    """`--http-proxy`: those of the caller that are set."""
    names = (*PROXIES, *map(str.upper, PROXIES)) if wanted else ()
    return tuple((name, os.environ[name]) for name in names if _plain(os.environ.get(name, "")))


def _plain(text: str) -> bool:
    return bool(text) and not any("\ud800" <= letter <= "\udfff" for letter in text)


def labels(files: Iterable[str], items: Iterable[str]) -> tuple[tuple[str, str], ...]:
    found: dict[str, str] = {}
    groups = [(f"--label-file {path}:", _lines("--label-file", path)) for path in files]
    for flag, texts in (*groups, ("--label", list(items))):
        for text in texts:
            key, _, value = flag_words.clean(flag, text).partition("=")
            if not key:
                raise UserError(f"{flag} {text!r} has no key", hint="write KEY=VALUE or KEY")
            found[key] = value
    return tuple(found.items())
