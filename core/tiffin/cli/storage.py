"""`storage migrate`: containers moved to another storage driver."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..errors import UserError
from .flags import Call, Command, Flag

if TYPE_CHECKING:
    from ..engine.base import Engine


def _migrate(call: Call) -> int:
    target = call.options["to"]
    if not target:
        raise UserError("--to DRIVER is needed", hint="tiffin plugin ls --filter kind=storage")
    if call.options["all"] == bool(call.arguments):
        raise UserError("name containers, or use --all", hint="tiffin storage migrate --to vfs web")

    async def names(engine: Engine) -> list[str]:
        from .session import chosen

        return await chosen(engine, call)

    async def work(engine: Engine, name: str) -> str | None:
        from ..engine.moving import migrate

        return await migrate(engine, name, target)

    from .session import drive, each

    return each(call, drive(call, names), work)


MIGRATE = Command(
    "storage migrate",
    "CONTAINER [CONTAINER...]",
    "Carry the own layers of containers that do not run over to another storage driver, bit for "
    "bit; prints the ids of those that were moved",
    (
        Flag("all", "a", help="All containers that are on another driver"),
        Flag("to", "", "str", "DRIVER", "overlay, vfs, or a plugin's"),
    ),
    (0, None),
    ("tiffin storage migrate --to vfs web", "tiffin storage migrate --to overlay --all"),
    _migrate,
)
