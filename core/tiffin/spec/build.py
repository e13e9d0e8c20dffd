"""config.json: a pure function of image, user's options, engine defaults and facts of the host.

Nothing is opened or looked up here; `build` gives the document and, for every field, its origin.
Sources of the rules: runtime-spec (config.md, config-linux.md), image-spec (conversion.md),
podman-run(1), containers.conf(5).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .. import network_modes
from ..errors import UserError
from ..options import ContainerOptions
from . import asked, capabilities, idmaps, init_system, linux, mounts, paths, rlimits
from .draft import Draft
from .origins import token
from .request import HostDevice, Spec, SpecRequest

VERSION = "1.0.2"
"""The runtime specification that we write."""

DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


INIT_PLACE = "/dev/init"
"""Where --init puts its program in the container: on a tmpfs, so that the mount point is not left
in the copy-on-write layer (podman's, /run/podman-init, is)."""

INIT_PLACE_BESIDE = "/run/tiffin-init"
"""The same where the user brings a /dev: nothing may be left in that one."""


def build(request: SpecRequest) -> Spec:
    """The document and the origin of every field. Error: UserError."""
    draft = Draft()
    draft.put("/ociVersion", VERSION, "engine", "runtime-spec followed")
    chosen_security = asked.security(request.options)
    granted = _capabilities(draft, request)
    _process(draft, request, chosen_security)
    _root_and_names(draft, request)
    _mounts(draft, request)
    _annotations(draft, request)
    linux.put(draft, request, chosen_security)
    linux.put_seccomp(draft, request, chosen_security, granted)
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
    if options.umask != 0o22:
        draft.put("/process/user/umask", options.umask, "user", "--umask")
    else:
        draft.put("/process/user/umask", 0o22, "engine", "default")
    # One who has no id but their own may set no groups (user_namespaces(7)).
    groups = [gid for gid in user.additional_gids if _has(request.facts.gids, gid)]
    if groups and request.facts.gids != 1:
        why = "--group-add" if options.group_add else "/etc/group of the image"
        draft.put("/process/user/additionalGids", groups, source, why)
    entrypoint, arguments, entry_source, args_source = asked.resolve(options, config)
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
    if options.oom_score_adj is not None:
        least = request.facts.oom_score_adj  # as podman: what cannot be lower is as low as it can
        score = max(options.oom_score_adj, least)
        draft.put("/process/oomScoreAdj", score, "user", "--oom-score-adj")
    given = chosen.get("no-new-privileges")
    if given is not None and given[-1] in ("", "true", "1"):
        draft.put("/process/noNewPrivileges", True, "user", "--security-opt no-new-privileges")
    else:
        draft.put("/process/noNewPrivileges", False, "engine", "default")
    if request.process_label:
        source, detail = linux.label_origin(chosen, "label")
        draft.put("/process/selinuxLabel", request.process_label, source, detail)
    if request.apparmor_profile:
        source, detail = linux.label_origin(chosen, "apparmor")
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


def _systemd_origin(options: ContainerOptions) -> tuple[str, str]:
    if options.systemd:
        return "user", f"--systemd {options.systemd}"
    return "engine", "its command is systemd; --systemd=false"


def _init_place(options: ContainerOptions) -> str:
    brought = any(paths.clean(mount.target) == "/dev" for mount in options.mounts)
    return INIT_PLACE_BESIDE if brought else INIT_PLACE


def _environment(draft: Draft, request: SpecRequest) -> None:
    """The host's, where it was asked for, the engine's, the image's and the user's: later values
    replace earlier ones."""
    options, config = request.options, request.image_config
    chosen: dict[str, tuple[str, str, str]] = {
        name: (value, "user", "--env-host") for name, value in options.host_env
    }
    chosen |= {
        "PATH": (DEFAULT_PATH, "engine", "default"),
        "container": ("oci", "engine", "says that this is a container (systemd.io)"),
    }
    if options.tty:
        chosen["TERM"] = ("xterm", "engine", "--tty")
    if asked.runs_systemd(request.options, request.image_config):
        chosen["container_uuid"] = (request.id[:32], *_systemd_origin(options))
    chosen["HOSTNAME"] = (_hostname(request)[0], "engine", "host name")
    chosen["HOME"] = (request.user.home, "engine", "/etc/passwd of the image")
    for item in config.get("Env") or ():
        name, separator, value = str(item).partition("=")
        if name and separator and "\0" not in item:
            chosen[name] = (value, "image", "Env")
    if options.unset_env_all:
        chosen = {}
    for name in options.unset_env:
        chosen.pop(name, None)
    for name, value in options.proxy_env:
        chosen[name] = (value, "engine", "the caller's; --http-proxy=false leaves it out")
    for name, value in options.env:
        chosen[name] = (value, "user", "--env")
    for name, text in options.env_merge:
        known = {key: value for key, (value, _, _) in chosen.items()}
        chosen[name] = (asked.expanded(text, known), "user", "--env-merge")
    if request.notify:
        chosen["NOTIFY_SOCKET"] = (request.notify, "engine", "--sdnotify container")
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
    if request.options.uts != "host" and ":" not in request.options.uts:
        hostname, source, detail = _hostname(request)
        draft.put("/hostname", hostname, source, detail)


def _mounts(draft: Draft, request: SpecRequest) -> None:
    options = request.options
    user = mounts.user_mounts(options.mounts)
    systemd = asked.runs_systemd(options, request.image_config)
    engine = mounts.engine_mounts(
        files=request.files,
        shm_size=options.shm_size,
        host_network=_foreign_network(request),
        host_ipc=options.ipc == "host",
        host_pid=options.pid == "host",
        shm=request.joined.get("shm", ""),
        writable_sys=options.privileged,
        writable_cgroup=request.facts.cgroup_v2 and systemd,
        tty_group=_has_tty_group(request),
        rootless=request.facts.rootless or bool(request.userns),
        proc_options=[
            option
            for value in asked.security(options).get("proc-opts", ())
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
    if linux.nested(request):
        place = {
            "destination": linux.SELINUX,
            "type": "bind",
            "source": linux.SELINUX,
            "options": ["rbind", "rprivate", "nosuid", "noexec", "rw"],
        }
        engine.append(mounts.Placed(place, "user", "--security-opt label=nested"))
    if systemd:
        taken = [p.mount["destination"] for p in user]
        made = init_system.mounts("" if request.facts.cgroup_v2 else request.cgroup, taken)
        places = {mount["destination"] for mount in made}
        engine = [p for p in engine if p.mount["destination"] not in places]
        engine += [mounts.Placed(mount, *_systemd_origin(options)) for mount in made]
    if options.read_only and options.read_only_tmpfs:
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
