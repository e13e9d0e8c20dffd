"""`network connect`, `disconnect` and `update`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..errors import UserError
from .flags import Call, Command, Flag

if TYPE_CHECKING:
    from ..engine.base import Engine


def _connect(call: Call) -> int:
    from . import joins

    options = call.options
    name, container = call.arguments
    wish = joins.wish(options["ip"], options["ip6"], options["mac_address"], [*options["alias"]])
    from ..engine import connections
    from .session import drive

    async def work(engine: Engine) -> None:
        await connections.connect(engine, name, container, wish)

    drive(call, work)
    return 0


CONNECT = Command(
    name="network connect",
    usage="NETWORK CONTAINER",
    summary="Put a container on one more network, at once when it runs",
    flags=(
        Flag("alias", "", "list", "NAME", "One more name of the container on the network"),
        Flag("ip", "", "str", "ADDRESS", "Its IPv4 address there (default: a free one)"),
        Flag("ip6", "", "str", "ADDRESS", "Its IPv6 address there"),
        Flag("mac-address", "", "str", "ADDRESS", "Its MAC address there"),
    ),
    arguments=(2, 2),
    examples=("tiffin network connect --alias db lunch web",),
    run=_connect,
)


def _disconnect(call: Call) -> int:
    name, container = call.arguments
    from ..engine import connections
    from .session import drive

    async def work(engine: Engine) -> None:
        force = bool(call.options["force"])
        await connections.disconnect(engine, name, container, force=force)

    drive(call, work)
    return 0


DISCONNECT = Command(
    name="network disconnect",
    usage="NETWORK CONTAINER",
    summary="Take a container off a network, at once when it runs",
    flags=(Flag("force", "f", help="also when something of the network is broken"),),
    arguments=(2, 2),
    examples=("tiffin network disconnect lunch web",),
    run=_disconnect,
)


def _update(call: Call) -> int:
    options = call.options
    if not options["dns_add"] and not options["dns_drop"]:
        raise UserError("network update: nothing to change", hint="--dns-add, --dns-drop")
    from ..engine import network
    from .session import drive

    async def work(engine: Engine) -> str:
        return await network.update(
            engine,
            call.arguments[0],
            add=_by_comma(options["dns_add"]),
            drop=_by_comma(options["dns_drop"]),
        )

    print(drive(call, work))
    return 0


def _by_comma(items: list[str]) -> list[str]:
    return [part for item in items for part in item.split(",") if part]


UPDATE = Command(
    name="network update",
    usage="NETWORK",
    summary="Change a network's name servers, at once for the containers on it",
    flags=(
        Flag("dns-add", "", "list", "ADDRESS", "One more name server for names outside"),
        Flag("dns-drop", "", "list", "ADDRESS", "A name server that is not asked any more"),
    ),
    arguments=(1, 1),
    examples=("tiffin network update --dns-add 9.9.9.9 lunch",),
    run=_update,
)
