"""`ps`: containers as the projections show them."""

from __future__ import annotations

import sys

from ..errors import UserError
from ..store import queries
from ..units import human_ago, human_duration, human_size, parse_time
from . import reads, table
from .flags import AT, Call, Command, Flag

TYPE_CHECKING = False  # without importing typing
if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Sequence
    from typing import Any

    from ..engine.base import Engine
    from ..store.queries import Row

HEADINGS = {
    "ID": "CONTAINER ID",
    "ImageID": "IMAGE ID",
    "CreatedHuman": "CREATED",
    "RunningFor": "CREATED",
    "CreatedAt": "CREATED AT",
    "ExitCode": "EXIT CODE",
    "Pid": "PID",
    "Pod": "POD ID",
    "PodName": "PODNAME",
}
"""Of template fields; a field that is missing here is headed by its name in capitals."""

COLUMNS = ("CONTAINER ID", "IMAGE", "COMMAND", "CREATED", "STATUS", "PORTS", "NAMES")
ACTIVE = ("running", "paused", "initialized")
"""What `ps` shows without --all; podman leaves out what is initialized, but it has a process."""
COMMAND_WIDTH = 17

FILTERS = (
    "id",
    "name",
    "label",
    "status",
    "ancestor",
    "exited",
    "before",
    "since",
    "network",
    "volume",
    "until",
    "pod",
    "health",
    "restart-policy",
)
CLEAR = "\x1b[H\x1b[2J"
STATES = ("creating", "created", "initialized", "running", "paused", "exited", "removing")
HEALTH = ("starting", "healthy", "unhealthy", "none")
ENDS = ("source", "target")
SORTS = ("created", "command", "id", "image", "names", "runningfor", "size", "status")


def status(row: Row, now: int) -> str:
    """`Up 3 seconds`, `Exited (0) 2 minutes ago`, `Created`, ..."""
    state = str(row["state"])
    if state == "running":
        health = f" ({row['health']})" if row["health"] else ""
        return f"Up {human_duration(now - row['started'])}{health}"
    if state == "exited":
        since = human_ago(row["finished"], now) if row["finished"] else "some time ago"
        return f"Exited ({row['exit_code']}) {since}"
    return state.capitalize()


def ports(published: Sequence[dict[str, Any]]) -> str:
    """`0.0.0.0:8000-8002->80-82/tcp, ...`: neighbours are drawn together."""
    spans: list[list[Any]] = []  # ip, protocol, first host, first container, count
    ordered = sorted(
        published,
        key=lambda p: (p.get("host_ip", ""), p.get("protocol", "tcp"), p["container_port"]),
    )
    for port in ordered:
        ip, protocol = port.get("host_ip") or "0.0.0.0", port.get("protocol", "tcp")  # noqa: S104
        host, inside = port.get("host_port", 0), port["container_port"]
        if spans:
            span = spans[-1]
            follows = span[:2] == [ip, protocol] and span[2] + span[4] == host
            if follows and span[3] + span[4] == inside:
                span[4] += 1
                continue
        spans.append([ip, protocol, host, inside, 1])
    texts = []
    for ip, protocol, host, inside, count in spans:
        ip = f"[{ip}]" if ":" in ip else ip
        more = count - 1
        left = f"{host}-{host + more}" if more else f"{host}"
        right = f"{inside}-{inside + more}" if more else f"{inside}"
        texts.append(f"{ip}:{left}->{right}/{protocol}")
    return ", ".join(texts)


def shorten(words: Sequence[str], trunc: bool) -> str:
    text = " ".join(words)
    return f"{text[:COMMAND_WIDTH]}..." if trunc and len(text) > COMMAND_WIDTH else text


