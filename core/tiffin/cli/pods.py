"""`pod ps`, `inspect`, `exists`, `top`, `logs` and `stats`: pods as the projections show them."""

from __future__ import annotations

import sys
from time import time_ns

from .. import units
from ..errors import Conflict, NotFound, TiffinError, UserError
from ..store import queries
from . import printable, reads, table
from .flags import Call, Command, Flag

TYPE_CHECKING = False  # without importing typing
if TYPE_CHECKING:
    import sqlite3
    from typing import Any

    from ..store.queries import Row

PODS = "SELECT * FROM pods ORDER BY created"
FILTERS = (
    "id", "name", "status", "label", "label!", "network", "until", "ctr-ids", "ctr-names",
    "ctr-number", "ctr-status",
)  # fmt: skip
STATES = ("created", "running", "degraded", "paused", "exited", "stopped")
COLUMNS = ("POD ID", "NAME", "STATUS", "CREATED", "INFRA ID", "# OF CONTAINERS")
HEADINGS = {
    "ID": "POD ID",
    "InfraId": "INFRA ID",
    "InfraID": "INFRA ID",
    "NumberOfContainers": "# OF CONTAINERS",
    "ContainerIds": "IDS",
    "ContainerNames": "NAMES",
    "ContainerStatuses": "STATUS",
}


def gather(connection: sqlite3.Connection | None) -> list[Row]:
    """All pods, each with its containers under `members`."""
    found = reads.rows(connection, PODS)
    members: dict[str, list[Row]] = {}
    for row in reads.rows(connection, queries.CONTAINERS) if found else ():
        members.setdefault(row["options"].get("pod", ""), []).append(row)
    for pod in found:
        pod["members"] = members.get(pod["id"], [])
    return found


def state(pod: Row) -> str:
    """As podman has it: its namespaces count like a container of their own."""
    states = [row["state"] for row in pod["members"]]
    own = "running" if pod["up"] else "exited" if pod["started"] else "created"
    if states and all(one == "paused" for one in states):
        return "Paused"
    states.append(own)
    if all(one == "running" for one in states):
        return "Running"
    if "running" in states and pod["up"]:
        return "Degraded"
    if all(one in ("created", "creating", "initialized") for one in states):
        return "Created"
    return "Exited"


def find(connection: sqlite3.Connection | None, given: str) -> Row:
    """By name, id or unique beginning of an id. Errors: NotFound, UserError."""
    rows = gather(connection)
    found = [row for row in rows if row["name"] == given]
    if not found and queries.is_hex(given):
        found = [row for row in rows if row["id"].startswith(given)][:2]
    return queries.one(found, given, "pod")


def choose(
    connection: sqlite3.Connection | None, found: list[Row], given: dict[str, list[str]]
) -> list[Row]:
    """The pods that pass: every key must match, by any of its values (labels: by all)."""
    now = time_ns()
    limits = [units.parse_time(text, now, "--filter until") for text in given.get("until", ())]
    for text in given.get("status", ()):
        if text.lower() not in STATES:
            raise UserError(f"--filter status={text}: no such state", hint=", ".join(STATES))
    states = [
        "exited" if text.lower() == "stopped" else text.lower() for text in given.get("status", ())
    ]
    for text in given.get("ctr-number", ()):
        if not text.isdecimal():
            raise UserError(f"--filter ctr-number={text}: not a number")

    named = table.matches(given, "name")

    def any_of(key: str, test: Any) -> bool:
        return key not in given or any(test(text) for text in given[key])

    def passes(pod: Row) -> bool:
        members = pod["members"]
        return (
            any_of("id", pod["id"].startswith)
            and named(pod["name"])
            and ("status" not in given or state(pod).lower() in states)
            and any_of("network", lambda text: text in pod["network"].split(","))
            and any_of("ctr-ids", lambda text: any(m["id"].startswith(text) for m in members))
            and any_of("ctr-names", lambda text: any(text in m["name"] for m in members))
            and any_of("ctr-status", lambda text: any(m["state"] == text for m in members))
            and any_of("ctr-number", lambda text: int(text) == len(members))
            and all(pod["created"] < limit for limit in limits)
            and not any(table.has_labels(pod["labels"], (t,)) for t in given.get("label!", ()))
            and table.has_labels(pod["labels"], given.get("label", ()))
        )

    return [pod for pod in found if passes(pod)]


