"""`image tree`, `image mount` and `image unmount`."""

from __future__ import annotations

import sys
from itertools import pairwise
from typing import TYPE_CHECKING

from ..errors import UserError
from ..units import human_size
from . import images, reads, table
from .flags import Call, Command, Flag

if TYPE_CHECKING:
    from ..engine.base import Engine
    from ..store.queries import Row

BY_HAND = "FROM image_mounts WHERE complete AND container=''"
"""Not those of containers (`--mount type=image`)."""


def _tree(call: Call) -> int:
    connection = reads.store(call.layout)
    row = reads.image(connection, call.arguments[0])
    everything = images.gather(connection)
    tops: dict[str, list[str]] = {}
    for image in everything:
        if image["layers"]:
            tops.setdefault(image["layers"][-1]["chain_id"], []).extend(image["names"])
    sizes = {
        layer["chain_id"]: layer["size"]
        for layer in reads.rows(connection, "SELECT chain_id, size FROM layers")
    }
    (mine,) = (image for image in everything if image["id"] == row["id"])
    out = [
        f"Image ID: {row['id'].removeprefix('sha256:')[: reads.SHORT]}",
        f"Tags:     [{' '.join(mine['names'])}]",
        f"Size:     {human_size(row['size'])}",
    ]
    chains = [layer["chain_id"] for layer in row["layers"]]
    out.append("Image Layers" if chains else "No Image Layers")
    if call.options["whatrequires"]:
        out += _above(everything, chains, sizes, tops)
    else:
        for position, chain in enumerate(chains):
            out.append(_line(chain, sizes, tops, "", position + 1 == len(chains)))
    sys.stdout.write("\n".join(out) + "\n")
    return 0


def _above(
    everything: list[Row], chains: list[str], sizes: dict[str, int], tops: dict[str, list[str]]
) -> list[str]:
    """The layers that other images have on top of these ones, as a tree."""
    children: dict[str, dict[str, None]] = {}
    for image in everything:
        own = [layer["chain_id"] for layer in image["layers"]]
        if own[: len(chains)] == chains:
            for below, chain in pairwise(own):
                children.setdefault(below, {})[chain] = None
    out: list[str] = []

    def grow(chain: str, indent: str, last: bool) -> None:
        out.append(_line(chain, sizes, tops, indent, last))
        found = list(children.get(chain, ()))
        for position, child in enumerate(found):
            grow(child, indent + ("    " if last else "│   "), position + 1 == len(found))

    if chains:
        grow(chains[-1], "", True)
    return out


def _line(
    chain: str, sizes: dict[str, int], tops: dict[str, list[str]], indent: str, last: bool
) -> str:
    branch = "└──" if last else "├──"
    top = f" Top Layer of: [{' '.join(tops[chain])}]" if tops.get(chain) else ""
    size = human_size(sizes.get(chain, 0))
    return (
        f"{indent}{branch} ID: {chain.removeprefix('sha256:')[: reads.SHORT]} Size: {size:>7}{top}"
    )


TREE = Command(
    "image tree",
    "IMAGE",
    "Show the layers of an image, and which images end with each of them",
    (Flag("whatrequires", help="What other images have on top of this one"),),
    (1, 1),
    ("tiffin image tree app", "tiffin image tree --whatrequires base"),
    _tree,
)


def _mount(call: Call) -> int:
    names, template = list(call.arguments), call.options["format"]
    if template not in ("", "json"):
        raise UserError(f"--format {template!r} is not known", hint="json, or nothing")
    if call.options["all"]:
        if names:
            raise UserError("images are named, and --all is given as well")
        names = [row["id"] for row in images.gather(reads.store(call.layout))]
    elif not names:
        return _list(call)
    from .session import each

    async def work(engine: Engine, name: str) -> str:
        from ..engine import image_mounts

        path = await image_mounts.mount(engine, name)
        return path if len(call.arguments) == 1 else f"{name} {path}"

    return each(call, names, work)


def _list(call: Call) -> int:
    connection = reads.store(call.layout)
    rows = reads.rows(connection, f"SELECT * {BY_HAND} ORDER BY path")
    names = {image["id"]: image["names"] for image in images.gather(connection)}
    if call.options["format"] == "json":
        documents = [
            {
                "id": row["image"].removeprefix("sha256:"),
                "Repositories": names.get(row["image"], []),
                "mountpoint": row["path"],
            }
            for row in rows
        ]
        sys.stdout.write(table.json_text(documents, 1))
        return 0
    for row in rows:
        shown = (names.get(row["image"]) or [row["image"].removeprefix("sha256:")[: reads.SHORT]])[
            0
        ]
        sys.stdout.write(f"{shown}  {row['path']}\n")
    return 0


MOUNT = Command(
    "image mount",
    "[IMAGE...]",
    "Mount the trees of images, read-only, and print where; without one, list the mounts",
    (Flag("all", "a", help="all images"), Flag("format", "", "str", "FORMAT", "of the list: json")),
    (0, None),
    ("tiffin image mount app", "tiffin image mount"),
    _mount,
)


def _unmount(call: Call) -> int:
    names, every = list(call.arguments), bool(call.options["all"])
    if every == bool(names):
        raise UserError("image unmount: needs an image, or --all", hint="one of the two")
    if every:
        mounts = f"SELECT image {BY_HAND}"
        rows = reads.rows(reads.store(call.layout), mounts)
        names = list(dict.fromkeys(row["image"] for row in rows))
    from .session import each

    async def work(engine: Engine, name: str) -> str:
        from ..engine import image_mounts

        force = bool(call.options["force"])
        return (await image_mounts.unmount(engine, name, force=force)).removeprefix("sha256:")

    return each(call, names, work)


UNMOUNT = Command(
    "image unmount",
    "IMAGE [IMAGE...]",
    "Unmount the trees of images",
    (Flag("all", "a", help="all that are mounted"), Flag("force", "f", help="no error if not so")),
    (0, None),
    ("tiffin image unmount app",),
    _unmount,
)
