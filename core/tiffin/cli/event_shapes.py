"""Events in the shapes that podman's and docker's scripts expect of `events`.

Sources: podman-events(1) (types, statuses, fields of `--format json`); Docker Engine API, operation
SystemEvents (Type, Action, Actor, scope, time, timeNano) and `docker events` (actions by object).
What has no counterpart there, the plans above all, is left out.
"""

from __future__ import annotations

from . import reads

TYPE_CHECKING = False  # without importing typing
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from .event_names import Names

PODMAN = {
    "container.created": "create",
    "container.mounted": "mount",
    "container.unmounted": "unmount",
    "container.initialized": "init",
    "container.started": "start",
    "container.paused": "pause",
    "container.unpaused": "unpause",
    "container.signal_sent": "kill",
    "container.exited": "died",
    "container.cleaned_up": "cleanup",
    "container.removed": "remove",
    "container.renamed": "rename",
    "container.updated": "update",
    "container.committed": "commit",
    "health.checked": "health_status",
    "exec.started": "exec",
    "exec.exited": "exec_died",
    "transfer.finished": "pull",
    "image.pushed": "push",
    "image.tagged": "tag",
    "image.untagged": "untag",
    "image.removed": "remove",
    "mount.made": "mount",
    "mount.removed": "unmount",
    "network.created": "create",
    "container.connected": "connect",
    "container.disconnected": "disconnect",
    "network.updated": "update",
    "network.removed": "remove",
    "pod.created": "create",
    "pod.started": "start",
    "pod.stopped": "stop",
    "pod.killed": "kill",
    "pod.paused": "pause",
    "pod.unpaused": "unpause",
    "pod.removed": "remove",
    "secret.created": "create",
    "secret.removed": "remove",
    "volume.created": "create",
    "volume.mounted": "mount",
    "volume.unmounted": "unmount",
    "volume.removed": "remove",
}
DOCKER = PODMAN | {
    "plugin.enabled": "enable",
    "plugin.disabled": "disable",
    "container.exited": "die",
    "container.removed": "destroy",
    "health.changed": "health_status",
    "exec.started": "exec_start",
    "exec.exited": "exec_die",
    "image.removed": "delete",
    "network.removed": "destroy",
    "volume.removed": "destroy",
}
for _only_podman in ("mounted", "unmounted", "initialized", "cleaned_up"):
    del DOCKER[f"container.{_only_podman}"]
del DOCKER["mount.made"], DOCKER["mount.removed"]
del DOCKER["health.checked"]  # docker tells of changes only

CAME = {"load": ("loadfromarchive", "load"), "import": ("import", "import"), "commit": ("", "")}
"""What podman and docker call a transfer that is no pull, by the first word of its source; nothing
of a commit's: that is an event of its container."""


def statuses(event: dict[str, Any], first: Callable[[str], dict[str, Any]]) -> tuple[str, str]:
    """What podman and docker call it; "" when they know no such event. `first` gives the data of
    the event that a stream began with."""
    if event["type"] == "transfer.finished":
        source = str(first(event["stream"]).get("source", "")).partition(" ")[0]
        if source in CAME:
            return CAME[source]
    return PODMAN.get(event["type"], ""), DOCKER.get(event["type"], "")


CONNECTIONS = ("container.connected", "container.disconnected")


def subject(event: dict[str, Any], names: Names) -> tuple[str, str, str, str]:
    """(kind, id, name, image) as both engines think of them: an exec and a commit belong to their
    container, a transfer to the image it brought."""
    kind, _, key = str(event["stream"]).partition("/")
    if event["type"] in CONNECTIONS:  # theirs are events of the network
        return "network", names.container(event), str(event["data"].get("network", "")), ""
    if kind in ("container", "exec"):
        image = str(names.creation(event).get("image_name", ""))
        return "container", names.container(event), names.name(event), image
    if kind == "transfer":
        brought = event["data"].get("image_ids") or [""]
        name = names.name(event)
        word, _, rest = name.partition(" ")
        return "image", str(brought[0]).removeprefix("sha256:"), rest if word in CAME else name, ""
    if kind == "mount":
        image = str(names.first(event["stream"]).get("image_id", ""))
        return "image", image.removeprefix("sha256:"), names.name(event), ""
    return kind, key.removeprefix("sha256:"), names.name(event), ""


