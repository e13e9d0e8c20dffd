"""`volume create`, `ls`, `inspect`, `exists`, `rm` and `prune`; the others are in volume_files."""

from __future__ import annotations

import sys
from time import time_ns
from typing import TYPE_CHECKING, Any

from .. import units
from ..errors import NotFound, TiffinError, UserError
from ..store import queries
from . import printable, reads, table
from .flags import Call, Command, Flag

if TYPE_CHECKING:
    import sqlite3

    from ..engine.base import Engine
    from ..store.queries import Row

VOLUMES = "SELECT * FROM volumes ORDER BY name"
FILTERS = (
    *("name", "driver", "label", "label!", "dangling", "until", "anonymous", "opt", "scope"),
)
HEADINGS = {"Name": "VOLUME NAME", "Mountpoint": "MOUNTPOINT"}


def used(connection: sqlite3.Connection | None) -> dict[str, int]:
    """How many containers have a volume, by its name."""
    found: dict[str, int] = {}
    for row in reads.rows(connection, queries.CONTAINERS):
        for mount in row["options"].get("mounts", ()):
            if mount["type"] == "volume":
                found[mount["source"]] = found.get(mount["source"], 0) + 1
    return found


def choose(
    connection: sqlite3.Connection | None, found: list[Row], given: dict[str, list[str]]
) -> list[Row]:
    """The volumes that pass: every key must match, by any of its values (labels: by all)."""
    users, now = used(connection), time_ns()
    limits = [units.parse_time(text, now, "--filter until") for text in given.get("until", ())]
    named = table.matches(given, "name")
    for key in ("dangling", "anonymous"):
        for value in given.get(key, ()):
            if value not in ("true", "false"):
                raise UserError(f"--filter {key}={value}: neither true nor false")

    def passes(row: Row) -> bool:
        return (
            named(row["name"])
            and ("scope" not in given or "local" in given["scope"])
            and table.has_labels(row["options"], given.get("opt", ()))
            and ("driver" not in given or row["driver"] in given["driver"])
            and all(
                (v == "true") != bool(users.get(row["name"])) for v in given.get("dangling", ())
            )
            and all((v == "true") == bool(row["anonymous"]) for v in given.get("anonymous", ()))
            and all(row["created"] < limit for limit in limits)
            and not any(table.has_labels(row["labels"], (t,)) for t in given.get("label!", ()))
            and table.has_labels(row["labels"], given.get("label", ()))
        )

    return [row for row in found if passes(row)]


def plain(row: Row, users: dict[str, int]) -> dict[str, Any]:
    """The volume as `inspect` and `--format json` print it, by podman's names."""
    return {
        "Name": row["name"],
        "Driver": row["driver"],
        "Mountpoint": row["path"],
        "CreatedAt": reads.rfc3339(row["created"]),
        "Labels": row["labels"],
        "Scope": "local",
        "Options": row["options"],
        "MountCount": users.get(row["name"], 0),
        "NeedsCopyUp": not row["populated"],
        "NeedsChown": not row["populated"],
        "Anonymous": bool(row["anonymous"]),
    }


def find(connection: sqlite3.Connection | None, given: str) -> Row:
    """By name or a unique beginning of one. Errors: NotFound, UserError."""
    rows = reads.rows(connection, VOLUMES)
    found = [row for row in rows if row["name"] == given]
    found = found or [row for row in rows if given and row["name"].startswith(given)]
    return queries.one(found, given, "volume")


def _ls(call: Call) -> int:
    options = call.options
    given = table.filters(options["filter"], FILTERS)
    connection = reads.store(call.layout)
    found = choose(connection, reads.rows(connection, VOLUMES), given)
    template = options["format"]
    if options["quiet"]:
        if template:
            raise UserError("--quiet and --format cannot be used together")
        sys.stdout.write("".join(f"{row['name']}\n" for row in found))
        return 0
    documents = [plain(row, used(connection)) for row in found]
    if template == "json":
        sys.stdout.write(table.json_text(documents))
    elif template:
        from .gotemplate import Record

        records = [Record(**document) for document in documents]
        heading = not options["noheading"]
        sys.stdout.write(table.formatted(template, records, HEADINGS, heading=heading))
    elif documents:
        heads = () if options["noheading"] else ("DRIVER", "VOLUME NAME")
        sys.stdout.write(table.table(heads, [(row["driver"], row["name"]) for row in found]))
    return 0


LS = Command(
    "volume ls",
    "",
    "List volumes",
    (
        Flag("filter", "f", "list", "KEY=VALUE", f"Show only what matches: {', '.join(FILTERS)}"),
        Flag("format", "", "str", "TEMPLATE", "`json`, a Go template, or `table TEMPLATE`"),
        Flag("noheading", "n", help="Leave out the line of headings"),
        Flag("quiet", "q", help="Print names only"),
    ),
    (0, 0),
    ("tiffin volume ls", "tiffin volume ls -q --filter dangling=true"),
    _ls,
)


