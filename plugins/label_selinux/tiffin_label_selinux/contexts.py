"""Security contexts, and the policy's own files that say which ones containers get.

Sources: selinux(8), selinux_config(5), selinux_lxc_contexts_path(3), the comments in the policy's
lxc_contexts.
"""

from __future__ import annotations

import re

from msgspec import Struct

from tiffin.errors import DriverError

CONFIG = "/etc/selinux/config"

WORD = re.compile(r"[A-Za-z0-9_.-]+")
"""A user, role or type of a policy."""


class Context(Struct, frozen=True):
    """`user:role:type[:level]`; the level may itself contain colons."""

    user: str
    role: str
    type: str
    level: str = ""

    def __str__(self) -> str:
        parts = (self.user, self.role, self.type, self.level)
        return ":".join(parts if self.level else parts[:3])


class Contexts(Struct, frozen=True):
    """What the policy has for containers."""

    process: Context
    file: Context
    shared: Context
    """Of files that every container may read and run (`ro_file`)."""


def parse(text: str) -> Context:
    """Error: ValueError."""
    user, role, type_, *level = text.split(":", 3)
    for word in (user, role, type_):
        if not WORD.fullmatch(word):
            raise ValueError(f"{text!r} is not a security context")
    return Context(user, role, type_, level[0] if level else "")


def policy_name(text: str) -> str:
    """SELINUXTYPE of /etc/selinux/config; `targeted` when it does not say."""
    name = ""
    for line in text.splitlines():
        key, equals, value = line.partition("=")
        if equals and key.strip() == "SELINUXTYPE":
            name = value.strip()
    return name if WORD.fullmatch(name) and name.strip(".") else "targeted"


def parse_lxc_contexts(text: str) -> Contexts:
    """`process = "..."`, `file = "..."` and perhaps `ro_file = "..."`. Error: ValueError that says
    what is missing."""
    found: dict[str, Context] = {}
    for line in text.splitlines():
        key, equals, value = line.partition("=")
        if equals and key.strip() in ("process", "file", "ro_file"):
            found[key.strip()] = parse(value.strip().strip('"'))
    for key in ("process", "file"):
        if key not in found:
            raise ValueError(f"there is no line {key!r}")
    return Contexts(found["process"], found["file"], found.get("ro_file", found["file"]))


def load(config: str = CONFIG, root: str = "/etc/selinux") -> Contexts:
    """The contexts of the policy that this machine uses. Error: DriverError."""
    try:
        with open(config, encoding="utf-8", errors="replace") as file:
            name = policy_name(file.read())
    except FileNotFoundError:
        name = policy_name("")
    path = f"{root}/{name}/contexts/lxc_contexts"
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return parse_lxc_contexts(file.read())
    except OSError as error:
        raise DriverError(
            f"SELinux: cannot read {path}: {error.strerror}",
            hint="the policy has no types for containers: install one that has, "
            "or use --security-opt label=disable",
        ) from None
    except ValueError as error:
        raise DriverError(f"SELinux: {path}: {error}") from None
