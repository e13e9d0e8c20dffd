"""`network connect`, `disconnect` and `update`."""

from __future__ import annotations

from typing import TYPE_CHECKING

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
