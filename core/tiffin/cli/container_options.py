"""What the flags of `create` and `run` ask for, as `tiffin.options.ContainerOptions`."""

from __future__ import annotations

import os

from .. import lean
from ..errors import UserError
from . import environment_flags, flag_words, limit_flags, network_flags, volumes

TYPE_CHECKING = False  # without importing typing
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from ..options import (
        ContainerOptions,
        Device,
        Mount,
        Secret,
    )


CHOICES = {
    "pull": ("always", "missing", "never", "newer"),
    "pid": ("private", "host"),
    "ipc": ("private", "shareable", "host", "none"),
    "uts": ("private", "host"),
    "cgroupns": ("", "private", "host"),
    "systemd": ("true", "false", "always"),
    "health_on_failure": ("", "none", "kill", "restart", "stop"),
    "image_volume": ("bind", "anonymous", "tmpfs", "ignore"),
    "log_driver": ("", "k8s-file", "json-file", "journald", "none", "passthrough"),
    "cgroups": ("enabled", "disabled", "no-conmon", "split"),
    "sdnotify": ("container", "conmon", "ignore"),
}


IMAGE_VOLUMES = {"tmpfs": "tmpfs", "ignore": "ignore"}

LOG_SIZE_LEAST = 64 << 10


STREAMS = ("stdin", "stdout", "stderr")


def options_from(
    options: Mapping[str, Any], arguments: list[str], *, network_default: str = ""
) -> ContainerOptions:
    """What the flags (as `flags.parse` gives them for FLAGS) and arguments ask for.

    Reads the environment and the files that are named; makes nothing. `network_default` is used
    without --network. Error: UserError that names the flag and the value.
    """
    for key, allowed in CHOICES.items():
        if key in ("pid", "uts") and options[key].startswith(("container:", "ns:")):
            continue
        if options[key] not in allowed:
            wanted = ", ".join(filter(None, allowed))
            if key in ("pid", "uts"):
                wanted += ", container:ID, ns:PATH"
            raise UserError(
                f"{flag_words.flag(key)} {options[key]!r} is not known", hint=f"allowed: {wanted}"
            )
    for stream in flag_words.by_comma(options["attach"]):
        if stream.lower() not in STREAMS:
            raise UserError(
                f"--attach {stream!r} is not a stream", hint=f"allowed: {', '.join(STREAMS)}"
            )
    if options["replace"] and not options["name"]:
        raise UserError("--replace needs --name", hint="the name of the container to replace")
    lean.load_msgspec()
    from ..options import ContainerOptions

    network, joins = network_flags.network(options, network_default)
    return ContainerOptions(
        image=arguments[0],
        command=tuple(arguments[1:]),
        name=options["name"],
        entrypoint=_entrypoint(options["entrypoint"]),
        env=environment_flags.environment(options["env"], options["env_file"]),
        host_env=environment_flags.of_host(options["env_host"]),
        proxy_env=environment_flags.proxies(options["http_proxy"]),
        env_merge=flag_words.pairs("--env-merge", options["env_merge"]),
        unset_env=tuple(options["unsetenv"]),
        unset_env_all=options["unsetenv_all"],
        workdir=flag_words.absolute("--workdir", options["workdir"]),
        user=options["user"],
        passwd=options["passwd"],
        passwd_entry=_passwd_line("--passwd-entry", options["passwd_entry"]),
        host_users=tuple(_host_user(name) for name in options["hostuser"]),
        systemd="" if options["systemd"] == "true" else options["systemd"],
        umask=_umask(options["umask"]),
        timezone=flag_words.clean("--tz", options["tz"]),
        oom_score_adj=_oom_score(options["oom_score_adj"]),
        timeout=flag_words.at_least("--timeout", options["timeout"] or 0, 0),
        hostname=_hostname(options["hostname"]),
        tty=options["tty"],
        interactive=options["interactive"],
        detach=options["detach"],
        remove=options["rm"],
        mounts=_mounts(options),
        image_volumes=IMAGE_VOLUMES.get(options["image_volume"], ""),
        volumes_from=flag_words.by_comma(options["volumes_from"]),
        network=network,
        joins=joins,
        ports=network_flags.ports(options["publish"]),
        publish_all=options["publish_all"],
        expose=tuple(port for item in options["expose"] for port in network_flags.exposed(item)),
        add_hosts=network_flags.add_hosts(options),
        no_hosts=options["no_hosts"],
        dns=network_flags.name_servers(options),
        dns_search=network_flags.domains(options["dns_search"]),
        dns_options=network_flags.resolver_options(options),
        cap_add=flag_words.by_comma(options["cap_add"]),
        cap_drop=flag_words.by_comma(options["cap_drop"]),
        privileged=options["privileged"],
        read_only=options["read_only"],
        read_only_tmpfs=options["read_only_tmpfs"],
        init=options["init"],
        init_path=options["init_path"],
        device_rules=tuple(options["device_cgroup_rule"]),
        devices=tuple(_device(item) for item in options["device"]),
        security_opt=tuple(options["security_opt"]),
        label_providers=flag_words.by_comma(options["label_provider"]),
        resources=limit_flags.resources(options),
        ulimits=limit_flags.ulimits(options["ulimit"]),
        sysctls=flag_words.pairs("--sysctl", options["sysctl"]),
        group_add=flag_words.by_comma(options["group_add"]),
        shm_size=flag_words.size("--shm-size", options["shm_size"]),
        labels=environment_flags.labels(options["label_file"], options["label"]),
        annotations=flag_words.pairs("--annotation", options["annotation"]),
        stop_signal=options["stop_signal"],
        stop_timeout=limit_flags.stop_timeout(options["stop_timeout"]),
        restart=limit_flags.restart_policy(options["restart"], options["rm"])[0],
        restart_limit=limit_flags.restart_policy(options["restart"], options["rm"])[1],
        **_health(options),
        secrets=_secrets(options["secret"]),
        log_driver=options["log_driver"],
        log_path=_log_option(options, "path"),
        log_tag=_log_option(options, "tag"),
        log_size_max=_log_size_max(options),
        cgroup_parent=options["cgroup_parent"],
        cgroups="" if options["cgroups"] == "enabled" else options["cgroups"],
        sdnotify="" if options["sdnotify"] == "container" else options["sdnotify"],
        pid_file=os.path.abspath(options["pidfile"]) if options["pidfile"] else "",
        conmon_pid_file=os.path.abspath(options["conmon_pidfile"])
        if options["conmon_pidfile"]
        else "",
        pid=_namespace(options["pid"]),
        ipc=_namespace(options["ipc"]),
        uts=_namespace(options["uts"]),
        cgroupns=options["cgroupns"],
        pod=_pod(options),
        requires=flag_words.by_comma(options["requires"]),
        userns=options["userns"],
        uid_maps=flag_words.by_comma(options["uidmap"]),
        gid_maps=flag_words.by_comma(options["gidmap"]),
        subuid_name=options["subuidname"],
        subgid_name=options["subgidname"],
    )


