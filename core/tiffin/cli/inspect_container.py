"""A container as `inspect` shows it, by podman's names. Reads files, changes nothing.

Where config.json exists it has the last word (environment, capabilities, limits): it is what the
process got. Before `init` the same fields are told from the image and the user's options.
"""

from __future__ import annotations

from . import reads
from .gotemplate import Record

TYPE_CHECKING = False  # without importing typing
if TYPE_CHECKING:
    import sqlite3
    from typing import Any

    from ..layout import Layout
    from ..store.queries import Row

RUNNING = ("running", "paused")
FILES = (("ResolvConfPath", "resolv.conf"), ("HostnamePath", "hostname"), ("HostsPath", "hosts"))


class Sources:
    """All that is known of one container."""

    __slots__ = ("image", "image_config", "layout", "options", "row", "spec")

    def __init__(self, layout: Layout, connection: sqlite3.Connection, row: Row) -> None:
        self.layout = layout
        self.row = row
        self.options: dict[str, Any] = row["options"]
        found = reads.rows(connection, "SELECT * FROM images WHERE id=?", (row["image_id"],))
        self.image = found[0] if found else {}
        self.image_config = _image_config(layout, row["image_id"])
        self.spec = reads.json_file(f"{row['directory']}/config.json")

    @property
    def process(self) -> dict[str, Any]:
        return self.spec.get("process") or {}

    def resource(self, *names: str) -> Any:
        value: Any = (self.spec.get("linux") or {}).get("resources")
        for name in names:
            value = value.get(name) if isinstance(value, dict) else None
        return value


def _image_config(layout: Layout, image_id: str) -> dict[str, Any]:
    """The image may be gone by force while its container stays: then nothing is known of it."""
    from ..errors import TiffinError

    try:
        return reads.blob(layout, image_id).get("config") or {}
    except TiffinError:
        return {}


def container(layout: Layout, connection: sqlite3.Connection, row: Row) -> dict[str, Any]:
    """The whole of it."""
    sources = Sources(layout, connection, row)
    entrypoint, arguments = _command(sources)
    directory, run = row["directory"], layout.container_run(row["id"])
    capabilities = sources.process.get("capabilities") or {}
    execs = reads.rows(connection, "SELECT id FROM execs WHERE container=?", (row["id"],))
    words = [*entrypoint, *arguments]
    files = {key: f"{directory}/{name}" if sources.spec else "" for key, name in FILES}
    return Record(
        Id=row["id"],
        Created=reads.rfc3339(row["created"]),
        Path=words[0] if words else "",
        Args=words[1:],
        State=_state(sources),
        Image=row["image_id"].removeprefix("sha256:"),
        ImageDigest=sources.image.get("manifest", ""),
        ImageName=row["image_name"],
        Rootfs="",
        Pod="",
        **files,
        StaticDir=directory,
        OCIConfigPath=f"{directory}/config.json" if sources.spec else "",
        OCIRuntime=row["runtime"],
        ConmonPidFile=f"{run}/conmon.pid",
        PidFile=f"{run}/pidfile",
        LogPath=log_path(row),
        Name=row["name"],
        RestartCount=0,
        Driver=row["storage_driver"],
        MountLabel=row["mount_label"],
        ProcessLabel=row["process_label"],
        AppArmorProfile=sources.process.get("apparmorProfile", ""),
        EffectiveCaps=capabilities.get("effective", []),
        BoundingCaps=capabilities.get("bounding", []),
        ExecIDs=[each["id"] for each in execs],
        GraphDriver=Record(
            Name=row["storage_driver"],
            Data={
                "Layers": row["layers"],
                **({"MergedDir": row["mounted"]} if row["mounted"] else {}),
            },
        ),
        Mounts=[_mount(mount) for mount in sources.options.get("mounts", ())],
        Dependencies=[],
        NetworkSettings=_network(sources),
        Namespace="",
        IsInfra=False,
        Config=_config(sources, entrypoint, arguments),
        HostConfig=_host_config(sources),
    )


def log_path(row: Row) -> str:
    return "" if row["options"].get("log_driver") == "none" else f"{row['directory']}/ctr.log"


def _command(sources: Sources) -> tuple[list[str], list[str]]:
    """(entrypoint, arguments); --entrypoint clears the image's CMD."""
    options, image = sources.options, sources.image_config
    entrypoint = list(image.get("Entrypoint") or ())
    arguments = list(image.get("Cmd") or ())
    if options.get("entrypoint") is not None:
        entrypoint, arguments = list(options["entrypoint"]), []
    if options.get("command"):
        arguments = list(options["command"])
    if [*entrypoint, *arguments] != sources.row["command"]:
        return [], list(sources.row["command"])  # the image is gone: what was recorded
    return entrypoint, arguments


