"""What the service of each kind of file does."""

from __future__ import annotations

import os

from ..errors import UserError
from . import unitfile
from .translate import Draft, Service, outside_name, resource_name, service_name

TYPE_CHECKING = False  # without importing typing
if TYPE_CHECKING:
    from collections.abc import Callable

PLATFORMS = {"amd64": "amd64", "x86_64": "amd64", "aarch64": "arm64", "arm64": "arm64"}
STOP_TIMEOUT = "10"


def container(draft: Draft) -> Service:
    source, context = draft.source, draft.context
    name = resource_name(source)
    image = draft.last("Image")
    if not image:
        raise UserError("Image= is missing in [Container]")
    oneshot = _container_type(draft)
    words = context.command(source, "run", "--name", name, "--replace", "--rm")
    pod = _pod(draft)
    words += ["--cgroups", draft.last("CgroupsMode") or "split"]
    if not oneshot:
        words += ["--sdnotify", _notify(draft), "--detach"]
        words += ["--log-driver", draft.last("LogDriver") or "journald"]
    elif draft.last("LogDriver"):
        words += ["--log-driver", draft.last("LogDriver")]
    words += ["--label", "PODMAN_SYSTEMD_UNIT=%n", *pod]
    if draft.last("AutoUpdate"):
        words += ["--label", f"io.containers.autoupdate={draft.last('AutoUpdate')}"]
    words += [*draft.flags(), *_user(draft), *_security(draft), *_devices(draft)]
    for file in draft.all("EnvironmentFile"):
        words += ["--env-file", draft.path(file)]
    if draft.boolean("EnvironmentHost"):
        words += ["--env", "*"]
    words += [*_volumes(draft), *_mounts(draft), *_networks(draft), *draft.more()]
    words += [_image(draft, image, "Image"), *draft.text.words("Container", "Exec")]
    _reload(draft, name)
    remove = context.command(source, "rm", "-v", "-f", "-i", name)
    draft.serve("Type", "notify")
    draft.serve("NotifyAccess", "all")
    draft.serve("KillMode", "mixed")
    draft.serve("Delegate", "yes")
    draft.serve("SyslogIdentifier", "%N")
    draft.service.append(("Environment", "PODMAN_SYSTEMD_UNIT=%n"))
    draft.run("ExecStart", words)
    # `rm -f` would kill at once what a stop signal lets end by itself.
    draft.run("ExecStop", context.command(source, "stop", "--ignore", name))
    draft.run("ExecStopPost", remove, optional=True)
    service = draft.finish()
    if pod and draft.boolean("StartWithPod") is not False:
        context.started_by_pod.setdefault(draft.last("Pod"), []).append(service.name)
    return service


def _container_type(draft: Draft) -> bool:
    """True for a service that ends with the container. Error: UserError."""
    kind = draft.said("Type")
    if kind not in ("", "notify", "oneshot"):
        raise UserError(f"Type={kind} in [Service] does not go with a container: notify or oneshot")
    mode = draft.said("KillMode")
    if mode not in ("", "mixed", "control-group"):
        raise UserError(
            f"KillMode={mode} in [Service] leaves containers behind: mixed or control-group"
        )
    return kind == "oneshot"


def _notify(draft: Draft) -> str:
    given = draft.last("Notify")
    if given == "healthy":
        raise UserError("Notify=healthy is not there in tiffin yet: yes or no")
    return "container" if draft.boolean("Notify") else "conmon"


def _pod(draft: Draft) -> list[str]:
    given = draft.last("Pod")
    if not given:
        return []
    if not given.endswith(".pod"):
        raise UserError(f"Pod={given} is not the name of a .pod file")
    pod = draft.context.find(given, f"Pod={given}")
    service = service_name(pod)
    draft.unit += [("BindsTo", service), ("After", service)]
    return ["--pod", outside_name(pod)]


def _user(draft: Draft) -> list[str]:
    user, group = draft.last("User"), draft.last("Group")
    if group and not user:
        raise UserError("Group= needs User= as well")
    if not user:
        return []
    return ["--user", f"{user}:{group}" if group else user]


