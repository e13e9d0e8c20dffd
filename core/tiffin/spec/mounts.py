"""The mounts of a container: the engine's own, and the user's, which win at the same place."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from msgspec import Struct

from ..errors import UserError
from ..options import Mount
from .paths import clean

SHM_SIZE = 64 * 1024 * 1024
"""Bytes of /dev/shm when --shm-size is not given."""

FLAGS = frozenset(
    "ro rw exec noexec dev nodev suid nosuid sync async atime noatime relatime norelatime diratime "
    "nodiratime strictatime nostrictatime bind rbind".split()
)
PROPAGATION = frozenset(
    "private rprivate shared rshared slave rslave unbindable runbindable".split()
)
RELABEL = frozenset(("z", "Z"))
IGNORED = frozenset(("copy", "nocopy", "consistent", "cached", "delegated"))
OWNERS = frozenset(("U", "idmap"))
"""What the engine does itself before the start: the runtimes do not."""
"""Docker's words for other platforms and for volumes: without effect on a bind mount here."""


class Placed(Struct, frozen=True):
    """A mount of config.json and where it came from."""

    mount: dict[str, Any]
    source: str = "engine"
    detail: str = ""


def engine_mounts(
    *,
    files: Sequence[tuple[str, str]],
    shm_size: int,
    host_network: bool,
    host_ipc: bool,
    host_pid: bool,
    writable_sys: bool,
    writable_cgroup: bool = False,
    rootless: bool,
    tty_group: bool = True,
    shm: str = "",
    proc_options: Sequence[str] = (),
) -> list[Placed]:
    """What every container gets (runtime-spec, config-linux.md#default-filesystems); `files` are
    (destination, source) pairs for /etc/hosts and its like."""
    made = [_mount("/proc", "proc", "proc", "nosuid", "noexec", "nodev", *proc_options)]
    if host_pid and rootless:
        # Neither may it mount the host's processes or queues anew.
        made = [_mount("/proc", "bind", "/proc", "rbind", "nosuid", "noexec", "nodev")]
    made.append(
        _mount(
            "/dev", "tmpfs", "tmpfs", "nosuid", "noexec", "strictatime", "mode=755", "size=65536k",
        )
    )  # fmt: skip
    access = "rw" if writable_sys else "ro"
    if host_network and rootless:
        # A user namespace may not mount sysfs for a network namespace that is not its own.
        made.append(
            _mount("/sys", "bind", "/sys", "rprivate", "nosuid", "noexec", "nodev", access, "rbind")
        )
    else:
        # Never the host's own by bind mount where it can be avoided: `ro` does not reach the mounts
        # inside it, and the host's cgroups would be there to write to.
        made.append(_mount("/sys", "sysfs", "sysfs", "nosuid", "noexec", "nodev", access))
    made.append(
        _mount(
            "/dev/pts", "devpts", "devpts",
            "nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620",
            *(("gid=5",) if tty_group else ()),
        )
    )  # fmt: skip
    if host_ipc and rootless:
        made.append(
            _mount("/dev/mqueue", "bind", "/dev/mqueue", "bind", "nosuid", "noexec", "nodev")
        )
    else:
        made.append(_mount("/dev/mqueue", "mqueue", "mqueue", "nosuid", "noexec", "nodev"))
    if shm:  # the pod's
        options = ("bind", "rprivate", "nosuid", "noexec", "nodev")
        made.append(_mount("/dev/shm", "bind", shm, *options))
    elif host_ipc:
        made.append(_mount("/dev/shm", "bind", "/dev/shm", "bind", "nosuid", "noexec", "nodev"))
    else:
        made.append(
            _mount(
                "/dev/shm", "tmpfs", "shm",
                "nosuid", "noexec", "nodev", "mode=1777", f"size={shm_size or SHM_SIZE}",
            )
        )  # fmt: skip
    if not (host_network and rootless):
        made.append(
            _mount(
                "/sys/fs/cgroup", "cgroup", "cgroup",
                "rprivate", "nosuid", "noexec", "nodev", "relatime",
                "rw" if writable_cgroup else access,
            )
        )  # fmt: skip
    for destination, source in files:
        made.append(_mount(destination, "bind", source, "bind", "rprivate"))
    return [Placed(mount) for mount in made]


def read_only_tmpfs(taken: Sequence[str]) -> list[Placed]:
    """With --read-only: where programs must write (podman-run(1), --read-only-tmpfs)."""
    return [
        Placed(
            _mount(place, "tmpfs", "tmpfs", "rw", "rprivate", "nosuid", "nodev", "tmpcopyup"),
            "engine",
            "--read-only",
        )
        for place in ("/run", "/tmp", "/var/tmp")
        if place not in taken
    ]


