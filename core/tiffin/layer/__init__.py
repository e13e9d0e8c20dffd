"""Layers as tars: unpacked, compared and packed. See README.md beside this file."""

from __future__ import annotations

import json
import os
import sys

import trio

from .. import errors
from ..errors import DriverError, TiffinError
from ..hooks import LayerBlob, LayerUsage
from .pack import changes, copy_tree, tree_changes, write_diff, write_tree, write_tree_diff

__all__ = [
    "changes",
    "copy_tree",
    "tree_changes",
    "unpack",
    "write_diff",
    "write_tree",
    "write_tree_diff",
]


async def unpack(target: str, blob: LayerBlob, style: str = "overlay") -> LayerUsage:
    """Unpack a blob into the existing, empty (or, with style "apply", lower) directory `target`.

    Verified and durable when it returns; `style` as in `apply.Applier`. Cancelling kills the
    worker. Errors: ImageError, StorageFull, DriverError.
    """
    request = {
        "target": target,
        "path": blob.path,
        "compression": blob.compression,
        "diff_id": blob.diff_id,
        "style": style,
    }
    done = await trio.run_process(
        [sys.executable, "-I", "-m", "tiffin.layer.worker"],
        stdin=json.dumps(request).encode(),
        capture_stdout=True,
        capture_stderr=True,
        check=False,
        cwd="/",
        env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
    )
    try:
        reply = json.loads(done.stdout)
    except ValueError:
        why = done.stderr.decode(errors="replace").strip().splitlines()
        raise DriverError(
            f"unpacking a layer failed: {why[-1] if why else f'exit code {done.returncode}'}"
        ) from None
    if "usage" in reply:
        return LayerUsage(**reply["usage"])
    kind = getattr(errors, reply["error"], DriverError)
    assert issubclass(kind, TiffinError)
    raise kind(reply["what"], hint=reply["hint"])
