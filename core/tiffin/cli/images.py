"""`images`: what is in local storage, one line for each name."""

from __future__ import annotations

import sys
from time import time_ns

from ..errors import UserError
from ..store import queries
from ..units import human_ago, human_size
from . import reads, table
from .flags import Call, Command, Flag

TYPE_CHECKING = False  # without importing typing
if TYPE_CHECKING:
    import sqlite3
    from typing import Any

    from ..store.queries import Row

NONE = "<none>"
HEADINGS = {"ID": "IMAGE ID", "CreatedSince": "CREATED", "CreatedAt": "CREATED AT"}
FILTERS = ("reference", "id", "label", "dangling", "before", "since", "containers")
SORTS = ("created", "id", "repository", "size", "tag")


class Line:
    """An image under one of its names."""

    __slots__ = ("digest", "image", "names", "repository", "tag")

    def __init__(self, image: Row, name: str, names: list[str]) -> None:
        self.image = image
        self.names = names
        self.repository, self.tag, self.digest = split(name)


def split(name: str) -> tuple[str, str, str]:
    """(repository, tag, digest) of a full name; `<none>` for what it lacks."""
    rest, _, digest = name.partition("@")
    head, colon, tag = rest.rpartition(":")
    if not colon or "/" in tag:
        head, tag = rest, ""
    return head or NONE, tag or NONE, digest


def lines(connection: sqlite3.Connection | None) -> list[Line]:
    """All names, newest image first; an image without a name has a line of its own."""
    names: dict[str, list[str]] = {}
    for row in reads.rows(connection, queries.TAGS):
        names.setdefault(row["image"], []).append(row["name"])
    found = []
    for image in reads.rows(connection, queries.IMAGES):
        own = names.get(image["id"], [])
        found += [Line(image, name, own) for name in own or [""]]
    return found


def matches(line: Line, pattern: str) -> bool:
    """`reference=`: a shell pattern over the whole name, without its tag, or the end of it."""
    from fnmatch import fnmatchcase  # filters only

    if line.repository == NONE:
        return False
    last = line.repository.rpartition("/")[2]
    short = line.repository.partition("/")[2].removeprefix("library/")
    for name in {line.repository, short, last}:
        if fnmatchcase(name, pattern) or fnmatchcase(f"{name}:{line.tag}", pattern):
            return True
    return False


def choose(
    connection: sqlite3.Connection | None, found: list[Line], given: dict[str, list[str]]
) -> list[Line]:
    """The lines that pass: every key must match, by any of its values (labels: by all)."""
    if not given:
        return found
    flags = {}
    for key in ("dangling", "containers"):
        for text in given.get(key, ()):
            if text not in ("true", "false"):
                raise UserError(f"--filter {key}={text}: write true or false")
            flags[key] = text == "true"
    before = [reads.image(connection, name)["created"] for name in given.get("before", ())]
    since = [reads.image(connection, name)["created"] for name in given.get("since", ())]
    used = set()
    if "containers" in flags:
        sql = "SELECT DISTINCT image_id FROM containers"
        used = {row["image_id"] for row in reads.rows(connection, sql)}

    def passes(line: Line) -> bool:
        image = line.image
        if "reference" in given and not any(matches(line, text) for text in given["reference"]):
            return False
        digits = image["id"].removeprefix("sha256:")
        ids = [text.removeprefix("sha256:") for text in given.get("id", ())]
        if ids and not any(digits.startswith(text) for text in ids):
            return False
        if "dangling" in flags and flags["dangling"] != (not line.names):
            return False
        if "containers" in flags and flags["containers"] != (image["id"] in used):
            return False
        if any(image["created"] >= time for time in before):
            return False
        if any(image["created"] <= time for time in since):
            return False
        return table.has_labels(image["labels"], given.get("label", ()))

    return [line for line in found if passes(line)]


def order(found: list[Line], by: str) -> list[Line]:
    if by not in SORTS:
        raise UserError(f"--sort {by!r} is not known", hint=", ".join(SORTS))
    if by in ("repository", "tag"):
        return sorted(found, key=lambda line: str(getattr(line, by)))
    return sorted(found, key=lambda line: line.image[by], reverse=by == "created")


def image_id(line: Line, trunc: bool) -> str:
    """As podman prints it: 12 digits, or all of them after `sha256:`."""
    full = str(line.image["id"])
    return full.removeprefix("sha256:")[: reads.SHORT] if trunc else full


