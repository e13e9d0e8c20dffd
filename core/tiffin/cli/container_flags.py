"""The flags of `create` and `run`, and what they mean as `tiffin.options.ContainerOptions`."""

from __future__ import annotations

import os

from .. import lean, units
from ..errors import UserError
from . import volumes
from .flags import Flag
from .ports import parse_port

TYPE_CHECKING = False  # without importing typing
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from typing import Any

    from ..options import (
        ContainerOptions,
        Device,
        Mount,
        NetworkOptions,
        Port,
        Resources,
        Secret,
        Ulimit,
    )

MAX_FILE = 16 << 20
"""Bytes of an --env-file or --label-file."""

FLAGS = (
    Flag("interactive", "i", help="Keep standard input open"),
    Flag("tty", "t", help="Give the process a terminal"),
    Flag("detach", "d", help="Run in the background and print the container's id"),
    Flag("rm", help="Remove the container when it has exited"),
    Flag("name", "", "str", "NAME", "Name of the container (default: a random one)"),
    Flag("env", "e", "list", "NAME[=VALUE]", "Environment; NAME alone or PRE* takes the caller's"),
    Flag("env-file", "", "list", "FILE", "Environment from a file of NAME=VALUE lines"),
    Flag("volume", "v", "list", "[SRC:]DST[:OPTIONS]", "Mount a path of the host, or a volume"),
    Flag("volumes-from", "", "list", "CONTAINER[:ro]", "Mount what another container has mounted"),
    Flag(
        "mount",
        "",
        "list",
        "type=TYPE,...",
        "type=bind|volume|tmpfs|image|devpts,src=,dst=,ro,U,...",
    ),
    Flag("workdir", "w", "str", "DIR", "Working directory in the container"),
    Flag("user", "u", "str", "USER[:GROUP]", "User (name or number) of the process"),
    Flag("entrypoint", "", "list", "COMMAND", "Entrypoint: a word or a JSON array; '' clears it"),
    Flag("hostname", "h", "str", "NAME", "Host name of the container (default: its short id)"),
    Flag(
        *("network", "", "list", "NETWORK"),
        "none, host, container:ID, ns:PATH, or networks: NAME[:alias=,ip=,ip6=,mac=,...]",
    ),
    Flag("net", "", "list", "NETWORK", "The same as --network"),
    Flag("ip", "", "str", "ADDRESS", "IPv4 address on the container's network"),
    Flag("ip6", "", "str", "ADDRESS", "IPv6 address on the container's network"),
    Flag("mac-address", "", "str", "ADDRESS", "MAC address on the container's network"),
    Flag("network-alias", "", "list", "NAME", "One more name on the container's networks"),
    Flag("publish", "p", "list", "[[IP:]HOST:]PORT[/PROTO]", "Publish ports or ranges of ports"),
    Flag("publish-all", "P", help="Publish all ports that the image, or --expose, exposes"),
    Flag("expose", "", "list", "PORT[-PORT][/PROTO]", "Ports for --publish-all to publish as well"),
    Flag("cap-add", "", "list", "CAPABILITY", "Add a capability, or ALL"),
    Flag("cap-drop", "", "list", "CAPABILITY", "Drop a capability, or ALL"),
    Flag("privileged", help="All capabilities and devices, no seccomp, nothing masked"),
    Flag("read-only", help="Mount the container's root read-only"),
    Flag("tmpfs", "", "list", "DIR[:OPTIONS]", "Mount a tmpfs"),
    Flag("label", "l", "list", "KEY[=VALUE]", "Label of the container"),
    Flag("label-file", "", "list", "FILE", "Labels from a file of KEY=VALUE lines"),
    Flag("annotation", "", "list", "KEY=VALUE", "Annotation in config.json"),
    Flag("memory", "m", "str", "SIZE", "Limit of memory: 512m, 2g"),
    Flag("memory-swap", "", "str", "SIZE", "Limit of memory and swap together; -1: unlimited"),
    Flag("memory-reservation", "", "str", "SIZE", "Memory that is kept under pressure"),
    Flag("cpus", "", "str", "NUMBER", "Limit of processors: 1.5"),
    Flag("cpu-shares", "c", "int", "NUMBER", "Weight against other containers"),
    Flag("cpuset-cpus", "", "str", "LIST", "Processors to run on: 0-2,4"),
    Flag("cpuset-mems", "", "str", "LIST", "Memory nodes to use: 0-1"),
    Flag("pids-limit", "", "int", "NUMBER", "Limit of processes; -1: unlimited (engine: 2048)"),
    Flag("ulimit", "", "list", "NAME=SOFT[:HARD]", "Resource limit: nofile=1024:2048"),
    Flag("stop-signal", "", "str", "SIGNAL", "Signal that stop sends (engine: the image's, TERM)"),
    Flag("stop-timeout", "", "int", "SECONDS", "Wait so long before stop kills (engine: 10)"),
    Flag("restart", "", "str", "POLICY", "no, always, on-failure[:TRIES] or unless-stopped", "no"),
    Flag("health-cmd", "", "str", "COMMAND", "Health check: a line for sh, a JSON array, or none"),
    Flag("health-interval", "", "str", "TIME", "Between checks, or disable (engine: 30s)"),
    Flag("health-retries", "", "int", "NUMBER", "So many failures are unhealthy (engine: 3)"),
    Flag("health-start-period", "", "str", "TIME", "Failures count only then (engine: 0s)"),
    Flag("health-timeout", "", "str", "TIME", "A check that takes longer is killed (engine: 30s)"),
    Flag("no-healthcheck", help="No health check, whatever the image says"),
    Flag("init", help="Run an init process as pid 1 that reaps zombies"),
    Flag("secret", "", "list", "NAME[,type=,target=]", "Give a secret: /run/secrets/NAME, or env"),
    Flag("device", "", "list", "SRC[:DST[:rwm]]", "Give a device of the host to the container"),
    Flag(
        "security-opt",
        "",
        "list",
        "OPTION",
        "seccomp=, label=, apparmor=, no-new-privileges, ...",
    ),
    Flag(
        "label-provider",
        "",
        "list",
        "NAME",
        "Confine it by this label provider only, or by none (engine: all in force)",
    ),
    Flag("cidfile", "", "str", "FILE", "Write the container's id to this file"),
    Flag("replace", help="Remove a container of the same name first"),
    Flag("pull", "", "str", "WHEN", "always, missing, never or newer", "missing"),
    Flag("platform", "", "str", "OS/ARCH[/VARIANT]", "Which of an image's platforms to take"),
    Flag("add-host", "", "list", "NAME:ADDRESS", "Line of /etc/hosts"),
    Flag("dns", "", "list", "ADDRESS", "Name server, or none: the image's /etc/resolv.conf"),
    Flag("dns-search", "", "list", "DOMAIN", "Domain in which names are looked for; .: in none"),
    Flag("dns-option", "", "list", "OPTION", "Option of the resolver: ndots:2, ..."),
    Flag("sysctl", "", "list", "NAME=VALUE", "Kernel setting of the container's namespaces"),
    Flag("shm-size", "", "str", "SIZE", "Size of /dev/shm (engine: 64m)"),
    Flag("group-add", "", "list", "GROUP", "More groups of the process"),
    Flag("pid", "", "str", "MODE", "Pid namespace: private or host", "private"),
    Flag("ipc", "", "str", "MODE", "IPC namespace: private, shareable, none or host", "private"),
    Flag("uts", "", "str", "MODE", "UTS namespace: private or host", "private"),
    Flag("cgroupns", "", "str", "MODE", "Cgroup namespace: private or host (engine: by cgroups)"),
    Flag(
        *("userns", "", "str", "MODE"),
        "User namespace: host, auto[:size=N,...], keep-id, nomap, ns:PATH or container:ID",
    ),
    Flag("uidmap", "", "list", "CTR:HOST[:SIZE]", "Users of the container are these of the host"),
    Flag("gidmap", "", "list", "CTR:HOST[:SIZE]", "The same for groups (default: as --uidmap)"),
    Flag("subuidname", "", "str", "NAME", "Users of the container are NAME's in /etc/subuid"),
    Flag("subgidname", "", "str", "NAME", "The same for groups, /etc/subgid"),
    Flag("cgroup-parent", "", "str", "PATH", "Cgroup above the container's"),
    Flag(
        "pod", "", "str", "POD", "Be in this pod; new:NAME makes one, with the ports and networks"
    ),
    Flag("log-driver", "", "str", "NAME", "k8s-file, none or passthrough (engine: k8s-file)"),
    Flag("log-opt", "", "list", "KEY=VALUE", "max-size=SIZE: then it begins anew; path=FILE"),
    Flag("sig-proxy", help="Pass signals on to the process", default=True),
    Flag("detach-keys", "", "str", "KEYS", "Keys that detach from the container", "ctrl-p,ctrl-q"),
    Flag("attach", "a", "list", "STREAM", "Attach only to stdin, stdout or stderr"),
    Flag("tls-verify", help="Check certificates when pulling", default=True),
)

