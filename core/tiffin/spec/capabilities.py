"""Linux capabilities of a container: the default set, --cap-add and --cap-drop."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from ..errors import UserError

KNOWN = (
    "CAP_CHOWN CAP_DAC_OVERRIDE CAP_DAC_READ_SEARCH CAP_FOWNER CAP_FSETID CAP_KILL CAP_SETGID "
    "CAP_SETUID CAP_SETPCAP CAP_LINUX_IMMUTABLE CAP_NET_BIND_SERVICE CAP_NET_BROADCAST "
    "CAP_NET_ADMIN CAP_NET_RAW CAP_IPC_LOCK CAP_IPC_OWNER CAP_SYS_MODULE CAP_SYS_RAWIO "
    "CAP_SYS_CHROOT CAP_SYS_PTRACE CAP_SYS_PACCT CAP_SYS_ADMIN CAP_SYS_BOOT CAP_SYS_NICE "
    "CAP_SYS_RESOURCE CAP_SYS_TIME CAP_SYS_TTY_CONFIG CAP_MKNOD CAP_LEASE CAP_AUDIT_WRITE "
    "CAP_AUDIT_CONTROL CAP_SETFCAP CAP_MAC_OVERRIDE CAP_MAC_ADMIN CAP_SYSLOG CAP_WAKE_ALARM "
    "CAP_BLOCK_SUSPEND CAP_AUDIT_READ CAP_PERFMON CAP_BPF CAP_CHECKPOINT_RESTORE"
).split()
"""In the order of their numbers (linux/capability.h)."""

DEFAULT = frozenset(
    (
        "CAP_CHOWN",
        "CAP_DAC_OVERRIDE",
        "CAP_FOWNER",
        "CAP_FSETID",
        "CAP_KILL",
        "CAP_NET_BIND_SERVICE",
        "CAP_SETFCAP",
        "CAP_SETGID",
        "CAP_SETPCAP",
        "CAP_SETUID",
        "CAP_SYS_CHROOT",
    )
)
"""What containers.conf(5) names as the default since podman 4.4: no raw sockets, no device nodes,
no writing to the audit log."""


def from_mask(mask: int) -> list[str]:
    """Names for a bit mask as /proc/PID/status has it (CapBnd), sorted."""
    return sorted(name for bit, name in enumerate(KNOWN) if mask >> bit & 1)


def full_name(given: str, flag: str) -> str:
    """`net_admin`, `CAP_NET_ADMIN` -> `CAP_NET_ADMIN`; `ALL` stays. Error: UserError."""
    name = given.upper()
    if name == "ALL":
        return name
    if not name.startswith("CAP_"):
        name = "CAP_" + name
    if name not in KNOWN:
        raise UserError(f"{flag} {given!r} is not a capability", hint="capabilities(7) lists them")
    return name


def effective(
    add: Sequence[str], drop: Sequence[str], available: Iterable[str], *, privileged: bool = False
) -> list[str]:
    """The container's set, sorted. `available` is the bounding set that the caller has.

    `--cap-drop ALL --cap-add X` gives X alone, `--cap-add ALL --cap-drop X` all but X. Error:
    UserError for unknown names, for one that is both added and dropped, and for one that is asked
    for by name and that the caller does not have.
    """
    have = set(available)
    added = {full_name(name, "--cap-add") for name in add}
    dropped = {full_name(name, "--cap-drop") for name in drop}
    both = sorted((added & dropped) - {"ALL"})
    if both:
        raise UserError(f"{both[0]} is both in --cap-add and in --cap-drop")
    base = have if privileged or "ALL" in added else set(DEFAULT)
    if "ALL" in dropped:
        base = set()
    missing = sorted(added - have - {"ALL"})
    if missing:
        raise UserError(
            f"--cap-add {missing[0]}: you do not have it yourself", hint="see CapBnd in your status"
        )
    return sorted(((base | added) - dropped - {"ALL"}) & have)
