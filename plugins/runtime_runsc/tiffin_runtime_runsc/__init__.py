"""The runtime driver `runsc` (gVisor), also for a runsc that is given as an absolute path."""

from __future__ import annotations

import os

from tiffin.hooks import DriverContext, OCIRuntime, hookimpl


@hookimpl
def oci_runtime(name: str, context: DriverContext) -> OCIRuntime | None:
    """`runsc`, or an absolute path whose file name says that it is one."""
    if name != "runsc" and not (name.startswith("/") and "runsc" in os.path.basename(name)):
        return None
    from .sandbox import WORDS, Runsc  # only when it is used

    runtime: OCIRuntime = Runsc(
        name,
        context,
        executable=name,
        package="runsc",
        preference=1,  # nobody gets another kernel unasked
        words=WORDS,
    )
    return runtime
