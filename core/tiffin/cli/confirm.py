"""The question before things go that nobody named."""

from __future__ import annotations

import sys

from ..errors import UserError


def confirmed(warning: str) -> bool:
    """Ask; True for `y` or `yes`. Error: UserError when there is nobody to answer."""
    print(warning)
    print("Are you sure you want to continue? [y/N] ", end="", flush=True)
    answer = sys.stdin.readline()
    if not answer:
        print(flush=True)
        raise UserError("nobody answered", hint="use --force to remove without asking")
    return answer.strip().lower() in ("y", "yes")
