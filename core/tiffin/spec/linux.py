"""`linux` of config.json (runtime-spec, config-linux.md): namespaces, devices, limits, seccomp."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any

from .. import network_modes
from ..hooks import IdRange
from ..options import ContainerOptions
from . import asked, paths, resources, seccomp
from .draft import Draft
from .origins import token
from .request import SpecRequest

SELINUX = "/sys/fs/selinux"

MASKED = (
    "/proc/acpi",
    "/proc/asound",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/sys/dev/block",
    "/sys/devices/virtual/powercap",
    "/sys/firmware",
    SELINUX,
)


READ_ONLY = ("/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger")


DEFAULT_DEVICES = (
    ("c", 1, 3, "null"),
    ("c", 1, 5, "zero"),
    ("c", 1, 7, "full"),
    ("c", 1, 8, "random"),
    ("c", 1, 9, "urandom"),
    ("c", 5, 0, "tty"),
)
"""runtime-spec, config-linux.md#default-devices: the runtime makes them; the rules allow them."""


def put(draft: Draft, request: SpecRequest, chosen: Mapping[str, list[str]]) -> None:
    options = request.options
    if request.cgroup:
        draft.put("/linux/cgroupsPath", request.cgroup, "engine", "cgroup of the container")
    _namespaces(draft, request)
    _devices(draft, request)
    disabled = options.cgroups == "disabled"
    for pointer, value, flag in resources.entries(
        *(options.resources, request.facts.cpus),
        swap_counted=request.facts.memory_swap,
        cgroup_v2=request.facts.cgroup_v2,
        controllers=frozenset() if disabled else request.facts.controllers,
    ):
        source = "user" if flag else "engine"
        draft.put(f"/linux/resources{pointer}", value, source, flag or "default")
    settings: dict[str, tuple[str, str, str]] = {}
    own = options.network != "host" and not network_modes.joins(options.network)
    if own and not request.facts.rootless:
        # Lets ping work without a raw socket (containers.conf(5), default_sysctls).
        settings["net.ipv4.ping_group_range"] = ("0 0", "engine", "ping without CAP_NET_RAW")
    for name, value in options.sysctls:
        settings[name] = (value, "user", "--sysctl")
    for name, (value, source, detail) in settings.items():
        draft.put(f"/linux/sysctl/{token(name)}", value, source, detail)
    if request.mount_label:
        source, detail = label_origin(chosen, "label")
        draft.put("/linux/mountLabel", request.mount_label, source, detail)
    unmask = [p for value in chosen.get("unmask", ()) for p in value.split(":")]
    if nested(request):
        unmask.append(SELINUX)
    mask = [p for value in chosen.get("mask", ()) for p in value.split(":")]
    if options.privileged or "ALL" in unmask or "all" in unmask:
        detail = "--privileged" if options.privileged else "--security-opt unmask"
        draft.put("/linux/maskedPaths", [], "user", detail)
        draft.put("/linux/readonlyPaths", [], "user", detail)
    else:
        for pointer, standard in (("maskedPaths", MASKED), ("readonlyPaths", READ_ONLY)):
            for path in standard:
                if not any(fnmatchcase(path, pattern) for pattern in unmask):
                    draft.add(f"/linux/{pointer}", path, "engine", "default")
    for path in mask:
        draft.add("/linux/maskedPaths", paths.clean(path), "user", "--security-opt mask")


