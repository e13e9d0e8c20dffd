"""What a user may ask of a container: plain data that every front end fills in.

Nothing here is checked against the world; `spec` and the engine do that. Sizes are bytes, times
seconds.
"""

from __future__ import annotations

from msgspec import Struct


class Mount(Struct, frozen=True, omit_defaults=True):
    """`-v`, `--mount` and `--tmpfs`."""

    type: str
    """`bind`, `tmpfs` or `volume`, whose source is its name (empty: an anonymous one)."""
    target: str
    """Absolute path in the container."""
    source: str = ""
    options: tuple[str, ...] = ()
    """As given: ro, rw, z, Z, exec, nodev, rprivate, size=..., mode=..."""


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


class Health(Struct, frozen=True, omit_defaults=True):
    """Reserved for health checks; carried through, not acted on yet."""

    test: tuple[str, ...] = ()


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
    workdir: str = ""
    user: str = ""
    hostname: str = ""
    tty: bool = False
    interactive: bool = False
    """Keep stdin open (`-i`)."""
    detach: bool = False
    remove: bool = False
    """`--rm`."""
    mounts: tuple[Mount, ...] = ()
    volumes_from: tuple[str, ...] = ()
    """`CONTAINER[:ro|rw]`."""
    network: str = ""
    """`none`, `host`, `container:ID`, `ns:PATH`, or names of networks. Empty: the default
    (bridge)."""
    joins: tuple[NetworkOptions, ...] = ()
    """At most one for each of the networks."""
    ports: tuple[Port, ...] = ()
    publish_all: bool = False
    add_hosts: tuple[tuple[str, str], ...] = ()
    """(name, address) pairs."""
    dns: tuple[str, ...] = ()
    """Addresses; `none` alone: /etc/resolv.conf is the image's."""
    dns_search: tuple[str, ...] = ()
    """`.` alone: no domains are searched."""
    dns_options: tuple[str, ...] = ()
    cap_add: tuple[str, ...] = ()
    cap_drop: tuple[str, ...] = ()
    privileged: bool = False
    read_only: bool = False
    init: bool = False
    devices: tuple[Device, ...] = ()
    security_opt: tuple[str, ...] = ()
    """`seccomp=FILE|unconfined`, `no-new-privileges`, `label=...`, `apparmor=...`, `mask=`,
    `unmask=`."""
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
    storage_driver: str = ""
    runtime: str = ""
    log_driver: str = ""
    cgroup_parent: str = ""
    pid: str = ""
    """`host` or empty (own)."""
    ipc: str = ""
    uts: str = ""
    cgroupns: str = ""
    userns: str = ""
    """`host`, `auto[:...]`, `keep-id[:...]`, `nomap`, `ns:PATH`, `container:ID`; empty: the
    default, or what the maps below say."""
    uid_maps: tuple[str, ...] = ()
    """`CONTAINER:HOST[:SIZE]`, as given."""
    gid_maps: tuple[str, ...] = ()
    subuid_name: str = ""
    """Whose ranges of /etc/subuid."""
    subgid_name: str = ""
