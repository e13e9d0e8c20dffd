"""`images`: what is in local storage, by name."""

from __future__ import annotations

import sys

from ..errors import UserError
from ..store import queries
from ..units import SECOND, human_ago, human_size, parse_time
from . import reads, table
from .flags import AT, Call, Command, Flag

TYPE_CHECKING = False  # without importing typing
if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable
    from typing import Any

    from ..store.queries import Row

NONE = "<none>"
FILTERS = (
    *("reference", "label", "label!", "dangling", "before", "since", "after", "until", "id"),
    *("containers", "readonly", "manifest"),
)
HEADINGS = {"ID": "IMAGE ID", "Repository": "REPOSITORY", "CreatedSince": "CREATED"}
USED = "SELECT image_id, COUNT(*) AS number FROM containers GROUP BY image_id"


def split(name: str) -> tuple[str, str]:
    """(repository with its registry, tag) of a full name."""
    name, _, _ = name.partition("@")
    head, slash, last = name.rpartition("/")
    base, _, tag = last.partition(":")
    return f"{head}{slash}{base}", tag or NONE


def gather(connection: sqlite3.Connection | None, *, steps: bool = False) -> list[Row]:
    """The images, newest first, each with `names` (sorted) and `containers` (how many). With
    `steps` also those of a build's steps that others are made of, and that have no name."""
    found = reads.rows(connection, queries.IMAGES)
    # A store that was last written by a tiffin that built nothing has no such table.
    built = reads.rows(connection, "SELECT 1 FROM sqlite_master WHERE name='image_steps'")
    if built and not steps:
        hidden = {row["id"] for row in reads.rows(connection, queries.STEPS)}
        found = [row for row in found if row["id"] not in hidden]
    names: dict[str, list[str]] = {}
    for tag in reads.rows(connection, queries.TAGS):
        names.setdefault(tag["image"], []).append(tag["name"])
    used = {row["image_id"]: row["number"] for row in reads.rows(connection, USED)}
    for row in found:
        row["names"] = names.get(row["id"], [])
        row["containers"] = used.get(row["id"], 0)
    return found


def matches(name: str, pattern: str) -> bool:
    """`--filter reference=` and the argument: a shell pattern over the whole name, or over as many
    of its last components as the pattern has; a missing tag is any."""
    from fnmatch import fnmatchcase

    repository, tag = split(name)
    wanted, colon, wanted_tag = pattern.rpartition(":")
    if not colon or "/" in wanted_tag:
        wanted, wanted_tag = pattern, "*"
    if not fnmatchcase(tag, wanted_tag):
        return False
    parts = repository.split("/")
    return any(fnmatchcase("/".join(parts[n:]), wanted) for n in range(len(parts)))


def choose(
    connection: sqlite3.Connection | None, found: list[Row], given: dict[str, list[str]]
) -> list[Row]:
    """The images that pass; `reference` also drops the names that do not match."""
    from time import time_ns  # filters only

    given = {**given, "since": [*given.get("since", ()), *given.get("after", ())]}
    until = [parse_time(text, time_ns(), "--filter until") for text in given.get("until", ())]
    limits = {
        key: [reads.image(connection, name)["created"] for name in given.get(key, ())]
        for key in ("before", "since")
    }
    for key in ("dangling", "containers", "readonly", "manifest"):
        for value in given.get(key, ()):
            if value not in ("true", "false"):
                raise UserError(f"--filter {key}={value}: neither true nor false")
    passed = []
    for row in found:
        if "reference" in given:
            row["names"] = [
                name for name in row["names"] if any(matches(name, p) for p in given["reference"])
            ]
            if not row["names"]:
                continue
        if not all((value == "true") == (not row["names"]) for value in given.get("dangling", ())):
            continue
        if not all(
            (value == "true") == bool(row["containers"]) for value in given.get("containers", ())
        ):
            continue
        # None is another tool's, and lists of images are no images (`manifest ls`).
        if "true" in (*given.get("readonly", ()), *given.get("manifest", ())):
            continue
        if any(table.has_labels(row["labels"], (text,)) for text in given.get("label!", ())):
            continue
        if any(row["created"] >= time for time in until):
            continue
        bare = row["id"].removeprefix("sha256:")
        if "id" in given and not any(
            bare.startswith(text.removeprefix("sha256:")) for text in given["id"]
        ):
            continue
        if any(row["created"] >= time for time in limits["before"]):
            continue
        if any(row["created"] <= time for time in limits["since"]):
            continue
        if table.has_labels(row["labels"], given.get("label", ())):
            passed.append(row)
    return passed


def lines(found: list[Row], now: int, trunc: bool) -> list[dict[str, Any]]:
    """One record a name, with the fields that a template may name."""
    from .gotemplate import Record

    records: list[dict[str, Any]] = []
    for row in found:
        bare = row["id"].removeprefix("sha256:")
        age = human_ago(row["created"], now) if row["created"] else "N/A"
        for name in row["names"] or [f"{NONE}:{NONE}"]:
            repository, tag = split(name)
            records.append(
                Record(
                    Repository=repository,
                    Tag=tag,
                    ID=bare[: reads.SHORT] if trunc else f"sha256:{bare}",
                    Digest=row["manifest"],
                    Created=age,
                    CreatedSince=age,
                    CreatedAt=reads.go_time(row["created"]),
                    CreatedTime=reads.go_time(row["created"]),
                    Size=human_size(row["size"], space=" "),
                    VirtualSize=human_size(row["size"], space=" "),
                    Containers=row["containers"],
                    Labels=row["labels"],
                    Names=row["names"],
                    History=", ".join(row["history"]),
                    Architecture=row["architecture"],
                    Os=row["os"],
                )
            )
    return records