def _networks(pod: Row) -> list[str]:
    return [name for name in pod["network"].split(",") if name not in ("", "none", "host")]


def listed(pod: Row) -> dict[str, Any]:
    """As `pod ps --format json` has it, by podman's names."""
    return {
        "Cgroup": "",
        "Containers": [
            {"Id": m["id"], "Names": m["name"], "Status": m["state"]} for m in pod["members"]
        ],
        "Created": reads.rfc3339(pod["created"]),
        "Id": pod["id"],
        "InfraId": "",
        "Name": pod["name"],
        "Namespace": "",
        "Networks": _networks(pod),
        "Status": state(pod),
        "Labels": pod["labels"],
    }


def fields(pod: Row, now: int, trunc: bool) -> dict[str, Any]:
    """What a template of `pod ps` may name."""
    from .gotemplate import Record

    members = pod["members"]
    ids = [m["id"][: reads.SHORT] if trunc else m["id"] for m in members]
    return Record(
        ID=pod["id"][: reads.SHORT] if trunc else pod["id"],
        Id=pod["id"][: reads.SHORT] if trunc else pod["id"],
        Name=pod["name"],
        Status=state(pod),
        Created=units.human_ago(pod["created"], now),
        Labels=pod["labels"],
        Networks=_networks(pod),
        InfraId="",
        InfraID="",
        Cgroup="",
        NumberOfContainers=len(members),
        ContainerIds=",".join(ids),
        ContainerNames=",".join(m["name"] for m in members),
        ContainerStatuses=",".join(m["state"] for m in members),
    )


def _ps(call: Call) -> int:
    options = call.options
    given = table.filters(options["filter"], FILTERS)
    connection, now = reads.store(call.layout), time_ns()
    found = choose(connection, gather(connection), given)
    if options["latest"]:
        found = found[-1:]
    key = options["sort"]
    if key not in SORTS:
        raise UserError(f"--sort {key!r} is not known", hint=", ".join(SORTS))
    found = sorted(found, key=SORTS[key])
    trunc = not options["no_trunc"]
    template = options["format"]
    if options["quiet"]:
        if template:
            raise UserError("--quiet and --format cannot be used together")
        ids = (pod["id"][: reads.SHORT] if trunc else pod["id"] for pod in found)
        sys.stdout.write("".join(f"{one}\n" for one in ids))
        return 0
    if template == "json":
        sys.stdout.write(table.json_text([listed(pod) for pod in found]))
        return 0
    records = [fields(pod, now, trunc) for pod in found]
    if not template:
        names = ["ID", "Name", "Status", "Created", "InfraId"]
        extra = ("ContainerIds", "ContainerNames", "ContainerStatuses")
        shown = [
            name
            for flag, name in zip(("ctr_ids", "ctr_names", "ctr_status"), extra, strict=True)
            if options[flag]
        ]
        names += shown or ["NumberOfContainers"]
        template = "table " + "\t".join(f"{{{{.{name}}}}}" for name in names)
    heading = not options["noheading"]
    sys.stdout.write(table.formatted(template, records, HEADINGS, heading=heading))
    return 0


SORTS = {
    "created": lambda pod: -pod["created"],
    "id": lambda pod: pod["id"],
    "name": lambda pod: pod["name"],
    "number": lambda pod: len(pod["members"]),
    "status": lambda pod: state(pod),
}

PS = Command(
    "pod ps",
    "",
    "List pods, newest first",
    (
        Flag("ctr-ids", help="Show the ids of their containers"),
        Flag("ctr-names", help="Show the names of their containers"),
        Flag("ctr-status", help="Show the states of their containers"),
        Flag("filter", "f", "list", "KEY=VALUE", f"Show only what matches: {', '.join(FILTERS)}"),
        Flag("format", "", "str", "TEMPLATE", "`json`, a Go template, or `table TEMPLATE`"),
        Flag("latest", "l", help="The pod that was made last"),
        Flag("no-trunc", help="Do not shorten ids"),
        Flag("noheading", help="Leave out the line of headings"),
        Flag("quiet", "q", help="Print ids only"),
        Flag("sort", "", "str", "BY", f"Order: {', '.join(SORTS)}", "created"),
    ),
    (0, 0),
    ("tiffin pod ps", "tiffin pod ps -q --filter status=running"),
    _ps,
)


