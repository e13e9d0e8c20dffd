"""Events of `container/ID`: one container's life."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from .base import Event


class CreationPlanned(Event, frozen=True, kw_only=True):
    """A container is about to be made. Everything that is known of it for its whole life is here:
    the fold of this event is its row, in state *creating*, with its name reserved."""

    TYPE: ClassVar[str] = "container.creation_planned"
    OPENS: ClassVar[str] = "create"

    name: str
    image: str
    """The reference as given."""
    image_id: str
    image_name: str
    command: tuple[str, ...]
    """What will run: entrypoint and arguments, for people; config.json has the exact words."""
    options: Mapping[str, Any]
    """`tiffin.options.ContainerOptions` as plain data, without secrets."""
    storage_driver: str
    runtime: str
    network: str
    """`none`, `host` or names of networks, comma-separated."""
    layers: tuple[str, ...]
    """Chain ids, lowest first."""
    ports: tuple[Mapping[str, Any], ...] = ()
    """Published ports, with host ports chosen."""
    labels: Mapping[str, str] = {}
    directory: str
    stop_signal: int = 15
    stop_timeout: int = 10
    remove: bool = False
    """`--rm`"""
    security_labels: Mapping[str, Mapping[str, str]] = {}
    """Label provider -> `tiffin.hooks.Labels` as plain data; what they claim is the container's
    until it is removed."""
    id_maps: Mapping[str, Any] = {}
    """`tiffin.hooks.IdMaps` as plain data: the ids of its user namespace; empty: the host's."""


class Created(Event, frozen=True, kw_only=True):
    """Metadata and the directory exist; no mount, no config.json, no process."""

    TYPE: ClassVar[str] = "container.created"
    CLOSES: ClassVar[str] = "create"


class MountPlanned(Event, frozen=True, kw_only=True):
    """The copy-on-write layer is about to be mounted at `path`."""

    TYPE: ClassVar[str] = "container.mount_planned"
    OPENS: ClassVar[str] = "mount"

    driver: str
    path: str
    userns: str = ""
    """Where its user namespace is about to be pinned."""


class Mounted(Event, frozen=True, kw_only=True):
    """The container's file system is mounted."""

    TYPE: ClassVar[str] = "container.mounted"
    CLOSES: ClassVar[str] = "mount"

    path: str
    pinned: bool = False
    """Mounted by `tiffin mount`: it stays until `unmount`, whatever the process does."""


class UnmountPlanned(Event, frozen=True, kw_only=True):
    """The container's file system is about to be unmounted."""

    TYPE: ClassVar[str] = "container.unmount_planned"
    OPENS: ClassVar[str] = "unmount"

    path: str = ""


class Unmounted(Event, frozen=True, kw_only=True):
    """The container's file system is no longer mounted; its layer stays."""

    TYPE: ClassVar[str] = "container.unmounted"
    CLOSES: ClassVar[str] = "unmount"


class InitPlanned(Event, frozen=True, kw_only=True):
    """The network namespace, its attachments, config.json, conmon and the runtime's container are
    about to be made: enough is named here to take each of them away."""

    TYPE: ClassVar[str] = "container.init_planned"
    OPENS: ClassVar[str] = "init"

    runtime: str
    program: str
    """The runtime's program, as conmon runs it."""
    bundle: str
    rootfs: str
    cgroup: str = ""
    netns: str = ""
    userns: str = ""
    attachments: tuple[Mapping[str, Any], ...] = ()
    """`tiffin.hooks.Attachment` as plain data."""
    process_label: str = ""
    mount_label: str = ""
    apparmor_profile: str = ""
    relabels: tuple[str, ...] = ()
    """Sources of bind mounts that are about to get the container's label (`:z`, `:Z`)."""


class Initialized(Event, frozen=True, kw_only=True):
    """config.json is written and the runtime has *created* the container. Nothing of the user's
    has run yet."""

    TYPE: ClassVar[str] = "container.initialized"
    CLOSES: ClassVar[str] = "init"

    pid: int
    conmon_pid: int
    spec: str
    """`sha256:HEX` of config.json."""
    processes: tuple[Mapping[str, Any], ...] = ()
    """`tiffin.hooks.Process` of what its networks have started, as plain data."""


class StartPlanned(Event, frozen=True, kw_only=True):
    """The user's process is about to run."""

    TYPE: ClassVar[str] = "container.start_planned"
    OPENS: ClassVar[str] = "start"


class Started(Event, frozen=True, kw_only=True):
    """The user's process runs."""

    TYPE: ClassVar[str] = "container.started"
    CLOSES: ClassVar[str] = "start"

    pid: int


