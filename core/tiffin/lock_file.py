"""Opening a file to lock it (flock(2)). Standard library only: the exit command does it as well."""

from __future__ import annotations

import os


def open_lock(path: str) -> int:
    """A descriptor of a file that is made, with its directory, when it is not there. Locked by
    nobody yet. Error: OSError."""
    flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
    try:
        return os.open(path, flags, 0o600)
    except FileNotFoundError:
        os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
        return os.open(path, flags, 0o600)