def step_options(given: Mapping[str, Any]) -> dict[str, Any]:
    """What those flags of `run` ask for that `build` has as well, for the containers of its steps.
    Error: UserError."""
    nothing = dict.fromkeys(("dns_search", "dns_option", "dns_opt"), ())
    options = {**limit_flags.NOT_GIVEN, **nothing, "no_hosts": False, **given}
    return {
        "add_hosts": network_flags.add_hosts(options),
        "dns": network_flags.name_servers(options),
        "cap_add": flag_words.by_comma(options["cap_add"]),
        "cap_drop": flag_words.by_comma(options["cap_drop"]),
        "devices": tuple(_device(item) for item in options["device"]),
        "security_opt": tuple(options["security_opt"]),
        "resources": limit_flags.resources(options),
        "ulimits": limit_flags.ulimits(options["ulimit"]),
        "shm_size": flag_words.size("--shm-size", options["shm_size"]),
        "mounts": tuple(volumes.parse_volume(item) for item in options["volume"]),
    }


def _log_size_max(options: Mapping[str, Any]) -> int:
    text = _log_option(options, "max-size")
    size = flag_words.size("--log-opt max-size", text)
    if text and size < LOG_SIZE_LEAST:
        raise UserError(
            f"--log-opt max-size={text}: a log needs {LOG_SIZE_LEAST >> 10} KiB at least"
        )
    return size


def _log_option(options: Mapping[str, Any], wanted: str) -> str:
    """The last one counts."""
    found = ""
    for item in options["log_opt"]:
        key, _, value = flag_words.clean("--log-opt", item).partition("=")
        if key not in ("path", "max-size", "tag") or not value:
            raise UserError(
                f"--log-opt {item!r} is not known", hint="max-size=10m, path=FILE or tag=TEXT"
            )
        if key != "tag" and options["log_driver"] in ("journald", "none", "passthrough"):
            raise UserError(f"--log-opt {item}: --log-driver {options['log_driver']} has no file")
        if key == wanted:
            found = value
    if wanted == "path" and found:
        if not found.startswith("/") or ":" in found:
            raise UserError(f"--log-opt path={found} is not an absolute path without a colon")
        if os.path.isdir(found) or not os.path.isdir(os.path.dirname(found)):
            raise UserError(f"--log-opt path={found}: no file can be there")
    return found


