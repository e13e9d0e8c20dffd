"""`volume export`, `import`, `mount` and `unmount`: the files in volumes."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

from ..errors import UserError
from . import outputs, reads
from .flags import Call, Command, Flag

if TYPE_CHECKING:
    from ..engine.base import Engine


def _export(call: Call) -> int:
    from .session import drive

    path = call.options["output"]
    outputs.check(path, "volume export: a tar")

    async def work(engine: Engine) -> None:
        from ..engine import volumes

        row = await volumes.find(engine, call.arguments[0])  # before the file is made
        with outputs.opened(path) as out:
            await volumes.export(engine, row["name"], out)

    drive(call, work)
    return 0


EXPORT = Command(
    "volume export",
    "VOLUME",
    "Write the files of a volume as a tar",
    (Flag("output", "o", "str", "FILE", "To a file instead of standard output"),),
    (1, 1),
    ("tiffin volume export -o data.tar data", "tiffin volume export data | tar -t"),
    _export,
)


def _import(call: Call) -> int:
    from .session import drive

    name, path = call.arguments[0], call.arguments[1] if len(call.arguments) > 1 else "-"
    if path == "-":
        if sys.stdin.isatty():
            raise UserError("volume import: a tar is not read from a terminal", hint="name a FILE")
        source = os.dup(0)
    else:
        try:
            source = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except (OSError, ValueError) as error:
            why = getattr(error, "strerror", None) or "not a path"
            raise UserError(f"{path!r}: {why}") from None

    async def work(engine: Engine) -> None:
        from ..engine import volumes

        shown = path if path == "-" else os.path.abspath(path)
        await volumes.fill(engine, name, source, shown)

    try:
        drive(call, work)
    finally:
        os.close(source)
    return 0


IMPORT = Command(
    "volume import",
    "VOLUME [FILE|-]",
    "Unpack a tar (plain or gzip) into a volume, over the files that are in it",
    (),
    (1, 2),
    ("tiffin volume import data data.tar", "tar -c site | tiffin volume import data -"),
    _import,
)


def _mount(call: Call) -> int:
    from .session import each

    async def work(engine: Engine, name: str) -> str:
        from ..engine import volume_mounts

        return await volume_mounts.pin(engine, name)

    return each(call, list(call.arguments), work)


MOUNT = Command(
    "volume mount",
    "VOLUME [VOLUME...]",
    "Mount volumes that have options, and print where; they stay until volume unmount",
    (),
    (1, None),
    ("tiffin volume mount data",),
    _mount,
)


def _unmount(call: Call) -> int:
    from .session import each

    names = list(call.arguments)
    if call.options["all"]:
        rows = reads.rows(reads.store(call.layout), "SELECT name FROM volumes WHERE pinned")
        names = [row["name"] for row in rows]
    elif not names:
        raise UserError("volume unmount: needs a volume", hint="or --all")

    async def work(engine: Engine, name: str) -> str:
        from ..engine import volume_mounts

        return await volume_mounts.unpin(engine, name)

    return each(call, names, work)


UNMOUNT = Command(
    "volume unmount",
    "VOLUME [VOLUME...]",
    "Undo volume mount; what containers use stays mounted for them",
    (Flag("all", "a", help="All that are mounted by hand"),),
    (0, None),
    ("tiffin volume unmount data", "tiffin volume unmount --all"),
    _unmount,
)
