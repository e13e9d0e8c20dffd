"""Versions, for `version` and `info`."""

from __future__ import annotations

import os
import sys

from . import __version__


def versions() -> dict[str, str]:
    names = os.uname()
    return {
        "Version": __version__,
        "Python": sys.version.split()[0],
        "OS/Arch": f"{names.sysname.lower()}/{names.machine}",
        "Kernel": names.release,
    }
