"""What a plugin sees of tiffin: hook specifications, driver protocols, and the types they name.

A plugin is a module that is registered through the entry-point group `tiffin.plugins` under a name
`KIND.NAME` (`storage.overlay`, `runtime.crun`, `network.bridge`, `label.selinux`, `consumer.audit`,
`spec.mine`). The name is all that the core knows: it loads a plugin when a command needs that kind
and name, and not before. The module implements the hooks below with `@hookimpl`.

A driver (`drivers`) gets plain data and returns plain data (`types`). It keeps no state outside its
own directory, and what it did is in the events. What drivers share is in `tools`. A plugin imports
all of them from here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from .. import errors
from .drivers import (
    CheckedStorage,
    EventConsumer,
    LabelProvider,
    NetworkDriver,
    OCIRuntime,
    StackDriver,
    StorageDriver,
)
from .marker import (
    hookimpl,
    hookspec,
)
from .tools import (
    LayerTools,
    event_steps,
    layer_tools,
    link_tools,
    map_tools,
    port_tools,
    post_tools,
    run_program,
    runtime_tools,
    stack_tools,
    sys_tools,
)
from .types import (
    Amendment,
    Attachment,
    Change,
    DriverContext,
    IdMaps,
    IdRange,
    LabelRequest,
    Labels,
    LayerBlob,
    LayerUsage,
    NetworkConfig,
    Origin,
    PortMapping,
    Process,
    Rule,
    RuntimeState,
    StaticRoute,
    Subnet,
)

__all__ = [
    "Amendment",
    "Attachment",
    "Change",
    "CheckedStorage",
    "DriverContext",
    "EventConsumer",
    "HOOK_VERSION",
    "HookSpecs",
    "IdMaps",
    "IdRange",
    "LabelProvider",
    "LabelRequest",
    "Labels",
    "LayerBlob",
    "LayerTools",
    "LayerUsage",
    "NetworkConfig",
    "NetworkDriver",
    "OCIRuntime",
    "OLDEST_HOOK_VERSION",
    "Origin",
    "PortMapping",
    "Process",
    "Rule",
    "RuntimeState",
    "StackDriver",
    "StaticRoute",
    "StorageDriver",
    "Subnet",
    "errors",
    "event_steps",
    "hookimpl",
    "hookspec",
    "layer_tools",
    "link_tools",
    "map_tools",
    "port_tools",
    "post_tools",
    "run_program",
    "runtime_tools",
    "stack_tools",
    "sys_tools",
]

HOOK_VERSION = 1
"""Raised when the specifications change. A plugin's module says which version it is made for
(`TIFFIN_HOOK_VERSION = 1`; without that, the oldest)."""
OLDEST_HOOK_VERSION = 1
"""Raised when a change breaks plugins: those that are made for an older version are refused."""


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