def podman(event: dict[str, Any], names: Names) -> dict[str, Any] | None:
    """The event as `podman events --format json` has it; None when podman knows no such event."""
    status, _ = statuses(event, names.first)
    if not status:
        return None
    kind, key, name, image = subject(event, names)
    shape: dict[str, Any] = {
        "ID": key,
        "Image": image,
        "Name": name,
        "Network": name if kind == "network" else "",
        "Status": status,
        "Time": event["time"],
        "TimeNano": event["timeNano"],
        "Type": kind,
        "Attributes": dict(names.creation(event).get("labels") or {}),
        "ContainerExitCode": 0,
    }
    if event["type"] in ("container.exited", "exec.exited"):
        shape["ContainerExitCode"] = event["data"].get("exit_code", 0)
    if event["type"] == "health.checked":
        shape["HealthStatus"] = event["data"]["status"]
    return shape


def docker(event: dict[str, Any], names: Names) -> dict[str, Any] | None:
    """The event as `docker events --format json` has it; None when docker knows no such event."""
    _, action = statuses(event, names.first)
    if not action:
        return None
    kind, key, name, image = subject(event, names)
    data = event["data"]
    attributes = dict(names.creation(event).get("labels") or {})
    if image:
        attributes["image"] = image
    if name:
        attributes["name"] = name
    if "exit_code" in data:
        attributes["exitCode"] = str(data["exit_code"])
    if "signal" in data:
        attributes["signal"] = str(data["signal"])
    if event["type"].startswith("exec."):
        attributes["execID"] = str(event["stream"]).partition("/")[2]
    if event["type"] == "health.changed":
        action = f"{action}: {data['status']}"
    if event["type"] in CONNECTIONS:
        key = str(data["network_id"])
        attributes = {"container": names.container(event), "name": name}
    shape: dict[str, Any] = {
        "Type": kind,
        "Action": action,
        "Actor": {"ID": key, "Attributes": attributes},
        "scope": "local",
        "time": event["timeNano"] // 1_000_000_000,
        "timeNano": event["timeNano"],
    }
    if kind in ("container", "image"):  # the fields of API versions before 1.22, which scripts use
        shape = {"status": action, "id": key, "from": image or name, **shape}
    return shape


def docker_template(shape: dict[str, Any]) -> dict[str, Any]:
    """docker's fields as its templates name them: `.Status`, `.ID`, `.From`, `.Scope`, `.Time`."""
    return {
        **shape,
        "Status": shape["Action"],
        "ID": shape["Actor"]["ID"],
        "From": shape.get("from", ""),
        "Scope": shape["scope"],
        "Time": shape["time"],
        "TimeNano": shape["timeNano"],
    }


SHAPES = {"podman": podman, "docker": docker}


def own_template(event: dict[str, Any], names: Names) -> dict[str, Any]:
    """The event for a Go template: fields by their JSON names and with a capital (`{{.Type}}`,
    `{{.Actor.uid}}`), and what podman's scripts name: `.ID`, `.Name`, `.Image`, `.Status`."""
    _, key, name, image = subject(event, names)
    status, action = statuses(event, names.first)
    own = event["type"].partition(".")[2]
    return {
        **event,
        **{name[0].upper() + name[1:]: value for name, value in event.items()},
        "ID": key,
        "ShortID": key[: reads.SHORT],
        "Name": name,
        "Image": image,
        "Status": status or own,
        "Action": action or own,
    }