def _security(draft: Draft) -> list[str]:
    words = []
    if draft.boolean("NoNewPrivileges"):
        words += ["--security-opt", "no-new-privileges"]
    if draft.boolean("SecurityLabelDisable"):
        words += ["--security-opt", "label=disable"]
    if draft.boolean("SecurityLabelNested"):
        words += ["--security-opt", "label=nested"]
    if draft.boolean("ReadOnlyTmpfs") is False:
        raise UserError("ReadOnlyTmpfs=no is not there in tiffin: ReadOnly= always leaves /tmp")
    return words


def _devices(draft: Draft) -> list[str]:
    """With `-` in front: only when it is there."""
    words = []
    for device in draft.all("AddDevice"):
        if device.startswith("-"):
            device = device[1:]
            if not os.path.exists(device.partition(":")[0]):
                continue
        words += ["--device", device]
    return words


def _reload(draft: Draft, name: str) -> None:
    words = draft.text.words("Container", "ReloadCmd")
    number = draft.last("ReloadSignal")
    if words and number:
        raise UserError("ReloadCmd= and ReloadSignal= exclude each other")
    command = draft.context.command(draft.source)
    if words:
        draft.run("ExecReload", [*command, "exec", name, *words])
    if number:
        draft.run("ExecReload", [*command, "kill", "--signal", number, name])


# --- what refers to other files -------------------------------------------------------------------


def _refer(draft: Draft, given: str, key: str) -> str:
    """The name of what another file makes, which is needed then."""
    other = draft.context.find(given, f"{key}={given}")
    draft.needs(service_name(other))
    return outside_name(other)


def _image(draft: Draft, image: str, key: str) -> str:
    if image.endswith((".image", ".build")):
        return _refer(draft, image, key)
    return image


def _source(draft: Draft, given: str, key: str) -> str:
    """What is mounted: a .volume file's volume, a path, a volume's name."""
    if given.endswith(".volume"):
        return _refer(draft, given, key)
    if given.startswith("."):
        return draft.path(given)
    return given


def _volumes(draft: Draft) -> list[str]:
    words = []
    for volume in draft.all("Volume"):
        given, colon, rest = volume.partition(":")
        words += ["--volume", f"{_source(draft, given, 'Volume')}{colon}{rest}" if colon else given]
    return words


def _mounts(draft: Draft) -> list[str]:
    words = []
    for mount in draft.all("Mount"):
        fields = []
        kind = next((f[5:] for f in mount.split(",") if f.startswith("type=")), "")
        for field in mount.split(","):
            name, equals, value = field.partition("=")
            if name in ("source", "src") and equals:
                if kind == "image":
                    value = _image(draft, value, "Mount")
                elif kind in ("volume", "bind", "glob"):
                    value = _source(draft, value, "Mount")
                field = f"{name}={value}"
            fields.append(field)
        words += ["--mount", ",".join(fields)]
    return words


def _networks(draft: Draft) -> list[str]:
    words = []
    for network in draft.all("Network"):
        given, colon, options = network.partition(":")
        if given.endswith(".network"):
            given = _refer(draft, given, "Network")
        elif given.endswith(".container"):
            given = f"container:{_refer(draft, given, 'Network')}"
        words += ["--network", f"{given}{colon}{options}"]
    return words


# --- what is made once ----------------------------------------------------------------------------


def _once(draft: Draft) -> None:
    kind = draft.said("Type")
    if kind not in ("", "oneshot"):
        raise UserError(f"Type={kind} in [Service] does not go with it: oneshot")
    draft.serve("Type", "oneshot")
    draft.serve("RemainAfterExit", "yes")
    draft.serve("SyslogIdentifier", "%N")


def volume(draft: Draft) -> Service:
    words = draft.context.command(draft.source, "volume", "create", "--ignore")
    driver = draft.last("Driver")
    if driver not in ("", "local"):
        raise UserError(f"Driver={driver} is not there in tiffin: local")
    options = [f"uid={draft.last('User')}"] if draft.last("User") else []
    options += [f"gid={draft.last('Group')}"] if draft.last("Group") else []
    if (draft.last("Options") or draft.last("Type")) and not draft.last("Device"):
        raise UserError("Options= and Type= need Device= as well")
    options += [draft.last("Options")] if draft.last("Options") else []
    options += ["nocopy"] if draft.boolean("Copy") is False else []
    words += draft.flags()
    if options:
        words += ["--opt", f"o={','.join(options)}"]
    _once(draft)
    draft.run("ExecStart", [*words, *draft.more(), resource_name(draft.source)])
    return draft.finish(online=False)