LISTS_BY_COMMA = ("cap_add", "cap_drop", "dns", "group_add", "attach")
CHOICES = {
    "pull": ("always", "missing", "never", "newer"),
    "pid": ("private", "host"),
    "ipc": ("private", "shareable", "host", "none"),
    "uts": ("private", "host"),
    "cgroupns": ("", "private", "host"),
    "log_driver": ("", "k8s-file", "json-file", "none", "passthrough"),
}
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
        if options[key] not in allowed:
            wanted = ", ".join(filter(None, allowed))
            raise UserError(
                f"{_flag(key)} {options[key]!r} is not known", hint=f"allowed: {wanted}"
            )
    for stream in _by_comma(options["attach"]):
        if stream.lower() not in STREAMS:
            raise UserError(
                f"--attach {stream!r} is not a stream", hint=f"allowed: {', '.join(STREAMS)}"
            )
    if options["replace"] and not options["name"]:
        raise UserError("--replace needs --name", hint="the name of the container to replace")
    lean.load_msgspec()
    from ..options import ContainerOptions

    network, joins = _network(options, network_default)
    return ContainerOptions(
        image=arguments[0],
        command=tuple(arguments[1:]),
        name=options["name"],
        entrypoint=_entrypoint(options["entrypoint"]),
        env=environment(options["env"], options["env_file"]),
        workdir=_absolute("--workdir", options["workdir"]),
        user=options["user"],
        hostname=_hostname(options["hostname"]),
        tty=options["tty"],
        interactive=options["interactive"],
        detach=options["detach"],
        remove=options["rm"],
        mounts=_mounts(options),
        volumes_from=_by_comma(options["volumes_from"]),
        network=network,
        joins=joins,
        ports=_ports(options["publish"]),
        publish_all=options["publish_all"],
        expose=tuple(port for item in options["expose"] for port in _exposed(item)),
        add_hosts=tuple(_add_host(item) for item in options["add_host"]),
        dns=_name_servers(options),
        dns_search=_domains(options["dns_search"]),
        dns_options=tuple(_word("--dns-option", item) for item in options["dns_option"]),
        cap_add=_by_comma(options["cap_add"]),
        cap_drop=_by_comma(options["cap_drop"]),
        privileged=options["privileged"],
        read_only=options["read_only"],
        init=options["init"],
        devices=tuple(_device(item) for item in options["device"]),
        security_opt=tuple(options["security_opt"]),
        label_providers=_by_comma(options["label_provider"]),
        resources=resources(options),
        ulimits=_ulimits(options["ulimit"]),
        sysctls=_pairs("--sysctl", options["sysctl"]),
        group_add=_by_comma(options["group_add"]),
        shm_size=_size("--shm-size", options["shm_size"]),
        labels=_labels(options["label_file"], options["label"]),
        annotations=_pairs("--annotation", options["annotation"]),
        stop_signal=options["stop_signal"],
        stop_timeout=_stop_timeout(options["stop_timeout"]),
        restart=restart_policy(options["restart"], options["rm"])[0],
        restart_limit=restart_policy(options["restart"], options["rm"])[1],
        **_health(options),
        secrets=_secrets(options["secret"]),
        log_driver=options["log_driver"],
        log_path=_log_option(options, "path"),
        log_size_max=_log_size_max(options),
        cgroup_parent=options["cgroup_parent"],
        pid=_namespace(options["pid"]),
        ipc=_namespace(options["ipc"]),
        uts=_namespace(options["uts"]),
        cgroupns=options["cgroupns"],
        pod=options["pod"],
        userns=options["userns"],
        uid_maps=_by_comma(options["uidmap"]),
        gid_maps=_by_comma(options["gidmap"]),
        subuid_name=options["subuidname"],
        subgid_name=options["subgidname"],
    )


