"""`history`: the layers of an image and the commands that made them, or a container's life."""

from __future__ import annotations

import sys
from time import time_ns

from .. import units
from ..errors import NotFound, UserError
from ..store import queries
from . import reads, table
from .flags import Call, Command, Flag, later

TYPE_CHECKING = False  # without importing typing
if TYPE_CHECKING:
    from typing import Any

    from ..store.queries import Row

COLUMNS = ("ID", "CREATED", "CREATED BY", "SIZE", "COMMENT")
BY_WIDTH = 45


def records(image: Row, config: dict[str, Any], sizes: dict[str, int]) -> list[dict[str, Any]]:
    """Newest first: ID, Created (ns), CreatedBy, Size, Comment, Tags.

    `sizes` are bytes by chain id. The config comes from outside: what is no text is left out.
    """
    steps = config.get("history")
    steps = [step for step in steps if isinstance(step, dict)] if isinstance(steps, list) else []
    layers = list(image["layers"])
    if sum(1 for step in steps if not step.get("empty_layer")) != len(layers):
        steps = [{} for _ in layers]  # the history does not tell of these layers
    found = []
    for step in steps:
        size = 0
        if not step.get("empty_layer"):
            layer = layers.pop(0)
            size = sizes.get(layer["chain_id"], layer.get("size", 0))
        found.append(
            {
                "ID": "<missing>",
                "Created": _time(step.get("created")),
                "CreatedBy": _word(step.get("created_by")),
                "Size": size,
                "Comment": _word(step.get("comment")),
                "Tags": [],
            }
        )
    if found:
        found[-1]["ID"] = image["id"].removeprefix("sha256:")
    return found[::-1]


def _word(value: Any) -> str:
    return value if isinstance(value, str) else ""


def _time(value: Any) -> int:
    if not isinstance(value, str):
        return 0
    try:
        return units.parse_rfc3339(value)
    except (ValueError, OverflowError):
        return 0


def run(call: Call) -> int:
    """A container that is there, else an image, else a container that was there."""
    given = call.arguments[0]
    connection = reads.store(call.layout)
    if connection is None:
        raise NotFound(f"no such container or image: {given}")
    from . import life_story

    cid = life_story.find(connection, given, removed=False)
    try:
        image = reads.image(connection, given)
    except NotFound:
        cid = life_story.find(connection, given, removed=True)
        if not cid:
            life_story.compacted(connection, given)
            raise NotFound(f"no such container or image: {given}") from None
    else:
        named = reads.rows(connection, queries.CONTAINER_BY_NAME, (given,))
        if cid and not named and image["id"].removeprefix("sha256:").startswith(given):
            raise UserError(
                f"{given!r} is the beginning of a container's id and of an image's",
                hint="say tiffin container history or tiffin image history",
            )
    return life_story.write(connection, cid, call.options) if cid else run_image(call)


def run_image(call: Call) -> int:
    options = call.options
    connection = reads.store(call.layout)
    image = reads.image(connection, call.arguments[0])
    config = reads.blob(call.layout, image["id"])
    sizes = {
        row["chain_id"]: row["size"]
        for row in reads.rows(connection, "SELECT chain_id, size FROM layers")
    }
    sys.stdout.write(show(records(image, config, sizes), options))
    return 0


def show(found: list[dict[str, Any]], options: dict[str, Any]) -> str:
    now = time_ns()
    trunc = not options["no_trunc"]
    if options["quiet"]:
        return "".join(f"{_id(step, trunc)}\n" for step in found)
    if options["format"] == "json":
        return table.json_text(
            [
                {
                    "id": step["ID"],
                    "created": reads.rfc3339(step["Created"]),
                    "CreatedBy": step["CreatedBy"],
                    "size": step["Size"],
                    "comment": step["Comment"],
                    "tags": step["Tags"],
                }
                for step in found
            ]
        )
    shown = []
    for step in found:
        by = step["CreatedBy"]
        size = units.human_size(step["Size"], space=" ")
        shown.append(
            {
                **step,
                "ID": _id(step, trunc),
                "CreatedBy": f"{by[: BY_WIDTH - 3]}..." if trunc and len(by) > BY_WIDTH else by,
                "Created": units.human_ago(step["Created"], now) if step["Created"] else "",
                "CreatedSince": units.human_ago(step["Created"], now) if step["Created"] else "",
                "CreatedAt": reads.rfc3339(step["Created"], fraction=False),
                "Size": size if options["human"] else str(step["Size"]),
            }
        )
    if options["format"]:
        return table.formatted(options["format"], shown, {}, heading=not options["noheading"])
    cells = [
        (step["ID"], step["Created"], step["CreatedBy"], step["Size"], step["Comment"])
        for step in shown
    ]
    return table.table(() if options["noheading"] else COLUMNS, cells)


def _id(step: dict[str, Any], trunc: bool) -> str:
    return str(step["ID"][: reads.SHORT] if trunc and step["ID"] != "<missing>" else step["ID"])


FLAGS = (
    Flag("quiet", "q", help="Print ids only (of a container's events: types)"),
    Flag("no-trunc", help="Do not shorten ids and commands"),
    Flag("human", "H", help="Sizes for people", default=True),
    Flag(
        "format",
        "",
        "str",
        "TEMPLATE",
        "`json`, a Go template, of images `table TEMPLATE`, of containers `html`: a timeline",
    ),
    Flag("noheading", help="Leave out the line of headings"),
)

HISTORY = Command(
    "history",
    "CONTAINER|IMAGE",
    "Tell a container's life (also after its removal), or show an image's layers, newest first. "
    "A name or id that fits both is taken for the container's that is there, then for the image's, "
    "then for that of a container that was removed",
    FLAGS,
    (1, 1),
    (
        "tiffin history web",
        "tiffin history --format html web > web.html",
        "tiffin history busybox",
        "tiffin image history --no-trunc --format json busybox",
    ),
    run,
)

IMAGE_HISTORY = Command(
    "image history",
    "IMAGE",
    "Show the layers of an image, newest first, and what made them",
    FLAGS,
    (1, 1),
    ("tiffin image history --no-trunc --format json busybox",),
    run_image,
)


CONTAINER_HISTORY = Command(
    "container history",
    "CONTAINER",
    "Tell a container's life: what happened, how long it took, who did it; also after removal",
    (
        Flag("quiet", "q", help="Print types only"),
        Flag(
            "format", "", "str", "FORMAT", "`json`, `html` (a page with a timeline) or a template"
        ),
        Flag("noheading", help="Leave out the line of headings and all around the table"),
    ),
    (1, 1),
    ("tiffin container history web", "tiffin container history --format html web > web.html"),
    later("life_story", "run"),
)
