"""Putting the generator where systemd looks for generators: a pip-installed engine is elsewhere."""

from __future__ import annotations

import contextlib
import os
import shlex
import sys

from ..errors import TiffinError
from .generator import program

PLACES = {"system": "systemd/system-generators", "user": "systemd/user-generators"}
NAME = "tiffin-quadlet"


def path(prefix: str, kind: str) -> str:
    return f"{prefix}/{PLACES[kind]}/{NAME}"


def script(kind: str) -> str:
    """Without `site`, which takes as long as all the rest; -I keeps the caller's Python out."""
    code = (
        "import sys; sys.path.insert(0, sys.argv.pop(1)); "
        "from tiffin.quadlet.generator import main; main()"
    )
    top = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    words = [sys.executable, "-I", "-S", "-B", "-c", code, top]
    words += ["--program", program()[0]] if len(program()) == 1 else []
    words += ["--user"] if kind == "user" else []
    return (
        "#!/bin/sh\n"
        "# Made by `tiffin system quadlet --install`: units of .container files and their like.\n"
        f'exec {shlex.join(words)} "$@"\n'
    )


def install(prefix: str) -> list[str]:
    """Write both; returns their paths. Error: TiffinError."""
    done = []
    for kind in PLACES:
        target = path(prefix, kind)
        temporary = f"{target}.{os.getpid()}.part"
        try:
            os.makedirs(os.path.dirname(target), exist_ok=True)
            with open(temporary, "w", encoding="utf-8") as file:
                file.write(script(kind))
                os.fchmod(file.fileno(), 0o755)
            os.replace(temporary, target)
        except OSError as error:
            with contextlib.suppress(OSError):
                os.unlink(temporary)
            raise TiffinError(
                f"cannot write {target}: {error.strerror}",
                hint="only root can install generators, for all users at once",
            ) from None
        done.append(target)
    return done


def uninstall(prefix: str) -> list[str]:
    """Those that were there. Error: TiffinError."""
    done = []
    for kind in PLACES:
        target = path(prefix, kind)
        try:
            os.unlink(target)
        except FileNotFoundError:
            continue
        except OSError as error:
            raise TiffinError(f"cannot remove {target}: {error.strerror}") from None
        done.append(target)
    return done
