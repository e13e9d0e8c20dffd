"""`events export`: carry the log to consumers, from their durable cursors."""

from __future__ import annotations

import signal
import sys
from typing import TYPE_CHECKING

from .. import settings
from ..engine import export
from ..errors import TiffinError, UserError
from ..plugins import Plugins
from . import printable, reads, table
from .events import FILTERS, selector
from .flags import Call

if TYPE_CHECKING:
    import trio

    from ..engine.export import Passes

ENDINGS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def _say(line: str) -> None:
    print(printable.line(line), file=sys.stderr, flush=True)


def _names(call: Call, plugins: Plugins) -> list[str]:
    """The arguments, or with --all every consumer that tiffin.toml has a table for."""
    if not call.options["all"]:
        if not call.arguments:
            raise UserError(
                "no consumer was named", hint="tiffin plugin ls --filter kind=consumer lists them"
            )
        return list(dict.fromkeys(call.arguments))
    if call.arguments:
        raise UserError("--all and names exclude each other")
    found = plugins.settings.get("consumer", {})
    if not found or not isinstance(found, dict):
        raise UserError("tiffin.toml has no [consumer.NAME]", hint="or name a consumer")
    return sorted(found)


def _passes(call: Call, plugins: Plugins, name: str) -> Passes:
    """The filters of the command line, else those of tiffin.toml."""
    given = call.options["filter"] or export.settings(plugins, name).get("filter", [])
    if not isinstance(given, list) or not all(isinstance(one, str) for one in given):
        raise UserError(f"consumer.{name} in tiffin.toml: filter must be a list of KEY=VALUE")
    return selector(table.filters(given, FILTERS), reads.store(call.layout))


def run(call: Call) -> int:
    import trio  # after the engine, which loads it lean

    plugins = Plugins(call.layout, settings.load(call.layout).tables)
    names = _names(call, plugins)
    tries = call.options["tries"]
    if tries is not None and tries < 1:
        raise UserError(f"--tries {tries} is less than one")
    forever = bool(call.options["follow"])
    failed: list[TiffinError] = []

    async def one(name: str) -> None:
        try:
            await export.export(
                call.layout,
                plugins,
                name,
                forever=forever,
                passes=_passes(call, plugins, name),
                report=_say,
                tries=tries or (0 if forever else 3),
            )
        except TiffinError as error:
            if len(names) == 1:
                raise
            failed.append(error)
            _say(f"Error: consumer {name}: {error}")

    async def until_told(scope: trio.CancelScope) -> None:
        with trio.open_signal_receiver(*ENDINGS) as signals:
            async for _ in signals:
                scope.cancel()
                return

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(until_told, nursery.cancel_scope)
            async with trio.open_nursery() as exports:
                for name in names:
                    exports.start_soon(one, name)
            nursery.cancel_scope.cancel()

    trio.run(main)
    return 125 if failed else 0
