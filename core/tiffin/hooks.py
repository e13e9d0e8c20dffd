"""What a plugin sees of tiffin: hook specifications, driver protocols, and the types they name.

A plugin is a module that is registered through the entry-point group `tiffin.plugins` under a name
`KIND.NAME` (`storage.overlay`, `runtime.crun`, `network.bridge`, `label.selinux`, `consumer.audit`,
`spec.mine`). The name is all that the core knows: it loads a plugin when a command needs that kind
and name, and not before. The module implements the hooks below with `@hookimpl`.

A driver gets plain data and returns plain data. It keeps no state outside its own directory, and
what it did is in the events. Every method may be called again after a crash, so each must be
idempotent: making what exists, or removing what is gone, is success.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Protocol, TypeVar, overload

from msgspec import Struct

from . import errors as errors

HOOK_VERSION = 1
"""Raised when the specifications change. A plugin's module says which version it is made for
(`TIFFIN_HOOK_VERSION = 1`; without that, the oldest)."""
OLDEST_HOOK_VERSION = 1
"""Raised when a change breaks plugins: those that are made for an older version are refused."""

F = TypeVar("F", bound=Callable[..., Any])


class Marker:
    """pluggy's HookspecMarker and HookimplMarker: an attribute PROJECT_spec or PROJECT_impl with
    the options. Ours do not import pluggy: one driver by its name needs none of it. A plugin may
    as well use pluggy's own."""

    def __init__(self, attribute: str, **defaults: Any) -> None:
        self.attribute = attribute
        self.defaults = defaults

    @overload
    def __call__(self, function: F, /) -> F: ...

    @overload
    def __call__(self, /, **options: Any) -> Callable[[F], F]: ...

    def __call__(self, function: Any = None, /, **options: Any) -> Any:
        def mark(function: F) -> F:
            setattr(function, self.attribute, {**self.defaults, **options})
            return function

        return mark if function is None else mark(function)


hookspec = Marker(
    "tiffin_spec", firstresult=False, historic=False, warn_on_impl=None, warn_on_impl_args=None
)
hookimpl = Marker(
    "tiffin_impl",
    wrapper=False,
    hookwrapper=False,
    optionalhook=False,
    tryfirst=False,
    trylast=False,
    specname=None,
)


# --- data -----------------------------------------------------------------------------------------


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
    """Name servers that are asked for all other names; empty: the host's."""


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


# --- drivers --------------------------------------------------------------------------------------


class StorageDriver(Protocol):
    """Layers and the copy-on-write layer of containers. Layers are keyed by chain id
    (image-spec, config.md#layer-chainid) and shared by all images that have them."""

    name: str
    preference: int
    """When nobody chooses, the highest whose `probe` gives None is taken."""
    labels_mounts: bool
    """True when `mount` gives all files its `label`; else the engine has them relabelled."""
    maps_ids: bool
    """True when `mount` takes `userns`. Without it the engine maps what the driver has mounted, by
    a mount of its own, which the kernel allows for a plain directory but not for an overlay."""

    async def probe(self) -> str | None:
        """`None` when the driver works here, else one line that says why it does not."""

    async def has_layer(self, chain_id: str) -> bool:
        """True only for a layer that was unpacked completely."""

    async def unpack(self, chain_id: str, parents: Sequence[str], blob: LayerBlob) -> LayerUsage:
        """Unpack a layer; `parents` are the chain ids below it, lowest first.

        Nothing is left behind when it fails. A layer counts (`has_layer`) only once it is durable.
        Errors: ImageError (bad or hostile tar, wrong diff id), StorageFull, DriverError.
        """

    async def remove_layer(self, chain_id: str) -> None:
        """Nothing refers to the layer any more."""

    def needs_parents(self) -> bool:
        """True when `unpack` reads its parents (layers are then unpacked in order), else layers of
        one image may be unpacked in parallel."""

    async def prepare(self, container: str, layers: Sequence[str]) -> None:
        """Make the container's own copy-on-write layer over `layers`, lowest first."""

    async def mount(self, container: str, layers: Sequence[str], label: str = "") -> str:
        """Mount the container's file system and return the path of its root; `label` is a security
        context, as mount(8) takes it for `context=`.

        With `maps_ids` it takes `userns` as well: the path of a user namespace (empty: none). Then
        files have the owners that this maps those of the layers to, and what is written is stored
        with the owners that the container sees."""

    def mount_path(self, container: str) -> str:
        """Where `mount` will put it; known beforehand, for the intent."""

    async def is_mounted(self, container: str) -> bool: ...

    async def unmount(self, container: str) -> None: ...

    async def remove(self, container: str) -> None:
        """Unmount, and delete the container's own layer."""

    async def diff(self, container: str, layers: Sequence[str], target: str) -> None:
        """Write the container's own layer to the file `target`, as an uncompressed tar with
        whiteouts (image-spec, layer.md), reproducible: sorted, no access times."""

    async def changes(self, container: str, layers: Sequence[str]) -> Sequence[Change]: ...

    async def usage(self, container: str) -> int:
        """Bytes in the container's own layer."""