class SignalSent(Event, frozen=True, kw_only=True):
    """A signal was sent to the container's process (`kill`, `stop`, a proxied signal)."""

    TYPE: ClassVar[str] = "container.signal_sent"

    signal: int
    reason: str = ""
    """`kill`, `stop`, `stop timeout`, `proxy`."""


class PausePlanned(Event, frozen=True, kw_only=True):
    """All processes of the container are about to be frozen."""

    TYPE: ClassVar[str] = "container.pause_planned"
    OPENS: ClassVar[str] = "pause"


class Paused(Event, frozen=True, kw_only=True):
    """The container's processes are frozen where they were."""

    TYPE: ClassVar[str] = "container.paused"
    CLOSES: ClassVar[str] = "pause"


class UnpausePlanned(Event, frozen=True, kw_only=True):
    """The frozen processes of the container are about to go on."""

    TYPE: ClassVar[str] = "container.unpause_planned"
    OPENS: ClassVar[str] = "unpause"


class Unpaused(Event, frozen=True, kw_only=True):
    """The container's processes go on."""

    TYPE: ClassVar[str] = "container.unpaused"
    CLOSES: ClassVar[str] = "unpause"


class Renamed(Event, frozen=True, kw_only=True):
    """The container has another name."""

    TYPE: ClassVar[str] = "container.renamed"

    name: str
    was: str


class Exited(Event, frozen=True, kw_only=True):
    """The container's process ended. Recorded by conmon's exit command, by the attached `run`, or
    by the first command that notices it (`reason`)."""

    TYPE: ClassVar[str] = "container.exited"

    exit_code: int
    """As a shell would say it: 128 + n for signal n."""
    oom: bool = False
    reason: str = ""
    """Empty, or how it was noticed when nobody recorded it: `lost`, `reboot`."""


class NetworkReloadPlanned(Event, frozen=True, kw_only=True):
    """The container's interfaces, addresses, routes and rules are about to be made again where they
    are missing: those that `container.init_planned` named."""

    TYPE: ClassVar[str] = "container.network_reload_planned"
    OPENS: ClassVar[str] = "reload"


class NetworkReloaded(Event, frozen=True, kw_only=True):
    """Interfaces, addresses, routes and rules are what they should be."""

    TYPE: ClassVar[str] = "container.network_reloaded"
    CLOSES: ClassVar[str] = "reload"

    processes: tuple[Mapping[str, Any], ...] = ()
    """Of its networks, as they are now: `tiffin.hooks.Process` as plain data."""


class ConnectPlanned(Event, frozen=True, kw_only=True):
    """A container that runs is about to be put on one more network."""

    TYPE: ClassVar[str] = "container.connect_planned"
    OPENS: ClassVar[str] = "connect"

    network: str
    attachment: Mapping[str, Any]
    before: tuple[Mapping[str, Any], ...] = ()
    """`tiffin.hooks.Attachment` of each network that it was on, as plain data."""
    attachments: tuple[Mapping[str, Any], ...] = ()
    """The same afterwards: ports and routes of the others may change as well."""


class Connected(Event, frozen=True, kw_only=True):
    """The container is on one more network, now if it runs, or from its next start on."""

    TYPE: ClassVar[str] = "container.connected"
    CLOSES: ClassVar[str] = "connect"

    network: str
    network_id: str
    networks: str
    """Names of all that it is on, comma-separated."""
    joins: tuple[Mapping[str, Any], ...] = ()
    """`tiffin.options.NetworkOptions` for those that have some, as plain data."""


class ConnectFailed(Event, frozen=True, kw_only=True):
    """The container is on the networks that it was on."""

    TYPE: ClassVar[str] = "container.connect_failed"
    CLOSES: ClassVar[str] = "connect"

    network: str
    network_id: str
    before: tuple[Mapping[str, Any], ...] = ()
    error: str


class DisconnectPlanned(Event, frozen=True, kw_only=True):
    """A container that runs is about to be taken off a network."""

    TYPE: ClassVar[str] = "container.disconnect_planned"
    OPENS: ClassVar[str] = "disconnect"

    network: str
    networks: str
    joins: tuple[Mapping[str, Any], ...] = ()
    attachment: Mapping[str, Any]
    attachments: tuple[Mapping[str, Any], ...] = ()
    """Those that it keeps, as they will be."""


