"""The runtime driver `runc`, and any other OCI runtime that is given as an absolute path."""

from __future__ import annotations

from tiffin.hooks import DriverContext, OCIRuntime, hookimpl, runtime_tools

PREFIXES = (
    r"(?:runc (?:create|exec|run|start) failed|exec failed|unable to start container process"
    r"|error during container init|OCI runtime \w+ failed): "
)


@hookimpl(trylast=True)
def oci_runtime(name: str, context: DriverContext) -> OCIRuntime | None:
    """Last in line: a path that no other plugin knows better is taken for a runc look-alike."""
    if name != "runc" and not name.startswith("/"):
        return None
    tools = runtime_tools()
    runtime: OCIRuntime = tools.CommandLineRuntime(
        name,
        context,
        executable=name,
        package="runc",
        preference=10,
        words=tools.Words(prefixes=PREFIXES),
        host_process=name.rpartition("/")[2] == "runc",
    )
    return runtime