class CheckedStorage(StorageDriver, Protocol):
    """What a storage driver may have besides: with it `system check` sees more of it. Nothing here
    changes anything."""

    async def verify_layer(
        self, chain_id: str, parents: Sequence[str], blob: LayerBlob
    ) -> Sequence[str]:
        """Absolute paths in which an unpacked layer is not what its blob says; `parents` as for
        `unpack`. Errors: as for `unpack`."""

    async def kept_layers(self) -> Sequence[str]:
        """Chain ids of all layers that it has."""

    async def kept_containers(self) -> Sequence[str]:
        """All that it has something of."""

    async def has_own_layer(self, container: str) -> bool:
        """Whether what `prepare` makes is there, and complete."""


class OCIRuntime(Protocol):
    """An OCI runtime's command line. conmon runs `create` and `exec`; the rest is called here.

    It may have `shows_files`, a bool: False when `/proc/PID/root` of a container's process is not
    the container's file system. Without it, it is.
    """

    name: str
    preference: int
    """When nobody chooses, the highest whose `program` exists is taken."""

    def program(self) -> str:
        """Absolute path of what conmon is to execute (`conmon -r`).
        Error: DriverError that names the missing program and its package."""

    def arguments(self) -> Sequence[str]:
        """Global arguments that go before every subcommand (`--root DIR`, ...)."""

    def failure(self, text: bytes | str, doing: str = "") -> errors.RuntimeFailed:
        """What the program wrote (its log, its stderr) as an error of one line, with exit code 127
        or 126 when the container's own command is to blame; `doing`: when it wrote nothing."""

    async def start(self, container: str) -> None: ...

    async def kill(self, container: str, signal: int, *, everything: bool = False) -> None:
        """Send a signal to the container's process, or to all in it."""

    async def delete(self, container: str, *, force: bool = False) -> None:
        """Forget the container; with `force`, kill what is left of it first."""

    async def state(self, container: str) -> RuntimeState | None:
        """`None` when the runtime does not know the container."""

    async def pause(self, container: str) -> None: ...

    async def resume(self, container: str) -> None: ...

    async def update(self, container: str, resources: Mapping[str, Any]) -> None:
        """Change the limits of a running container (`linux.resources` of the runtime spec)."""

    async def version(self) -> str: ...