def _secrets(items: list[str]) -> tuple[Secret, ...]:
    if not items:
        return ()
    from . import secret_flags  # rarely

    return tuple(secret_flags.parse(item) for item in items)


HEALTH = ("cmd", "on_failure", "interval", "retries", "start_period", "timeout")


def _health(options: Mapping[str, Any]) -> dict[str, Any]:
    """The field `health`, if anything of it was asked for."""
    given = [key for key in HEALTH if options[f"health_{key}"] not in ("", None)]
    if not given and not options["no_healthcheck"]:
        return {}
    from . import health_flags  # rarely

    return {"health": health_flags.parse(options)}


def _namespace(mode: str) -> str:
    """Empty is the container's own."""
    return "" if mode == "private" else mode


def _hostname(text: str) -> str:
    """hostname(7): at most 64 bytes here (sethostname(2)), labels of letters, digits, hyphens."""
    labels = text.split(".") if text else []
    if len(text) > 64 or not all(
        0 < len(part) < 64
        and part.isascii()
        and part.replace("-", "").replace("_", "").isalnum()
        and part[0] != "-"
        and part[-1] != "-"
        for part in labels
    ):
        raise UserError(
            f"--hostname {text!r} is not a host name",
            hint="letters, digits, '-' and '.', at most 64 characters",
        )
    return text


def _entrypoint(values: list[str]) -> tuple[str, ...] | None:
    """The last one counts. A JSON array, or one word; empty clears the image's."""
    if not values:
        return None
    text = values[-1]
    if text.lstrip().startswith("["):
        import json  # rarely

        try:
            words = json.loads(text)
        except (ValueError, RecursionError):
            words = None
        if isinstance(words, list) and all(isinstance(word, str) for word in words):
            return tuple(words)
        raise UserError(
            f"--entrypoint {text!r} is not a JSON array of strings", hint='["sh", "-c"]'
        )
    return (text,) if text else ()


def _pod(options: Mapping[str, Any]) -> str:
    path = options["pod_id_file"]
    if not path:
        return str(options["pod"])
    if options["pod"]:
        raise UserError("--pod and --pod-id-file both name the pod: leave one out")
    from .selection import id_in

    return id_in(path, False, "--pod-id-file")[0]


def _passwd_line(flag: str, text: str) -> str:
    if not text.isprintable() or (text and text.count(":") > 6):
        raise UserError(f"{flag} {text!r} is not a line of passwd(5)")
    return text


def _host_user(name: str) -> str:
    import pwd  # rarely

    try:
        found = pwd.getpwuid(int(name)) if name.isdecimal() else pwd.getpwnam(name)
    except (KeyError, OverflowError, ValueError):
        raise UserError(f"--hostuser {name!r}: this machine has no such user") from None
    return f"{found[0]}:*:{found[2]}:{found[3]}:{found[4]}:{found[5]}:{found[6]}"


def _umask(text: str) -> int:
    if not (text and len(text) < 6 and set(text) <= set("01234567") and int(text, 8) <= 0o777):
        raise UserError(f"--umask {text!r} is not a umask", hint="octal, 0022")
    return int(text, 8)


def _oom_score(value: int | None) -> int | None:
    if value is not None and not -1000 <= value <= 1000:
        raise UserError(f"--oom-score-adj {value} is not between -1000 and 1000")
    return value


def _mounts(options: Mapping[str, Any]) -> tuple[Mount, ...]:
    mounts = [volumes.parse_volume(item) for item in options["volume"]]
    mounts += [volumes.parse_mount(item) for item in options["mount"]]
    mounts += [volumes.parse_tmpfs(item) for item in options["tmpfs"]]
    seen: set[str] = set()
    for mount in mounts:
        target = os.path.normpath(mount.target)
        if target in seen:
            raise UserError(f"{mount.target}: two mounts in the same place")
        seen.add(target)
    return tuple(mounts)


def _device(item: str) -> Device:
    from ..options import Device

    parts = flag_words.clean("--device", item).split(":")
    permissions = "rwm"
    if len(parts) > 1 and parts[-1] and not parts[-1].startswith("/"):
        permissions = parts.pop()
    if (
        not 1 <= len(parts) <= 2
        or not all(part.startswith("/") for part in parts)
        or set(permissions) - set("rwm")
        or len(set(permissions)) != len(permissions)
    ):
        raise UserError(
            f"--device {item!r} is not a device", hint="write /dev/SRC[:/dev/DST[:rwm]]"
        )
    if not os.path.exists(parts[0]):
        raise UserError(f"--device: no such file or directory: {parts[0]}")
    target = parts[1] if len(parts) == 2 and parts[1] != parts[0] else ""
    return Device(parts[0], target, permissions)
