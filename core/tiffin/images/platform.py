"""Which of an index's images is for this machine (image-spec, image-index.md#platform)."""

from __future__ import annotations

import os
import re

from msgspec import Struct

from ..errors import UserError

MACHINES = {
    "x86_64": ("amd64", ""),
    "aarch64": ("arm64", "v8"),
    "armv8l": ("arm", "v8"),
    "armv7l": ("arm", "v7"),
    "armv6l": ("arm", "v6"),
    "armv5tel": ("arm", "v5"),
    "i386": ("386", ""),
    "i486": ("386", ""),
    "i586": ("386", ""),
    "i686": ("386", ""),
    "ppc64le": ("ppc64le", ""),
    "ppc64": ("ppc64", ""),
    "s390x": ("s390x", ""),
    "riscv64": ("riscv64", ""),
    "loongarch64": ("loong64", ""),
    "mips64": ("mips64le", ""),
}
"""`uname -m` to GOARCH and variant."""

ALIASES = {"x86_64": "amd64", "x86-64": "amd64", "aarch64": "arm64", "i386": "386", "armhf": "arm"}
DEFAULT_VARIANT = {"arm64": "v8", "arm": "v7"}
ARM = ("v8", "v7", "v6", "v5")
"""Newest first; each runs what is for those after it."""
_PART = re.compile(r"[a-z0-9_.-]{1,40}\Z")


class Platform(Struct, frozen=True, omit_defaults=True):
    architecture: str
    os: str = "linux"
    variant: str = ""

    def __str__(self) -> str:
        return f"{self.os}/{self.architecture}{f'/{self.variant}' if self.variant else ''}"


def host() -> Platform:
    machine = os.uname().machine
    architecture, variant = MACHINES.get(machine, (machine, ""))
    return Platform(architecture, "linux", variant)


def parse(text: str) -> Platform:
    """`--platform OS/ARCH[/VARIANT]` or `ARCH`; empty is this machine. Error: UserError."""
    if not text:
        return host()
    parts = text.lower().split("/")
    if len(parts) == 1 and parts[0] != "linux":
        parts.insert(0, "linux")
    if not 2 <= len(parts) <= 3 or not all(_PART.match(part) for part in parts):
        raise UserError(f"{text!r} is not a platform", hint="give one such as linux/arm64")
    system, architecture = parts[0], ALIASES.get(parts[1], parts[1])
    if system == "windows":
        raise UserError(
            "windows images cannot run here", hint="containers share the host's kernel: Linux"
        )
    if system != "linux":
        raise UserError(f"{system} images cannot run here", hint="give one such as linux/arm64")
    return Platform(architecture, system, parts[2] if len(parts) == 3 else "")


def rank(offered: Platform, wanted: Platform) -> int:
    """How well an image for `offered` suits `wanted`: 0 best, -1 not at all."""
    if (offered.os or "linux", offered.architecture) != (wanted.os, wanted.architecture):
        # An x86-64 kernel runs i386 programs as well; taken when there is nothing better.
        i386 = (offered.architecture, wanted.architecture) == ("386", "amd64")
        return 50 if i386 and (offered.os or "linux") == wanted.os else -1
    default = DEFAULT_VARIANT.get(wanted.architecture, "")
    have, want = offered.variant or default, wanted.variant or default
    if have == want:
        return 0
    if wanted.architecture == "arm" and have in ARM and want in ARM:
        distance = ARM.index(have) - ARM.index(want)
        return distance if distance > 0 else -1
    # amd64 variants name a level (v2, v3) that need not be there; the plain one always is.
    return 10 if not offered.variant else (-1 if wanted.architecture == "amd64" else 20)
