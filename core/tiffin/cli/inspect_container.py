"""All that is known of a container, by podman's names and nesting."""

from __future__ import annotations

import json

from ..errors import TiffinError
from . import reads

TYPE_CHECKING = False  # without importing typing
if TYPE_CHECKING:
    from typing import Any

    from ..layout import Layout
    from ..store.queries import Row


PERIOD = 100_000
"""Microseconds over which --cpus is counted."""


def _document(path: str) -> dict[str, Any]:
    """A JSON file of ours; {} when it is not there (yet)."""
    try:
        with open(path, "rb") as file:
            value = json.load(file)
    except (OSError, ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def _image_settings(layout: Layout, image_id: str) -> dict[str, Any]:
    """`config` of the image's config blob; {} when the image is gone or damaged."""
    try:
        settings = reads.blob(layout, image_id).get("config")
    except TiffinError:
        return {}
    return settings if isinstance(settings, dict) else {}


def _spec(path: str, digest: str) -> dict[str, Any]:
    """config.json if it is still the one with this digest (`sha256:HEX`): another was written
    later."""
    from ..smallhash import sha256

    try:
        with open(path, "rb") as file:
            same = f"sha256:{sha256(file.read()).hexdigest()}" == digest
    except OSError:
        return {}
    return _document(path) if same else {}


def document(layout: Layout, row: Row, *, past: bool = False, restarts: int = 0) -> dict[str, Any]:
    """A container's row, with what config.json and the image's config add to it; for a row of the
    `past` only what is certain to be of that time."""
    options: dict[str, Any] = row["options"]
    bundle = row["bundle"] or row["directory"]
    config_path = f"{bundle}/config.json"
    spec = _spec(config_path, row["spec"]) if past else _document(config_path)
    process = spec.get("process", {})
    settings = _image_settings(layout, row["image_id"])
    command = process.get("args") or row["command"]
    run = layout.container_run(row["id"])
    directory = row["directory"]
    capabilities = process.get("capabilities", {})
    files = {
        name: f"{directory}/{name}" if spec else "" for name in ("resolv.conf", "hostname", "hosts")
    }
    return {
        "Id": row["id"],
        "Created": reads.rfc3339(row["created"]),
        "Path": command[0] if command else "",
        "Args": command[1:],
        "State": _state(row, spec),
        "Image": row["image_id"].removeprefix("sha256:"),
        "ImageName": row["image_name"],
        "Rootfs": "",
        "IsService": False,
        "Pod": options.get("pod", ""),
        "ResolvConfPath": files["resolv.conf"],
        "HostnamePath": files["hostname"],
        "HostsPath": files["hosts"],
        "StaticDir": directory,
        "OCIConfigPath": config_path if spec else "",
        "OCIRuntime": row["runtime"],
        "ConmonPidFile": f"{run}/conmon.pid",
        "PidFile": f"{run}/pidfile",
        "Name": row["name"],
        "RestartCount": restarts,
        "Driver": row["storage_driver"],
        "MountLabel": row["mount_label"],
        "ProcessLabel": row["process_label"],
        "AppArmorProfile": process.get("apparmorProfile") or _profile(row),
        "EffectiveCaps": capabilities.get("effective"),
        "BoundingCaps": capabilities.get("bounding"),
        "ExecIDs": [],
        "GraphDriver": {
            "Name": row["storage_driver"],
            "Data": {"MergedDir": row["mounted"]} if row["mounted"] else {},
        },
        "Mounts": [
            _mount(mount, layout)
            for mount in options.get("mounts", ())
            if mount["type"] in ("bind", "volume")
        ],
        "Dependencies": dependencies(row),
        "NetworkSettings": _network(row),
        "Namespace": "",
        "IsInfra": False,
        "Config": _config(row, options, settings, process, spec),
        "HostConfig": _host_config(row, options),
    }


def dependencies(row: Row) -> list[str]:
    """Ids of the containers that it needs."""
    network = row["network"]
    others = [network.removeprefix("container:")] if network.startswith("container:") else []
    return [*others, *row["options"].get("requires", ())]


def _profile(row: Row) -> str:
    """Of a container that was not initialized yet: what was decided for it."""
    return next(
        (each["profile"] for each in row["security_labels"].values() if "profile" in each), ""
    )


def _state(row: Row, spec: dict[str, Any]) -> dict[str, Any]:
    state = row["state"]
    return {
        "OciVersion": spec.get("ociVersion", ""),
        "Status": state,
        "Running": state == "running",
        "Paused": state == "paused",
        "Restarting": False,
        "OOMKilled": bool(row["oom"]),
        "Dead": False,
        "Pid": row["pid"],
        "ConmonPid": row["conmon_pid"],
        "ExitCode": row["exit_code"],
        "Error": row["error"],
        "StartedAt": reads.rfc3339(row["started"]),
        "FinishedAt": reads.rfc3339(row["finished"]),
        "Health": {
            "Status": row["health"],
            "FailingStreak": row["health_failing"],
            "Log": _checks(row) if row["options"].get("health") else None,
        },
        "CgroupPath": row["cgroup"],
    }


def _checks(row: Row) -> list[Any] | None:
    """The last checks, with what they wrote; nothing of that is in the log."""
    try:
        with open(f"{row['directory']}/health.json", "rb") as file:
            found = json.load(file)
    except (OSError, ValueError, RecursionError):
        return None
    return found if isinstance(found, list) else None


def _mount(mount: dict[str, Any], layout: Layout) -> dict[str, Any]:
    given = list(mount.get("options", ()))
    propagation = [name for name in given if name.endswith(("private", "shared", "slave"))]
    plain = [name for name in given if name not in ("ro", "rw", "z", "Z", *propagation)]
    if "bind" not in plain and "rbind" not in plain:
        plain.append("rbind")
    source = mount.get("source", "")
    volume = mount["type"] == "volume"
    return {
        "Type": mount["type"],
        **({"Name": source} if volume else {}),
        "Source": f"{layout.root}/volumes/{source}/_data" if volume else source,
        "Destination": mount["target"],
        "Driver": "local" if volume else "",
        "Mode": "".join(name for name in given if name in ("z", "Z")),
        "Options": plain,
        "RW": "ro" not in given,
        "Propagation": propagation[-1] if propagation else "rprivate",
    }


def _ports(row: Row) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for port in row["ports"]:
        key = f"{port['container_port']}/{port.get('protocol', 'tcp')}"
        binding = {"HostIp": port.get("host_ip", ""), "HostPort": str(port.get("host_port", 0))}
        found.setdefault(key, []).append(binding)
    return found


def _addresses(attachment: dict[str, Any]) -> dict[str, Any]:
    """Address fields of one attachment: the first IPv4 and the first IPv6 one."""
    pairs = [address.partition("/")[::2] for address in attachment.get("addresses", ())]
    four = [pair for pair in pairs if ":" not in pair[0]] or [("", "0")]
    six = [pair for pair in pairs if ":" in pair[0]] or [("", "0")]
    gateways = [net.get("gateway", "") for net in attachment["network"].get("subnets", ())]
    return {
        "Gateway": next((gateway for gateway in gateways if gateway and ":" not in gateway), ""),
        "IPAddress": four[0][0],
        "IPPrefixLen": int(four[0][1] or 0),
        "IPv6Gateway": next((gateway for gateway in gateways if ":" in gateway), ""),
        "GlobalIPv6Address": six[0][0],
        "GlobalIPv6PrefixLen": int(six[0][1] or 0),
        "MacAddress": attachment.get("mac", ""),
    }


NO_ATTACHMENT: dict[str, Any] = {"network": {}}


def _network(row: Row) -> dict[str, Any]:
    attachments = row["attachments"]
    networks = {
        name: {"NetworkID": name, "EndpointID": "", **_addresses(NO_ATTACHMENT)}
        for name in row["network"].split(",")
        if name not in ("none", "host", "") and ":" not in name
    }
    joins = row["options"].get("joins", ())
    aliases = {join["network"]: join.get("aliases", ()) for join in joins}
    for attachment in attachments:
        network = attachment["network"]
        networks[network["name"]] = {
            "NetworkID": network["id"],
            "EndpointID": "",
            "Interface": attachment.get("interface", ""),
            **_addresses(attachment),
        }
    # Who uses another container's network is called what that one is.
    owner = attachments[0].get("container", row["id"]) if attachments else row["id"]
    called = {at["network"]["name"]: at.get("names", ())[2:] for at in attachments}
    for name, shown in networks.items():
        more = called.get(name) or aliases.get(name, ())
        shown["Aliases"] = [*more, owner[: reads.SHORT]]
    first = _addresses(attachments[0] if attachments else NO_ATTACHMENT)
    return {
        "EndpointID": "",
        **first,
        "Bridge": "",
        "SandboxID": "",
        "HairpinMode": False,
        "LinkLocalIPv6Address": "",
        "LinkLocalIPv6PrefixLen": 0,
        "Ports": _ports(row),
        "SandboxKey": row["netns"],
        "Networks": networks,
    }


def _config(
    row: Row,
    options: dict[str, Any],
    settings: dict[str, Any],
    process: dict[str, Any],
    spec: dict[str, Any],
) -> dict[str, Any]:
    entrypoint = options.get("entrypoint")
    if entrypoint is None:
        entrypoint = settings.get("Entrypoint") or []
        command = options.get("command") or settings.get("Cmd") or []
    else:  # an entrypoint of the user's own clears the image's command
        command = options.get("command") or []
    made_by = options.get("create_command", ())
    env = {name: value for name, _, value in (e.partition("=") for e in settings.get("Env") or [])}
    env.update(dict(options.get("env", ())))
    return {
        "Hostname": spec.get("hostname") or options.get("hostname") or row["id"][: reads.SHORT],
        "Domainname": "",
        "User": options.get("user") or settings.get("User") or "",
        "AttachStdin": False,
        "AttachStdout": False,
        "AttachStderr": False,
        "Tty": options.get("tty", False),
        "OpenStdin": options.get("interactive", False),
        "StdinOnce": False,
        "Env": process.get("env") or [f"{name}={value}" for name, value in env.items()],
        "Cmd": list(command),
        "sdNotifyMode": options.get("sdnotify") or "container",
        "CreateCommand": ["tiffin", *made_by] if made_by else [],
        "Image": row["image_name"],
        "Volumes": None,
        "WorkingDir": process.get("cwd")
        or options.get("workdir")
        or settings.get("WorkingDir")
        or "/",
        "Entrypoint": " ".join(entrypoint),
        "OnBuild": None,
        "Labels": row["labels"],
        "Annotations": spec.get("annotations") or dict(options.get("annotations", ())),
        "StopSignal": row["stop_signal"],
        "StopTimeout": row["stop_timeout"],
        "Secrets": [
            {
                "Name": secret["name"],
                "ID": secret["id"],
                "UID": secret.get("uid", 0),
                "GID": secret.get("gid", 0),
                "Mode": secret.get("mode", 0o444),
            }
            for secret in options.get("secrets", ())
            if secret.get("type", "mount") == "mount"
        ],
        "Healthcheck": _healthcheck(options.get("health")),
    }


def _healthcheck(health: dict[str, Any] | None) -> dict[str, Any] | None:
    """As in an image's config: without what is zero."""
    if not health:
        return None
    names = {"test": "Test", "start_period": "StartPeriod", "interval": "Interval",
             "timeout": "Timeout", "retries": "Retries"}  # fmt: skip
    return {name: health[key] for key, name in names.items() if health.get(key)}


def _capability(name: str) -> str:
    name = name.upper()
    return name if name == "ALL" or name.startswith("CAP_") else f"CAP_{name}"


NOT_LIMITED = {
    "BlkioWeight": 0, "BlkioWeightDevice": None, "BlkioDeviceReadBps": None,
    "BlkioDeviceWriteBps": None, "BlkioDeviceReadIOps": None, "BlkioDeviceWriteIOps": None,
    "Cgroup": "", "CgroupConf": None, "ConsoleSize": [0, 0], "CpuCount": 0,
    "CpuPercent": 0, "CpuRealtimePeriod": 0, "CpuRealtimeRuntime": 0, "DiskQuota": 0,
    "IOMaximumBandwidth": 0, "IOMaximumIOps": 0, "Isolation": "", "KernelMemory": 0, "Links": None,
    "MemorySwappiness": 0, "OomKillDisable": False, "VolumeDriver": "",
}  # fmt: skip
"""What podman and docker show of limits that cannot be given here: scripts look for the fields."""


def _id_maps(row: Row) -> dict[str, Any]:
    return {
        name: [":".join(map(str, each)) for each in row["id_maps"][kind]]
        for name, kind in (("UidMap", "uids"), ("GidMap", "gids"))
    }


def _host_config(row: Row, options: dict[str, Any]) -> dict[str, Any]:
    from .. import units

    resources = options.get("resources") or {}
    memory, cpus = resources.get("memory", 0), resources.get("cpus", 0)
    mounts = options.get("mounts", ())
    log_driver = options.get("log_driver") or "k8s-file"
    binds = [
        ":".join(filter(None, (m.get("source", ""), m["target"], ",".join(m.get("options", ())))))
        for m in mounts
        if m["type"] in ("bind", "volume")
    ]
    return {
        **NOT_LIMITED,
        "VolumesFrom": list(options.get("volumes_from", ())) or None,
        "Binds": binds,
        "CgroupManager": "systemd" if row["cgroup"].endswith(".scope") else "cgroupfs",
        "Cgroups": options.get("cgroups") or "default",
        "CgroupMode": options.get("cgroupns") or "",
        "ContainerIDFile": "",
        "LogConfig": {
            "Type": log_driver,
            "Config": None,
            "Path": ""
            if log_driver in ("journald", "none", "passthrough")
            else options.get("log_path") or f"{row['directory']}/ctr.log",
            "Tag": options.get("log_tag", ""),
            "Size": units.human_size(options.get("log_size_max", 0)),
        },
        "NetworkMode": row["network"] or "bridge",
        "PortBindings": _ports(row),
        "RestartPolicy": {
            "Name": options.get("restart") or "no",
            "MaximumRetryCount": options.get("restart_limit", 0),
        },
        "AutoRemove": bool(row["remove"]),
        "CapAdd": [_capability(name) for name in options.get("cap_add", ())],
        "CapDrop": [_capability(name) for name in options.get("cap_drop", ())],
        "Dns": list(options.get("dns", ())),
        "DnsOptions": list(options.get("dns_options", ())),
        "DnsSearch": list(options.get("dns_search", ())),
        "ExtraHosts": [f"{name}:{address}" for name, address in options.get("add_hosts", ())],
        "GroupAdd": list(options.get("group_add", ())),
        "Init": options.get("init", False),
        "IpcMode": options.get("ipc") or "private",
        "OomScoreAdj": 0,
        "PidMode": options.get("pid") or "private",
        "Privileged": options.get("privileged", False),
        "PublishAllPorts": options.get("publish_all", False),
        "ReadonlyRootfs": options.get("read_only", False),
        "SecurityOpt": list(options.get("security_opt", ())),
        "Sysctls": dict(options.get("sysctls", ())),
        "Tmpfs": {
            m["target"]: ",".join(m.get("options", ())) for m in mounts if m["type"] == "tmpfs"
        },
        "UTSMode": options.get("uts") or "private",
        "UsernsMode": "private" if row["id_maps"] else "",
        **({"IDMappings": _id_maps(row)} if row["id_maps"] else {}),
        "ShmSize": options.get("shm_size") or 64 << 20,
        "Runtime": row["runtime"],
        "CpuShares": resources.get("cpu_shares", 0),
        "Memory": memory,
        "NanoCpus": round(cpus * 1_000_000_000),
        "CpuPeriod": PERIOD if cpus else 0,
        "CpuQuota": round(cpus * PERIOD),
        "CgroupParent": options.get("cgroup_parent", ""),
        "CpusetCpus": resources.get("cpuset_cpus", ""),
        "CpusetMems": resources.get("cpuset_mems", ""),
        "Devices": [
            {
                "PathOnHost": device["source"],
                "PathInContainer": device.get("target") or device["source"],
                "CgroupPermissions": device.get("permissions", "rwm"),
            }
            for device in options.get("devices", ())
        ],
        "MemoryReservation": resources.get("memory_reservation", 0),
        "MemorySwap": resources.get("memory_swap", 0) or 2 * memory,
        "PidsLimit": resources.get("pids_limit", 0) or 2048,
        "Ulimits": [
            {"Name": f"RLIMIT_{u['name'].upper()}", "Soft": u["soft"], "Hard": u["hard"]}
            for u in options.get("ulimits", ())
            if u["name"] != "host"
        ],
    }
