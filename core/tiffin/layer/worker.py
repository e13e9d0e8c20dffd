"""The process in which a layer is unpacked: `python -I -m tiffin.layer.worker`.

One JSON request on standard input, one JSON reply on standard output. A process of its own, so that
layers are unpacked on all cores, and so that a cancelled unpack can simply be killed.
"""

from __future__ import annotations

import gc
import json
import os
import sys
from typing import Any

from .. import syscalls
from ..errors import ImageError, TiffinError
from .apply import Applier
from .stream import LayerStream, pieces


def unpack(target: str, path: str, compression: str, diff_id: str, style: str) -> dict[str, int]:
    """Unpack a blob into the existing directory `target`, durably. Errors: ImageError, ..."""
    root = os.open(target, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.umask(0)
        stream = LayerStream(pieces(path, compression))
        usage = Applier(root, style).run(stream)
        found = stream.drain()
        if found != diff_id:
            raise ImageError(f"layer is not what its image says: {found} instead of {diff_id}")
        syscalls.syncfs(root)
    finally:
        os.close(root)
    return {"size": usage.size, "entries": usage.entries}


def main() -> int:
    gc.disable()
    request = json.load(sys.stdin)
    reply: dict[str, Any]
    try:
        reply = {"usage": unpack(**request)}
    except TiffinError as error:
        reply = {"error": type(error).__name__, "what": error.what, "hint": error.hint}
    except OSError as error:
        reply = {"error": "DriverError", "what": f"cannot unpack a layer: {error}", "hint": ""}
    json.dump(reply, sys.stdout)
    sys.stdout.flush()
    os._exit(0)


if __name__ == "__main__":
    main()
