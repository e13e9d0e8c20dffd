"""`--security-opt label=...` (podman-run(1)): what the user wants of a container's label."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import Struct

from tiffin.errors import UserError

from .contexts import WORD
from .mcs import is_level

KEYS = ("user", "role", "type", "level", "filetype")
FLAGS = ("disable", "nested")


class Wishes(Struct, frozen=True):
    """Empty: as the policy has it."""

    disable: bool = False
    nested: bool = False
    user: str = ""
    role: str = ""
    type: str = ""
    level: str = ""
    filetype: str = ""


def parse(options: Sequence[str]) -> Wishes:
    """Values of `--security-opt label=`; the last one of each kind counts, and `disable` over all.
    Error: UserError that names the option."""
    texts: dict[str, str] = {}
    flags = set()
    for option in options:
        key, colon, value = option.partition(":")
        if option in FLAGS:
            flags.add(option)
        elif colon and key in KEYS:
            if not (is_level(value) if key == "level" else WORD.fullmatch(value)):
                raise UserError(
                    f"--security-opt label={option}: {value!r} is not a {key}",
                    hint="for example label=level:s0:c100,c200, label=type:spc_t",
                )
            texts[key] = value
        else:
            raise UserError(
                f"--security-opt label={option} is not known",
                hint="label=disable, nested, user:, role:, type:, level:, filetype:",
            )
    return Wishes("disable" in flags, "nested" in flags, **texts)
