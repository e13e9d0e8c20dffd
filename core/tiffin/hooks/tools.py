"""Parts of tiffin that drivers share; each is imported when it is asked for."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Protocol

from .types import LayerUsage


class LayerTools(Protocol):
    """The safe tar code of tiffin, for storage drivers: see `layer_tools`."""

    unpack: Callable[..., Awaitable[LayerUsage]]


def layer_tools() -> Any:
    """The module `tiffin.layer`: unpacking, comparing and packing of layers, safe against hostile
    tars. Imported when called, because only a command that moves layers needs it."""
    from importlib import import_module

    return import_module("tiffin.layer")


def sys_tools() -> Any:
    """The module `tiffin.syscalls`: thin wrappers of the system calls that Python lacks."""
    from importlib import import_module

    return import_module("tiffin.syscalls")


def map_tools() -> Any:
    """The module `tiffin.idmap`: mounts that show other owners of files."""
    from importlib import import_module

    return import_module("tiffin.idmap")


def link_tools() -> Any:
    """The module `tiffin.rtnetlink`: links, addresses and routes by rtnetlink(7), in batches, in
    any network namespace. A driver's helper process may import it, and `tiffin.errors`, by name:
    neither needs this module, which costs milliseconds."""
    from importlib import import_module

    return import_module("tiffin.rtnetlink")


def port_tools() -> Any:
    """The module `tiffin.host_ports`: whether a port of the host is free, and what to say if not. A
    driver's helper process may import it by name, as `link_tools`."""
    from importlib import import_module

    return import_module("tiffin.host_ports")


def runtime_tools() -> Any:
    """The module `tiffin.oci_runtime`: `CommandLineRuntime`, an `OCIRuntime` over a command line
    like runc's."""
    from importlib import import_module

    return import_module("tiffin.oci_runtime")


def stack_tools() -> Any:
    """The module `tiffin.companions`: `ProcessNetwork`, a network driver whose networks are
    processes, one beside each container."""
    from importlib import import_module

    return import_module("tiffin.companions")


def event_steps() -> Mapping[str, tuple[str, str]]:
    """What types of events do to operations: {type: (`opens` or `closes`, operation)}. Types that
    are not in it are facts by themselves; `container.failed` and `container.recovered` close the
    operation that their data name."""
    from importlib import import_module

    steps = {}
    for name, kind in import_module("tiffin.events").registered().items():
        if kind.OPENS or kind.CLOSES:
            steps[name] = ("opens", kind.OPENS) if kind.OPENS else ("closes", kind.CLOSES)
    return steps


def post_tools() -> Any:
    """The module `tiffin.posting`: HTTP POST for consumers of events."""
    from importlib import import_module

    return import_module("tiffin.posting")


async def run_program(
    argv: Sequence[str],
    *,
    package: str = "",
    stdin: bytes | None = None,
    timeout: float = 60.0,
    check: bool = True,
    cwd: str | None = None,
) -> tuple[int, bytes, bytes]:
    """Run a program and return (exit code, stdout, stderr); see `tiffin.programs.run`."""
    from ..programs import run

    return await run(argv, package=package, stdin=stdin, timeout=timeout, check=check, cwd=cwd)