def user_mounts(asked: Sequence[Mount]) -> list[Placed]:
    """-v, --mount and --tmpfs. Error: UserError for a bad option or place, or one place twice."""
    made = []
    seen: set[str] = set()
    for mount in asked:
        flag = "--tmpfs" if mount.type == "tmpfs" else "-v"
        shown = f"{flag} {mount.source + ':' if mount.source else ''}{mount.target}"
        if not mount.target.startswith("/"):
            raise UserError(f"{shown}: the place in the container must be an absolute path")
        target = clean(mount.target)
        if target == "/":
            raise UserError(f"{shown}: the root directory cannot be mounted over")
        if target in seen:
            raise UserError(f"{shown}: something else is mounted there already")
        seen.add(target)
        if mount.type == "tmpfs":
            options = _tmpfs_options(mount.options, shown)
            made.append(Placed(_mount(target, "tmpfs", "tmpfs", *options), "user", shown))
        elif mount.type in ("overlay", "devpts"):  # file systems of the kernel, no drivers of ours
            options = list(mount.options)
            placed = _mount(target, mount.type, mount.type, *options)
            made.append(Placed(placed, "user", shown))
        else:
            options = _bind_options(mount.options, shown)
            made.append(Placed(_mount(target, "bind", mount.source, *options), "user", shown))
    return made


def _bind_options(options: Sequence[str], shown: str) -> list[str]:
    kept = []
    for pair in (("exec", "noexec"), ("dev", "nodev"), ("suid", "nosuid"), ("ro", "rw")):
        if pair[0] in options and pair[1] in options:
            raise UserError(f"{shown}: both {pair[0]} and {pair[1]}")
    for option in options:
        if option in RELABEL | IGNORED | OWNERS or not option:
            continue
        if option in ("O", "U") or option.startswith(("upperdir=", "workdir=")):
            continue  # engine.special_mounts has seen to these
        if option not in FLAGS and option not in PROPAGATION:
            allowed = "ro, rw, z, Z, exec, noexec, nodev, nosuid, rprivate, rshared, rslave, ..."
            raise UserError(f"{shown}: no such option {option!r}", hint=allowed)
        kept.append(option)
    if "ro" not in kept and "rw" not in kept:
        kept.append("rw")
    if not PROPAGATION & set(kept):
        kept.append("rprivate")
    if "bind" not in kept and "rbind" not in kept:
        kept.append("rbind")
    return kept


def _tmpfs_options(options: Sequence[str], shown: str) -> list[str]:
    kept = []
    for option in options:
        name, _, value = option.partition("=")
        if name in ("size", "nr_inodes", "nr_blocks", "mode", "uid", "gid", "mpol") and value:
            kept.append(option)
        elif option in FLAGS or option in PROPAGATION or option in ("tmpcopyup", "notmpcopyup"):
            if option != "notmpcopyup":
                kept.append(option)
        elif option and option != "U":
            raise UserError(f"{shown}: no such option {option!r}", hint="size=, mode=, ro, noexec")
    names = {option.partition("=")[0] for option in kept}
    defaults = [("ro", "rw"), ("suid", "nosuid"), ("dev", "nodev"), ("exec", "noexec")]
    for given, default in defaults:
        if given not in names and default not in names and given != "exec":
            kept.append(default)
    if not PROPAGATION & names:
        kept.append("rprivate")
    if "tmpcopyup" not in names and "notmpcopyup" not in options:
        kept.append("tmpcopyup")
    return kept


def place(engine: Sequence[Placed], user: Sequence[Placed]) -> list[Placed]:
    """All of them, a mount before those inside it; the user's replace the engine's at a place."""
    taken = {clean(p.mount["destination"]) for p in user}
    kept = [p for p in engine if p.mount["destination"] not in taken]
    if "/dev" in taken:
        # A device directory that the user brings has these already (podman does the same).
        kept = [p for p in kept if p.mount["destination"] not in ("/dev/pts", "/dev/mqueue")]
    return sorted([*kept, *user], key=_depth)


def _depth(placed: Placed) -> int:
    return str(placed.mount["destination"]).count("/")


def _mount(destination: str, type_: str, source: str, *options: str) -> dict[str, Any]:
    return {
        "destination": destination,
        "type": type_,
        "source": source,
        "options": list(options),
    }