def fields(line: Line, now: int, trunc: bool) -> dict[str, Any]:
    """What a template of `images` may name."""
    from .gotemplate import Record

    image = line.image
    return Record(
        ID=image_id(line, trunc),
        Repository=line.repository,
        Tag=line.tag,
        Digest=image["manifest"],
        Created=human_ago(image["created"], now),
        CreatedSince=human_ago(image["created"], now),
        CreatedAt=reads.go_time(image["created"]),
        CreatedTime=reads.go_time(image["created"]),
        Size=human_size(image["size"], space=" "),
        VirtualSize=human_size(image["size"], space=" "),
        Labels=image["labels"],
        Names=line.names,
        RepoTags=line.names,
        RepoDigests=digests(line.names, image["manifest"]),
        Architecture=image["architecture"],
        Os=image["os"],
    )


def digests(names: list[str], manifest: str) -> list[str]:
    """`repository@sha256:...` for each repository that the image has a name in."""
    return sorted({f"{split(name)[0]}@{manifest}" for name in names})


def plain(line: Line, used: dict[str, int]) -> dict[str, Any]:
    """The image as `--format json` prints it, by podman's names."""
    image = line.image
    return {
        "Id": image["id"].removeprefix("sha256:"),
        "ParentId": "",
        "RepoTags": line.names or None,
        "RepoDigests": digests(line.names, image["manifest"]),
        "Size": image["size"],
        "SharedSize": 0,
        "VirtualSize": image["size"],
        "Labels": image["labels"] or None,
        "Containers": used.get(image["id"], 0),
        "Names": line.names,
        "Digest": image["manifest"],
        "History": line.names,
        "Created": image["created"] // 1_000_000_000,
        "CreatedAt": reads.rfc3339(image["created"], fraction=False),
    }


def once(found: list[Line]) -> list[Line]:
    """One line for each image."""
    seen: dict[str, Line] = {}
    for line in found:
        seen.setdefault(line.image["id"], line)
    return list(seen.values())


def run(call: Call) -> int:
    options = call.options
    given = table.filters(options["filter"], FILTERS)
    connection = reads.store(call.layout)
    found = choose(connection, lines(connection), given)
    if call.arguments:
        wanted = call.arguments[0]
        found = [line for line in found if matches(line, wanted) or image_id(line, True) == wanted]
    if options["sort"]:
        found = order(found, options["sort"])
    now = time_ns()
    trunc = not options["no_trunc"]
    template = options["format"]
    if options["quiet"]:
        if template:
            raise UserError("--quiet and --format cannot be used together")
        sys.stdout.write("".join(f"{image_id(line, trunc)}\n" for line in once(found)))
    elif template == "json":
        sql = "SELECT image_id, count(*) AS count FROM containers GROUP BY image_id"
        used = {row["image_id"]: row["count"] for row in reads.rows(connection, sql)}
        sys.stdout.write(table.json_text([plain(line, used) for line in once(found)]))
    elif template:
        records = [fields(line, now, trunc) for line in found]
        heading = not options["noheading"]
        sys.stdout.write(table.formatted(template, records, HEADINGS, heading=heading))
    else:
        sys.stdout.write(_table(found, options, now))
    return 0


def _table(found: list[Line], options: dict[str, Any], now: int) -> str:
    columns = ["REPOSITORY", "TAG", "IMAGE ID", "CREATED", "SIZE"]
    if options["digests"]:
        columns.insert(2, "DIGEST")
    cells = []
    for line in found:
        image = line.image
        row = [
            line.repository,
            line.tag,
            image_id(line, not options["no_trunc"]),
            human_ago(image["created"], now),
            human_size(image["size"], space=" "),
        ]
        if options["digests"]:
            row.insert(2, image["manifest"])
        cells.append(row)
    return table.table(() if options["noheading"] else columns, cells)


IMAGES = Command(
    "images",
    "[IMAGE]",
    "List images",
    (
        Flag("all", "a", help="Show all images (none is hidden; podman's scripts say it)"),
        Flag("quiet", "q", help="Print ids only"),
        Flag("no-trunc", help="Do not shorten ids"),
        Flag("digests", help="Show digests of manifests"),
        Flag("filter", "f", "list", "KEY=VALUE", f"Show only what matches: {', '.join(FILTERS)}"),
        Flag("format", "", "str", "TEMPLATE", "`json`, a Go template, or `table TEMPLATE`"),
        Flag("noheading", "n", help="Leave out the line of headings"),
        Flag("sort", "", "str", "BY", f"Order: {', '.join(SORTS)} (by default created)"),
    ),
    (0, 1),
    (
        "tiffin images",
        "tiffin images -q --filter dangling=true",
        "tiffin images --format '{{.Repository}}:{{.Tag}} {{.Size}}'",
    ),
    run,
)
