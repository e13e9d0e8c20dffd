"""config.json: a pure function of image, user's options, engine defaults and facts of the host.

Nothing is opened or looked up here; `build` gives the document and, for every field, its origin.
Sources of the rules: runtime-spec (config.md, config-linux.md), image-spec (conversion.md),
podman-run(1), containers.conf(5).
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any

from msgspec import Struct

from .. import network_modes
from ..errors import UserError
from ..hooks import IdMaps, IdRange, Origin
from ..options import ContainerOptions
from . import capabilities, idmaps, mounts, paths, resources, rlimits, seccomp
from .draft import Draft
from .facts import HostFacts
from .origins import token
from .users import User

VERSION = "1.0.2"
"""The runtime specification that we write."""

DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

SELINUX = "/sys/fs/selinux"

MASKED = (
    "/proc/acpi",
    "/proc/asound",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/sys/dev/block",
    "/sys/devices/virtual/powercap",
    "/sys/firmware",
    SELINUX,
)
READ_ONLY = ("/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger")

INIT_PLACE = "/dev/init"
"""Where --init puts its program in the container: on a tmpfs, so that the mount point is not left
in the copy-on-write layer (podman's, /run/podman-init, is)."""

INIT_PLACE_BESIDE = "/run/tiffin-init"
"""The same where the user brings a /dev: nothing may be left in that one."""

DEFAULT_DEVICES = (
    ("c", 1, 3, "null"),
    ("c", 1, 5, "zero"),
    ("c", 1, 7, "full"),
    ("c", 1, 8, "random"),
    ("c", 1, 9, "urandom"),
    ("c", 5, 0, "tty"),
)
"""runtime-spec, config-linux.md#default-devices: the runtime makes them; the rules allow them."""


class HostDevice(Struct, frozen=True):
    """A device node of the host, as it was found for --device or --privileged."""

    path: str
    """In the container."""
    type: str
    """`c` or `b`."""
    major: int
    minor: int
    mode: int
    uid: int = 0
    gid: int = 0
    permissions: str = "rwm"
    flag: str = ""
    source: str = ""
    """On the host; empty: the same path."""


class SpecRequest(Struct, frozen=True):
    """All that a config.json depends on."""

    id: str
    name: str
    image_config: Mapping[str, Any]
    """The `config` object of the image (image-spec, config.md)."""
    image_labels: Mapping[str, str]
    options: ContainerOptions
    facts: HostFacts
    rootfs: str
    user: User
    cgroup: str
    netns: str = ""
    """Path of the network namespace to join."""
    userns: str = ""
    """Path of the user namespace to join; empty: the host's ids."""
    id_maps: IdMaps = IdMaps()
    joins_owner: bool = False
    """Network and user namespace are both of the same other container."""
    files: tuple[tuple[str, str], ...] = ()
    """(place in the container, file on the host) of hosts, resolv.conf, hostname."""
    devices: tuple[HostDevice, ...] = ()
    seccomp_profile: Mapping[str, Any] | None = None
    """From --security-opt seccomp=FILE, else the host's default is taken."""
    init_program: str = ""
    process_label: str = ""
    mount_label: str = ""
    apparmor_profile: str = ""
    joined: Mapping[str, str] = {}
    """{ipc, uts, pid: path} of the namespaces of a pod; `shm`: of the /dev/shm that it has."""


class Spec(Struct, frozen=True):
    document: dict[str, Any]
    origins: dict[str, Origin]


def command(options: ContainerOptions, image_config: Mapping[str, Any]) -> tuple[str, ...]:
    """What will run. --entrypoint clears the image's CMD (docker-run(1)). Error: UserError."""
    entrypoint, arguments, _, _ = _command(options, image_config)
    return (*entrypoint, *arguments)


def _command(
    options: ContainerOptions, image_config: Mapping[str, Any]
) -> tuple[list[str], list[str], str, str]:
    entrypoint = list(image_config.get("Entrypoint") or ())
    arguments = list(image_config.get("Cmd") or ())
    entry_source = args_source = "image"
    if options.entrypoint is not None:
        entrypoint, entry_source = list(options.entrypoint), "user"
        arguments, args_source = [], "user"
    if options.command:
        arguments, args_source = list(options.command), "user"
    if not entrypoint and not arguments:
        raise UserError(
            "no command given: image has neither ENTRYPOINT nor CMD",
            hint=f"name one after {options.image}",
        )
    if not (entrypoint + arguments)[0]:
        raise UserError("the command is an empty string")
    if any("\0" in word for word in entrypoint + arguments):
        raise UserError("the command contains a NUL byte")
    return entrypoint, arguments, entry_source, args_source


def check(
    options: ContainerOptions, image_config: Mapping[str, Any], others: Collection[str] = ()
) -> None:
    """Everything of the options that is wrong whatever the container looks like: told by `create`,
    before anything is made. `others`: what `--security-opt` takes besides, for label providers.
    Error: UserError."""
    command(options, image_config)
    for name in options.cap_add:
        capabilities.full_name(name, "--cap-add")
    for name in options.cap_drop:
        capabilities.full_name(name, "--cap-drop")
    mounts.user_mounts(options.mounts)
    for name, values in security(options).items():
        if name not in SECURITY and name not in others:
            raise UserError(
                f"--security-opt {f'{name}={values[0]}'!r} is not known",
                hint="seccomp=, no-new-privileges, label=, apparmor=, mask=, unmask=",
            )
    if options.hostname and (len(options.hostname) > 64 or not options.hostname.isprintable()):
        raise UserError(f"--hostname {options.hostname!r} is not a host name")
    if options.workdir and not options.workdir.startswith("/"):
        raise UserError(f"--workdir {options.workdir!r} is not an absolute path")
    for name, _ in options.env:
        if not name or "=" in name:
            raise UserError(f"--env {name!r} is not a variable name")
    for flag, text in _texts(options):
        if "\0" in text:
            raise UserError(f"{flag} {text!r} contains a NUL byte")
        if not text.isascii() and _undecodable(text):
            raise UserError(f"{flag} {text!r} is not UTF-8", hint="config.json can hold no other")
    if options.hostname and options.uts == "host":
        raise UserError("--hostname does not go with --uts host: it would rename this machine")
    sysctls(options)
    if options.userns or options.uid_maps or options.gid_maps:
        idmaps.mode(options)
    for flag, value, allowed in (
        ("--pid", options.pid, ("", "host", "private")),
        ("--ipc", options.ipc, ("", "host", "private", "shareable", "none")),
        ("--uts", options.uts, ("", "host", "private")),
        ("--cgroupns", options.cgroupns, ("", "host", "private")),
    ):
        if value not in allowed:
            raise UserError(f"{flag} {value!r}", hint=f"one of {', '.join(allowed[1:])}")


def _texts(options: ContainerOptions) -> Iterator[tuple[str, str]]:
    """(flag, text) of all that the user may write freely and that goes into config.json."""
    yield from (("the command's", word) for word in (*(options.entrypoint or ()), *options.command))
    for flag, pairs in (
        ("--env", options.env),
        ("--annotation", options.annotations),
        ("--sysctl", options.sysctls),
    ):
        yield from ((flag, f"{name}={value}") for name, value in pairs)
    yield from (("--security-opt", text) for text in options.security_opt)
    yield from (("-v", text) for mount in options.mounts for text in (mount.source, mount.target))
    yield from (("-v", text) for mount in options.mounts for text in mount.options)
    yield from (("--device", device.target or device.source) for device in options.devices)
    yield ("--workdir", options.workdir)
    yield ("--hostname", options.hostname)


def _undecodable(text: str) -> bool:
    """True for bytes that Python could only keep as surrogates (PEP 383)."""
    return any("\ud800" <= letter <= "\udfff" for letter in text)


IPC_SYSCTLS = frozenset(
    "kernel.msgmax kernel.msgmnb kernel.msgmni kernel.sem kernel.shmall kernel.shmmax "
    "kernel.shmmni kernel.shm_rmid_forced".split()
)
"""What ipc_namespaces(7) has for each namespace; fs.mqueue.* as well."""


def sysctls(options: ContainerOptions) -> None:
    """Only kernel parameters of a namespace that the container has for itself may be set: the
    others are the host's. Error: UserError."""
    for name, _ in options.sysctls:
        if name.startswith("net."):
            flag, shared = "--network", options.network == "host"
        elif name in IPC_SYSCTLS or name.startswith("fs.mqueue."):
            flag, shared = "--ipc", options.ipc == "host"
        else:
            raise UserError(
                f"--sysctl {name}: it belongs to the host, not to a container",
                hint="net.*, fs.mqueue.*, kernel.msg*, kernel.sem and kernel.shm* can be set",
            )
        if shared:
            raise UserError(f"--sysctl {name}: with {flag} host it would change this machine")


SECURITY = frozenset("seccomp no-new-privileges label apparmor mask unmask proc-opts".split())
"""What `--security-opt` takes by itself."""


def security(options: ContainerOptions) -> dict[str, list[str]]:
    """`--security-opt` as {name: values}. Error: UserError for what is none of its forms."""
    found: dict[str, list[str]] = {}
    for option in options.security_opt:
        name, separator, value = option.partition("=")
        if not separator:
            name, separator, value = option.partition(":")
        if name != "no-new-privileges" and not value:
            raise UserError(f"--security-opt {name} needs a value")
        if name == "mask" and not all(path.startswith("/") for path in value.split(":")):
            raise UserError(f"--security-opt {option}: not a list of absolute paths")
        found.setdefault(name, []).append(value)
    return found


def build(request: SpecRequest) -> Spec:
    """The document and the origin of every field. Error: UserError."""
    draft = Draft()
    draft.put("/ociVersion", VERSION, "engine", "runtime-spec followed")
    chosen_security = security(request.options)
    granted = _capabilities(draft, request)
    _process(draft, request, chosen_security)
    _root_and_names(draft, request)
    _mounts(draft, request)
    _annotations(draft, request)
    _linux(draft, request, chosen_security)
    _seccomp(draft, request, chosen_security, granted)
    return Spec(draft.document, draft.origins)


def _capabilities(draft: Draft, request: SpecRequest) -> list[str]:
    options = request.options
    granted = capabilities.effective(
        options.cap_add,
        options.cap_drop,
        request.facts.capabilities,
        privileged=options.privileged,
    )
    source, detail = "engine", "default set"
    if options.privileged:
        source, detail = "user", "--privileged"
    elif options.cap_add or options.cap_drop:
        flags = [f"--cap-add {name}" for name in options.cap_add]
        flags += [f"--cap-drop {name}" for name in options.cap_drop]
        source, detail = "user", " ".join(flags)
    where = "/process/capabilities"
    draft.put(f"{where}/bounding", list(granted), source, detail)
    # A process that is not root starts without: what it may regain is in the bounding set.
    own = granted if request.user.uid == 0 else []
    if request.user.uid != 0:
        source, detail = "engine", "a user who is not root starts with none"
    # Lists of their own: a plugin that amends one set must not change the others.
    draft.put(f"{where}/effective", list(own), source, detail)
    draft.put(f"{where}/permitted", list(own), source, detail)
    draft.put(f"{where}/inheritable", [], "engine", "always empty (CVE-2022-24769)")
    draft.put(f"{where}/ambient", [], "engine", "always empty, as it needs inheritable ones")
    return granted


def _process(draft: Draft, request: SpecRequest, chosen: Mapping[str, list[str]]) -> None:
    options, config, user = request.options, request.image_config, request.user
    if options.tty:
        draft.put("/process/terminal", True, "user", "--tty")
    source, detail = "engine", "root is the default"
    if options.user:
        source, detail = "user", f"--user {options.user}"
    elif config.get("User"):
        source, detail = "image", f"User {config['User']}"
    _need_ids(request, detail)
    draft.put("/process/user", {"uid": user.uid, "gid": user.gid, "umask": 0o22}, source, detail)
    draft.put("/process/user/umask", 0o22, "engine", "default")
    # One who has no id but their own may set no groups (user_namespaces(7)).
    groups = [gid for gid in user.additional_gids if _has(request.facts.gids, gid)]
    if groups and request.facts.gids != 1:
        why = "--group-add" if options.group_add else "/etc/group of the image"
        draft.put("/process/user/additionalGids", groups, source, why)
    entrypoint, arguments, entry_source, args_source = _command(options, config)
    if options.init:
        draft.add("/process/args", _init_place(options), "user", "--init")
        draft.add("/process/args", "--", "user", "--init")
    names = {"image": ("Entrypoint", "Cmd"), "user": ("--entrypoint", "command line")}
    for word in entrypoint:
        draft.add("/process/args", word, entry_source, names[entry_source][0])
    for word in arguments:
        draft.add("/process/args", word, args_source, names[args_source][1])
    _environment(draft, request)
    cwd, source, detail = "/", "engine", "default"
    if config.get("WorkingDir"):
        cwd, source, detail = str(config["WorkingDir"]), "image", "WorkingDir"
    if options.workdir:
        cwd, source, detail = options.workdir, "user", "--workdir"
    draft.put("/process/cwd", paths.clean(cwd), source, detail)
    limits = rlimits.limits(
        options.ulimits, request.facts.hard_limits, may_raise=request.facts.may_raise_limits
    )
    for limit, flag in limits:
        why = flag or "default, not above the caller's own hard limit"
        draft.add("/process/rlimits", limit, "user" if flag else "engine", why)
    given = chosen.get("no-new-privileges")
    if given is not None and given[-1] in ("", "true", "1"):
        draft.put("/process/noNewPrivileges", True, "user", "--security-opt no-new-privileges")
    else:
        draft.put("/process/noNewPrivileges", False, "engine", "default")
    if request.process_label:
        source, detail = _label_origin(chosen, "label")
        draft.put("/process/selinuxLabel", request.process_label, source, detail)
    if request.apparmor_profile:
        source, detail = _label_origin(chosen, "apparmor")
        draft.put("/process/apparmorProfile", request.apparmor_profile, source, detail)


def _has(ids: int, number: int) -> bool:
    return ids < 0 or number < ids


def _need_ids(request: SpecRequest, detail: str) -> None:
    """Error: UserError for a user whom an ordinary user has no id for."""
    facts, user = request.facts, request.user
    for kind, ids, number in (("uid", facts.uids, user.uid), ("gid", facts.gids, user.gid)):
        if not (request.id_maps.uids or _has(ids, number)):
            raise UserError(
                f"{detail}: {kind} {number} is not there: /etc/sub{kind} gives you "
                f"{ids - 1 or 'no'} ids besides your own",
                hint="an administrator gives more: usermod --add-subuids FIRST-LAST "
                "--add-subgids FIRST-LAST NAME",
            )


def _has_tty_group(request: SpecRequest) -> bool:
    if request.id_maps.gids:
        return idmaps.to_host(request.id_maps.gids, 5) is not None
    return _has(request.facts.gids, 5)


def _label_origin(chosen: Mapping[str, list[str]], option: str) -> tuple[str, str]:
    given = chosen.get(option)
    if given:
        return "user", f"--security-opt {option}={given[-1]}"
    return "engine", "label provider"


def _init_place(options: ContainerOptions) -> str:
    brought = any(paths.clean(mount.target) == "/dev" for mount in options.mounts)
    return INIT_PLACE_BESIDE if brought else INIT_PLACE


def _environment(draft: Draft, request: SpecRequest) -> None:
    """The engine's, then the image's, then the user's: later values replace earlier ones."""
    options, config = request.options, request.image_config
    chosen: dict[str, tuple[str, str, str]] = {
        "PATH": (DEFAULT_PATH, "engine", "default"),
        "container": ("oci", "engine", "says that this is a container (systemd.io)"),
    }
    if options.tty:
        chosen["TERM"] = ("xterm", "engine", "--tty")
    chosen["HOSTNAME"] = (_hostname(request)[0], "engine", "host name")
    chosen["HOME"] = (request.user.home, "engine", "/etc/passwd of the image")
    for item in config.get("Env") or ():
        name, separator, value = str(item).partition("=")
        if name and separator and "\0" not in item:
            chosen[name] = (value, "image", "Env")
    for name, value in options.env:
        chosen[name] = (value, "user", "--env")
    for name, (value, source, detail) in chosen.items():
        draft.add("/process/env", f"{name}={value}", source, detail)


def _hostname(request: SpecRequest) -> tuple[str, str, str]:
    if request.options.hostname:
        return request.options.hostname, "user", "--hostname"
    if request.options.uts == "host" or request.options.network == "host":
        return request.facts.hostname, "engine", "the host's"
    return request.id[:12], "engine", "short id"


def _root_and_names(draft: Draft, request: SpecRequest) -> None:
    draft.put("/root/path", request.rootfs, "engine", "storage driver")
    if request.options.read_only:
        draft.put("/root/readonly", True, "user", "--read-only")
    if request.options.uts != "host":
        hostname, source, detail = _hostname(request)
        draft.put("/hostname", hostname, source, detail)


def _mounts(draft: Draft, request: SpecRequest) -> None:
    options = request.options
    user = mounts.user_mounts(options.mounts)
    engine = mounts.engine_mounts(
        files=request.files,
        shm_size=options.shm_size,
        host_network=_foreign_network(request),
        host_ipc=options.ipc == "host",
        host_pid=options.pid == "host",
        shm=request.joined.get("shm", ""),
        writable_sys=options.privileged,
        tty_group=_has_tty_group(request),
        rootless=request.facts.rootless or bool(request.userns),
        proc_options=[
            option
            for value in security(options).get("proc-opts", ())
            for option in value.split(",")
        ],
    )
    if options.init:
        place = {
            "destination": _init_place(options),
            "type": "bind",
            "source": request.init_program,
            "options": ["bind", "rprivate", "ro"],
        }
        engine.append(mounts.Placed(place, "user", "--init"))
    if request.userns or request.facts.rootless:
        engine += [
            mounts.Placed(_device_mount(device), "user", device.flag) for device in request.devices
        ]
    if _nested(request):
        place = {
            "destination": SELINUX,
            "type": "bind",
            "source": SELINUX,
            "options": ["rbind", "rprivate", "nosuid", "noexec", "rw"],
        }
        engine.append(mounts.Placed(place, "user", "--security-opt label=nested"))
    if options.read_only:
        taken = [p.mount["destination"] for p in user]
        engine = mounts.read_only_tmpfs(taken) + engine
    for placed in mounts.place(engine, user):
        draft.add("/mounts", placed.mount, placed.source, placed.detail or "default")


def _foreign_network(request: SpecRequest) -> bool:
    """True when the network namespace is not the container's own: then, with other ids than the
    host's, it may not mount a sysfs for it."""
    network = request.options.network
    if not request.userns or not network_modes.joins(network):
        return network == "host"
    return not request.joins_owner


def _device_mount(device: HostDevice) -> dict[str, Any]:
    """A user namespace makes no device nodes (mknod(2)): it gets the host's own."""
    return {
        "destination": device.path,
        "type": "bind",
        "source": device.source or device.path,
        "options": ["bind", "rprivate", "nosuid", "noexec"],
    }


def _nested(request: SpecRequest) -> bool:
    """A container that manages labels inside itself (`label=nested`) sees the kernel's policy."""
    return bool(request.process_label) and "nested" in security(request.options).get("label", ())


def _annotations(draft: Draft, request: SpecRequest) -> None:
    where = "/annotations"
    signal = request.options.stop_signal or request.image_config.get("StopSignal")
    if signal:
        source = "user" if request.options.stop_signal else "image"
        key = token("org.opencontainers.image.stopSignal")
        draft.put(f"{where}/{key}", str(signal), source, "stop signal")
    draft.put(f"{where}/io.container.manager", "tiffin", "engine", "who wrote this")
    draft.put(f"{where}/org.tiffin.name", request.name, "engine", "name of the container")
    draft.put(f"{where}/org.tiffin.image", request.options.image, "user", "IMAGE")
    for name, value in request.options.annotations:
        draft.put(f"{where}/{token(name)}", value, "user", "--annotation")


def _linux(draft: Draft, request: SpecRequest, chosen: Mapping[str, list[str]]) -> None:
    options = request.options
    if request.cgroup:
        draft.put("/linux/cgroupsPath", request.cgroup, "engine", "cgroup of the container")
    _namespaces(draft, request)
    _devices(draft, request)
    for pointer, value, flag in resources.entries(
        options.resources,
        request.facts.cpus,
        swap_counted=request.facts.memory_swap,
        impossible=request.facts.no_cgroups,
    ):
        source = "user" if flag else "engine"
        draft.put(f"/linux/resources{pointer}", value, source, flag or "default")
    settings: dict[str, tuple[str, str, str]] = {}
    own = options.network != "host" and not network_modes.joins(options.network)
    if own and not request.facts.rootless:
        # Lets ping work without a raw socket (containers.conf(5), default_sysctls).
        settings["net.ipv4.ping_group_range"] = ("0 0", "engine", "ping without CAP_NET_RAW")
    for name, value in options.sysctls:
        settings[name] = (value, "user", "--sysctl")
    for name, (value, source, detail) in settings.items():
        draft.put(f"/linux/sysctl/{token(name)}", value, source, detail)
    if request.mount_label:
        source, detail = _label_origin(chosen, "label")
        draft.put("/linux/mountLabel", request.mount_label, source, detail)
    unmask = [p for value in chosen.get("unmask", ()) for p in value.split(":")]
    if _nested(request):
        unmask.append(SELINUX)
    mask = [p for value in chosen.get("mask", ()) for p in value.split(":")]
    if options.privileged or "ALL" in unmask or "all" in unmask:
        detail = "--privileged" if options.privileged else "--security-opt unmask"
        draft.put("/linux/maskedPaths", [], "user", detail)
        draft.put("/linux/readonlyPaths", [], "user", detail)
    else:
        for pointer, standard in (("maskedPaths", MASKED), ("readonlyPaths", READ_ONLY)):
            for path in standard:
                if not any(fnmatchcase(path, pattern) for pattern in unmask):
                    draft.add(f"/linux/{pointer}", path, "engine", "default")
    for path in mask:
        draft.add("/linux/maskedPaths", paths.clean(path), "user", "--security-opt mask")


def _namespaces(draft: Draft, request: SpecRequest) -> None:
    options = request.options
    where = "/linux/namespaces"
    for kind, shared, flag in (
        ("pid", options.pid == "host", "--pid"),
        ("ipc", options.ipc == "host", "--ipc"),
        ("uts", options.uts == "host", "--uts"),
        ("mount", False, ""),
    ):
        if kind in request.joined:
            place = {"type": kind, "path": request.joined[kind]}
            draft.add(where, place, "user", "--pod")
        elif not shared:
            given = bool(flag and getattr(options, flag.removeprefix("--")))
            source, detail = ("user", flag) if given else ("engine", "default")
            draft.add(where, {"type": kind}, source, detail)
    if request.userns:
        detail = _userns_flag(options)
        draft.add(where, {"type": "user", "path": request.userns}, "user", detail)
        draft.put("/linux/uidMappings", _mappings(request.id_maps.uids), "user", detail)
        draft.put("/linux/gidMappings", _mappings(request.id_maps.gids), "user", detail)
    if options.network != "host":
        namespace = {"type": "network"}
        if request.netns:
            namespace["path"] = request.netns
        source = "user" if options.network else "engine"
        draft.add(where, namespace, source, f"--network {options.network or 'bridge'}")
    private = options.cgroupns != "host" and not (options.privileged and not options.cgroupns)
    if options.cgroupns == "private" or (request.facts.cgroup_v2 and private):
        draft.add(where, {"type": "cgroup"}, "engine", "cgroup v2 has it by default")


def _userns_flag(options: ContainerOptions) -> str:
    if options.userns:
        return f"--userns {options.userns}"
    if options.uid_maps or options.gid_maps:
        return "--uidmap" if options.uid_maps else "--gidmap"
    return f"--subuidname {options.subuid_name or options.subgid_name}"


def _mappings(ranges: Sequence[IdRange]) -> list[dict[str, int]]:
    return [{"containerID": r.inside, "hostID": r.outside, "size": r.size} for r in ranges]


def _devices(draft: Draft, request: SpecRequest) -> None:
    rules = "/linux/resources/devices"
    limited = not request.facts.no_cgroups
    if not limited:
        pass  # what a user may open is a matter of the nodes' owners and modes alone
    elif request.options.privileged:
        draft.add(rules, {"allow": True, "access": "rwm"}, "user", "--privileged")
    else:
        draft.add(rules, {"allow": False, "access": "rwm"}, "engine", "nothing but what follows")
        for kind, major, minor, name in DEFAULT_DEVICES:
            rule = {"allow": True, "type": kind, "major": major, "minor": minor, "access": "rwm"}
            draft.add(rules, rule, "engine", f"/dev/{name}")
    for device in request.devices:
        node = {
            "path": device.path,
            "type": device.type,
            "major": device.major,
            "minor": device.minor,
            "fileMode": device.mode & 0o7777,
            "uid": device.uid,
            "gid": device.gid,
        }
        if not (request.userns or request.facts.rootless):
            draft.add("/linux/devices", node, "user", device.flag)
        if limited and not request.options.privileged:
            rule = {
                "allow": True,
                "type": device.type,
                "major": device.major,
                "minor": device.minor,
                "access": device.permissions,
            }
            draft.add(rules, rule, "user", device.flag)


def _seccomp(
    draft: Draft, request: SpecRequest, chosen: Mapping[str, list[str]], granted: list[str]
) -> None:
    given = chosen.get("seccomp", [""])[-1]
    if given == "unconfined" or (request.options.privileged and not given):
        return
    if request.seccomp_profile is not None:
        profile: Mapping[str, Any] | None = request.seccomp_profile
        source, detail = "user", f"--security-opt seccomp={given}"
    else:
        profile = request.facts.seccomp_profile
        source, detail = "engine", f"profile {request.facts.seccomp_source}"
    if profile is not None:
        resolved = seccomp.resolve(profile, granted, request.facts.machine, request.facts.kernel)
        draft.put("/linux/seccomp", resolved, source, detail)
