"""`network ls`, `inspect` and `exists`: networks as the projections show them."""

from __future__ import annotations

import sys
from time import time_ns

from ..errors import NotFound, TiffinError, UserError
from ..network_modes import DEFAULT
from ..store import queries
from . import printable, reads, table
from .flags import Call, Command, Flag, later

TYPE_CHECKING = False  # without importing typing
if TYPE_CHECKING:
    import sqlite3
    from typing import Any

    from ..store.queries import Row

FILTERS = ("name", "id", "driver", "label", "label!", "dangling", "until")
HEADINGS = {"ID": "NETWORK ID", "NetworkInterface": "NETWORK INTERFACE", "IPv6Enabled": "IPV6"}


JSON = {
    "ID": "id", "Name": "name", "Driver": "driver", "NetworkInterface": "network_interface",
    "Created": "created", "Subnets": "subnets", "Routes": "routes", "Internal": "internal",
    "IPv6Enabled": "ipv6_enabled", "DNSEnabled": "dns_enabled", "Labels": "labels",
    "NetworkDNSServers": "network_dns_servers", "Options": "options", "Containers": "containers",
    "IPAMOptions": "ipam_options", "Subnet": "subnet", "Gateway": "gateway",
    "LeaseRange": "lease_range", "StartIP": "start_ip", "EndIP": "end_ip",
    "Destination": "destination", "Metric": "metric",
}  # fmt: skip
"""What the fields of templates are called in podman's JSON."""


def store(call: Call) -> sqlite3.Connection | None:
    """The store for reading, with the default network, which is defined when it is first asked
    for."""
    connection = reads.store(call.layout)
    if reads.rows(connection, "SELECT 1 FROM networks WHERE name=?", (DEFAULT,)):
        return connection
    from ..engine import networks
    from .session import drive

    try:
        drive(call, lambda engine: networks.find(engine, DEFAULT))
    except (TiffinError, OSError):  # a store that we may only read
        return connection
    return reads.store(call.layout)


def find(connection: sqlite3.Connection | None, given: str) -> Row:
    """By name, id or unique prefix. Errors: NotFound, UserError (ambiguous)."""
    found = reads.rows(connection, "SELECT * FROM networks WHERE name=? OR id=?", (given, given))
    if not found and queries.is_hex(given):
        found = reads.rows(
            connection,
            "SELECT * FROM networks WHERE id>=? AND id<? LIMIT 2",
            queries.prefix_range(given),
        )
    return queries.one(found, given, "network")


def users(connection: sqlite3.Connection | None) -> dict[str, list[Row]]:
    """The containers of each network, by its name."""
    found: dict[str, list[Row]] = {}
    for row in reads.rows(connection, queries.CONTAINERS):
        for name in () if ":" in row["network"] else row["network"].split(","):
            found.setdefault(name, []).append(row)
    return found


def plain(row: Row, containers: list[Row]) -> dict[str, Any]:
    """The network as `inspect` and `--format json` print it, by podman's names."""
    config = row["config"]
    subnets = []
    for subnet in config.get("subnets", ()):
        shown: dict[str, Any] = {"subnet": subnet["subnet"]}
        if subnet.get("gateway"):
            shown["gateway"] = subnet["gateway"]
        if subnet.get("ip_range"):
            first, last = _lease_range(subnet)
            shown["lease_range"] = {"start_ip": first, "end_ip": last}
        subnets.append(shown)
    return {
        "name": row["name"],
        "id": row["id"],
        "driver": row["driver"],
        "network_interface": config["interface"],
        "created": reads.rfc3339(row["created"]),
        "subnets": subnets,
        "routes": config.get("routes", []),
        "ipv6_enabled": any(":" in subnet["subnet"] for subnet in subnets),
        "internal": config.get("internal", False),
        "dns_enabled": config.get("dns_enabled", False),
        "network_dns_servers": config.get("dns", []),
        "labels": config.get("labels", {}),
        "options": config.get("options", {}),
        "ipam_options": {"driver": "host-local"},
        "containers": {
            container["id"]: _endpoint(container, row["id"]) for container in containers
        },
    }


