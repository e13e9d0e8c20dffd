"""The runtime driver `crun`, also for a crun that is given as an absolute path."""

from __future__ import annotations

import os

from tiffin.hooks import DriverContext, OCIRuntime, hookimpl, runtime_tools

from .hybrid import Wrapper


@hookimpl
def oci_runtime(name: str, context: DriverContext) -> OCIRuntime | None:
    """`crun`, or an absolute path whose file name says that it is one."""
    if name != "crun" and not (name.startswith("/") and "crun" in os.path.basename(name)):
        return None
    runtime: OCIRuntime = runtime_tools().CommandLineRuntime(
        name,
        context,
        executable=name,
        package="crun",
        preference=20,  # half of runc's time for a whole life
        # An ordinary user may unmount nothing of the host's.
        wrap=None if context.rootless else Wrapper(context),
        host_process=True,
        without_cgroup=("--cgroup-manager", "disabled"),
    )
    return runtime