def fields(row: Row, now: int, trunc: bool) -> dict[str, Any]:
    """What a template of `ps` may name."""
    from .gotemplate import Record

    return Record(
        ID=row["id"][: reads.SHORT] if trunc else row["id"],
        Image=row["image_name"],
        ImageID=row["image_id"].removeprefix("sha256:"),
        Command=shorten(row["command"], trunc),
        Created=human_ago(row["created"], now),
        CreatedHuman=human_ago(row["created"], now),
        RunningFor=human_ago(row["created"], now),
        CreatedAt=reads.go_time(row["created"]),
        StartedAt=row["started"] // 1_000_000_000,
        ExitedAt=row["finished"] // 1_000_000_000,
        Exited=row["state"] == "exited",
        ExitCode=row["exit_code"],
        Status=status(row, now),
        State=row["state"],
        Ports=ports(row["ports"]),
        Names=row["name"],
        Labels=row["labels"],
        Networks=",".join(network_names(row)),
        Mounts=[mount["target"] for mount in row["options"].get("mounts", ())],
        Pid=row["pid"],
        Pod=row["options"].get("pod", "")[: reads.SHORT if trunc else None],
        PodName=row.get("pod_name", ""),
        Size=_size(row),
    )


def plain(row: Row, now: int) -> dict[str, Any]:
    """The row as `--format json` prints it, by podman's names."""
    return {
        "AutoRemove": bool(row["remove"]),
        "Command": row["command"],
        "CreatedAt": human_ago(row["created"], now),
        "Exited": row["state"] == "exited",
        "ExitedAt": row["finished"] // 1_000_000_000,
        "ExitCode": row["exit_code"],
        "Id": row["id"],
        "Image": row["image_name"],
        "ImageID": row["image_id"].removeprefix("sha256:"),
        "IsInfra": False,
        "Labels": row["labels"] or None,
        "Mounts": [mount["target"] for mount in row["options"].get("mounts", ())],
        "Names": [row["name"]],
        "Networks": network_names(row),
        "Pid": row["pid"],
        "Pod": row["options"].get("pod", ""),
        "PodName": row.get("pod_name", ""),
        "Ports": [
            {
                "host_ip": port.get("host_ip", ""),
                "container_port": port["container_port"],
                "host_port": port.get("host_port", 0),
                "range": 1,
                "protocol": port.get("protocol", "tcp"),
            }
            for port in row["ports"]
        ]
        or None,
        "Size": {"rootFsSize": sum(row["sizes"]), "rwSize": row["sizes"][0]}
        if "sizes" in row
        else None,
        "StartedAt": row["started"] // 1_000_000_000,
        "State": row["state"],
        "Status": status(row, now),
        "Created": row["created"] // 1_000_000_000,
    }


def network_names(row: Row) -> list[str]:
    """Those it is on, not one that it shares."""
    words = row["network"].split(",")
    return [name for name in words if name not in ("none", "host", "") and ":" not in name]


def choose(
    connection: sqlite3.Connection | None,
    found: list[Row],
    given: dict[str, list[str]],
    now: int,
) -> list[Row]:
    """The rows that pass: every key must match, by any of its values (labels: by all)."""
    if not given:
        return found
    named = table.matches(given, "name")
    codes = []
    for text in given.get("exited", ()):
        if not text.isdecimal():
            raise UserError(f"--filter exited={text}: not an exit code")
        codes.append(int(text))
    states = ["exited" if text == "stopped" else text for text in given.get("status", ())]
    for text in states:
        if text not in STATES:
            raise UserError(f"--filter status={text}: no such state", hint=", ".join(STATES))
    healths = given.get("health", [])
    for text in healths:
        if text not in HEALTH:
            raise UserError(f"--filter health={text}: no such state", hint=", ".join(HEALTH))
    volumes = {text.rstrip("/") or "/" for text in given.get("volume", ())}
    until = [parse_time(text, now, "--filter until") for text in given.get("until", ())]
    before = [reads.container(connection, name)["created"] for name in given.get("before", ())]
    since = [reads.container(connection, name)["created"] for name in given.get("since", ())]
    images = given.get("ancestor", [])
    ids = {text: _ancestor(connection, text) for text in images}

    def passes(row: Row) -> bool:
        if "id" in given and not any(row["id"].startswith(text) for text in given["id"]):
            return False
        if not named(row["name"]):
            return False
        if states and row["state"] not in states:
            return False
        pod = row["options"].get("pod", "")
        if "pod" in given and not any(
            pod and (pod.startswith(text) or row.get("pod_name") == text) for text in given["pod"]
        ):
            return False
        policies = given.get("restart-policy")
        if policies and (row["options"].get("restart") or "no") not in policies:
            return False
        if healths and (row["health"] or "none") not in healths:
            return False
        if volumes and not volumes & mounted(row):
            return False
        if until and row["created"] > max(until):
            return False
        if images and not any(
            row["image_name"] == text or row["image_id"] == ids[text] for text in images
        ):
            return False
        if codes and (row["state"] != "exited" or row["exit_code"] not in codes):
            return False
        if "network" in given and not set(row["network"].split(",")) & set(given["network"]):
            return False
        if any(row["created"] >= time for time in before):
            return False
        if any(row["created"] <= time for time in since):
            return False
        return table.has_labels(row["labels"], given.get("label", ()))

    return [row for row in found if passes(row)]


