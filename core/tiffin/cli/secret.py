"""`secret create`, `ls`, `inspect`, `exists` and `rm`."""

from __future__ import annotations

import os
import sys
from time import time_ns
from typing import TYPE_CHECKING, Any

from ..errors import NotFound, TiffinError, UserError
from ..store import queries
from ..units import human_ago
from . import printable, reads, table
from .flags import Call, Command, Flag

if TYPE_CHECKING:
    from ..engine.base import Engine
    from ..store.queries import Row

LARGEST = 512000
FILTERS = ("id", "name")
HEADINGS = {"CreatedAt": "CREATED", "UpdatedAt": "UPDATED"}


def plain(row: Row, root: str) -> dict[str, Any]:
    """By podman's names; without the value."""
    created = reads.rfc3339(row["created"])
    driver = {"Name": "file", "Options": {"path": f"{root}/secrets"}}
    spec = {"Name": row["name"], "Driver": driver, "Labels": row["labels"]}
    return {"ID": row["id"], "CreatedAt": created, "UpdatedAt": created, "Spec": spec}


def _value(call: Call) -> bytes:
    source = call.arguments[1]
    if call.options["env"]:
        if source not in os.environ:
            raise UserError(f"--env {source}: there is no such variable")
        return os.environb[os.fsencode(source)]
    try:
        with open(0 if source == "-" else source, "rb", closefd=source != "-") as file:
            return file.read(LARGEST + 1)
    except (OSError, ValueError) as error:
        raise UserError(f"{source}: {getattr(error, 'strerror', error)}") from None


def _create(call: Call) -> int:
    options = call.options
    if options["driver"] != "file":
        raise UserError(f"--driver {options['driver']!r} is not there", hint="file is")
    labels = dict(text.partition("=")[::2] for text in options["label"])
    if "" in labels:
        raise UserError("--label has no key", hint="write KEY=VALUE or KEY")
    value = _value(call)
    from .session import drive

    async def work(engine: Engine) -> str:
        from ..engine import secrets

        name, override = call.arguments[0], bool(options["replace"])
        return await secrets.create(engine, name, value, labels, override=override)

    print(drive(call, work))
    return 0


CREATE = Command(
    "secret create",
    "NAME FILE|-",
    "Keep a value for containers to use, from a file or from standard input",
    (
        Flag("driver", "d", "str", "NAME", "What keeps it: file", "file"),
        Flag("env", help="The second argument names a variable of the environment"),
        Flag("label", "l", "list", "KEY[=VALUE]", "Label of the secret"),
        Flag("replace", help="Instead of the one of that name, if there is one"),
    ),
    (2, 2),
    ("tiffin secret create password ./password.txt", "pass show db | tiffin secret create db -"),
    _create,
)


def _ls(call: Call) -> int:
    options, now = call.options, time_ns()
    given = table.filters(options["filter"], FILTERS)
    named = table.matches(given, "name")
    rows = [
        row
        for row in reads.rows(reads.store(call.layout), queries.SECRETS)
        if named(row["name"])
        and ("id" not in given or any(row["id"].startswith(text) for text in given["id"]))
    ]
    template = options["format"]
    if options["quiet"]:
        sys.stdout.write("".join(f"{row['id']}\n" for row in rows))
    elif template == "json":
        sys.stdout.write(table.json_text([plain(row, call.layout.root) for row in rows]))
    elif template:
        from .gotemplate import Record

        records = []
        for row in rows:
            ago = human_ago(row["created"], now)
            names = {"ID": row["id"], "Name": row["name"], "Driver": "file"}
            records.append(Record(**names, CreatedAt=ago, UpdatedAt=ago))
        heading = not options["noheading"]
        sys.stdout.write(table.formatted(template, records, HEADINGS, heading=heading))
    else:
        heads = () if options["noheading"] else ("ID", "NAME", "DRIVER", "CREATED", "UPDATED")
        times = [human_ago(row["created"], now) for row in rows]
        cells = [(r["id"], r["name"], "file", t, t) for r, t in zip(rows, times, strict=True)]
        sys.stdout.write(table.table(heads, cells))
    return 0


LS = Command(
    "secret ls",
    "",
    "List secrets; their values are never shown",
    (
        Flag("filter", "f", "list", "KEY=VALUE", f"Show only what matches: {', '.join(FILTERS)}"),
        Flag("format", "", "str", "TEMPLATE", "`json`, a Go template, or `table TEMPLATE`"),
        Flag("noheading", "n", help="Leave out the line of headings"),
        Flag("quiet", "q", help="Print ids only"),
    ),
    (0, 0),
    ("tiffin secret ls", "tiffin secret ls --format '{{.Name}}'"),
    _ls,
)


def _inspect(call: Call) -> int:
    rows = reads.rows(reads.store(call.layout), queries.SECRETS)
    documents, failed = [], 0
    for name in call.arguments:
        try:
            documents.append(plain(queries.find_secret(rows, name), call.layout.root))
        except TiffinError as error:
            if len(call.arguments) == 1:
                raise
            printable.failure(printable.line(str(error)), error, call.debug)
            failed = error.exit_code
    template = call.options["format"]
    if template and template != "json":
        from . import gotemplate

        for document in documents:
            sys.stdout.write(gotemplate.render(template, gotemplate.Record(**document)) + "\n")
    else:
        sys.stdout.write(table.json_text(documents, 4))
    return failed


INSPECT = Command(
    "secret inspect",
    "SECRET [SECRET...]",
    "Show what is known of secrets, but for their values",
    (Flag("format", "f", "str", "TEMPLATE", "`json` or a Go template"),),
    (1, None),
    ("tiffin secret inspect -f '{{.Spec.Name}}' password",),
    _inspect,
)


def _exists(call: Call) -> int:
    try:
        queries.find_secret(
            reads.rows(reads.store(call.layout), queries.SECRETS), call.arguments[0]
        )
    except TiffinError:
        return 1
    return 0


EXISTS = Command(
    "secret exists",
    "SECRET",
    "Exit with 0 when there is such a secret, with 1 when not",
    (),
    (1, 1),
    ("tiffin secret exists password",),
    _exists,
)


def _rm(call: Call) -> int:
    from .session import each

    names = list(call.arguments)
    if call.options["all"]:
        names = [row["id"] for row in reads.rows(reads.store(call.layout), queries.SECRETS)]
    elif not names:
        raise UserError("secret rm: needs a secret", hint="or --all")

    async def work(engine: Engine, name: str) -> str | None:
        from ..engine import secrets

        try:
            return await secrets.remove(engine, name)
        except NotFound:
            if call.options["ignore"]:
                return None
            raise

    return each(call, names, work)


RM = Command(
    "secret rm",
    "SECRET [SECRET...]",
    "Remove secrets; containers that run keep what they were given",
    (
        Flag("all", "a", help="All secrets"),
        Flag("ignore", "i", help="One that is not there is no error"),
    ),
    (0, None),
    ("tiffin secret rm password",),
    _rm,
)