def network(draft: Draft) -> Service:
    for key in ("Gateway", "IPRange"):
        if len(draft.all(key)) > len(draft.all("Subnet")):
            raise UserError(f"{key}= needs a Subnet= for each")
    words = draft.context.command(draft.source, "network", "create", "--ignore")
    _once(draft)
    name = resource_name(draft.source)
    draft.run("ExecStart", [*words, *draft.flags(), *draft.more(), name])
    if draft.boolean("NetworkDeleteOnStop"):
        draft.run("ExecStopPost", draft.context.command(draft.source, "network", "rm", name))
    return draft.finish(online=False)


def image(draft: Draft) -> Service:
    given = draft.last("Image")
    if not given:
        raise UserError("Image= is missing in [Image]")
    _once(draft)
    words = draft.context.command(draft.source, "pull", *draft.flags(), *_platform(draft))
    draft.run("ExecStart", [*words, *draft.more(), given])
    return draft.finish()


def _platform(draft: Draft) -> list[str]:
    arch, system, variant = (draft.last(key) for key in ("Arch", "OS", "Variant"))
    if not (arch or system or variant):
        return []
    arch = arch or PLATFORMS.get(os.uname().machine, os.uname().machine)
    return ["--platform", "/".join(filter(None, (system or "linux", arch, variant)))]


def build(draft: Draft) -> Service:
    if not draft.all("ImageTag"):
        raise UserError("ImageTag= is missing in [Build]")
    file, place = draft.last("File"), draft.last("SetWorkingDirectory")
    for given in (file, place):
        if "://" in given:
            raise UserError(f"{given}: tiffin builds from local directories only")
    if not (file or place or draft.said("WorkingDirectory")):
        raise UserError("File= or SetWorkingDirectory= is missing in [Build]")
    words = draft.context.command(draft.source, "build", *draft.flags(), *_platform(draft))
    words += [*_volumes(draft), *_networks(draft)]
    for key, flag in (("File", "--file"), ("IgnoreFile", "--ignorefile")):
        if draft.last(key):
            words += [flag, draft.path(draft.last(key))]
    if place == "unit":
        directory = unitfile.literal(draft.source.directory)
    elif place == "file":
        if not file:
            raise UserError("SetWorkingDirectory=file needs File= as well")
        directory = os.path.dirname(draft.path(file))
    elif place:
        directory = draft.path(place)
    else:
        directory = draft.said("WorkingDirectory") or os.path.dirname(draft.path(file))
    if place in ("unit", "file"):
        draft.serve("WorkingDirectory", directory.replace("$$", "$"))
    _once(draft)
    draft.run("ExecStart", [*words, *draft.more(), directory])
    return draft.finish()


def pod(draft: Draft) -> Service:
    """No process of the pod's own: the service is active from its making to its removal, and as
    ExitPolicy=stop has it, no longer than the last service of a container in it."""
    source, context = draft.source, draft.context
    policy = draft.last("ExitPolicy") or "stop"
    if policy not in ("stop", "continue"):
        raise UserError(f"ExitPolicy={policy} is not known: stop or continue")
    name = resource_name(source)
    for service in context.started_by_pod.get(source.name, ()):
        draft.unit += [("Wants", service), ("Before", service)]
    if policy == "stop" and context.started_by_pod.get(source.name):
        draft.unit.append(("StopWhenUnneeded", "yes"))
    words = context.command(source, "pod", "create", "--replace", "--name", name)
    words += ["--label", "PODMAN_SYSTEMD_UNIT=%n", *draft.flags(), *_networks(draft)]
    _once(draft)
    draft.run("ExecStart", [*words, *draft.more()])
    timeout = draft.last("StopTimeout") or STOP_TIMEOUT
    stop = context.command(source, "pod", "stop", "--ignore", "--time", timeout, name)
    draft.run("ExecStop", stop)
    draft.run("ExecStopPost", context.command(source, "pod", "rm", "-f", "-i", name), optional=True)
    return draft.finish()


MAKERS: dict[str, Callable[[Draft], Service]] = {
    "container": container,
    "pod": pod,
    "network": network,
    "volume": volume,
    "image": image,
    "build": build,
}