class NetworkDriver(Protocol):
    """Puts a network namespace on a network. Addresses are chosen by the engine."""

    name: str
    owns_subnets: bool
    """True when a subnet is the network's own: a free one is chosen, and none that the host has a
    route to. False when it is that of a network outside, and must be given."""
    publishes: bool
    """False when `Attachment.ports` mean nothing to it; then there are none."""
    has_mac: bool
    """False when its interfaces have no MAC of their own; then `Attachment.mac` is empty."""
    serves_names: bool
    """True when it answers for `Attachment.names`, on port 53 of a network's gateways, as long as
    the container is attached."""

    def warm_up(self) -> None:
        """Called as soon as a command knows that it will attach or detach: start loading what is
        slow to load, beside the engine's other work. Must not block and must not fail."""

    async def create(self, network: NetworkConfig) -> NetworkConfig:
        """The network is about to be defined, as what is returned (`network` itself, or with what
        was left open filled in). Nothing is made yet: `attach` makes what the network needs (a
        bridge) for its first container, and whenever that is gone.
        Errors: UserError for an option that is not known, Conflict for an interface in use."""

    async def remove(self, network: NetworkConfig) -> None: ...

    async def update(self, network: NetworkConfig) -> None:
        """The network's `dns` is another; containers may be on it. Only called when it has names.
        Errors: DriverError."""

    async def attach(self, attachment: Attachment) -> None:
        """Errors: DriverError; Conflict when a published port is taken. Undoes its own half."""

    async def publish(self, attachment: Attachment) -> None:
        """Only ports, names or `outward` of an attached container have changed. Errors: as for
        `attach`."""

    async def reload(self, attachment: Attachment) -> None:
        """Make again what others took away from a container that runs: interface, addresses,
        routes, rules. What is there stays, and so do connections. Errors: as `attach`; nothing is
        undone then."""

    async def detach(self, attachment: Attachment) -> None:
        """Remove interface and rules; the namespace itself may already be gone."""

    async def rules(
        self, network: NetworkConfig, attachments: Sequence[Attachment]
    ) -> Sequence[Rule]:
        """What the kernel should have for a network with all these attachments, and what it has:
        forwarding, translation, ports. Changes nothing."""

    # A driver may also have `async def sweep(network, attachments)`, with the same arguments:
    # take away what `rules` calls there and not expected. `system check --repair` calls it.

    async def close(self) -> None:
        """The command is over: stop what `warm_up` started."""


class LabelProvider(Protocol):
    """Mandatory access control (SELinux, AppArmor). The plugin bears the name of the kernel's
    security module, as /sys/kernel/security/lsm has it (`label.selinux`): where the kernel does not
    have that module, the plugin is not even loaded."""

    name: str
    option: str
    """Which `--security-opt OPTION=VALUE` are the provider's: `label`, `apparmor`."""

    def enabled(self) -> bool:
        """Whether the module is in force here. Quick: it is asked for every container made."""

    async def allocate(self, request: LabelRequest) -> Labels:
        """Decide the labels of a container. Nothing is made: the engine records what is returned,
        and it is free again when the container is removed.
        Errors: UserError for an option that is wrong here, DriverError."""

    async def prepare(self, labels: Labels) -> None:
        """The container is about to be initialized, perhaps after a reboot: make what the labels
        need in the kernel (load the profile). Errors: UserError, DriverError."""

    async def share(self, directory: str) -> None:
        """All in this directory of the engine's (layers of images) is for every container to read
        and run, and what will be made in it as well. Quick when that is done already."""

    async def relabel(self, path: str, label: str, *, shared: bool) -> None:
        """Give a file, or a directory and everything in it, this label (`Labels.mount_label`);
        `shared`: so that other containers may use it as well. Symbolic links are not followed.
        Errors: UserError for a place that must not be relabelled, DriverError."""


class EventConsumer(Protocol):
    """Takes the log somewhere else, for `tiffin events export`. It is handed events (objects of
    the published JSON Schema, `tiffin events schema`) in order, in batches, from a durable cursor:
    each at least once. A seq that comes again is the same event."""

    name: str

    async def deliver(self, events: Sequence[Mapping[str, Any]]) -> int | None:
        """Take these events. Returns the seq of the first event that is still needed (it comes
        again after a restart), or None when all are delivered for good: then the cursor moves.

        Errors: UserError when only a person can help (a wrong address, a refused password): the
        export ends. After any other the same events come again, later and later.
        """

    async def settle(self, *, last: bool) -> int | None:
        """There is nothing new for now, or (`last`) the export ends. Returns the same as `deliver`;
        is called once a second while that is not None."""

    async def close(self) -> None:
        """The export is over."""


# --- hooks ----------------------------------------------------------------------------------------


