"""`plugin enable` and `plugin disable`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..errors import UserError
from .flags import Call, Command, Flag

if TYPE_CHECKING:
    from ..engine.base import Engine


def _enable(call: Call) -> int:
    package = call.options["package"]
    if package and len(call.arguments) > 1:
        raise UserError("--package is for one plugin", hint="enable the others without it")

    async def work(engine: Engine, name: str) -> str:
        from ..engine.plugins import enable

        return await enable(engine, name, package=package)

    from .session import each

    return each(call, call.arguments, work)


ENABLE = Command(
    "plugin enable",
    "PLUGIN [PLUGIN...]",
    "Let plugins be used again that were disabled",
    (
        Flag(
            "package",
            "",
            "str",
            "NAME",
            "Use the plugin of this package, when several packages have one of that name",
        ),
    ),
    (1, None),
    ("tiffin plugin enable storage.vfs", "tiffin plugin enable --package shelf storage.shelf"),
    _enable,
)


def _disable(call: Call) -> int:
    async def work(engine: Engine, name: str) -> str:
        from ..engine.plugins import disable

        return await disable(engine, name, force=bool(call.options["force"]))

    from .session import each

    return each(call, call.arguments, work)


DISABLE = Command(
    "plugin disable",
    "PLUGIN [PLUGIN...]",
    "Let nothing use or load these plugins",
    (Flag("force", "f", help="Even if containers, layers or networks depend on them"),),
    (1, None),
    ("tiffin plugin disable storage.vfs",),
    _disable,
)