def _inspect(call: Call) -> int:
    connection = reads.store(call.layout)
    names = list(call.arguments)
    if call.options["all"]:
        names = [row["name"] for row in reads.rows(connection, VOLUMES)]
    elif not names:
        raise UserError("volume inspect: needs a volume", hint="or --all")
    users, documents, failed = used(connection), [], 0
    template = call.options["format"]
    for name in names:
        try:
            documents.append(plain(find(connection, name), users))
        except TiffinError as error:
            if len(names) == 1 and template:
                raise
            printable.failure(printable.line(str(error)), error, call.debug)
            failed = error.exit_code
    if template and template != "json":
        from . import gotemplate

        for document in documents:
            made = gotemplate.render(template, gotemplate.Record(**document))
            sys.stdout.write(printable.for_terminal(made) + "\n")
    else:
        sys.stdout.write(table.json_text(documents, 5))
    return failed


INSPECT = Command(
    "volume inspect",
    "VOLUME [VOLUME...]",
    "Show all that is known of volumes",
    (
        Flag("all", "a", help="All volumes"),
        Flag("format", "f", "str", "TEMPLATE", "`json` or a Go template"),
    ),
    (0, None),
    ("tiffin volume inspect -f '{{.Mountpoint}}' data",),
    _inspect,
)


def _exists(call: Call) -> int:
    rows = reads.rows(reads.store(call.layout), VOLUMES)
    return 0 if any(row["name"] == call.arguments[0] for row in rows) else 1


EXISTS = Command(
    "volume exists",
    "VOLUME",
    "Exit with 0 when there is such a volume, with 1 when not",
    (),
    (1, 1),
    ("tiffin volume exists data",),
    _exists,
)


def _create(call: Call) -> int:
    options = call.options
    if options["driver"] != "local":
        raise UserError(f"--driver {options['driver']!r} is not there", hint="local is")
    labels = dict(text.partition("=")[::2] for text in options["label"])
    if "" in labels:
        raise UserError("--label has no key", hint="write KEY=VALUE or KEY")
    from .session import drive

    async def work(engine: Engine) -> str:
        from ..engine import volumes

        name = call.arguments[0] if call.arguments else ""
        return await volumes.create(
            engine, name, labels, ignore=bool(options["ignore"]), options=options["opt"]
        )

    print(drive(call, work))
    return 0


CREATE = Command(
    "volume create",
    "[NAME]",
    "Make a volume; without a name it gets a random one",
    (
        Flag("driver", "d", "str", "NAME", "What makes it: local", "local"),
        Flag("ignore", help="One of that name is left as it is"),
        Flag("label", "l", "list", "KEY[=VALUE]", "Label of the volume"),
        Flag(
            *("opt", "o", "list", "KEY=VALUE"),
            "type=, device= and o=, as mount(8) takes them; o=uid=,gid= whose it is; nocopy",
        ),
    ),
    (0, 1),
    (
        "tiffin volume create data",
        "tiffin volume create --label tier=db",
        "tiffin volume create -o type=tmpfs -o o=size=16m,nodev,noexec scratch",
        "tiffin volume create -o type=bind -o device=/srv/site site",
    ),
    _create,
)


def _rm(call: Call) -> int:
    from .session import each, removal_codes

    names = list(call.arguments)
    if call.options["all"]:
        names = [row["name"] for row in reads.rows(reads.store(call.layout), VOLUMES)]
    elif not names:
        raise UserError("volume rm: needs a volume", hint="or --all")
    force = bool(call.options["force"])

    async def work(engine: Engine, name: str) -> str | None:
        from ..engine import volumes

        try:
            return await volumes.remove(engine, name, force=force)
        except NotFound:
            if force:
                return None
            raise

    return each(call, names, work, removal_codes)


RM = Command(
    "volume rm",
    "VOLUME [VOLUME...]",
    "Remove volumes that no container has, with all files in them",
    (
        Flag("all", "a", help="All volumes"),
        Flag("force", "f", help="With the containers that have them; none there is no error"),
    ),
    (0, None),
    ("tiffin volume rm data",),
    _rm,
)


def _prune(call: Call) -> int:
    from .confirm import confirmed

    given = table.filters(call.options["filter"], ("label", "label!", "until"))
    warning = "WARNING! This will remove all volumes not used by at least one container."
    if not call.options["force"] and not confirmed(warning):
        return 0
    for name in prune(call, given)[0]:
        print(name)
    return 0


def prune(call: Call, given: dict[str, list[str]]) -> tuple[list[str], int]:
    """Remove the volumes that no container has, of those that match: (names, bytes)."""
    connection = reads.store(call.layout)
    rows = choose(connection, reads.rows(connection, VOLUMES), given | {"dangling": ["true"]})
    if not rows:
        return [], 0
    from .session import drive

    async def work(engine: Engine) -> tuple[list[str], int]:
        from ..engine import volumes

        return await volumes.prune(engine, [row["name"] for row in rows])

    return drive(call, work)


PRUNE = Command(
    "volume prune",
    "",
    "Remove all volumes that no container has, with all files in them",
    (
        Flag("filter", "", "list", "KEY=VALUE", "only what matches: label, label!, until"),
        Flag("force", "f", help="do not ask"),
    ),
    (0, 0),
    ("tiffin volume prune -f",),
    _prune,
)
