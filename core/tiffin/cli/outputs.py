"""`--output FILE`: where a tar or an archive goes."""

from __future__ import annotations

import os
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

from ..errors import UserError

if TYPE_CHECKING:
    from collections.abc import Iterator


def check(path: str, what: str) -> None:
    """Error: UserError when it would go to a terminal."""
    if not path and sys.stdout.isatty():
        raise UserError(f"{what} is not written to a terminal", hint="use --output FILE")


@contextmanager
def opened(path: str) -> Iterator[int]:
    """A descriptor, which whoever writes closes: of the file, or of standard output. A file that
    is not written to its end is deleted. Error: UserError."""
    if not path:
        yield os.dup(1)
        return
    try:
        out = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o666)
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or "not a path"
        raise UserError(f"--output {path}: {why}") from None
    try:
        yield out
    except BaseException:  # a cancellation as well; raised again
        if os.path.isfile(path):
            os.unlink(path)
        raise