def _lease_range(subnet: dict[str, str]) -> tuple[str, str]:
    from .. import ipam  # hardly ever

    first, end = ipam.lease_range(subnet["subnet"], subnet["ip_range"])
    bits = 128 if ":" in subnet["subnet"] else 32
    return ipam.to_text(first, bits), ipam.to_text(end - 1, bits)


def _endpoint(container: Row, network: str) -> dict[str, Any]:
    """What a container has on a network; without interfaces while it does not run."""
    interfaces = {
        attachment["interface"]: {
            "subnets": [{"ipnet": address} for address in attachment["addresses"]],
            "mac_address": attachment["mac"],
        }
        for attachment in container["attachments"]
        if attachment["network"]["id"] == network
    }
    return {"name": container["name"], "interfaces": interfaces}


def fields(row: Row, trunc: bool) -> dict[str, Any]:
    """What a template may name (podman-network-ls(1))."""
    from .gotemplate import Named, Record

    def named(**found: Any) -> Record:
        return Named(JSON, found)

    config = row["config"]
    subnets = []
    for subnet in config.get("subnets", ()):
        lease = None
        if subnet.get("ip_range"):
            first, last = _lease_range(subnet)
            lease = named(StartIP=first, EndIP=last)
        subnets.append(
            named(Subnet=subnet["subnet"], Gateway=subnet.get("gateway", ""), LeaseRange=lease)
        )
    return named(
        ID=row["id"][: reads.SHORT] if trunc else row["id"],
        Name=row["name"],
        Driver=row["driver"],
        Labels=config.get("labels", {}),
        Options=config.get("options", {}),
        IPAMOptions={"driver": "host-local"},
        Created=reads.go_time(row["created"]),
        Internal=config.get("internal", False),
        IPv6Enabled=any(":" in subnet["Subnet"] for subnet in subnets),
        DNSEnabled=config.get("dns_enabled", False),
        NetworkInterface=config["interface"],
        NetworkDNSServers=config.get("dns", []),
        Routes=[
            named(Destination=r["destination"], Gateway=r["gateway"], Metric=r.get("metric", 0))
            for r in config.get("routes", ())
        ],
        Subnets=subnets,
    )


def choose(
    connection: sqlite3.Connection | None, found: list[Row], given: dict[str, list[str]]
) -> list[Row]:
    """The networks that pass; podman's filters: every key must match, by any of its values (labels:
    by all)."""
    if not given:
        return found
    from .. import units  # filters only

    named = table.matches(given, "name")
    for value in given.get("dangling", ()):
        if value not in ("true", "false"):
            raise UserError(f"--filter dangling={value}: neither true nor false")
    limits = [units.parse_time(text, time_ns(), "until") for text in given.get("until", ())]
    used = users(connection) if "dangling" in given else {}

    def passes(row: Row) -> bool:
        labels = row["config"].get("labels", {})
        if not named(row["name"]):
            return False
        if "id" in given and not any(row["id"].startswith(text) for text in given["id"]):
            return False
        if "driver" in given and row["driver"] not in given["driver"]:
            return False
        if any(
            (text == "true") == bool(used.get(row["name"])) for text in given.get("dangling", ())
        ):
            return False
        if any(row["created"] >= limit for limit in limits):
            return False
        if any(table.has_labels(labels, (text,)) for text in given.get("label!", ())):
            return False
        return table.has_labels(labels, given.get("label", ()))

    return [row for row in found if passes(row)]


