"""What an ordinary user has here, and what is missing, for `tiffin info`. Nothing is made or
entered."""

from __future__ import annotations

import contextlib
import os
from typing import Any

from .. import network_modes
from ..errors import TiffinError
from ..processes import start_time
from . import enter, make, places, ranges

PASTA = "apt install passt"
TUN = "/dev/net/tun"


def report(uid: int) -> dict[str, Any]:
    """The section `rootless`; `missing` has a line for each thing that could be mended."""
    import pwd

    missing: list[str] = []
    try:
        name = pwd.getpwuid(uid).pw_name
    except KeyError:
        name = ""
        missing.append(f"user {uid} has no line in /etc/passwd")
    found: dict[str, Any] = {"user": name or str(uid), "uid": uid}
    for kind in ("uid", "gid"):
        found[f"sub{kind}"] = _ranges(kind, name, uid, missing)
    found["mapping"] = "ranges" if found["subuid"] and found["subgid"] else "own id only"
    if found["mapping"] == "ranges":
        missing += _tools()
    if not os.path.exists("/proc/self/ns/user"):
        missing.append("the kernel has no user namespaces (CONFIG_USER_NS)")
    if switched_off := make.switched_off():
        missing.append(str(switched_off))
    found["runtimeDirectory"] = _runtime_directory(uid, missing)
    found["namespace"] = _namespace(found["runtimeDirectory"])
    found["fuse"] = os.access("/dev/fuse", os.R_OK | os.W_OK)
    found["network"] = _network(missing)
    found["cgroups"] = "not delegated: no limits"
    found["missing"] = missing
    return found


def _ranges(kind: str, name: str, uid: int, missing: list[str]) -> list[str]:
    try:
        found = ranges.of_user(kind, name, uid)
    except TiffinError as error:
        missing.append(str(error))
        return []
    who = name or str(uid)
    if not found:
        missing.append(
            f"{ranges.FILES[kind]} gives {who} no ids, so that only files of one owner can be had: "
            f"usermod --add-sub{kind}s 100000-165535 {who}"
        )
    elif sum(count for _, count in found) < ranges.USUAL:
        missing.append(
            f"{ranges.FILES[kind]} gives {who} fewer than {ranges.USUAL} ids: some images have "
            f"files of others: usermod --add-sub{kind}s FIRST-LAST {who}"
        )
    return [f"{first}:{count}" for first, count in found]


def _tools() -> list[str]:
    found = []
    for tool in make.TOOLS.values():
        path = make.tool(tool)
        if not path:
            found.append(f"{tool}: apt install uidmap")
        elif not make.privileged(path):
            found.append(f"{path} has no privilege: chmod u+s {path}")
    return found


def _network(missing: list[str]) -> str:
    """What containers have when nothing is said."""
    stacks = list(network_modes.installed_stacks())
    if not stacks:
        missing.append(f"{' and '.join(network_modes.STACKS)}, one of which leads outside: {PASTA}")
    if not os.access(TUN, os.R_OK | os.W_OK):
        remedy = f"chmod 666 {TUN}" if os.path.exists(TUN) else "modprobe tun"
        missing.append(f"{TUN}, without which no network of a user's leads outside: {remedy}")
    return next(iter(stacks), "none")


def _runtime_directory(uid: int, missing: list[str]) -> str:
    try:
        path = places.runtime_dir(uid)
    except TiffinError as error:
        missing.append(str(error))
        return ""
    if path == places.fallback(uid):
        missing.append(
            f"no XDG_RUNTIME_DIR: {path} is used instead; a login by ssh or on a console with "
            "libpam-systemd (apt install libpam-systemd) has one"
        )
    return path


def _namespace(directory: str) -> str:
    pid, started = enter.holder(f"{directory}/tiffin")
    if pid and start_time(pid) == started:
        with contextlib.suppress(OSError):
            return f"{os.readlink(f'/proc/{pid}/ns/user')}, kept by process {pid}"
    return "none: the next command that needs it makes it"