def step_options(given: Mapping[str, Any]) -> dict[str, Any]:
    """What those flags of `run` ask for that `build` has as well, for the containers of its steps.
    Error: UserError."""
    absent = dict.fromkeys(("cpus", "memory_reservation"), "")
    options = {**absent, "pids_limit": None, "dns_search": (), "dns_option": (), **given}
    return {
        "add_hosts": tuple(_add_host(item) for item in options["add_host"]),
        "dns": _name_servers(options),
        "cap_add": _by_comma(options["cap_add"]),
        "cap_drop": _by_comma(options["cap_drop"]),
        "devices": tuple(_device(item) for item in options["device"]),
        "security_opt": tuple(options["security_opt"]),
        "resources": resources(options),
        "ulimits": _ulimits(options["ulimit"]),
        "shm_size": _size("--shm-size", options["shm_size"]),
        "mounts": tuple(volumes.parse_volume(item) for item in options["volume"]),
    }


def _log_size_max(options: Mapping[str, Any]) -> int:
    text = _log_option(options, "max-size")
    size = _size("--log-opt max-size", text)
    if text and size < LOG_SIZE_LEAST:
        raise UserError(
            f"--log-opt max-size={text}: a log needs {LOG_SIZE_LEAST >> 10} KiB at least"
        )
    return size


