"""`info` and `version`, by podman's names and a few of our own. Nothing here loads the engine."""

from __future__ import annotations

import os
import sys

from .. import __version__
from ..errors import TiffinError
from .flags import Call, Command, Flag

TYPE_CHECKING = False  # without importing typing
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from typing import Any

FORMAT = Flag("format", "f", "str", "TEMPLATE", "`json`, or a Go template")
MACHINES = {"x86_64": "amd64", "aarch64": "arm64", "i686": "386", "armv7l": "arm"}
"""uname's words, and those of images."""
LOG_DRIVERS = ("k8s-file", "json-file", "journald", "none", "passthrough")
GO_NAMES = {"CgroupsVersion": "cgroupVersion"}
"""Where podman's template and its JSON differ in more than capitals."""
UNSET = "not chosen yet"


def architecture() -> str:
    machine = os.uname().machine
    return MACHINES.get(machine, machine)


def _read(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read()
    except OSError:
        return ""


def _said(*programs: str) -> list[str]:
    """What each says to --version; all of them are asked at the same time."""
    running = []
    for program in programs:
        read, write = os.pipe()
        with open(os.devnull, "wb") as null:
            actions = [
                (os.POSIX_SPAWN_DUP2, write, 1),
                (os.POSIX_SPAWN_DUP2, null.fileno(), 2),
            ]
            argv = [program, "--version"]
            try:
                pid = os.posix_spawn(program, argv, os.environ, file_actions=actions)
            except OSError:
                pid = 0
        os.close(write)
        running.append((pid, read))
    found = []
    for pid, read in running:
        with open(read, encoding="utf-8", errors="replace") as pipe:
            found.append(pipe.read(65536).strip())
        if pid:
            os.waitpid(pid, 0)
    return found


def _program(name: str) -> str:
    if os.path.isabs(name):
        return name
    for directory in (*os.get_exec_path(), "/usr/local/sbin", "/usr/sbin", "/sbin"):
        path = os.path.join(directory, name)
        if directory and os.access(path, os.X_OK):
            return path
    return ""


def _programs(runtime: str, asked: bool) -> tuple[dict[str, Any], dict[str, Any]]:
    """conmon and the runtime; their versions if those are going to be shown."""
    paths = _program("conmon"), _program(runtime) if runtime != UNSET else ""
    told = _said(*(path or "/nonexistent" for path in paths)) if asked else ["", ""]
    told = [told[0].replace("\n", ", "), told[1]]
    conmon, oci = ({"path": path, "version": text} for path, text in zip(paths, told, strict=True))
    return conmon, {"name": os.path.basename(runtime), **oci}


def _memory() -> dict[str, int]:
    names = {"MemFree": "memFree", "MemTotal": "memTotal", "SwapFree": "swapFree"}
    names["SwapTotal"] = "swapTotal"
    found = dict.fromkeys(names.values(), 0)
    for text in _read("/proc/meminfo").splitlines():
        key, _, value = text.partition(":")
        if key in names:
            found[names[key]] = int(value.split()[0]) << 10
    return found


def _distribution() -> dict[str, str]:
    told = {}
    for text in _read("/etc/os-release").splitlines():
        key, _, value = text.partition("=")
        told[key] = value.strip("\"'")
    found = {"distribution": told.get("ID", "unknown"), "version": told.get("VERSION_ID", "")}
    codename = told.get("VERSION_CODENAME", "")
    return found | ({"codename": codename} if codename else {})


def _uptime() -> str:
    seconds = float((_read("/proc/uptime").split() or ["0"])[0])
    hours, rest = divmod(int(seconds), 3600)
    text = f"{hours}h " if hours else ""
    text += f"{rest // 60}m {rest % 60}.00s"
    return f"{text} (Approximately {seconds / 86400:.2f} days)" if hours else text


def _cpu_utilization() -> dict[str, float]:
    """Since the machine was started."""
    numbers = [int(word) for word in _read("/proc/stat").split("\n", 1)[0].split()[1:]]
    user, nice, system, idle = (*numbers, 0, 0, 0, 0)[:4]
    whole = (user + nice + system + idle) or 1
    shares = {"userPercent": user + nice, "systemPercent": system, "idlePercent": idle}
    return {key: round(100 * value / whole, 2) for key, value in shares.items()}


def _controllers(v2: bool, uid: int) -> list[str]:
    """Those that may limit this user's containers."""
    if v2:
        from ..systemd import manager_cgroup

        return _read(f"/sys/fs/cgroup{manager_cgroup(uid)}/cgroup.controllers").split()
    rows = (text.split() for text in _read("/proc/cgroups").splitlines()[1:])
    names = [row[0] for row in rows if len(row) == 4 and row[3] == "1"]
    return [name for name in names if os.path.isdir(f"/sys/fs/cgroup/{name}")]


def _cgroup_manager(call: Call) -> str:
    from .. import cgroups, settings

    chosen = settings.load(call.layout, cgroup_manager=call.cgroup_manager).cgroup_manager
    return chosen or cgroups.usual_manager(call.layout.uid)


def _id_mappings(rootless: bool) -> dict[str, Any]:
    def read(name: str) -> list[dict[str, int]] | None:
        rows = [tuple(map(int, text.split())) for text in _read(name).splitlines()]
        keys = ("container_id", "host_id", "size")
        return [dict(zip(keys, row, strict=True)) for row in rows] if rootless else None

    return {"gidmap": read("/proc/self/gid_map"), "uidmap": read("/proc/self/uid_map")}


def _security(rootless: bool) -> dict[str, Any]:
    from ..spec import capabilities, seccomp

    profile = next((path for path in seccomp.PROFILE_PATHS if os.path.exists(path)), "built in")
    return {
        "apparmorEnabled": _read("/sys/module/apparmor/parameters/enabled").strip() == "Y",
        "capabilities": ",".join(sorted(capabilities.DEFAULT)),
        "rootless": rootless,
        "seccompEnabled": "\nSeccomp:" in _read("/proc/self/status"),
        "seccompProfilePath": profile,
        "selinuxEnabled": os.path.exists("/sys/fs/selinux/enforce"),
    }


def _registries() -> dict[str, Any]:
    from ..registry import registries

    if not any(os.path.exists(path) for path in registries.files()):
        return {}
    try:
        search = registries.load().search
    except TiffinError:
        return {}  # who pulls is told what is wrong
    return {"search": list(search)} if search else {}


def _plugins(call: Call) -> dict[str, list[str]]:
    from .. import plugin_index

    found: dict[str, list[str]] = {}
    for name in sorted(plugin_index.load(call.layout).plugins):
        kind, _, own = name.partition(".")
        found.setdefault(kind, []).append(own)
    return {**found, "log": list(LOG_DRIVERS), "volume": ["local"]}


def _store(call: Call) -> tuple[dict[str, Any], str]:
    """The store's part, and the name of the runtime."""
    from .. import settings
    from ..store import queries, sync

    layout = call.layout
    chosen = settings.load(layout, storage_driver=call.storage_driver, runtime=call.runtime)
    counts: dict[str, int] = {}
    defaults: dict[str, str] = {}
    events = images = 0
    connection = sync.open_read_only(layout.database)
    if connection is not None:
        for row in queries.rows(
            connection, "SELECT state, count(*) AS n FROM containers GROUP BY state"
        ):
            counts[row["state"]] = row["n"]
        images = connection.execute("SELECT count(*) FROM images").fetchone()[0]
        events = connection.execute("SELECT max(seq) FROM events").fetchone()[0] or 0
        defaults = dict(connection.execute("SELECT kind, name FROM defaults").fetchall())
    number, running = sum(counts.values()), counts.get("running", 0)
    paused = counts.get("paused", 0)
    try:
        room = os.statvfs(layout.root)
        allocated = room.f_blocks * room.f_frsize
        used = allocated - room.f_bfree * room.f_frsize
    except OSError:  # nothing was ever made
        allocated = used = 0
    found = {
        "configFile": settings.path(layout),
        "containerStore": {
            "number": number,
            "paused": paused,
            "running": running,
            "stopped": number - paused - running,
        },
        "database": layout.database,
        "events": events,
        "graphDriverName": chosen.storage_driver or defaults.get("storage", UNSET),
        "graphOptions": {},
        "graphRoot": layout.root,
        "graphRootAllocated": allocated,
        "graphRootUsed": used,
        "graphStatus": {},
        "imageCopyTmpDir": os.environ.get("TMPDIR", "/var/tmp"),
        "imageStore": {"number": images},
        "runRoot": layout.run,
        "volumePath": f"{layout.root}/volumes",
    }
    return found, chosen.runtime or defaults.get("runtime", UNSET)


def document(call: Call, *, ask_programs: bool) -> dict[str, Any]:
    names = os.uname()
    rootless = call.layout.uid != 0
    v2 = os.path.exists("/sys/fs/cgroup/cgroup.controllers")
    store, runtime = _store(call)
    conmon, oci = _programs(runtime, ask_programs)
    return {
        "host": {
            "arch": architecture(),
            "cgroupControllers": _controllers(v2, call.layout.uid),
            "cgroupManager": _cgroup_manager(call),
            "cgroupVersion": "v2" if v2 else "v1",
            "conmon": conmon,
            "cpuUtilization": _cpu_utilization(),
            "cpus": os.cpu_count(),
            "distribution": _distribution(),
            "eventLogger": "sqlite",
            "hostname": names.nodename,
            "idMappings": _id_mappings(rootless),
            "kernel": names.release,
            "linkmode": "dynamic",
            "logDriver": "k8s-file",
            "networkBackend": "tiffin",
            "ociRuntime": oci,
            "os": names.sysname.lower(),
            "security": _security(rootless),
            "serviceIsRemote": False,
            "uptime": _uptime(),
            **_memory(),
        },
        "plugins": _plugins(call),
        "registries": _registries(),
        **({"rootless": _rootless(call.layout.uid)} if rootless else {}),
        "store": store,
        "version": versions(),
    }


def _rootless(uid: int) -> dict[str, Any]:
    from ..rootless.report import report

    return report(uid)


def versions() -> dict[str, Any]:
    system = os.uname().sysname.lower()
    return {
        "APIVersion": __version__,
        "Built": 0,
        "BuiltTime": "Thu Jan  1 00:00:00 1970",
        "GitCommit": "",
        "Os": system,
        "OsArch": f"{system}/{architecture()}",
        "PythonVersion": sys.version.split()[0],
        "Version": __version__,
    }


# --- how it is shown ------------------------------------------------------------------------------


def _named(value: Any) -> Any:
    """As Go's templates name it, `.Host.OCIRuntime`, and as JSON does, `.host.ociRuntime`."""
    from .gotemplate import Record

    class Loose(Record):
        def __missing__(self, name: str) -> Any:
            wanted = GO_NAMES.get(name, name).lower()
            for key in self:
                if key.lower() == wanted:
                    return self[key]
            return super().__missing__(name)

    if isinstance(value, dict):
        return Loose({key: _named(one) for key, one in value.items()})
    return value


def _scalar(value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        plain = (
            value
            and value.strip() == value
            and ": " not in value
            and value[0] not in "{[&*!|>%@`'\"#-?"
        )
        numeric = value.replace(".", "", 1).isdigit() or value in ("null", "true", "false")
        return value if plain and not numeric else f'"{value}"'
    return str(value)


def yaml_lines(node: Mapping[str, Any], indent: str = "") -> Iterator[str]:
    """YAML, as podman prints it."""
    for key, value in sorted(node.items(), key=lambda item: str(item[0])):
        if isinstance(value, dict) and value:
            yield f"{indent}{key}:"
            yield from yaml_lines(value, indent + "  ")
        elif isinstance(value, list) and value:
            yield f"{indent}{key}:"
            for one in value:
                if isinstance(one, dict):
                    first, *rest = yaml_lines(one, f"{indent}  ")
                    yield f"{indent}- {first.strip()}"
                    yield from rest
                else:
                    yield f"{indent}- {_scalar(one)}"
        elif isinstance(value, str) and "\n" in value:
            yield f"{indent}{key}: |-"
            yield from (f"{indent}  {text}" for text in value.splitlines())
        elif value in ({}, []) and not isinstance(value, bool):
            yield f"{indent}{key}: {'{}' if value == {} else '[]'}"
        else:
            yield f"{indent}{key}: {_scalar(value)}"


def _show(template: str, told: dict[str, Any], named: Any) -> bool:
    """Whether there was a --format, which is then shown."""
    if template == "json":
        import json

        sys.stdout.write(json.dumps(told, indent=2) + "\n")
    elif template:
        from .gotemplate import render

        sys.stdout.write(render(template, named) + "\n")
    return bool(template)


def _info(call: Call) -> int:
    template = call.options["format"]
    some = ("json", "onmon", "untime", "range", "with")
    told = document(call, ask_programs=not template or any(word in template for word in some))
    if not _show(template, told, _named(told)):
        sys.stdout.write("".join(f"{text}\n" for text in yaml_lines(told)))
    return 0


INFO = Command(
    name="info",
    usage="",
    summary="Show the machine, the engine's drivers, paths and counts",
    flags=(FORMAT,),
    arguments=(0, 0),
    examples=("tiffin info", "tiffin info -f '{{.Store.GraphDriverName}} {{.Host.CgroupVersion}}'"),
    run=_info,
)


def _version(call: Call) -> int:
    told = versions()
    # `{{.Version}}` is what podman takes as well; there is no server.
    if _show(
        call.options["format"], {"Client": told}, _named({**told, "Client": told, "Server": None})
    ):
        return 0
    rows = (
        *(("Client", "tiffin"), ("Version", told["Version"]), ("API Version", told["APIVersion"])),
        *(("Python Version", told["PythonVersion"]), ("OS/Arch", told["OsArch"])),
    )
    sys.stdout.write("".join(f"{name + ':':<16}{value}\n" for name, value in rows))
    return 0


VERSION = Command(
    name="version",
    usage="",
    summary="Show the versions of tiffin and of Python",
    flags=(FORMAT,),
    arguments=(0, 0),
    examples=("tiffin version", "tiffin version -f '{{.Client.Version}}'"),
    run=_version,
)