def mounted(row: Row) -> set[str]:
    """Both ends of a container's mounts."""
    mounts = row["options"].get("mounts", ())
    ends = [mount.get(end) for mount in mounts for end in ENDS]
    return {end.rstrip("/") or "/" for end in ends if end}


def _ancestor(connection: sqlite3.Connection | None, given: str) -> str:
    """The id of an image, or what was given when there is none: then nothing matches."""
    from ..errors import TiffinError

    try:
        return str(reads.image(connection, given)["id"])
    except TiffinError:
        return given


def order(found: list[Row], by: str) -> list[Row]:
    if by not in SORTS:
        raise UserError(f"--sort {by!r} is not known", hint=", ".join(SORTS))
    if by == "size":
        return sorted(found, key=lambda row: sum(row["sizes"]))
    others = {"names": "name", "image": "image_name", "status": "state", "runningfor": "started"}
    column = others.get(by, by)
    return sorted(found, key=lambda row: row[column])


def run(call: Call) -> int:
    seconds = call.options["watch"]
    if seconds is None:
        sys.stdout.write(text(call))
        return 0
    if seconds < 1:
        raise UserError("--watch is a number of seconds, at least 1")
    from time import sleep

    while True:
        told = text(call)  # at once: a terminal must not stand empty meanwhile
        sys.stdout.write((CLEAR if sys.stdout.isatty() else "") + told)
        sys.stdout.flush()
        sleep(seconds)


def text(call: Call) -> str:
    """What is printed."""
    options = call.options
    if options["ns"] and (options["size"] or options["pod"] or options["format"]):
        raise UserError("--ns goes with no other columns: leave out --size, --pod and --format")
    given = table.filters(options["filter"], FILTERS)
    connection, now = reads.at(call.layout, options["at"])
    size = options["size"] or ".Size" in options["format"] or options["sort"] == "size"
    plain = not (
        options["ns"] or given or size or options["pod"] or options["sort"] or options["format"]
    )
    found = reads.rows(connection, queries.LISTED if plain else queries.CONTAINERS)
    if not options["at"]:
        reads.notice(call.layout, connection, found)
    if not plain and any(row["options"].get("pod") for row in found):
        names = {row["id"]: row["name"] for row in reads.rows(connection, "SELECT * FROM pods")}
        for row in found:
            row["pod_name"] = names.get(row["options"].get("pod", ""), "")
    last = 1 if options["latest"] else options["last"]
    everything = options["all"] or last is not None or "status" in given or "exited" in given
    if not everything:
        found = [row for row in found if row["state"] in ACTIVE]
    found = choose(connection, found, given, now)
    if last is not None and last >= 0:
        found = found[max(0, len(found) - last) :]
    reads.lend(connection, found)
    if size:
        _measure(call, found)
    if options["sort"]:
        found = order(found, options["sort"])
    return namespaces(found, options) if options["ns"] else show(found, options, now)


NAMESPACES = {
    "CGROUPNS": "cgroup", "IPC": "ipc", "MNT": "mnt", "NET": "net", "PIDNS": "pid",
    "USERNS": "user", "UTS": "uts",
}  # fmt: skip
"""Heading -> the name in /proc/PID/ns."""