class Disconnected(Event, frozen=True, kw_only=True):
    """The container is no longer on a network."""

    TYPE: ClassVar[str] = "container.disconnected"
    CLOSES: ClassVar[str] = "disconnect"

    network: str
    network_id: str
    networks: str
    joins: tuple[Mapping[str, Any], ...] = ()
    attachments: tuple[Mapping[str, Any], ...] = ()


class CleanupPlanned(Event, frozen=True, kw_only=True):
    """Mount, network attachments and the runtime's state of an ended container are about to go."""

    TYPE: ClassVar[str] = "container.cleanup_planned"
    OPENS: ClassVar[str] = "cleanup"


class CleanedUp(Event, frozen=True, kw_only=True):
    """Mount, network and runtime state are gone; metadata, config.json and layer stay."""

    TYPE: ClassVar[str] = "container.cleaned_up"
    CLOSES: ClassVar[str] = "cleanup"


class RemovalPlanned(Event, frozen=True, kw_only=True):
    """The container is about to be removed; from here on it can only be removed."""

    TYPE: ClassVar[str] = "container.removal_planned"
    OPENS: ClassVar[str] = "remove"

    force: bool = False
    volumes: bool = False
    """Its anonymous volumes as well."""


class Removed(Event, frozen=True, kw_only=True):
    """Metadata, config.json and copy-on-write layer are gone. The log keeps its history."""

    TYPE: ClassVar[str] = "container.removed"
    CLOSES: ClassVar[str] = "remove"


class Committed(Event, frozen=True, kw_only=True):
    """The copy-on-write layer was saved as an image."""

    TYPE: ClassVar[str] = "container.committed"

    image_id: str
    image_name: str = ""


class UpdatePlanned(Event, frozen=True, kw_only=True):
    """The container is about to have these limits."""

    TYPE: ClassVar[str] = "container.update_planned"
    OPENS: ClassVar[str] = "update"

    resources: Mapping[str, Any]
    """`tiffin.options.Resources` as plain data: all limits, not only those that change."""


class Updated(Event, frozen=True, kw_only=True):
    """The container has these limits, now if it runs, and at its next starts."""

    TYPE: ClassVar[str] = "container.updated"
    CLOSES: ClassVar[str] = "update"

    resources: Mapping[str, Any]


class RestartPolicyChanged(Event, frozen=True, kw_only=True):
    """What becomes of the container when it ends by itself is another from now on."""

    TYPE: ClassVar[str] = "container.restart_policy_changed"

    restart: str
    """`always`, `unless-stopped`, `on-failure`; empty: it stays ended."""
    restart_limit: int = 0
    previous: str = ""


class RuntimeChanged(Event, frozen=True, kw_only=True):
    """The container has another OCI runtime, from its next start on."""

    TYPE: ClassVar[str] = "container.runtime_changed"

    runtime: str
    previous: str


class MigrationPlanned(Event, frozen=True, kw_only=True):
    """The container's own layer is about to be copied to another storage driver."""

    TYPE: ClassVar[str] = "container.migration_planned"
    OPENS: ClassVar[str] = "migrate"

    source: str
    target: str


class StorageSwitched(Event, frozen=True, kw_only=True):
    """All of the container's layer is on this storage driver, which has it from now on; the old
    copy is about to be removed."""

    TYPE: ClassVar[str] = "container.storage_switched"

    driver: str


class Migrated(Event, frozen=True, kw_only=True):
    """Nothing of the container is left on its old storage driver."""

    TYPE: ClassVar[str] = "container.migrated"
    CLOSES: ClassVar[str] = "migrate"

    source: str
    target: str


class ConfigRewritten(Event, frozen=True, kw_only=True):
    """config.json was missing or altered, and `system check --repair` wrote it again, not quite as
    it was: the machine or the options are others by now."""

    TYPE: ClassVar[str] = "container.config_rewritten"

    spec: str
    """`sha256:HEX` of config.json."""


class FilesCopied(Event, frozen=True, kw_only=True):
    """Files were copied into the container from outside (`cp`)."""

    TYPE: ClassVar[str] = "container.files_copied"

    path: str
    """Where to, as given."""


class Failed(Event, frozen=True, kw_only=True):
    """An operation failed; what it had done is undone. Closes its intent."""

    TYPE: ClassVar[str] = "container.failed"

    operation: str
    error: str
    state: str
    """The state that the container is in now."""


class Recovered(Event, frozen=True, kw_only=True):
    """A command found the open intent of a dead process and finished or undid it."""

    TYPE: ClassVar[str] = "container.recovered"

    operation: str
    intent: int
    """seq of the intent."""
    how: str
    """`finished` or `undone`."""
    state: str