def show(connection: sqlite3.Connection | None, found: list[Row], options: dict[str, Any]) -> str:
    template, heading = options["format"], not options["noheading"]
    if options["quiet"]:
        if template:
            raise UserError("--quiet and --format cannot be used together")
        return "".join(f"{row['name']}\n" for row in found)
    if template == "json":
        used = users(connection)
        return table.json_text([plain(row, used.get(row["name"], [])) for row in found])
    trunc = not options["no_trunc"]
    if template:
        records = [fields(row, trunc) for row in found]
        for record in records:  # here it is text, as podman has it
            record["Labels"] = ",".join(f"{k}={v}" for k, v in record["Labels"].items())
        return table.formatted(template, records, HEADINGS, heading=heading)
    cells = [
        (
            row["id"][: reads.SHORT] if trunc else row["id"],
            row["name"],
            row["driver"],
            ", ".join(subnet["subnet"] for subnet in row["config"].get("subnets", ())),
        )
        for row in found
    ]
    return table.table(("NETWORK ID", "NAME", "DRIVER", "SUBNETS") if heading else (), cells)


def _ls(call: Call) -> int:
    given = table.filters(call.options["filter"], FILTERS)
    connection = store(call)
    found = choose(connection, reads.rows(connection, queries.NETWORKS), given)
    sys.stdout.write(show(connection, found, call.options))
    return 0


def _inspect(call: Call) -> int:
    connection = store(call) if DEFAULT in call.arguments else reads.store(call.layout)
    template, used = call.options["format"], users(connection)
    found, failed = [], 0
    for given in call.arguments:
        try:
            found.append(find(connection, given))
        except TiffinError as error:
            if len(call.arguments) == 1 and template:
                raise
            printable.failure(printable.line(str(error)), error, call.debug)
            failed = error.exit_code
    if template and template != "json":
        from . import gotemplate

        for row in found:
            record = fields(row, False)
            record["Containers"] = plain(row, used.get(row["name"], []))["containers"]
            sys.stdout.write(printable.for_terminal(gotemplate.render(template, record)) + "\n")
        return failed
    documents = [plain(row, used.get(row["name"], [])) for row in found]
    sys.stdout.write(table.json_text(documents, 5))
    return failed


def _exists(call: Call) -> int:
    given = call.arguments[0]
    if given == DEFAULT:
        return 0  # it is defined when it is first needed
    try:
        find(reads.store(call.layout), given)
    except NotFound:
        return 1
    return 0


LS = Command(
    "network ls",
    "",
    "List networks",
    (
        Flag("quiet", "q", help="Print names only"),
        Flag("no-trunc", help="Do not shorten ids"),
        Flag("filter", "f", "list", "KEY=VALUE", f"Show only what matches: {', '.join(FILTERS)}"),
        Flag("format", "", "str", "TEMPLATE", "`json`, a Go template, or `table TEMPLATE`"),
        Flag("noheading", "n", help="Leave out the line of headings"),
    ),
    (0, 0),
    ("tiffin network ls", "tiffin network ls -q --filter dangling=true"),
    _ls,
)

INSPECT = Command(
    "network inspect",
    "NETWORK [NETWORK...]",
    "Show all that is known of networks, and who is on them",
    (Flag("format", "f", "str", "TEMPLATE", "`json` or a Go template"),),
    (1, None),
    (
        "tiffin network inspect lunch",
        "tiffin network inspect -f '{{range .Subnets}}{{.Subnet}}{{end}}' lunch",
    ),
    _inspect,
)

EXISTS = Command(
    "network exists",
    "NETWORK",
    "Exit with 0 when there is such a network, with 1 when not",
    (),
    (1, 1),
    ("tiffin network exists lunch",),
    _exists,
)


EXPLAIN = Command(
    name="network explain",
    usage="NETWORK|CONTAINER|POD",
    summary="Draw who is on a network: interfaces, addresses, routes, rules, ports; what is amiss",
    flags=(Flag("format", "f", "str", "FORMAT", "`json` or a Go template"),),
    arguments=(1, 1),
    examples=("tiffin network explain lunch", "tiffin network explain web --format json"),
    run=later("network_explain", "explain"),
)