def _log_option(options: Mapping[str, Any], wanted: str) -> str:
    """The last one counts."""
    found = ""
    for item in options["log_opt"]:
        key, _, value = _clean("--log-opt", item).partition("=")
        if key not in ("path", "max-size") or not value:
            raise UserError(f"--log-opt {item!r} is not known", hint="max-size=10m or path=FILE")
        if options["log_driver"] in ("none", "passthrough"):
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


HEALTH = ("cmd", "interval", "retries", "start_period", "timeout")


def _health(options: Mapping[str, Any]) -> dict[str, Any]:
    """The field `health`, if anything of it was asked for."""
    given = [key for key in HEALTH if options[f"health_{key}"] not in ("", None)]
    if not given and not options["no_healthcheck"]:
        return {}
    from . import health_flags  # rarely

    return {"health": health_flags.parse(options)}


def _flag(key: str) -> str:
    return "--" + key.replace("_", "-")


def _namespace(mode: str) -> str:
    """Empty is the container's own."""
    return "" if mode == "private" else mode


def _by_comma(values: Iterable[str]) -> tuple[str, ...]:
    return tuple(part for value in values for part in value.split(",") if part)


def _clean(flag: str, text: str) -> str:
    if "\0" in text:
        raise UserError(f"{flag} {text!r} contains a zero byte")
    return text


def _absolute(flag: str, path: str) -> str:
    if path and not path.startswith("/"):
        raise UserError(f"{flag} {path!r} is not an absolute path")
    return _clean(flag, path)


def _at_least(flag: str, value: int, least: int) -> int:
    if value < least:
        raise UserError(f"{flag} {value} is too small", hint=f"at least {least}")
    return value


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


def _lines(flag: str, path: str) -> list[str]:
    """The lines of a file that are neither empty nor comments."""
    try:
        with open(path, "rb") as file:
            data = file.read(MAX_FILE + 1)
    except OSError as error:
        raise UserError(f"{flag} {path}: {error.strerror}") from None
    except ValueError:
        raise UserError(f"{flag} {path!r} is not a path") from None
    if len(data) > MAX_FILE:
        raise UserError(f"{flag} {path}: larger than {MAX_FILE >> 20} MiB")
    lines = []
    for number, line in enumerate(data.decode("utf-8", "surrogateescape").split("\n"), 1):
        text = line.strip(" \t\r\ufeff") if number == 1 else line.strip(" \t\r")
        if text and not text.startswith("#"):
            if "\0" in text:
                raise UserError(f"{flag} {path}, line {number}: contains a zero byte")
            lines.append(line.lstrip(" \t\ufeff").rstrip("\r"))
    return lines


def _variables(flag: str, items: Iterable[str]) -> Iterable[tuple[str, str]]:
    """NAME=VALUE as it is; NAME from our environment, if it is there; PRE* likewise for all."""
    for item in items:
        name, equals, value = _clean(flag, item).partition("=")
        if not name or name != name.strip():
            raise UserError(f"{flag} {item!r} has no name", hint="write NAME=VALUE or NAME")
        if equals:
            yield name, value
        elif name.endswith("*"):
            prefix = name[:-1]
            yield from ((key, os.environ[key]) for key in os.environ if key.startswith(prefix))
        elif name in os.environ:
            yield name, os.environ[name]


