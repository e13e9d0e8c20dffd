"""The plain data that passes between the engine and its plugins."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from msgspec import Struct


class DriverContext(Struct, frozen=True):
    """What a driver is made from."""

    root: str
    """Directory of its own, survives a reboot; made by the driver when it is first needed."""
    run: str
    """Directory of its own, gone after a reboot; made by the driver when it is first needed."""
    rootless: bool = False
    settings: Mapping[str, Any] = {}
    """Its table of tiffin.toml (`[storage.overlay]`), unchecked."""


class LayerBlob(Struct, frozen=True):
    """A layer as it lies in the content store."""

    path: str
    compression: str
    """`none`, `gzip` or `zstd`."""
    diff_id: str
    """`sha256:HEX` of the uncompressed tar stream; the driver verifies it while unpacking."""


class LayerUsage(Struct, frozen=True):
    size: int
    """Bytes of regular files in the unpacked layer."""
    entries: int


class Change(Struct, frozen=True):
    """One difference of a container to its image, as `diff` prints it."""

    kind: str
    """`A` added, `C` changed, `D` deleted."""
    path: str
    """Absolute in the container; undecodable bytes as surrogate escapes."""


class RuntimeState(Struct, frozen=True):
    """The OCI runtime's own opinion (runtime-spec, runtime.md#state)."""

    status: str
    """`creating`, `created`, `running`, `paused` or `stopped`."""
    pid: int = 0


class PortMapping(Struct, frozen=True):
    host_port: int
    container_port: int
    protocol: str = "tcp"
    """`tcp`, `udp` or `sctp`."""
    host_ip: str = ""
    """Empty: all addresses of the host."""


class Subnet(Struct, frozen=True):
    subnet: str
    """CIDR, IPv4 or IPv6."""
    gateway: str = ""
    ip_range: str = ""
    """CIDR within the subnet that containers' addresses are chosen from; empty: all of it."""


class StaticRoute(Struct, frozen=True):
    """A route that every container on a network gets."""

    destination: str
    """CIDR."""
    gateway: str
    metric: int = 0
    """0: the kernel's default."""


class NetworkConfig(Struct, frozen=True):
    id: str
    name: str
    driver: str
    interface: str
    """The host's interface (the bridge); at most 15 bytes."""
    subnets: tuple[Subnet, ...] = ()
    internal: bool = False
    mtu: int = 0
    """0: the kernel's default."""
    options: Mapping[str, str] = {}
    labels: Mapping[str, str] = {}
    routes: tuple[StaticRoute, ...] = ()
    dns_enabled: bool = False
    """Containers on it find each other by name, at the subnets' gateways."""
    dns: tuple[str, ...] = ()
    """Name servers that are asked for all other names; empty: the host's. Without `dns_enabled`
    it is the containers themselves that ask them."""
    host: str = ""
    """Address of the host for its containers; empty: the first gateway."""


class Process(Struct, frozen=True):
    """A process that a driver has started and that outlives the command: what the log needs to know
    it again."""

    pid: int
    start: int
    """When it began, in the kernel's ticks since boot (proc_pid_stat(5)): pids are used again."""
    program: str


class Attachment(Struct, frozen=True):
    """One container on one network. Decided by the engine, recorded before it is made."""

    container: str
    network: NetworkConfig
    netns: str
    """Path of the container's network namespace (a bind mount of nsfs)."""
    interface: str
    """Name inside the container: eth0, eth1, ..."""
    host_interface: str
    """Name of the host's end; derived from container and network id, at most 15 bytes."""
    mac: str
    addresses: tuple[str, ...]
    """With prefix length: `10.89.0.5/24`, `fd00::5/64`; one for each of the network's subnets."""
    ports: tuple[PortMapping, ...] = ()
    """Published ports; only the first attachment of a container carries them."""
    default_route: bool = True
    spare_route: int = 0
    """Metric of one more default route, for when the container leaves the network that has the
    first; 0: none."""
    names: tuple[str, ...] = ()
    """What the container is called on the network, if its `dns_enabled` is set."""
    dns: tuple[str, ...] = ()
    """Name servers of the container's own, asked for names that are not on its networks."""
    host_netns: str = ""
    """Path of the network namespace in which the network is, as the driver's `home` has it; empty:
    the host's own."""
    outward: bool = True
    """False when all networks of the container are internal: then nobody is asked for them."""


class Rule(Struct, frozen=True):
    """One thing that a driver tells the kernel for a network, besides its links: for people."""

    text: str
    """`tcp 8080 of the host -> 10.89.0.5:80`"""
    expected: bool
    """It follows from the network and its attachments."""
    there: bool
    """The kernel has it."""
    remedy: str = ""
    """Of what is somebody else's and stands in the way: what its administrator could do."""


class Origin(Struct, frozen=True):
    """Where a field of config.json came from."""

    source: str
    """`image`, `user`, `engine`, or `plugin NAME`."""
    detail: str = ""
    """The flag, the image's field, the rule of the engine: for people."""


class Amendment(Struct, frozen=True):
    """One change that a plugin wants in config.json: RFC 6901 pointer and the new value there.

    A pointer that ends in `/-` appends to an array; value `None` removes the field.
    """

    pointer: str
    value: Any
    why: str = ""


class LabelRequest(Struct, frozen=True):
    """A container that is about to be made, as a label provider sees it."""

    container: str
    options: tuple[str, ...] = ()
    """Values of `--security-opt OPTION=VALUE` with the provider's option, in order."""
    privileged: bool = False
    host_namespaces: bool = False
    """`--pid host` or `--ipc host`: the container is to work with the host's processes."""
    relabel: tuple[str, ...] = ()
    """Sources of bind mounts that `relabel` will be asked for (`:z`, `:Z`)."""
    taken: tuple[str, ...] = ()
    """Process labels of this provider that the store's other containers have."""


class IdRange(Struct, frozen=True, array_like=True):
    """One line of uid_map or gid_map (user_namespaces(7)), as an array in JSON."""

    inside: int
    """First id in the container."""
    outside: int
    size: int


class IdMaps(Struct, frozen=True, omit_defaults=True):
    """The ids of a container with a user namespace of its own."""

    uids: tuple[IdRange, ...] = ()
    gids: tuple[IdRange, ...] = ()


class Labels(Struct, frozen=True, omit_defaults=True):
    """What a provider decided for one container. It fills what its module has; empty fields change
    nothing in config.json."""

    process_label: str = ""
    """`process.selinuxLabel` of the runtime spec."""
    mount_label: str = ""
    """`linux.mountLabel`, and the label of the container's own files."""
    profile: str = ""
    """`process.apparmorProfile`."""
    claim: str = ""
    """What no other container of the store may have; `allocate` is asked again when another
    command was quicker to claim it."""
