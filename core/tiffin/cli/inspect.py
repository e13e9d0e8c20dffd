"""`inspect`: all that is known of containers and images."""

from __future__ import annotations

import sys

from ..errors import NotFound, TiffinError, UserError
from . import inspect_container, inspect_image, printable, reads, table
from .flags import AT, Call, Command, Flag

TYPE_CHECKING = False  # without importing typing
if TYPE_CHECKING:
    import sqlite3
    from typing import Any

    from ..engine.base import Engine
    from ..layout import Layout
    from ..store.queries import Row

INDENT = 5
OTHERS = ("volume", "network", "pod")
TYPES = ("all", "container", "image", *OTHERS)
MAPS = frozenset(
    (
        "Annotations",
        "Data",
        "Labels",
        "Networks",
        "PortBindings",
        "Ports",
        "Sysctls",
        "Tmpfs",
    )
)
"""Fields whose keys are the user's; all other objects are structs to a template."""


def _restarts(connection: sqlite3.Connection | None, row: Row, past: bool) -> int:
    """How often its policy has started it since somebody did; only the log knows."""
    if past or not row["options"].get("restart"):
        return 0
    sql = (
        "SELECT count(*) AS n FROM events WHERE stream=? AND type='container.start_planned' AND "
        "seq>(SELECT coalesce(max(seq), 0) FROM events WHERE stream=? AND "
        "type='container.start_planned' AND json_extract(actor, '$.front_end')<>'exit')"
    )
    stream = f"container/{row['id']}"
    return int(reads.rows(connection, sql, (stream, stream))[0]["n"])


def find(
    layout: Layout,
    connection: sqlite3.Connection | None,
    name: str,
    kind: str,
    *,
    past: bool = False,
) -> dict[str, Any]:
    """A container of that name or id, else an image, volume, network or pod. Errors: NotFound,
    Conflict, Corrupt."""
    if kind in OTHERS:
        return _other(connection, name, kind)
    if kind != "image":
        try:
            row = reads.container(connection, name)
            if not past:
                reads.notice(layout, connection, [row])
            reads.lend(connection, [row])
            return inspect_container.document(
                layout, row, past=past, restarts=_restarts(connection, row, past)
            )
        except NotFound:
            if kind == "container":
                raise
    try:
        found = reads.image(connection, name)
    except (NotFound, UserError):
        if kind == "image":
            raise
        for other in OTHERS:
            try:
                return _other(connection, name, other)
            except (NotFound, UserError):
                continue
        raise NotFound(f"no such container or image: {name}") from None
    return inspect_image.document(layout, connection, found, past=past)


def _other(connection: sqlite3.Connection | None, name: str, kind: str) -> dict[str, Any]:
    """A volume, a network or a pod. Error: NotFound."""
    if kind == "volume":
        from . import volume

        return volume.plain(volume.find(connection, name), volume.used(connection))
    if kind == "network":
        from . import networks

        found = networks.find(connection, name)
        users = networks.users(connection).get(found["name"], [])
        return networks.plain(found, users)
    from . import pods

    return pods.described(pods.find(connection, name))


def _measured(call: Call, documents: list[dict[str, Any]]) -> None:
    """--size: put it into those of containers. Only the storage drivers know it: this loads the
    engine."""
    from .session import drive

    connection = reads.store(call.layout)
    containers = [one for one in documents if "OCIRuntime" in one]
    rows = [reads.container(connection, one["Id"]) for one in containers]

    async def work(engine: Engine) -> dict[str, tuple[int, int]]:
        from ..engine.usage import of_containers

        return await of_containers(engine, rows)

    for one, (own, below) in (
        (one, sizes)
        for cid, sizes in (drive(call, work) if rows else {}).items()
        for one in containers
        if one["Id"] == cid
    ):
        one |= {"SizeRw": own, "SizeRootFs": own + below}


def _structs(value: Any, name: str = "") -> Any:
    """For a template: objects become structs, so that a field that is misspelt is an error."""
    if isinstance(value, list) and name != "History":
        return [_structs(item) for item in value]
    if not isinstance(value, dict):
        return value
    from .gotemplate import Record

    items = {key: _structs(item, key) for key, item in value.items()}
    return items if name in MAPS else Record(items)


def _run(call: Call, kind: str) -> int:
    """Show what was found even when something else was not."""
    options = call.options
    connection, _ = reads.at(call.layout, options["at"])
    names = list(call.arguments)
    if options.get("latest"):
        found = reads.rows(connection, "SELECT id FROM containers ORDER BY created DESC LIMIT 1")
        if names or not found:
            raise UserError(
                "inspect: --latest takes no names" if names else "there are no containers"
            )
        names, kind = [found[0]["id"]], "container"
    if not names:
        raise UserError("inspect: needs a container or an image")
    documents, failed = [], 0
    for name in names:
        try:
            documents.append(find(call.layout, connection, name, kind, past=bool(options["at"])))
        except TiffinError as error:
            if len(names) == 1 and options["format"]:
                raise
            printable.failure(printable.line(str(error)), error, call.debug)
            failed = error.exit_code
    if options.get("size"):
        _measured(call, documents)
    if options["format"] and options["format"] != "json":
        from . import gotemplate

        for document in documents:
            if "subnets" in document:  # a network: podman's template has Go's names
                document = {f"{key[:1].upper()}{key[1:]}": one for key, one in document.items()}
            fields = _structs(document)
            if "RootFS" in document:  # an image, whose builder may have put anything in there
                fields["Config"] = inspect_image.IMAGE_SETTINGS | document["Config"]
            sys.stdout.write(
                printable.for_terminal(gotemplate.render(options["format"], fields)) + "\n"
            )
    else:
        sys.stdout.write(table.json_text(documents, INDENT))
    return failed


def run(call: Call) -> int:
    kind = call.options["type"]
    if kind not in TYPES:
        raise UserError(f"--type {kind!r} is not known", hint=", ".join(TYPES))
    return _run(call, kind)


SIZE = Flag("size", "s", help="How much room containers take as well: SizeRw, SizeRootFs")
FORMAT = Flag("format", "f", "str", "TEMPLATE", "`json` or a Go template")
LATEST = Flag("latest", "l", help="The container that was made last")

INSPECT = Command(
    "inspect",
    "NAME [NAME...]",
    "Show all that is known of containers, images, volumes, networks and pods",
    (
        FORMAT,
        LATEST,
        AT,
        SIZE,
        Flag("type", "t", "str", "TYPE", f"What to look for: {', '.join(TYPES)}", "all"),
    ),
    (0, None),
    (
        "tiffin inspect web",
        "tiffin inspect -f '{{.State.Pid}}' web",
        "tiffin inspect --type image bb",
    ),
    run,
)

CONTAINER_INSPECT = Command(
    "container inspect",
    "CONTAINER [CONTAINER...]",
    "Show all that is known of containers",
    (FORMAT, LATEST, AT, SIZE),
    (0, None),
    ("tiffin container inspect web",),
    lambda call: _run(call, "container"),
)

IMAGE_INSPECT = Command(
    "image inspect",
    "IMAGE [IMAGE...]",
    "Show all that is known of images",
    (FORMAT, AT),
    (1, None),
    ("tiffin image inspect -f '{{.Config.Cmd}}' busybox",),
    lambda call: _run(call, "image"),
)
