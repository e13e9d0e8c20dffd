"""What systemd needs to be a container's process 1 (podman-run(1), --systemd; systemd's own
"Container Interface"): places to write to, its cgroup, a signal that it stops at."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

STOP_SIGNAL = "SIGRTMIN+3"
"""systemd(1): halts, in an orderly way."""
INITS = ("/sbin/init", "/usr/sbin/init", "/usr/local/sbin/init")
PLACES = ("/run", "/run/lock", "/tmp", "/var/log/journal")  # the container's
MODES = ("true", "false", "always")
V1_CGROUP = "/sys/fs/cgroup/systemd"


def runs(mode: str, command: Sequence[str]) -> bool:
    """Whether a container with this command is to be made ready for it; `mode` is --systemd's,
    empty for `true`."""
    if mode == "always":
        return True
    if mode == "false" or not command:
        return False
    return command[0] in INITS or os.path.basename(command[0]) == "systemd"


def mounts(cgroup: str, taken: Sequence[str]) -> list[dict[str, Any]]:
    """The mounts, but for those at places that are `taken`. `cgroup`: the container's own in the
    hierarchy of systemd (cgroup v1; empty: there is none), which with a cgroup namespace is the
    root of it. Never the host's, as podman has it: an image says by itself that its command is
    systemd."""
    made: list[dict[str, Any]] = [
        {
            "destination": place,
            "type": "tmpfs",
            "source": "tmpfs",
            "options": ["rw", "rprivate", "nosuid", "nodev", "tmpcopyup"],
        }
        for place in PLACES
    ]
    if cgroup:
        made.append(
            {
                "destination": V1_CGROUP,
                "type": "bind",
                "source": f"{V1_CGROUP}{cgroup}",
                "options": ["bind", "nodev", "noexec", "nosuid", "rprivate"],
            }
        )
    return [mount for mount in made if mount["destination"] not in taken]