def plain(row: Row) -> dict[str, Any]:
    """The image as `--format json` prints it, by podman's names."""
    repositories = sorted({split(name)[0] for name in row["names"]})
    return {
        "Id": row["id"].removeprefix("sha256:"),
        "ParentId": "",
        "RepoTags": row["names"] or None,
        "RepoDigests": [f"{name}@{row['manifest']}" for name in repositories],
        "Size": row["size"],
        "SharedSize": 0,
        "VirtualSize": row["size"],
        "Labels": row["labels"] or None,
        "Containers": row["containers"],
        "Names": row["names"],
        "Digest": row["manifest"],
        "History": row["history"],
        "Created": row["created"] // SECOND,
        "CreatedAt": reads.rfc3339(row["created"], fraction=False),
    }


SORTS: dict[str, Callable[[Row], Any]] = {
    "created": lambda row: -row["created"],
    "id": lambda row: row["id"],
    "repository": lambda row: [split(name)[0] for name in row["names"][:1]],
    "size": lambda row: row["size"],
    "tag": lambda row: [split(name)[1] for name in row["names"][:1]],
}


def remember(connection: sqlite3.Connection | None, found: list[Row]) -> None:
    """Give each image its `history`: all names that it ever had, the last one first."""
    sql = (
        "SELECT stream, json_extract(data, '$.name') AS name FROM events "
        "WHERE type='image.tagged' ORDER BY seq DESC"
    )
    told: dict[str, list[str]] = {}
    for row in reads.rows(connection, sql):
        told.setdefault(row["stream"].partition("/")[2], []).append(row["name"])
    for row in found:
        row["history"] = list(dict.fromkeys([*row["names"], *told.get(row["id"], ())]))


def show(found: list[Row], options: dict[str, Any], now: int) -> str:
    trunc = not options["no_trunc"]
    template = options["format"]
    if options["quiet"]:
        if template:
            raise UserError("--quiet and --format cannot be used together")
        ids = (row["id"].removeprefix("sha256:") for row in found)
        return "".join(f"{bare[: reads.SHORT] if trunc else f'sha256:{bare}'}\n" for bare in ids)
    if template == "json":
        return table.json_text([plain(row) for row in found])
    heading = not options["noheading"]
    if template:
        records = lines(found, now, trunc)
        return table.formatted(template, records, HEADINGS, heading=heading)
    names = ["REPOSITORY", "TAG", "IMAGE ID", "CREATED", "SIZE"]
    if options["digests"]:
        names.insert(2, "DIGEST")
    if options["history"]:
        names.append("HISTORY")
    cells = []
    for row in found:
        bare = row["id"].removeprefix("sha256:")
        for name in row["names"] or [f"{NONE}:{NONE}"]:
            cell = [
                *split(name),
                bare[: reads.SHORT] if trunc else f"sha256:{bare}",
                human_ago(row["created"], now) if row["created"] else "N/A",
                human_size(row["size"], space=" "),
            ]
            if options["digests"]:
                cell.insert(2, row["manifest"])
            if options["history"]:
                cell.append(", ".join(row["history"]) or NONE)
            cells.append(cell)
    return table.table(names if heading else (), cells)


def run(call: Call) -> int:
    options = call.options
    given = table.filters(options["filter"], FILTERS)
    if options["sort"] and options["sort"] not in SORTS:
        raise UserError(f"--sort {options['sort']!r} is not known", hint=", ".join(SORTS))
    if call.arguments:
        given.setdefault("reference", []).extend(call.arguments)
    connection, now = reads.at(call.layout, options["at"])
    found = gather(connection, steps=options["all"])
    if given:
        found = choose(connection, found, given)
    if options["sort"]:
        found.sort(key=SORTS[options["sort"]])
    if options["history"] or options["format"]:
        remember(connection, found)
    sys.stdout.write(show(found, options, now))
    return 0


IMAGES = Command(
    "images",
    "[NAME]",
    "List images, newest first",
    (
        Flag("all", "a", help="Also the nameless images of a build's steps"),
        Flag("quiet", "q", help="Print ids only"),
        Flag("no-trunc", help="Do not shorten ids"),
        Flag("digests", help="Show the manifests' digests"),
        Flag("filter", "f", "list", "KEY=VALUE", f"Show only what matches: {', '.join(FILTERS)}"),
        Flag("format", "", "str", "TEMPLATE", "`json`, a Go template, or `table TEMPLATE`"),
        AT,
        Flag("history", help="Show all names that an image ever had"),
        Flag("sort", "", "str", "WHAT", f"By {', '.join(SORTS)} (default: created)"),
        Flag("noheading", "n", help="Leave out the line of headings"),
    ),
    (0, 1),
    (
        "tiffin images",
        "tiffin images -q --filter dangling=true",
        "tiffin images --format '{{.Repository}}:{{.Tag}} {{.Size}}' busybox",
    ),
    run,
)
