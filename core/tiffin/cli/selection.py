"""The containers that a command is meant for: names, --all, --latest, --filter, --cidfile."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..errors import UserError
from .flags import Call, Flag

if TYPE_CHECKING:
    from typing import Any

    from ..engine.base import Engine
    from ..plugins import Plugins


LATEST = Flag("latest", "l", help="the container that was created last")


ALL = Flag("all", "a", help="all containers")


FILTER = Flag("filter", "f", "list", "KEY=VALUE", "only those that match, as of ps")


FILTER_ALONE = Flag("filter", "", "list", "KEY=VALUE", "only those that match, as of ps")
CIDFILE = Flag("cidfile", "", "list", "FILE", "the container whose id is in this file")
IGNORE = Flag("ignore", "i", help="one that is not there is no error")


def need_names(call: Call) -> None:
    """Add what --cidfile names. Error: UserError for no container, or for two ways to name them."""
    for path in call.options.get("cidfile") or ():
        call.arguments.extend(id_in(path, bool(call.options.get("ignore"))))
    if call.options.get("cidfile") and not call.arguments:
        return  # of a container that is not there, which is well
    if call.options.get("filter") and not call.options.get("latest"):
        return
    if call.arguments and (call.options.get("all") or call.options.get("latest")):
        raise UserError("containers are named, and --all or --latest is given as well")
    if not call.arguments and not call.options.get("all") and not call.options.get("latest"):
        raise UserError("no container is named", hint="a name or an id is wanted")


def id_in(path: str, missing_is_well: bool, flag: str = "--cidfile") -> list[str]:
    """What `run --cidfile` or `pod create --pod-id-file` wrote. Error: UserError."""
    try:
        with open(path, encoding="ascii") as file:
            found = file.read(4096).split("\n")[0].strip()
    except FileNotFoundError:
        if missing_is_well:
            return []
        raise UserError(f"{flag} {path}: no such file") from None
    except (OSError, ValueError) as error:
        raise UserError(f"{flag} {path}: {getattr(error, 'strerror', 'not an id')}") from None
    if not found:
        raise UserError(f"{flag} {path} is empty", hint=f"{flag} of create writes it")
    return [found]


def many(
    call: Call,
    work: object,
    *,
    states: tuple[str, ...] = (),
    codes: object = None,
    last_first: bool = False,
    warm: tuple[str, ...] = (),
) -> int:
    """The same for each of the containers that are meant; those in a state of `warm` are put on
    their networks by it, or taken off them."""
    need_names(call)
    plugins = _warm(call, warm)
    from .session import chosen, drive, each, unconnected

    names, together = list(call.arguments), set[str]()
    if call.options.get("cidfile") and not names:
        return 0
    if call.options.get("filter"):
        names = _matching(call, states)
        if last_first:
            names.reverse()
    elif not names:

        async def find(engine: Engine) -> tuple[list[str], list[str]]:
            found = await chosen(engine, call, states=states)
            return found, await unconnected(engine, found)

        names, free = drive(call, find)  # a session of its own, with plugins of its own
        if last_first:  # who uses another's network was made after it
            names.reverse()
        together = set(free)
    one_by_one = [name for name in names if name not in together]
    at_once = [name for name in names if name in together]
    if codes is None:
        return each(call, one_by_one, work, together=at_once, plugins=plugins)  # type: ignore[arg-type]
    return each(call, one_by_one, work, codes, together=at_once, plugins=plugins)  # type: ignore[arg-type]


def _warm(call: Call, states: tuple[str, ...]) -> Plugins | None:
    """With the drivers of the containers' networks loading while the engine loads (`run._warm`)."""
    if not states or not call.arguments:
        return None
    from .. import network_modes, settings
    from ..plugins import Plugins

    plugins = Plugins(call.layout, settings.load(call.layout).tables)
    network_modes.warm_up_for(plugins, list(call.arguments), states)
    return plugins


def _matching(call: Call, states: tuple[str, ...]) -> list[str]:
    """--filter: of the containers that are named, or of all."""
    from time import time_ns

    from ..store import queries
    from . import ps, reads, table

    given = table.filters(call.options["filter"], ps.FILTERS)
    connection = reads.store(call.layout)
    rows = [reads.container(connection, name) for name in call.arguments]
    if not call.arguments:
        everything = reads.rows(connection, queries.CONTAINERS)
        wanted = (row for row in everything if not states or row["state"] in states)
        over = (row for row in everything if states and _over(call, row))
        rows = list({row["id"]: row for row in (*wanted, *over)}.values())
    return [row["id"] for row in ps.choose(connection, rows, given, time_ns())]


def _over(call: Call, row: dict[str, Any]) -> bool:
    """The log calls it running and nobody has noticed its end: the machine was restarted."""
    from ..processes import observe

    live = ("running", "paused", "initialized")
    pids = row["pid"], row["conmon_pid"]
    return row["state"] in live and observe(call.layout, row["id"], *pids) is not None
