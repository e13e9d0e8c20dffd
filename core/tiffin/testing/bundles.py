"""OCI bundles around a static busybox, for tests that run real containers (Linux, root)."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Sequence
from typing import Any

APPLETS = (
    *("sh", "cat", "echo", "true", "false", "sleep", "stty", "tail", "mount", "id", "ls", "yes"),
    *("head", "kill", "printf", "env", "ps", "touch", "mkdir", "umount", "sha256sum", "dd"),
)

MOUNTS: list[dict[str, Any]] = [
    {"destination": "/proc", "type": "proc", "source": "proc"},
    {
        "destination": "/dev",
        "type": "tmpfs",
        "source": "tmpfs",
        "options": ["nosuid", "strictatime", "mode=755", "size=65536k"],
    },
    {
        "destination": "/dev/pts",
        "type": "devpts",
        "source": "devpts",
        "options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"],
    },
]


def busybox_rootfs(path: str) -> str:
    """Make a root file system at `path` out of the host's static busybox, and return the path."""
    for directory in ("bin", "dev", "proc", "sys", "tmp", "mnt"):
        os.makedirs(f"{path}/{directory}", exist_ok=True)
    source = shutil.which("busybox", path="/bin:/usr/bin:/usr/local/bin")
    if source is None:
        raise FileNotFoundError("busybox is not installed: apt install busybox-static")
    shutil.copy(source, f"{path}/bin/busybox")
    for applet in APPLETS:
        os.symlink("busybox", f"{path}/bin/{applet}")
    return path


def process(
    args: Sequence[str], *, terminal: bool = False, capabilities: Sequence[str] = ()
) -> dict[str, Any]:
    """A process object (runtime-spec, config.md#process), run as root, with few capabilities."""
    held = ["CAP_KILL", "CAP_AUDIT_WRITE", *capabilities]
    return {
        "terminal": terminal,
        "user": {"uid": 0, "gid": 0},
        "args": list(args),
        "env": ["PATH=/bin", "TERM=xterm"],
        "cwd": "/",
        "capabilities": {"bounding": held, "effective": held, "permitted": held},
        "noNewPrivileges": True,
    }


def bundle(
    path: str,
    rootfs: str,
    args: Sequence[str],
    *,
    cgroup: str,
    terminal: bool = False,
    capabilities: Sequence[str] = (),
    mounts: Sequence[dict[str, Any]] = (),
    memory: int = 0,
    propagation: str = "",
) -> None:
    """Write config.json into the directory `path`, which is made."""
    os.makedirs(path, exist_ok=True)
    resources: dict[str, Any] = {"pids": {"limit": 100}}
    if memory:
        resources["memory"] = {"limit": memory, "swap": memory}
    spec: dict[str, Any] = {
        "ociVersion": "1.0.2",
        "process": process(args, terminal=terminal, capabilities=capabilities),
        "root": {"path": rootfs, "readonly": False},
        "hostname": "conformance",
        "mounts": [*MOUNTS, *mounts],
        "linux": {
            "cgroupsPath": cgroup,
            "resources": resources,
            "namespaces": [{"type": kind} for kind in ("pid", "mount", "ipc", "uts", "network")],
        },
    }
    if propagation:
        spec["linux"]["rootfsPropagation"] = propagation
    with open(f"{path}/config.json", "w", encoding="utf-8") as file:
        json.dump(spec, file)