def described(pod: Row) -> dict[str, Any]:
    """As `pod inspect` has it, by podman's names; the paths of what is pinned beside them."""
    ports: dict[str, list[dict[str, str]]] = {}
    for port in pod["ports"]:
        key = f"{port['container_port']}/{port.get('protocol', 'tcp')}"
        host = {"HostIp": port.get("host_ip", ""), "HostPort": str(port.get("host_port", 0))}
        ports.setdefault(key, []).append(host)
    options = pod["options"]
    pinned = {kind: path for kind, path in pod["namespaces"].items() if kind != "pid"}
    if pod["netns"]:
        pinned["net"] = pod["netns"]
    return {
        "Id": pod["id"],
        "Name": pod["name"],
        "Created": reads.rfc3339(pod["created"]),
        "State": state(pod),
        "Hostname": options.get("hostname") or pod["name"],
        "Labels": pod["labels"],
        "CreateInfra": False,
        "InfraContainerID": "",
        "InfraConfig": {
            "PortBindings": ports,
            "HostNetwork": pod["network"] == "host",
            "Networks": _networks(pod),
            "NetworkOptions": None,
            "DNSServer": list(options.get("dns", ())),
            "DNSSearch": list(options.get("dns_search", ())),
            "DNSOption": list(options.get("dns_options", ())),
            "HostAdd": [f"{name}:{address}" for name, address in options.get("add_hosts", ())],
        },
        "SharedNamespaces": list(pod["share"]),
        "Addresses": {
            at["network"]["name"]: [a.partition("/")[0] for a in at["addresses"]]
            for at in pod["attachments"]
        },
        "Pinned": pinned,
        "PausePid": pod["pause_pid"],
        "NumContainers": len(pod["members"]),
        "Containers": [
            {"Id": m["id"], "Name": m["name"], "State": m["state"]} for m in pod["members"]
        ],
    }


def _inspect(call: Call) -> int:
    connection = reads.store(call.layout)
    names = list(call.arguments)
    if call.options["latest"]:
        names = [row["id"] for row in reads.rows(connection, PODS)[-1:]]
        if not names:
            raise NotFound("there are no pods")
    elif not names:
        raise UserError("pod inspect: needs a pod", hint="or --latest")
    found, failed = [], 0
    template = call.options["format"]
    for name in names:
        try:
            found.append(described(find(connection, name)))
        except TiffinError as error:
            if len(names) == 1 and template:
                raise
            printable.failure(printable.line(str(error)), error, call.debug)
            failed = error.exit_code
    if template and template != "json":
        from . import gotemplate

        for one in found:
            sys.stdout.write(gotemplate.render(template, gotemplate.Record(**one)) + "\n")
    else:  # podman's has no list around a single one
        sys.stdout.write(table.json_text(found[0] if len(names) == 1 and found else found, 5))
    return failed


INSPECT = Command(
    "pod inspect",
    "POD [POD...]",
    "Show all that is known of pods",
    (
        Flag("format", "f", "str", "TEMPLATE", "`json` or a Go template"),
        Flag("latest", "l", help="The pod that was made last"),
    ),
    (0, None),
    ("tiffin pod inspect web", "tiffin pod inspect -f '{{.State}}' web"),
    _inspect,
)


def _exists(call: Call) -> int:
    try:
        find(reads.store(call.layout), call.arguments[0])
    except NotFound:
        return 1
    return 0


EXISTS = Command(
    "pod exists",
    "POD",
    "Exit with 0 when there is such a pod, with 1 when not",
    (),
    (1, 1),
    ("tiffin pod exists web",),
    _exists,
)


def _pod(call: Call, what: str) -> tuple[Row, list[str]]:
    """The pod, and the words that follow it."""
    connection = reads.store(call.layout)
    if call.options["latest"]:
        rows = gather(connection)
        if not rows:
            raise NotFound("there are no pods")
        return rows[-1], list(call.arguments)
    if not call.arguments:
        raise UserError(f"pod {what}: needs a pod", hint="or --latest")
    return find(connection, call.arguments[0]), list(call.arguments[1:])


