"""`port`: the published ports of containers."""

from __future__ import annotations

import sys

from ..errors import NotFound, UserError
from ..store import queries
from . import reads
from .flags import Call, Command, Flag

TYPE_CHECKING = False  # without importing typing
if TYPE_CHECKING:
    from ..store.queries import Row


def lines(row: Row, wanted: str = "") -> list[str]:
    """`80/tcp -> 0.0.0.0:8080` for each port; with `wanted` (`80` or `80/tcp`) the addresses only.

    Error: NotFound when that one is not published.
    """
    number, slash, protocol = wanted.partition("/")
    protocol = protocol.lower() if slash else "tcp"
    if wanted and not (number.isascii() and number.isdecimal()):
        raise UserError(f"{wanted!r} is not a port", hint="write 80 or 80/udp")
    found = []
    for port in row["ports"]:
        inside, kind = port["container_port"], port.get("protocol", "tcp")
        ip = port.get("host_ip") or "0.0.0.0"  # noqa: S104
        outside = f"[{ip}]:{port['host_port']}" if ":" in ip else f"{ip}:{port['host_port']}"
        if not wanted:
            found.append(f"{inside}/{kind} -> {outside}")
        elif str(inside) == number.lstrip("0") and kind == protocol:
            found.append(outside)
    if wanted and not found:
        raise NotFound(f"{row['name']} publishes no port {number}/{protocol}")
    return found


def run(call: Call) -> int:
    connection = reads.store(call.layout)
    arguments = call.arguments
    if call.options["all"] or call.options["latest"]:
        if len(arguments) > 1 or (call.options["all"] and arguments):
            raise UserError("port: --all and --latest take no container")
        found = reads.rows(connection, queries.CONTAINERS)
        reads.lend(connection, found)
        if call.options["all"]:
            for row in found:
                for text in lines(row):
                    sys.stdout.write(f"{row['id'][: reads.SHORT]}\t{text}\n")
            return 0
        if not found:
            raise NotFound("there are no containers")
        row, wanted = found[-1], "".join(arguments)
    elif not arguments:
        raise UserError("port: needs a container", hint="or --all, or --latest")
    else:
        row, wanted = reads.container(connection, arguments[0]), "".join(arguments[1:])
        reads.lend(connection, [row])
    sys.stdout.writelines(f"{text}\n" for text in lines(row, wanted))
    return 0


PORT = Command(
    "port",
    "[CONTAINER] [PORT[/PROTOCOL]]",
    "List the published ports of containers",
    (
        Flag("all", "a", help="The ports of all containers"),
        Flag("latest", "l", help="The container that was made last"),
    ),
    (0, 2),
    ("tiffin port web", "tiffin port web 80/tcp", "tiffin port --all"),
    run,
)
