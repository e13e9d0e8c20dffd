"""`cp`, `export` and `diff`: the files of a container."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from ..errors import UserError
from . import outputs, table
from .flags import Call, Command, Flag

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ..engine.base import Engine
    from ..engine.files import End
    from ..hooks import Change


def end(text: str) -> End:
    """`CONTAINER:PATH`, `PATH` or `-`. A path of this machine that has a colon in it begins with
    `/` or `.`, as with podman and docker."""
    from ..engine.files import End

    name, colon, path = text.partition(":")
    if not text or text.startswith(("/", ".")) or not colon or "/" in name:
        if not text:
            raise UserError("cp: an empty path")
        return End(text)
    if not name or not path:
        raise UserError(f"cp: {text!r} is not of the form CONTAINER:PATH")
    return End(path, name)


def _cp(call: Call) -> int:
    from ..engine import files

    source, target = (end(text) for text in call.arguments)
    for text in call.arguments:
        if "\0" in text:
            raise UserError(f"cp: {text!r} is not a path")
    if not source.container and not target.container:
        raise UserError("cp: one of the two must be in a container", hint="write CONTAINER:PATH")
    if target.path == "-" and not target.container and sys.stdout.isatty():
        raise UserError("cp: a tar is not written to a terminal", hint="redirect standard output")
    from .session import drive

    async def work(engine: Engine) -> None:
        await files.copy(
            engine,
            source,
            target,
            archive=bool(call.options["archive"]),
            overwrite=bool(call.options["overwrite"]),
        )

    drive(call, work)
    return 0


CP = Command(
    "cp",
    "[CONTAINER:]SOURCE|- [CONTAINER:]DESTINATION|-",
    "Copy files between a container and this machine, or between containers; - is a stream of tar. "
    "SOURCE/. is what is in the directory, without itself",
    (
        Flag("archive", "a", help="Files become the container's user's, here ours", default=True),
        Flag("overwrite", help="A directory may replace what is none, and the other way round"),
        Flag("follow-link", "L", help="Taken for docker's sake: SOURCE is always followed"),
        Flag("quiet", "q", help="Taken for docker's sake: there is no progress"),
    ),
    (2, 2),
    (
        "tiffin cp menu.txt web:/etc/",
        "tiffin cp web:/var/log/. logs",
        "tar -c site | tiffin cp - web:/srv",
    ),
    _cp,
)


def _export(call: Call) -> int:
    from .session import drive

    path = call.options["output"]
    outputs.check(path, "export: a tar")

    async def work(engine: Engine) -> None:
        from ..engine import files

        await engine.container(call.arguments[0])  # before the file is made
        with outputs.opened(path) as out:
            await files.export(engine, call.arguments[0], out)

    drive(call, work)
    return 0


EXPORT = Command(
    "export",
    "CONTAINER",
    "Write a container's file system as a tar; mounts are left out",
    (Flag("output", "o", "str", "FILE", "to a file instead of standard output"),),
    (1, 1),
    ("tiffin export -o web.tar web", "tiffin export web | tar -t"),
    _export,
)


def _diff(call: Call) -> int:
    return _run_diff(call, "any")


def _run_diff(call: Call, kind: str) -> int:
    template = call.options["format"]
    if template not in ("", "json"):
        raise UserError(f"--format {template!r} is not known", hint="json, or nothing")
    from .session import chosen, drive

    if not call.arguments and not call.options.get("latest"):
        raise UserError("diff: needs a container or an image")

    async def work(engine: Engine) -> Sequence[Change]:
        from ..engine import changes

        names = list(call.arguments)
        if call.options.get("latest"):
            names = [*await chosen(engine, call), *names]
        if len(names) > 2:
            raise UserError("diff: two things at most can be compared")
        if len(names) == 2:
            return await changes.between(engine, names[1], names[0])
        return await changes.of(engine, names[0], kind)

    found = drive(call, work)
    if template == "json":
        keys = {"C": "changed", "A": "added", "D": "deleted"}
        document: dict[str, list[str]] = {}
        for change in found:
            document.setdefault(keys[change.kind], []).append(change.path)
        sys.stdout.write(table.json_text(document, 5))
    else:
        from .printable import line

        sys.stdout.writelines(f"{change.kind} {line(change.path)}\n" for change in found)
    return 0


FORMAT = Flag("format", "", "str", "FORMAT", "json")
LATEST = Flag("latest", "l", help="The container that was made last")

DIFF = Command(
    "diff",
    "CONTAINER|IMAGE [CONTAINER|IMAGE]",
    "Show which files a container has changed over its image, an image's last layer over those "
    "below it, or the first thing over the second: A added, C changed, D deleted",
    (FORMAT, LATEST),
    (0, 2),
    ("tiffin diff web", "tiffin diff --format json web", "tiffin diff app:2 app:1"),
    _diff,
)

CONTAINER_DIFF = Command(
    "container diff",
    "CONTAINER",
    "Show which files a container has changed: A added, C changed, D deleted",
    (FORMAT, LATEST),
    (0, 1),
    ("tiffin container diff web",),
    lambda call: _run_diff(call, "container"),
)

IMAGE_DIFF = Command(
    "image diff",
    "IMAGE [IMAGE]",
    "Show which files the last layer of an image changes: A added, C changed, D deleted",
    (FORMAT,),
    (1, 2),
    ("tiffin image diff app",),
    lambda call: _run_diff(call, "image"),
)
