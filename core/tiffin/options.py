"""What a user may ask of a container: plain data that every front end fills in.

Nothing here is checked against the world; `spec` and the engine do that. Sizes are bytes, times
seconds.
"""

from __future__ import annotations

from msgspec import Struct


class Mount(Struct, frozen=True, omit_defaults=True):
    """`-v`, `--mount` and `--tmpfs`."""

    type: str
    """`bind`, `tmpfs`, `devpts`, `image` (whose source is its id), or `volume` (whose source is its
    name; empty: an anonymous one). `overlay` is what the engine makes of the option `O`."""
    target: str
    """Absolute path in the container."""
    source: str = ""
    options: tuple[str, ...] = ()
    """As given: ro, rw, z, Z, U, O, exec, nodev, rprivate, size=..., mode=..."""


class Port(Struct, frozen=True, omit_defaults=True):
    """`-p [HOST_IP:][HOST_PORT]:CONTAINER_PORT[/PROTOCOL]`, one port; ranges are expanded."""

    container_port: int
    host_port: int = 0
    """0: the engine picks a free one when the container is created."""
    protocol: str = "tcp"
    host_ip: str = ""


class Ulimit(Struct, frozen=True):
    name: str
    """Lower case, without RLIMIT_: nofile."""
    soft: int
    """-1: unlimited."""
    hard: int


class Device(Struct, frozen=True, omit_defaults=True):
    source: str
    target: str = ""
    """Empty: the same path."""
    permissions: str = "rwm"


class DeviceLimit(Struct, frozen=True):
    """`--blkio-weight-device`, `--device-read-bps` and their like."""

    kind: str
    """`weight`, `read_bps`, `write_bps`, `read_iops`, `write_iops`."""
    path: str
    """Of the device, on the host."""
    major: int
    minor: int
    value: int


class Resources(Struct, frozen=True, omit_defaults=True):
    memory: int = 0
    memory_swap: int = 0
    """Memory plus swap; -1 unlimited; 0 unset."""
    memory_reservation: int = 0
    cpus: float = 0.0
    cpu_shares: int = 0
    cpuset_cpus: str = ""
    cpuset_mems: str = ""
    pids_limit: int = 0
    """0: the engine's default (2048); -1: unlimited."""
    cpu_period: int = 0
    """Microseconds."""
    cpu_quota: int = 0
    """Microseconds of each period; -1: unlimited."""
    cpu_rt_period: int = 0
    cpu_rt_runtime: int = 0
    memory_swappiness: int = -1
    """0 to 100; -1: the host's."""
    oom_kill_disable: bool = False
    blkio_weight: int = 0
    """10 to 1000."""
    blkio_devices: tuple[DeviceLimit, ...] = ()
    unified: tuple[tuple[str, str], ...] = ()
    """Files of cgroup v2 and what is written there (`--cgroup-conf`)."""


class NetworkOptions(Struct, frozen=True, omit_defaults=True):
    """`--network NAME:KEY=VALUE,...`, or --ip and its like: how a container joins a network."""

    network: str
    addresses: tuple[str, ...] = ()
    """At most one of each subnet; the others are chosen."""
    mac: str = ""
    """Lower case, with colons."""
    interface: str = ""
    """Name inside the container."""
    aliases: tuple[str, ...] = ()
    """More names of the container on this network."""
    words: tuple[str, ...] = ()
    """Options of `--network pasta:...` and its like, for the program that makes the network."""


class Health(Struct, frozen=True, omit_defaults=True):
    """How it is found out whether a container does its work. Times in ns. A field that was not
    asked for is the image's; what a container is created with is complete."""

    test: tuple[str, ...] = ()
    """`CMD` and words, `CMD-SHELL` and a line, or `NONE`. Of a container: empty for none."""
    interval: int = -1
    """Between checks; 0: only by hand. -1: not asked for."""
    timeout: int = -1
    start_period: int = -1
    """Failures count only after so long."""
    retries: int = 0
    """Failures in a row that make it unhealthy; 0: not asked for."""


class Secret(Struct, frozen=True, omit_defaults=True):
    """`--secret`: which one, and how the container gets it. The value is not here."""

    name: str
    id: str = ""
    type: str = "mount"
    """`mount` or `env`."""
    target: str = ""
    """A name in /run/secrets, an absolute path, or a variable; empty: the secret's name."""
    uid: int = 0
    gid: int = 0
    mode: int = 0o444