def namespaces(found: list[Row], options: dict[str, Any]) -> str:
    """--ns: the numbers of the namespaces of each container's process."""
    from os import readlink

    def number(pid: int, kind: str) -> str:
        try:
            return readlink(f"/proc/{pid}/ns/{kind}").partition("[")[2].rstrip("]")
        except OSError:
            return ""  # it has just ended, or is another user's

    cells = []
    for row in found:
        pid = row["pid"] if row["state"] in ACTIVE else 0
        numbers = [number(pid, kind) if pid else "" for kind in NAMESPACES.values()]
        cid = row["id"] if options["no_trunc"] else row["id"][: reads.SHORT]
        cells.append((cid, row["name"], str(pid), *numbers))
    if options["quiet"]:
        return "".join(f"{cell[0]}\n" for cell in cells)
    headings = ("CONTAINER ID", "NAMES", "PID", *NAMESPACES)
    return table.table(() if options["noheading"] else headings, cells)


def _measure(call: Call, found: list[Row]) -> None:
    """Put sizes into the rows. Only the storage drivers know them: this loads the engine."""
    from .session import drive

    async def work(engine: Engine) -> dict[str, tuple[int, int]]:
        from ..engine.usage import of_containers

        return await of_containers(engine, found)

    for cid, (own, below) in (drive(call, work) if found else {}).items():
        for row in found:
            if row["id"] == cid:
                row["sizes"] = own, below


def _size(row: Row) -> str:
    """`12B (virtual 1.98MB)`"""
    if "sizes" not in row:
        return ""
    own, below = row["sizes"]
    return f"{human_size(own)} (virtual {human_size(own + below)})"


def show(found: list[Row], options: dict[str, Any], now: int) -> str:
    trunc = not options["no_trunc"]
    template = options["format"]
    if options["quiet"]:
        if template:
            raise UserError("--quiet and --format cannot be used together")
        return "".join(f"{row['id'][: reads.SHORT] if trunc else row['id']}\n" for row in found)
    if template == "json":
        return table.json_text([plain(row, now) for row in found])
    if template:
        records = [fields(row, now, trunc) for row in found]
        return table.formatted(template, records, HEADINGS, heading=not options["noheading"])
    cells: list[tuple[str, ...]] = [
        (
            row["id"][: reads.SHORT] if trunc else row["id"],
            row["image_name"],
            shorten(row["command"], trunc),
            human_ago(row["created"], now),
            status(row, now),
            ports(row["ports"]),
            row["name"],
        )
        for row in found
    ]
    headings: tuple[str, ...] = COLUMNS
    if options["pod"]:
        cells = [
            (*cell, row["options"].get("pod", "")[: reads.SHORT if trunc else None],
             row.get("pod_name", ""))
            for cell, row in zip(cells, found, strict=True)
        ]  # fmt: skip
        headings = (*COLUMNS, "POD ID", "PODNAME")
    if options["size"]:
        cells = [(*cell, _size(row)) for cell, row in zip(cells, found, strict=True)]
        headings = (*headings, "SIZE")
    return table.table(() if options["noheading"] else headings, cells)


PS = Command(
    "ps",
    "",
    "List containers: those that run, or with --all every one",
    (
        Flag("all", "a", help="Show all containers, not only those that run"),
        Flag("latest", "l", help="Show the container that was made last"),
        Flag("last", "n", "int", help="Show the N containers that were made last"),
        Flag("quiet", "q", help="Print ids only"),
        Flag("no-trunc", help="Do not shorten ids and commands"),
        Flag("filter", "f", "list", "KEY=VALUE", f"Show only what matches: {', '.join(FILTERS)}"),
        Flag("format", "", "str", "TEMPLATE", "`json`, a Go template, or `table TEMPLATE`"),
        Flag("noheading", help="Leave out the line of headings"),
        Flag("pod", "p", help="Show the pods that containers are in"),
        Flag("size", "s", help="Show how much room they take: their own layer, and all"),
        Flag("ns", help="Show the namespaces of their processes"),
        Flag("watch", "w", "int", "SECONDS", "Again and again"),
        Flag("external", help="Taken for podman's sake: there are no containers of other tools"),
        Flag("sync", help="Taken for podman's sake: what is shown is always as it is"),
        AT,
        Flag("sort", "", "str", "BY", f"Order: {', '.join(SORTS)} (by default created)"),
    ),
    (0, 0),
    (
        "tiffin ps -a",
        "tiffin ps -q --filter label=tier=web",
        "tiffin ps --format '{{.ID}} {{.Names}}'",
        "tiffin ps -a --format 'table {{.Names}}\\t{{.Status}}'",
    ),
    run,
)