def environment(items: Iterable[str], files: Iterable[str]) -> tuple[tuple[str, str], ...]:
    """What `-e` (`items`) and `--env-file` give. Files first, so that -e goes over them; the last
    value of a name counts. Error: UserError."""
    found: dict[str, str] = {}
    for path in files:
        found.update(_variables(f"--env-file {path}:", _lines("--env-file", path)))
    found.update(_variables("--env", items))
    return tuple(found.items())


def _labels(files: Iterable[str], items: Iterable[str]) -> tuple[tuple[str, str], ...]:
    found: dict[str, str] = {}
    groups = [(f"--label-file {path}:", _lines("--label-file", path)) for path in files]
    for flag, texts in (*groups, ("--label", list(items))):
        for text in texts:
            key, _, value = _clean(flag, text).partition("=")
            if not key:
                raise UserError(f"{flag} {text!r} has no key", hint="write KEY=VALUE or KEY")
            found[key] = value
    return tuple(found.items())


def _pairs(flag: str, items: Iterable[str]) -> tuple[tuple[str, str], ...]:
    found: dict[str, str] = {}
    for item in items:
        key, equals, value = _clean(flag, item).partition("=")
        if not key or not equals:
            raise UserError(f"{flag} {item!r} is not of the form NAME=VALUE")
        found[key] = value
    return tuple(found.items())


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


def _network(options: Mapping[str, Any], default: str) -> tuple[str, tuple[NetworkOptions, ...]]:
    """Words of --network, and how the container joins the networks among them."""
    values = [*options["net"], *options["network"]]
    for name in _by_comma(values):
        if name.partition(":")[0] in ("pasta", "slirp4netns", "private"):
            raise UserError(
                f"--network {name!r} is not there yet", hint="none, host, bridge or a network"
            )
    wishes = options["ip"], options["ip6"], options["mac_address"], options["network_alias"]
    if any(wishes) or any(":" in value for value in values):
        from . import joins  # rarely

        network, found = joins.parse(values, default, *wishes)
        joins.refuse(network, options)
        return network, found
    names = _by_comma(values)
    if values and not names:
        raise UserError("--network is empty", hint="none, host, bridge or a network's name")
    return ",".join(dict.fromkeys(names)) or default, ()


def _ports(items: Iterable[str]) -> tuple[Port, ...]:
    return tuple(port for item in items for port in parse_port(item))


def _exposed(item: str) -> Iterator[str]:
    """`PORT/PROTO` of each."""
    ports, _, protocol = item.partition("/")
    first, _, last = ports.partition("-")
    last = last or first
    numbers = [int(text) for text in (first, last) if text.isdecimal() and 0 < int(text) < 65536]
    protocol = protocol or "tcp"
    if len(numbers) < 2 or numbers[0] > numbers[1] or protocol not in ("tcp", "udp", "sctp"):
        raise UserError(f"--expose {item!r} is not of the form PORT[-PORT][/PROTO]")
    return (f"{number}/{protocol}" for number in range(numbers[0], numbers[1] + 1))


def _address(flag: str, text: str) -> str:
    import socket  # rarely

    family = socket.AF_INET6 if ":" in text else socket.AF_INET
    try:
        socket.inet_pton(family, text)
    except (OSError, ValueError):
        raise UserError(f"{flag} {text!r} is not an IP address") from None
    return text


def _name_servers(options: Mapping[str, Any]) -> tuple[str, ...]:
    servers = _by_comma(options["dns"])
    if servers == ("none",):
        if options["dns_search"] or options["dns_option"]:
            raise UserError("--dns none leaves /etc/resolv.conf to the image, others change it")
        return servers
    return tuple(_address("--dns", item) for item in servers)


def _domains(values: list[str]) -> tuple[str, ...]:
    domains = tuple(_word("--dns-search", item) for item in _by_comma(values))
    if "." in domains and len(domains) > 1:
        raise UserError("--dns-search . means no domain, and cannot be combined with others")
    return domains


def _word(flag: str, text: str) -> str:
    """What becomes a word of /etc/resolv.conf."""
    if not (text.isascii() and text.isprintable()) or not text or " " in text:
        raise UserError(f"{flag} {text!r} is not a word")
    return text


def _add_host(item: str) -> tuple[str, str]:
    name, colon, address = _clean("--add-host", item).partition(":")
    if not name or not colon or any(c.isspace() for c in name):
        raise UserError(f"--add-host {item!r} is not of the form NAME:ADDRESS")
    address = address[1:-1] if address[:1] == "[" and address[-1:] == "]" else address
    if address == "host-gateway":
        return name, address
    return name, _address(f"--add-host {name}:", address)


