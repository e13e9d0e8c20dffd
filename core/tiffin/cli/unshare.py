"""`unshare`: a command of the user's in the namespace where their containers' files are mounted."""

from __future__ import annotations

import os

from ..errors import RuntimeFailed, TiffinError, UserError
from .flags import Call, Command


def _unshare(call: Call) -> int:
    from .. import programs
    from ..rootless import within

    if not within():
        raise UserError(
            "unshare is for ordinary users: root has no namespace to enter",
            hint="run the command as it is",
        )
    argv = call.arguments or [os.environ.get("SHELL") or "/bin/sh"]
    try:
        program = argv[0] if "/" in argv[0] else programs.find(argv[0])
        os.execv(program, argv)  # noqa: S606
    except (FileNotFoundError, NotADirectoryError, TiffinError) as error:
        raise RuntimeFailed(f"{argv[0]}: not found", exit_code=127) from error
    except OSError as error:
        raise RuntimeFailed(f"{argv[0]}: {error.strerror}", exit_code=126) from error


UNSHARE = Command(
    name="unshare",
    usage="[COMMAND [ARG...]]",
    summary="Run a command, or a shell, in your own user and mount namespace: there you are root "
    "over your files and those of your containers",
    flags=(),
    arguments=(0, None),
    examples=(
        "tiffin unshare cat /proc/self/uid_map",
        "tiffin unshare sh -c 'ls $(tiffin mount web)'",
    ),
    run=_unshare,
    interspersed=False,
)