def _namespaces(draft: Draft, request: SpecRequest) -> None:
    options = request.options
    where = "/linux/namespaces"
    for kind, shared, flag in (
        ("pid", options.pid == "host", "--pid"),
        ("ipc", options.ipc == "host", "--ipc"),
        ("uts", options.uts == "host", "--uts"),
        ("mount", False, ""),
    ):
        if kind in request.joined:
            place = {"type": kind, "path": request.joined[kind]}
            draft.add(where, place, "user", flag if ":" in getattr(options, kind) else "--pod")
        elif not shared:
            given = bool(flag and getattr(options, flag.removeprefix("--")))
            source, detail = ("user", flag) if given else ("engine", "default")
            draft.add(where, {"type": kind}, source, detail)
    if request.userns:
        detail = _userns_flag(options)
        draft.add(where, {"type": "user", "path": request.userns}, "user", detail)
        draft.put("/linux/uidMappings", _mappings(request.id_maps.uids), "user", detail)
        draft.put("/linux/gidMappings", _mappings(request.id_maps.gids), "user", detail)
    if options.network != "host":
        namespace = {"type": "network"}
        if request.netns:
            namespace["path"] = request.netns
        source = "user" if options.network else "engine"
        draft.add(where, namespace, source, f"--network {options.network or 'bridge'}")
    private = options.cgroupns != "host" and not (options.privileged and not options.cgroupns)
    if not options.cgroupns and asked.runs_systemd(options, request.image_config):
        draft.add(where, {"type": "cgroup"}, "engine", "systemd sees its own cgroup as the root")
    elif options.cgroupns == "private" or (
        request.facts.cgroup_v2 and private and options.cgroups != "disabled"
    ):
        draft.add(where, {"type": "cgroup"}, "engine", "cgroup v2 has it by default")


def _userns_flag(options: ContainerOptions) -> str:
    if options.userns:
        return f"--userns {options.userns}"
    if options.uid_maps or options.gid_maps:
        return "--uidmap" if options.uid_maps else "--gidmap"
    return f"--subuidname {options.subuid_name or options.subgid_name}"


def _mappings(ranges: Sequence[IdRange]) -> list[dict[str, int]]:
    return [{"containerID": r.inside, "hostID": r.outside, "size": r.size} for r in ranges]


def _devices(draft: Draft, request: SpecRequest) -> None:
    rules = "/linux/resources/devices"
    limited = not request.facts.rootless
    if not limited:
        pass  # what a user may open is a matter of the nodes' owners and modes alone
    elif request.options.privileged:
        draft.add(rules, {"allow": True, "access": "rwm"}, "user", "--privileged")
    else:
        draft.add(rules, {"allow": False, "access": "rwm"}, "engine", "nothing but what follows")
        for kind, major, minor, name in DEFAULT_DEVICES:
            rule = {"allow": True, "type": kind, "major": major, "minor": minor, "access": "rwm"}
            draft.add(rules, rule, "engine", f"/dev/{name}")
        for rule in map(asked.device_rule, request.options.device_rules):
            draft.add(rules, rule, "user", "--device-cgroup-rule")
    for device in request.devices:
        node = {
            "path": device.path,
            "type": device.type,
            "major": device.major,
            "minor": device.minor,
            "fileMode": device.mode & 0o7777,
            "uid": device.uid,
            "gid": device.gid,
        }
        if not (request.userns or request.facts.rootless):
            draft.add("/linux/devices", node, "user", device.flag)
        if limited and not request.options.privileged:
            rule = {
                "allow": True,
                "type": device.type,
                "major": device.major,
                "minor": device.minor,
                "access": device.permissions,
            }
            draft.add(rules, rule, "user", device.flag)


def put_seccomp(
    draft: Draft, request: SpecRequest, chosen: Mapping[str, list[str]], granted: list[str]
) -> None:
    given = chosen.get("seccomp", [""])[-1]
    if given == "unconfined" or (request.options.privileged and not given):
        return
    if request.seccomp_profile is not None:
        profile: Mapping[str, Any] | None = request.seccomp_profile
        source, detail = "user", f"--security-opt seccomp={given}"
    else:
        profile = request.facts.seccomp_profile
        source, detail = "engine", f"profile {request.facts.seccomp_source}"
    if profile is not None:
        resolved = seccomp.resolve(profile, granted, request.facts.machine, request.facts.kernel)
        draft.put("/linux/seccomp", resolved, source, detail)


def label_origin(chosen: Mapping[str, list[str]], option: str) -> tuple[str, str]:
    given = chosen.get(option)
    if given:
        return "user", f"--security-opt {option}={given[-1]}"
    return "engine", "label provider"


def nested(request: SpecRequest) -> bool:
    """A container that manages labels inside itself (`label=nested`) sees the kernel's policy."""
    return bool(request.process_label) and "nested" in asked.security(request.options).get(
        "label", ()
    )
