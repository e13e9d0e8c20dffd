"""Where runsc is not like runc (tried with release 20221219).

A container runs on a kernel of its own, a process called runsc-sandbox; another one,
runsc-gofer, hands it the files. Its network is a stack of its own as well: at its start it takes
interfaces, addresses and routes over from the container's network namespace.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shlex
import signal as signals
from collections.abc import Mapping, Sequence
from typing import Any

import trio

from tiffin.errors import Conflict, DriverError, RuntimeFailed, UserError
from tiffin.hooks import runtime_tools, sys_tools

CLONE_NEWNET = 0x40000000
HOSTS_OWN = "/proc/sys/net/core/rmem_default"
"""Only the host's network namespace has it, says runsc: true until Linux 6.8. Where it sees the
file it refuses, so as not to take the host's addresses away."""

HIDDEN = 'mount -t tmpfs none /proc/sys/net && exec "$0" "$@"'
"""The way out: run it in a mount namespace in which the file is not to be seen."""

PATIENCE = 5
"""Seconds that what is killed has to go away."""

_OTHER_STATE = r"in state (?:creating|created|stopped)"


COMMON = runtime_tools().Words()
WORDS = runtime_tools().Words(
    not_found=f"{COMMON.not_found}|failed to load .*no such file or directory",
    not_allowed=f"{COMMON.not_allowed}|failed to load .*"
    "(?:permission denied|operation not permitted|is a directory|exec format error)",
)


class Runsc(runtime_tools().CommandLineRuntime):  # type: ignore[misc]
    """`hooks.OCIRuntime` over runsc."""

    shows_files = False

    def program(self) -> str:
        path: str = runtime_tools().wrapper(self._context, "runsc", script(self._path()))
        return path

    def arguments(self) -> Sequence[str]:
        """Files are shared with the host, so that `cp`, `diff` and `commit` see what the container
        does and it sees what they do; and what it may do with raw sockets, config.json says."""
        words = [*super().arguments(), "--overlay2=none", "--file-access=shared", "--net-raw"]
        platform = self._context.settings.get("platform")
        if platform is not None:
            if not isinstance(platform, str) or not platform.isalnum():
                raise UserError(
                    f"runtime.runsc: platform is {platform!r}, which is none",
                    hint='such as "ptrace" or "kvm"',
                )
            words.append(f"--platform={platform}")
        return words

    def knows(self, container: str) -> bool:
        return os.path.exists(f"{self._context.run}/{container}_sandbox:{container}.state")

    async def delete(self, container: str, *, force: bool = False) -> None:
        """A `create` that was killed may have left processes that runsc knows nothing of."""
        await super().delete(container, force=force)
        if force and not self.knows(container):
            with trio.move_on_after(PATIENCE):
                while left := self._processes(container):
                    for pid in left:
                        with contextlib.suppress(ProcessLookupError):
                            os.kill(pid, signals.SIGKILL)
                    await trio.sleep(0.005)
            with contextlib.suppress(FileNotFoundError):
                os.unlink(f"{self._context.run}/{container}_sandbox:{container}.lock")

    def _processes(self, container: str) -> list[int]:
        """runsc's processes for a container: their arguments name it and our directory."""
        found = []
        for entry in filter(str.isdigit, os.listdir("/proc")):
            with contextlib.suppress(OSError), open(f"/proc/{entry}/cmdline", "rb") as file:
                program, _, rest = os.fsdecode(file.read()).partition("\0")
                if "runsc" in program and container in rest and self._context.run in rest:
                    found.append(int(entry))
        return found

    async def start(self, container: str) -> None:
        _, stdout, stderr = await self._run("state", container)
        try:
            state = json.loads(stdout)
            own_network = has_network(state["bundle"])
        except (ValueError, KeyError, OSError):
            raise self.failure(stderr, "state") from None
        if not own_network:
            raise RuntimeFailed(
                "runsc gives no container the host's network", hint="use another --network"
            )
        prefix = hide() if misjudged(state["pid"]) else []
        await self._do("start", container, prefix=prefix)

    async def kill(self, container: str, signal: int, *, everything: bool = False) -> None:
        """What has been created and not started cannot be signalled; its kernel can be killed."""
        try:
            await super().kill(container, signal, everything=everything)
        except RuntimeFailed as error:
            if not re.search(_OTHER_STATE, str(error)):
                raise
            state = await self.state(container)
            if state is None or state.status != "created" or signal != signals.SIGKILL:
                raise Conflict(f"container {container[:12]} is not running") from None
            os.kill(state.pid, signal)

    async def update(self, container: str, resources: Mapping[str, Any]) -> None:
        raise DriverError(
            "runsc cannot change the limits of a container that runs",
            hint="stop the container first",
        )


def script(runsc: str) -> str:
    """What conmon runs with runsc's arguments, without the one that runsc does not have: whether
    an exec is on a terminal, its process object says."""
    return (
        "#!/bin/sh\n"
        "# Written by tiffin: conmon gives exec --tty, which runsc does not know.\n"
        "for word do\n"
        "    shift\n"
        '    test "$word" = --tty || set -- "$@" "$word"\n'
        "done\n"
        f'exec {shlex.quote(runsc)} "$@"\n'
    )


def has_network(bundle: str) -> bool:
    """Whether a container has a network namespace; else it would have the host's."""
    with open(f"{bundle}/config.json", "rb") as file:
        spec = json.load(file)
    return any(one["type"] == "network" for one in spec["linux"]["namespaces"])


def misjudged(pid: int) -> bool:
    """runsc would take the network namespace of the process `pid`, which is not the host's, for
    the host's."""
    try:
        fd = os.open(f"/proc/{pid}/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        for host in ("1", "self"):
            with contextlib.suppress(OSError):  # an init that root may not look into (ptrace(2))
                if os.path.samestat(os.fstat(fd), os.stat(f"/proc/{host}/ns/net")):
                    return False

        def look() -> bool:
            sys_tools().setns(fd, CLONE_NEWNET)
            return os.path.exists(HOSTS_OWN)

        with contextlib.suppress(OSError):  # it has ended meanwhile
            return bool(sys_tools().in_thread(look))
    finally:
        os.close(fd)
    return False


def hide() -> list[str]:
    """What to run runsc with so that it does not see the file."""
    return ["unshare", "--mount", "--propagation", "slave", "/bin/sh", "-c", HIDDEN]
