"""`--log-opt tag=`: words of the user's, with fields of the container in them."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from .errors import UserError

FIELDS: dict[str, Callable[[Mapping[str, Any]], str]] = {
    "ID": lambda row: str(row["id"]),
    "FullID": lambda row: str(row["id"]),
    "ShortID": lambda row: str(row["id"])[:12],
    "Name": lambda row: str(row["name"]),
    "ImageName": lambda row: str(row["image_name"]),
    "ImageID": lambda row: str(row["image_id"]).removeprefix("sha256:"),
}
"""Of docker and podman; ID is the whole one, as podman's."""
FIELD = re.compile(r"\{\{\s*\.(\w+)\s*\}\}")


def check(text: str) -> None:
    """Error: UserError for braces that are no field."""
    for name in FIELD.findall(text):
        if name not in FIELDS:
            raise _wrong(text, f"there is no field .{name}")
    rest = FIELD.sub("", text)
    if "{{" in rest or "}}" in rest:
        raise _wrong(text, "only fields can stand in braces")


def _wrong(text: str, why: str) -> UserError:
    hint = ", ".join(f"{{{{.{name}}}}}" for name in FIELDS)
    return UserError(f"--log-opt tag={text}: {why}", hint=hint)


def render(text: str, row: Mapping[str, Any]) -> str:
    """The tag of a container, by its row."""
    return FIELD.sub(lambda match: FIELDS[match[1]](row), text)
