"""Unpacking in a process of its own, as a function."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping
from typing import Any

import trio

from .. import errors
from ..errors import DriverError, StorageFull, TiffinError, UserError
from ..hooks import LayerBlob, LayerUsage
from .stream import Limits

SHORT = 12
"""Hex digits of a diff id in a message."""


async def unpack(
    target: str, blob: LayerBlob, whiteouts: str = "keep", limits: Limits | None = None
) -> LayerUsage:
    """Unpack a blob into the existing directory `target`: an empty one or, where whiteouts are
    applied, one with the layers below it.

    Verified and durable when it returns; `whiteouts` as in `apply.Applier`. Cancelling kills the
    worker; what it has written stays in `target` then, as after an error.
    Errors: ImageError, StorageFull, DriverError.
    """
    request = {
        "target": target,
        "path": blob.path,
        "compression": blob.compression,
        "diff_id": blob.diff_id,
        "whiteouts": whiteouts,
        "limits": limits or (),
    }
    try:
        done = await trio.run_process(
            [sys.executable, "-I", "-m", "tiffin.layer.worker"],
            stdin=json.dumps(request).encode(),
            capture_stdout=True,
            capture_stderr=True,
            check=False,
            cwd="/",
        )
    except OSError as error:
        raise DriverError(f"cannot run {sys.executable}: {error.strerror}") from error
    name = f"layer {blob.diff_id.removeprefix('sha256:')[:SHORT]}"
    try:
        reply = json.loads(done.stdout)
    except ValueError:
        why = done.stderr.decode(errors="replace").strip().splitlines()
        end = why[-1] if why else f"its process ended with {done.returncode}"
        raise DriverError(f"{name} cannot be unpacked: {end}") from None
    if "usage" in reply:
        return LayerUsage(**reply["usage"])
    kind = getattr(errors, reply["error"], DriverError)
    assert issubclass(kind, TiffinError)
    what: str = reply["what"]
    if kind is StorageFull:
        what = f"no space left on {os.path.dirname(target)} to unpack {name}"
    elif what.startswith("layer "):  # the worker does not know which
        what = name + what.removeprefix("layer")
    raise kind(what, hint=reply["hint"])


def limits(settings: Mapping[str, Any]) -> Limits:
    """The limits of a driver: its table `layer_limits` in tiffin.toml over the defaults.
    Error: UserError."""
    table = settings.get("layer_limits", {})
    if not isinstance(table, Mapping):
        raise UserError("layer_limits must be a table", hint="such as { bytes = 1000000000 }")
    for key, value in table.items():
        if key not in Limits._fields:
            raise UserError(
                f"layer_limits has no {key!r}", hint=f"there are {', '.join(Limits._fields)}"
            )
        if type(value) is not int or value <= 0:
            raise UserError(f"layer_limits.{key} must be a positive whole number, not {value!r}")
    return Limits(**table)