class ContainerOptions(Struct, frozen=True, omit_defaults=True):
    """All of `create` and `run`. An empty value means: not asked for."""

    image: str
    """As the user wrote it."""
    command: tuple[str, ...] = ()
    name: str = ""
    entrypoint: tuple[str, ...] | None = None
    """None: the image's. Empty: cleared."""
    env: tuple[tuple[str, str], ...] = ()
    """In order; already resolved (`-e NAME` takes the caller's value)."""
    host_env: tuple[tuple[str, str], ...] = ()
    """`--env-host`: what image and user say goes over it."""
    proxy_env: tuple[tuple[str, str], ...] = ()
    """The caller's proxies (`--http-proxy`): over the image's, below the user's own."""
    env_merge: tuple[tuple[str, str], ...] = ()
    """Values in which `$NAME` is what the variables had before."""
    unset_env: tuple[str, ...] = ()
    unset_env_all: bool = False
    """Nothing of the image's and the engine's."""
    workdir: str = ""
    user: str = ""
    passwd: bool = True
    """A user without a name gets one in /etc/passwd."""
    passwd_entry: str = ""
    """Template of that line."""
    host_users: tuple[str, ...] = ()
    """Lines of passwd(5) of users of the host (`--hostuser`)."""
    umask: int = 0o22
    timezone: str = ""
    """A file below /usr/share/zoneinfo, or `local`."""
    oom_score_adj: int | None = None
    timeout: int = 0
    """Seconds after which conmon kills it; 0: never."""
    hostname: str = ""
    tty: bool = False
    interactive: bool = False
    """Keep stdin open (`-i`)."""
    detach: bool = False
    remove: bool = False
    """`--rm`."""
    mounts: tuple[Mount, ...] = ()
    image_volumes: str = ""
    """Where the image declares volumes: `ignore`: nothing; `tmpfs`; else anonymous volumes."""
    volumes_from: tuple[str, ...] = ()
    """`CONTAINER[:ro|rw]`."""
    network: str = ""
    """`none`, `host`, `container:ID`, `ns:PATH`, or names of networks. Empty: the default
    (bridge)."""
    joins: tuple[NetworkOptions, ...] = ()
    """At most one for each of the networks."""
    ports: tuple[Port, ...] = ()
    publish_all: bool = False
    expose: tuple[str, ...] = ()
    """`PORT/PROTO`; what `publish_all` publishes besides the image's own."""
    add_hosts: tuple[tuple[str, str], ...] = ()
    """(name, address) pairs."""
    no_hosts: bool = False
    """/etc/hosts is the image's."""
    dns: tuple[str, ...] = ()
    """Addresses; `none` alone: /etc/resolv.conf is the image's."""
    dns_search: tuple[str, ...] = ()
    """`.` alone: no domains are searched."""
    dns_options: tuple[str, ...] = ()
    cap_add: tuple[str, ...] = ()
    cap_drop: tuple[str, ...] = ()
    privileged: bool = False
    read_only: bool = False
    read_only_tmpfs: bool = True
    """With `read_only`: /run, /tmp and /var/tmp can be written to."""
    init: bool = False
    init_path: str = ""
    """The program of `init`; empty: catatonit."""
    devices: tuple[Device, ...] = ()
    device_rules: tuple[str, ...] = ()
    """`TYPE MAJOR:MINOR ACCESS`, as in devices.allow of cgroup v1."""
    security_opt: tuple[str, ...] = ()
    """`seccomp=FILE|unconfined`, `no-new-privileges`, `label=...`, `apparmor=...`, `mask=`,
    `unmask=`."""
    label_providers: tuple[str, ...] = ()
    """Only these confine it, of those that are in force; `none` alone: nobody. Empty: all."""
    resources: Resources = Resources()
    ulimits: tuple[Ulimit, ...] = ()
    sysctls: tuple[tuple[str, str], ...] = ()
    group_add: tuple[str, ...] = ()
    shm_size: int = 0
    """0: the default, 64 MiB."""
    labels: tuple[tuple[str, str], ...] = ()
    annotations: tuple[tuple[str, str], ...] = ()
    stop_signal: str = ""
    stop_timeout: int = -1
    """-1: the default, 10."""
    restart: str = ""
    """`always`, `unless-stopped`, `on-failure`; empty: never."""
    restart_limit: int = 0
    """Of `on-failure:N`; 0: no limit."""
    health: Health = Health()
    secrets: tuple[Secret, ...] = ()
    storage_driver: str = ""
    runtime: str = ""
    log_driver: str = ""
    log_path: str = ""
    """Empty: in the container's directory."""
    log_tag: str = ""
    """Of `log_driver` journald: a template, see `tiffin.log_tags`."""
    log_size_max: int = 0
    """Bytes after which the log begins anew; 0: never."""
    cgroup_parent: str = ""
    requires: tuple[str, ...] = ()
    """Containers that are started before it; in what is recorded, their ids."""
    cgroups: str = ""
    """`disabled`, `no-conmon`, `split`; empty: `enabled`."""
    sdnotify: str = ""
    """`conmon`, `ignore`; empty: `container`."""
    create_command: tuple[str, ...] = ()
    """The words after the program's name of the command line that made it."""
    pid_file: str = ""
    conmon_pid_file: str = ""
    pid: str = ""
    """`host` or empty (own)."""
    ipc: str = ""
    uts: str = ""
    cgroupns: str = ""
    pod: str = ""
    """Name or id of the pod it is to be in; in what is recorded, its id."""
    userns: str = ""
    """`host`, `auto[:...]`, `keep-id[:...]`, `nomap`, `ns:PATH`, `container:ID`; empty: the
    default, or what the maps below say."""
    uid_maps: tuple[str, ...] = ()
    """`CONTAINER:HOST[:SIZE]`, as given."""
    gid_maps: tuple[str, ...] = ()
    subuid_name: str = ""
    """Whose ranges of /etc/subuid."""
    subgid_name: str = ""