def _state(sources: Sources) -> dict[str, Any]:
    row = sources.row
    return Record(
        OciVersion=sources.spec.get("ociVersion", ""),
        Status=row["state"],
        Running=row["state"] in RUNNING,
        Paused=row["state"] == "paused",
        Restarting=False,
        OOMKilled=bool(row["oom"]),
        Dead=row["state"] == "removing",
        Pid=row["pid"],
        ConmonPid=row["conmon_pid"],
        ExitCode=row["exit_code"],
        Error=row["error"],
        StartedAt=reads.rfc3339(row["started"]),
        FinishedAt=reads.rfc3339(row["finished"]),
        CgroupPath=row["cgroup"],
        Health=Record(Status="", FailingStreak=0, Log=None),
        CheckpointedAt=reads.rfc3339(0),
        RestoredAt=reads.rfc3339(0),
    )


PROPAGATIONS = ("private", "rprivate", "shared", "rshared", "slave", "rslave")


def _mount(mount: dict[str, Any]) -> dict[str, Any]:
    given = list(mount.get("options", ()))
    propagation = next((option for option in given if option in PROPAGATIONS), "rprivate")
    plain = [o for o in given if o not in ("ro", "rw", "readonly", *PROPAGATIONS)]
    bind = mount["type"] == "bind"
    if bind and not {"bind", "rbind"} & set(plain):
        plain.append("rbind")
    return Record(
        Type=mount["type"],
        Source=mount.get("source", ""),
        Destination=mount["target"],
        Driver="",
        Mode=",".join(option for option in given if option in ("z", "Z")),
        Options=plain,
        RW=not {"ro", "readonly"} & set(given),
        Propagation=propagation if bind else "",
    )


def _bind(mount: dict[str, Any]) -> str:
    shown = _mount(mount)
    options = ["rw" if shown["RW"] else "ro", shown["Propagation"], *shown["Options"]]
    return f"{mount['source']}:{mount['target']}:{','.join(options)}"


def _bindings(row: Row) -> dict[str, Any]:
    """`{"80/tcp": [{"HostIp": "", "HostPort": "8080"}]}`"""
    found: dict[str, Any] = {}
    for port in row["ports"]:
        key = f"{port['container_port']}/{port.get('protocol', 'tcp')}"
        place = {"HostIp": port.get("host_ip", ""), "HostPort": str(port.get("host_port", 0))}
        found.setdefault(key, []).append(place)
    return found


def _endpoint(attachment: dict[str, Any] | None) -> dict[str, Any]:
    """Addresses of one attachment, empty without one."""
    found: dict[str, Any] = {
        "EndpointID": "",
        "Gateway": "",
        "IPAddress": "",
        "IPPrefixLen": 0,
        "IPv6Gateway": "",
        "GlobalIPv6Address": "",
        "GlobalIPv6PrefixLen": 0,
        "MacAddress": "",
    }
    if attachment is None:
        return found
    found["MacAddress"] = attachment.get("mac", "")
    for address in attachment.get("addresses", ()):
        plain, _, length = address.partition("/")
        keys = (
            ("GlobalIPv6Address", "GlobalIPv6PrefixLen")
            if ":" in plain
            else (
                "IPAddress",
                "IPPrefixLen",
            )
        )
        if not found[keys[0]]:
            found[keys[0]], found[keys[1]] = plain, int(length or 0)
    for subnet in attachment.get("network", {}).get("subnets", ()):
        gateway = subnet.get("gateway", "")
        key = "IPv6Gateway" if ":" in gateway else "Gateway"
        found[key] = found[key] or gateway
    return found


def _network(sources: Sources) -> dict[str, Any]:
    row = sources.row
    by_name = {each["network"]["name"]: each for each in row["attachments"]}
    names = [name for name in row["network"].split(",") if name not in ("none", "host")]
    networks = {
        name: Record(
            **_endpoint(by_name.get(name)),
            NetworkID=by_name[name]["network"]["id"] if name in by_name else name,
            DriverOpts=None,
            IPAMConfig=None,
            Links=None,
            Aliases=[row["id"][: reads.SHORT]],
        )
        for name in names
    }
    first = next(iter(row["attachments"]), None)
    return Record(
        **_endpoint(first),
        Bridge="",
        SandboxID="",
        HairpinMode=False,
        LinkLocalIPv6Address="",
        LinkLocalIPv6PrefixLen=0,
        Ports=_bindings(row),
        SandboxKey=row["netns"],
        Networks=networks,
    )


def _environment(sources: Sources) -> list[str]:
    if sources.process.get("env"):
        return list(sources.process["env"])
    found: dict[str, str] = {}
    for line in sources.image_config.get("Env") or ():
        name, _, value = line.partition("=")
        found[name] = value
    found.update((name, value) for name, value in sources.options.get("env", ()))
    return [f"{name}={value}" for name, value in found.items()]


