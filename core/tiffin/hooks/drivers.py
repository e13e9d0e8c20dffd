"""The protocols that drivers satisfy.

Every method may be called again after a crash, so each must be idempotent: making what exists, or
removing what is gone, is success.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from .. import errors
from .types import (
    Attachment,
    Change,
    LabelRequest,
    Labels,
    LayerBlob,
    LayerUsage,
    NetworkConfig,
    Process,
    Rule,
    RuntimeState,
)


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


class MappingStorage(StorageDriver, Protocol):
    """What a storage driver may have besides, when it works where containers with ids of their own
    (--userns) cannot: another driver is then taken for those, unless this one was asked for."""

    def cannot_map(self) -> str | None:
        """Why they cannot; `None`: they can."""


class OCIRuntime(Protocol):
    """An OCI runtime's command line. conmon runs `create` and `exec`; the rest is called here.

    It may have `shows_files`, a bool: False when `/proc/PID/root` of a container's process is not
    the container's file system. Without it, it is. And `host_process`, a bool: True when the
    container's process is one of this machine's, which a signal may go to directly. Without it,
    `kill` is called.
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

    async def attach(self, attachment: Attachment) -> Sequence[Process] | None:
        """Errors: DriverError; Conflict when a published port is taken. Undoes its own half.
        Returns what it has started that is to outlive the command; `detach` ends it, and finds it
        without being told its pid: the command may be killed before that is written down."""

    async def publish(self, attachment: Attachment) -> None:
        """Only ports, names or `outward` of an attached container have changed. Errors: as for
        `attach`."""

    async def reload(self, attachment: Attachment) -> Sequence[Process] | None:
        """Make again what others took away from a container that runs: interface, addresses,
        routes, rules. What is there stays, and so do connections. Errors: as `attach`; nothing is
        undone then. Returns what runs afterwards, as `attach` does."""

    async def detach(self, attachment: Attachment) -> None:
        """Remove interface and rules; the namespace itself may already be gone."""

    async def rules(
        self, network: NetworkConfig, attachments: Sequence[Attachment]
    ) -> Sequence[Rule]:
        """What the kernel should have for a network with all these attachments, and what it has:
        forwarding, translation, ports. Changes nothing."""

    # A driver may also have `home: str`: the path of a network namespace, in its directory, that is
    # the host to it (an ordinary user's). The engine has it there, with a way out, while containers
    # are attached, and until `detach` is done.

    # A driver may also have `async def sweep(network, attachments)`, with the same arguments:
    # take away what `rules` calls there and not expected. `system check --repair` calls it.

    async def close(self) -> None:
        """The command is over: stop what `warm_up` started."""


class StackDriver(NetworkDriver, Protocol):
    """A network driver whose name is a mode (`--network pasta[:OPTION,...]`): each container has a
    network of its own, made by a process beside it."""

    protocols: Sequence[str]
    """Of ports that it can publish."""

    def running(self, attachment: Attachment) -> Process | None:
        """The process, if it is there."""

    async def stack(self, container: str, netns: str, words: Sequence[str]) -> Attachment:
        """Decide the network of one container: subnets, addresses, name servers, the host's
        address; ports and roles are filled in by the engine. Makes nothing. `words` are those of
        the option, by comma. Error: UserError for one that is not known."""


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