def _device(item: str) -> Device:
    from ..options import Device

    parts = _clean("--device", item).split(":")
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


def resources(options: Mapping[str, Any]) -> Resources:
    """What the flags of limits ask for; also those of `update`. Error: UserError."""
    from ..options import Resources

    memory = _size("--memory", options["memory"])
    swap_text = options["memory_swap"]
    swap = -1 if swap_text == "-1" else _size("--memory-swap", swap_text)
    if swap > 0 and not memory:
        raise UserError("--memory-swap needs --memory as well")
    if 0 < swap < memory:
        raise UserError(
            f"--memory-swap {swap_text} is less than --memory {options['memory']}",
            hint="it is memory and swap together",
        )
    reservation = _size("--memory-reservation", options["memory_reservation"])
    if memory and reservation > memory:
        raise UserError("--memory-reservation is more than --memory")
    return Resources(
        memory=memory,
        memory_swap=swap,
        memory_reservation=reservation,
        cpus=_cpus(options["cpus"]),
        cpu_shares=_at_least("--cpu-shares", options["cpu_shares"] or 0, 0),
        cpuset_cpus=_cpuset("--cpuset-cpus", options["cpuset_cpus"]),
        cpuset_mems=_cpuset("--cpuset-mems", options["cpuset_mems"]),
        # 0 means unlimited to podman; the engine's default is what the plain data calls 0.
        pids_limit=_pids(options["pids_limit"]),
    )


def _size(flag: str, text: str) -> int:
    return units.parse_size(text, flag) if text else 0


def _pids(value: int | None) -> int:
    if value is None:
        return 0
    return -1 if value == 0 else _at_least("--pids-limit", value, -1)


def _stop_timeout(value: int | None) -> int:
    return -1 if value is None else _at_least("--stop-timeout", value, 0)


def restart_policy(text: str, remove: bool) -> tuple[str, int]:
    """(policy, tries)."""
    policy, colon, tries = text.partition(":")
    if policy not in ("no", "", "always", "on-failure", "unless-stopped") or (
        colon and not (policy == "on-failure" and tries.isascii() and tries.isdecimal())
    ):
        raise UserError(
            f"--restart {text!r} is not a policy",
            hint="no, always, on-failure[:TRIES] or unless-stopped",
        )
    if policy in ("no", ""):
        return "", 0
    if remove:
        raise UserError(f"--rm and --restart {text} contradict each other")
    return policy, int(tries[:9] or 0)


def _cpus(text: str) -> float:
    whole, _, fraction = text.partition(".")
    digits = whole + fraction
    if text and not (digits.isascii() and digits.isdecimal() and len(digits) <= 12):
        raise UserError(f"--cpus {text!r} is not a number of processors", hint="write 2 or 0.5")
    number = float(text) if text else 0.0
    if 0 < number < 0.01:
        raise UserError(f"--cpus {text} is too small", hint="at least 0.01")
    return number


def _cpuset(flag: str, text: str) -> str:
    for part in text.split(",") if text else ():
        low, dash, high = part.partition("-")
        numbers = (low, high) if dash else (low,)
        good = all(n.isascii() and n.isdecimal() and len(n) < 6 for n in numbers)
        if not good or (dash and int(low) > int(high)):
            raise UserError(f"{flag} {text!r} is not a list of numbers", hint="write 0-2,4")
    return text


def _ulimits(items: Iterable[str]) -> tuple[Ulimit, ...]:
    from ..options import Ulimit

    found: dict[str, Ulimit] = {}
    for item in items:
        name, _, values = item.lower().removeprefix("rlimit_").partition("=")
        soft_text, colon, hard_text = values.partition(":")
        soft = _limit(item, soft_text)
        hard = _limit(item, hard_text) if colon else soft
        if not name.isalpha():
            raise UserError(f"--ulimit {item!r} has no name", hint="write nofile=1024:2048")
        if hard != -1 and (soft == -1 or soft > hard):
            raise UserError(f"--ulimit {item!r}: the soft limit is above the hard one")
        found[name] = Ulimit(name, soft, hard)
    return tuple(found.values())


def _limit(item: str, text: str) -> int:
    if text in ("-1", "unlimited"):
        return -1
    if not (text.isascii() and text.isdecimal() and len(text) <= 19):
        raise UserError(
            f"--ulimit {item!r} is not a limit", hint="write NAME=SOFT[:HARD], -1 for unlimited"
        )
    return int(text)