def _config(sources: Sources, entrypoint: list[str], arguments: list[str]) -> dict[str, Any]:
    row, options, image = sources.row, sources.options, sources.image_config
    hostname = sources.spec.get("hostname") or options.get("hostname") or ""
    if not hostname and row["network"] != "host":
        hostname = row["id"][: reads.SHORT]
    annotations = sources.spec.get("annotations") or dict(options.get("annotations", ()))
    return Record(
        Hostname=hostname,
        Domainname="",
        User=options.get("user") or image.get("User") or "",
        AttachStdin=False,
        AttachStdout=False,
        AttachStderr=False,
        Tty=options.get("tty", False),
        OpenStdin=options.get("interactive", False),
        StdinOnce=False,
        Env=_environment(sources),
        Cmd=arguments,
        Image=row["image_name"],
        Volumes=None,
        WorkingDir=sources.process.get("cwd")
        or options.get("workdir")
        or image.get("WorkingDir")
        or "/",
        Entrypoint=" ".join(entrypoint),
        OnBuild=None,
        Labels=row["labels"] or None,
        Annotations=annotations,
        StopSignal=row["stop_signal"],
        StopTimeout=row["stop_timeout"],
        Umask=f"{(sources.process.get('user') or {}).get('umask', 0o22):04o}",
        Timeout=0,
    )


def _limits(sources: Sources) -> list[dict[str, Any]]:
    limits = sources.process.get("rlimits")
    if limits is not None:
        return [
            {"Name": each["type"], "Soft": each["soft"], "Hard": each["hard"]} for each in limits
        ]
    return [
        {"Name": f"RLIMIT_{each['name'].upper()}", "Soft": each["soft"], "Hard": each["hard"]}
        for each in sources.options.get("ulimits", ())
    ]


def _devices(options: dict[str, Any]) -> list[dict[str, str]]:
    return [
        {
            "PathOnHost": device["source"],
            "PathInContainer": device.get("target") or device["source"],
            "CgroupPermissions": device.get("permissions", "rwm"),
        }
        for device in options.get("devices", ())
    ]


def _host_config(sources: Sources) -> dict[str, Any]:
    row, options = sources.row, sources.options
    asked = options.get("resources", {})
    mounts = options.get("mounts", ())
    return Record(
        Binds=[_bind(mount) for mount in mounts if mount["type"] == "bind"],
        CgroupManager="cgroupfs",
        CgroupMode=options.get("cgroupns") or "private",
        ContainerIDFile="",
        LogConfig=Record(
            Type=options.get("log_driver") or "k8s-file",
            Config=None,
            Path=log_path(row),
            Tag="",
            Size="0B",
        ),
        NetworkMode=row["network"],
        PortBindings=_bindings(row),
        RestartPolicy=Record(Name="", MaximumRetryCount=0),
        AutoRemove=bool(row["remove"]),
        VolumeDriver="",
        VolumesFrom=None,
        CapAdd=list(options.get("cap_add", ())),
        CapDrop=list(options.get("cap_drop", ())),
        Dns=list(options.get("dns", ())),
        DnsOptions=[],
        DnsSearch=[],
        ExtraHosts=[f"{name}:{address}" for name, address in options.get("add_hosts", ())],
        GroupAdd=list(options.get("group_add", ())),
        IpcMode=options.get("ipc") or "private",
        OomScoreAdj=sources.process.get("oomScoreAdj", 0),
        PidMode=options.get("pid") or "private",
        Privileged=options.get("privileged", False),
        PublishAllPorts=options.get("publish_all", False),
        ReadonlyRootfs=options.get("read_only", False),
        SecurityOpt=list(options.get("security_opt", ())),
        Tmpfs={
            mount["target"]: ",".join(mount.get("options", ()))
            for mount in mounts
            if mount["type"] == "tmpfs"
        },
        UTSMode=options.get("uts") or "private",
        UsernsMode="",
        ShmSize=options.get("shm_size") or 65536000,
        Runtime="oci",
        Init=options.get("init", False),
        Sysctls=dict(options.get("sysctls", ())),
        CpuShares=asked.get("cpu_shares", 0),
        Memory=asked.get("memory", 0),
        NanoCpus=round(asked.get("cpus", 0) * 1_000_000_000),
        CgroupParent=options.get("cgroup_parent", ""),
        BlkioWeight=0,
        CpuPeriod=sources.resource("cpu", "period") or 0,
        CpuQuota=sources.resource("cpu", "quota") or 0,
        CpusetCpus=asked.get("cpuset_cpus", ""),
        CpusetMems=asked.get("cpuset_mems", ""),
        Devices=_devices(options),
        MemoryReservation=asked.get("memory_reservation", 0),
        MemorySwap=sources.resource("memory", "swap") or asked.get("memory_swap", 0),
        MemorySwappiness=-1,
        OomKillDisable=False,
        PidsLimit=sources.resource("pids", "limit") or asked.get("pids_limit") or 2048,
        Ulimits=_limits(sources),
    )