LATEST = Flag("latest", "l", help="The pod that was made last")


def _top(call: Call) -> int:
    from .. import cgroups, process_table
    from . import top

    pod, words = _pod(call, "top")
    running = [row for row in pod["members"] if row["state"] == "running"]
    if not running:
        raise Conflict(f"pod {pod['name']} has no running container")
    wanted = process_table.descriptors(words or process_table.DEFAULT)
    pids = [process_table.cgroup_pids(cgroups.places(row["cgroup"])) for row in running]
    if wanted is None:
        sys.stdout.write(top.host_ps(words, {pid for some in pids for pid in some}))
        return 0
    lines: list[Any] = []
    for row, own in zip(running, pids, strict=True):
        found = process_table.Table(process_table.processes(own), f"/proc/{row['pid']}/root")
        lines += found.rows(wanted)
    headings = [process_table.DESCRIPTORS[name][0] for name in wanted]
    sys.stdout.write(table.table(headings, lines))
    return 0


TOP = Command(
    "pod top",
    "POD [DESCRIPTOR...|PS-ARGUMENT...]",
    "Show the processes of all containers of a pod, as top does",
    (LATEST,),
    (0, None),
    ("tiffin pod top web", "tiffin pod top web pid,comm,capeff"),
    _top,
    interspersed=False,
)


def _logs(call: Call) -> int:
    from . import logs

    pod, words = _pod(call, "logs")
    if words:
        raise UserError(f"pod logs: unexpected argument {words[0]!r}")
    members = pod["members"]
    if call.options["container"]:
        chosen = reads.container(reads.store(call.layout), call.options["container"])
        members = [row for row in members if row["id"] == chosen["id"]]
        if not members:
            raise NotFound(f"container {chosen['name']} is not in pod {pod['name']}")
    if not members:
        return 0
    return logs.show(call, members)


LOGS = Command(
    "pod logs",
    "POD",
    "Show what the containers of a pod wrote",
    (
        Flag("color", help="Names or ids in colours"),
        Flag("container", "c", "str", "CONTAINER", "Only this one's"),
        Flag("follow", "f", help="Wait for more until the container ends"),
        Flag("tail", "", "str", "LINES", "Only the last lines", "all"),
        Flag("since", "", "str", "TIME", "Only from this time on: 10m, or RFC 3339"),
        Flag("until", "", "str", "TIME", "Only up to this time"),
        Flag("timestamps", "t", help="Begin each line with its time"),
        Flag("names", "n", help="Begin each line with the container's name"),
        LATEST,
    ),
    (0, 1),
    ("tiffin pod logs web", "tiffin pod logs -n --tail 5 web"),
    _logs,
)


def _stats(call: Call) -> int:
    from . import stats

    connection = reads.store(call.layout)
    pods = [find(connection, name) for name in call.arguments]
    if call.options["latest"] and call.arguments:
        raise UserError("pod stats: pods are named, and --latest is given as well")
    if not pods:
        pods = gather(connection)
        pods = pods[-1:] if call.options["latest"] else pods
    names = [
        row["id"] for pod in pods for row in pod["members"] if row["state"] in ("running", "paused")
    ]
    if not names:
        if call.options["format"] == "json":
            sys.stdout.write("[]\n")
        return 0
    options = {**call.options, "all": False, "latest": False, "interval": None}
    return stats.run(Call(options, names, call.layout, debug=call.debug))


STATS = Command(
    "pod stats",
    "[POD...]",
    "Show what the containers of pods use of processors, memory, network and disk",
    (
        Flag("all", "a", help="All pods; so it is when none is named"),
        Flag("format", "", "str", "TEMPLATE", "`json`, a Go template, or `table TEMPLATE`"),
        LATEST,
        Flag("no-reset", help="Do not clear the terminal in between"),
        Flag("no-stream", help="Once"),
        Flag("no-trunc", help="Do not shorten ids"),
    ),
    (0, None),
    ("tiffin pod stats --no-stream web",),
    _stats,
)