class HookSpecs:
    """The hooks, in the order in which a container meets them."""

    @hookspec(firstresult=True)
    def storage_driver(self, name: str, context: DriverContext) -> StorageDriver | None:
        """Make the storage driver `name`, or return None if it is not yours."""

    @hookspec(firstresult=True)
    def oci_runtime(self, name: str, context: DriverContext) -> OCIRuntime | None:
        """Make the runtime driver `name` (or for the program at an absolute path), or None."""

    @hookspec(firstresult=True)
    def network_driver(self, name: str, context: DriverContext) -> NetworkDriver | None:
        """Make the network driver `name`, or return None if it is not yours."""

    @hookspec(firstresult=True)
    def label_provider(self, name: str, context: DriverContext) -> LabelProvider | None:
        """Make the label provider `name`, or return None if it is not yours."""

    @hookspec
    def amend_spec(
        self, container: str, spec: Mapping[str, Any], annotations: Mapping[str, str]
    ) -> Sequence[Amendment] | None:
        """Change config.json before the runtime sees it; recorded under the plugin's name.
        Error: UserError for a wish (an annotation) that is none."""

    @hookspec(firstresult=True)
    def event_consumer(self, name: str, context: DriverContext) -> EventConsumer | None:
        """Make the consumer of events that is configured as `name`."""

    @hookspec
    def on_event(self, event: Mapping[str, Any]) -> None:
        """The short form of a consumer: an event of the log, in order, whichever process wrote it.
        Called by `tiffin events export`, never by the command that did it. After an error the same
        event comes again."""


# --- tools that drivers share ---------------------------------------------------------------------


class LayerTools(Protocol):
    """The safe tar code of tiffin, for storage drivers: see `layer_tools`."""

    unpack: Callable[..., Awaitable[LayerUsage]]


def layer_tools() -> Any:
    """The module `tiffin.layer`: unpacking, comparing and packing of layers, safe against hostile
    tars. Imported when called, because only a command that moves layers needs it."""
    from importlib import import_module

    return import_module("tiffin.layer")


def sys_tools() -> Any:
    """The module `tiffin.syscalls`: thin wrappers of the system calls that Python lacks."""
    from importlib import import_module

    return import_module("tiffin.syscalls")


def map_tools() -> Any:
    """The module `tiffin.idmap`: mounts that show other owners of files."""
    from importlib import import_module

    return import_module("tiffin.idmap")


def link_tools() -> Any:
    """The module `tiffin.rtnetlink`: links, addresses and routes by rtnetlink(7), in batches, in
    any network namespace. A driver's helper process may import it, and `tiffin.errors`, by name:
    neither needs this module, which costs milliseconds."""
    from importlib import import_module

    return import_module("tiffin.rtnetlink")


def runtime_tools() -> Any:
    """The module `tiffin.oci_runtime`: `CommandLineRuntime`, an `OCIRuntime` over a command line
    like runc's."""
    from importlib import import_module

    return import_module("tiffin.oci_runtime")


def event_steps() -> Mapping[str, tuple[str, str]]:
    """What types of events do to operations: {type: (`opens` or `closes`, operation)}. Types that
    are not in it are facts by themselves; `container.failed` and `container.recovered` close the
    operation that their data name."""
    from importlib import import_module

    steps = {}
    for name, kind in import_module("tiffin.events").registered().items():
        if kind.OPENS or kind.CLOSES:
            steps[name] = ("opens", kind.OPENS) if kind.OPENS else ("closes", kind.CLOSES)
    return steps


def post_tools() -> Any:
    """The module `tiffin.posting`: HTTP POST for consumers of events."""
    from importlib import import_module

    return import_module("tiffin.posting")


async def run_program(
    argv: Sequence[str],
    *,
    package: str = "",
    stdin: bytes | None = None,
    timeout: float = 60.0,
    check: bool = True,
) -> tuple[int, bytes, bytes]:
    """Run a program and return (exit code, stdout, stderr); see `tiffin.programs.run`."""
    from .programs import run

    return await run(argv, package=package, stdin=stdin, timeout=timeout, check=check)
