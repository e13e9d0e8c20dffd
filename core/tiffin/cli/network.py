"""The commands that define, change and remove networks."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from ..errors import UserError
from .flags import Call, Command, Flag

if TYPE_CHECKING:
    from ..engine.base import Engine
    from ..network_specs import NetworkRequest


def _pairs(flag: str, items: list[str], *, value_needed: bool = False) -> dict[str, str]:
    """KEY=VALUE items, the last of a key counts. Error: UserError."""
    found = {}
    for item in items:
        key, equals, value = item.partition("=")
        if not key or "\0" in item or (value_needed and not equals):
            raise UserError(f"{flag} {item!r} is not of the form KEY=VALUE")
        found[key] = value
    return found


def _by_comma(items: list[str]) -> tuple[str, ...]:
    return tuple(part for item in items for part in item.split(",") if part)


DOCKER_S = {"com.docker.network.driver.mtu": "mtu"}
DOCKER_NAME = "com.docker.network.bridge.name"
"""Options by docker's names, as compose files have them; podman takes these two as well."""


def request(call: Call) -> NetworkRequest:
    """What the flags of `network create` ask for."""
    from ..network_specs import NetworkRequest

    options = call.options
    if options["ipam_driver"] not in ("", "host-local"):
        raise UserError(
            f"--ipam-driver {options['ipam_driver']!r} is not there",
            hint="host-local: the engine chooses addresses, and asks no DHCP server",
        )
    given = _pairs("--opt", list(_by_comma(options["opt"])), value_needed=True)
    drivers = {DOCKER_S.get(key, key): value for key, value in given.items()}
    called = drivers.pop(DOCKER_NAME, "")
    return NetworkRequest(
        name=call.arguments[0] if call.arguments else "",
        driver=options["driver"],
        subnets=_by_comma(options["subnet"]),
        gateways=_by_comma(options["gateway"]),
        ip_ranges=_by_comma(options["ip_range"]),
        ipv6=options["ipv6"],
        internal=options["internal"],
        routes=tuple(options["route"]),
        interface=options["interface_name"] or called,
        options=drivers,
        labels=_pairs("--label", options["label"]),
        disable_dns=options["disable_dns"],
        dns=_by_comma(options["dns"]),
    )


def _create(call: Call) -> int:
    wanted = request(call)
    from ..engine import network
    from .session import drive

    async def work(engine: Engine) -> str:
        ignore = bool(call.options["ignore"])
        return (await network.create(engine, wanted, ignore=ignore)).name

    print(drive(call, work))
    return 0


CREATE = Command(
    name="network create",
    usage="[NAME]",
    summary="Define a network that containers can join",
    flags=(
        Flag("driver", "d", "str", "NAME", "What makes it", "bridge"),
        Flag("subnet", "", "list", "CIDR", "Its subnet (default: a free one)"),
        Flag("gateway", "", "list", "ADDRESS", "The host's address in the subnet (the first one)"),
        Flag("ip-range", "", "list", "CIDR", "The part of the subnet that containers get"),
        Flag("ipam-driver", "", "str", "NAME", "Who chooses addresses: host-local"),
        Flag("ipv6", help="With a subnet of IPv6 as well"),
        Flag("internal", help="No way out of it, and none in"),
        Flag("disable-dns", help="Containers on it do not find each other by name"),
        Flag("dns", "", "list", "ADDRESS", "Name server for other names (default: the host's)"),
        Flag("route", "", "list", "CIDR,GATEWAY[,METRIC]", "A route of every container on it"),
        Flag("interface-name", "", "str", "NAME", "Name of the host's interface"),
        Flag("opt", "o", "list", "KEY=VALUE", "Of the driver: mtu, isolate, vlan, parent, mode"),
        Flag("label", "", "list", "KEY[=VALUE]", "Label of the network"),
        Flag("ignore", help="One of that name is left as it is"),
    ),
    arguments=(0, 1),
    examples=(
        "tiffin network create lunch",
        "tiffin network create --subnet 10.91.7.0/24 --ipv6 --opt isolate=true dinner",
        "tiffin network create -d macvlan -o parent=eth1 --subnet 10.4.0.0/16 wire",
    ),
    run=_create,
)


def _rm(call: Call) -> int:
    from ..engine import network
    from .session import each, removal_codes

    options = call.options
    if options["time"] is not None and not options["force"]:
        raise UserError("network rm: --time is for --force")

    async def work(engine: Engine, name: str) -> str:
        force = bool(options["force"])
        return await network.remove_network(engine, name, force=force, timeout=options["time"])

    return each(call, list(call.arguments), work, removal_codes)


RM = Command(
    name="network rm",
    usage="NETWORK [NETWORK...]",
    summary="Remove networks that no container is on",
    flags=(
        Flag("force", "f", help="remove the containers that are on them as well"),
        Flag("time", "t", "int", "SECONDS", "before SIGKILL, with --force"),
    ),
    arguments=(1, None),
    examples=("tiffin network rm lunch",),
    run=_rm,
)


def _reload(call: Call) -> int:
    from ..engine import network
    from .session import chosen, drive, each

    names = list(call.arguments)
    if [bool(names), bool(call.options["all"]), bool(call.options["latest"])].count(True) != 1:
        raise UserError("network reload: name containers, or give --all or --latest and name none")
    if call.options["latest"]:
        names = drive(call, lambda engine: chosen(engine, call))
    return each(call, names or drive(call, network.reloadable), network.reload)


RELOAD = Command(
    name="network reload",
    usage="[CONTAINER...]",
    summary="Make again what is missing of running containers' interfaces, routes and rules",
    flags=(
        Flag("all", "a", help="all containers that are on networks"),
        Flag("latest", "l", help="the newest container"),
    ),
    arguments=(0, None),
    examples=("tiffin network reload web", "tiffin network reload --all"),
    run=_reload,
)


def _prune(call: Call) -> int:
    from . import networks, reads, table

    allowed = ("label", "label!", "until")
    given = table.filters(call.options["filter"], allowed) | {"dangling": ["true"]}
    if not call.options["force"]:
        print("WARNING: this removes all networks that no container is on.")
        print("Are you sure? [y/N] ", end="", flush=True)
        if sys.stdin.readline().strip().lower() not in ("y", "yes"):
            return 0
    connection = reads.store(call.layout)
    rows = reads.rows(connection, "SELECT * FROM networks WHERE name<>'bridge' ORDER BY name")
    unused = [row["id"] for row in networks.choose(connection, rows, given)]
    if not unused:
        return 0
    from ..engine import network
    from .session import drive

    async def work(engine: Engine) -> list[str]:
        return await network.prune(engine, unused)

    for name in drive(call, work):
        print(name)
    return 0


PRUNE = Command(
    name="network prune",
    usage="",
    summary="Remove all networks that no container is on, but for the default one",
    flags=(
        Flag("filter", "", "list", "KEY=VALUE", "only what matches: label, label!, until"),
        Flag("force", "f", help="do not ask"),
    ),
    arguments=(0, 0),
    examples=("tiffin network prune -f",),
    run=_prune,
)
