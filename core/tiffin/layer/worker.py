"""The process in which a layer is unpacked: `python -I -m tiffin.layer.worker`.

One JSON request on standard input, one JSON reply on standard output. A process of its own, so that
layers are unpacked on all cores, and so that a cancelled unpack can simply be killed. It starts in
a few milliseconds because it imports next to nothing: neither trio nor msgspec.
"""

from __future__ import annotations

import fcntl
import gc
import json
import os
import sys
from collections.abc import Sequence
from typing import Any

from .. import syscalls
from ..errors import ImageError, TiffinError
from .apply import Applier
from .stream import Limits, open_blob


def unpack(
    target: str,
    path: str,
    compression: str,
    diff_id: str,
    whiteouts: str,
    limits: Sequence[int] = (),
) -> dict[str, int]:
    """Unpack a blob into the existing directory `target`, durably. Errors: ImageError, ..."""
    bounds = Limits(*limits)
    root = os.open(target, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        # As long as we write there, nobody sweeps it away (staging.py), should our parent die.
        fcntl.flock(root, fcntl.LOCK_SH)
        stream = open_blob(path, compression, bounds)
        size, entries = Applier(root, whiteouts, bounds).run(stream)
        found = stream.drain()
        if found != diff_id:
            raise ImageError(f"layer is not what its image says: it is {found}")
        syscalls.syncfs(root)
    finally:
        os.close(root)
    return {"size": size, "entries": entries}


def main() -> None:
    gc.disable()
    request = json.load(sys.stdin)
    reply: dict[str, Any]
    try:
        reply = {"usage": unpack(**request)}
    except TiffinError as error:
        reply = {"error": type(error).__name__, "what": error.what, "hint": error.hint}
    except OSError as error:
        reply = {"error": "DriverError", "what": f"layer cannot be unpacked: {error}", "hint": ""}
    json.dump(reply, sys.stdout)
    sys.stdout.flush()
    os._exit(0)  # without waiting for a thread that reads ahead


if __name__ == "__main__":
    main()
