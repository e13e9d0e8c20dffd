"""`manifest create`, `add`, `annotate`, `inspect`, `exists`, `remove`, `rm`, `push` and `ls`."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any

from ..errors import NotFound, UserError
from . import reads, table
from .flags import Call, Command, Flag
from .share import AUTHFILE, TLS, credentials, use_authfile

if TYPE_CHECKING:
    from ..engine.base import Engine
    from ..engine.images import Pull
    from ..engine.manifest_lists import Platform

LISTS = "SELECT * FROM manifests ORDER BY name"
ENTRY = (
    Flag("annotation", "", "list", "KEY=VALUE", "Annotation of the entry"),
    Flag("arch", "", "str", "ARCH", "Architecture, in place of what the image says"),
    Flag("features", "", "list", "NAME", "Features of the processor that are needed"),
    Flag("os", "", "str", "OS", "Operating system, in place of what the image says"),
    Flag("os-version", "", "str", "VERSION", "Version of the operating system"),
    Flag("variant", "", "str", "VARIANT", "Variant of the architecture: v7, v8, ..."),
)


def _told(options: dict[str, Any]) -> Platform:
    from ..engine.manifest_lists import Platform

    annotations = {}
    for text in options["annotation"]:
        key, equals, value = text.partition("=")
        if not key or not equals:
            raise UserError(f"--annotation {text!r} is not of the form KEY=VALUE")
        annotations[key] = value
    return Platform(
        architecture=options["arch"],
        os=options["os"],
        variant=options["variant"],
        os_version=options["os_version"],
        features=tuple(options["features"]),
        annotations=annotations,
    )


def _pull(call: Call) -> Pull:
    from ..engine.images import Pull
    from .progress import for_stderr

    use_authfile(call)
    architecture = call.options.get("arch")
    platform = f"{call.options.get('os') or 'linux'}/{architecture}" if architecture else ""
    verify = bool(call.options["tls_verify"])
    return Pull(platform=platform, tls_verify=verify, progress=for_stderr())


def _find(call: Call, given: str) -> dict[str, Any] | None:
    from ..images import reference

    connection = reads.store(call.layout)
    names = reference.candidates(given)
    for row in reads.rows(connection, LISTS):
        if row["name"] in names:
            return row
    return None


def _create(call: Call) -> int:
    from .session import drive

    async def work(engine: Engine) -> str:
        from ..engine import manifest_lists

        name, *names = call.arguments
        return await manifest_lists.create(
            engine, name, _pull(call), names, amend=bool(call.options["amend"])
        )

    print(drive(call, work))
    return 0


CREATE = Command(
    "manifest create",
    "LIST [IMAGE...]",
    "Make a list of images for several platforms, to be pushed under one name",
    (Flag("amend", "a", help="Add to a list that is there"), AUTHFILE, TLS),
    (1, None),
    ("tiffin manifest create app:1 app:1-amd64 app:1-arm64",),
    _create,
)


def _add(call: Call) -> int:
    from .session import drive

    async def work(engine: Engine) -> str:
        from ..engine import manifest_lists

        name, image = call.arguments
        return await manifest_lists.add(engine, name, image, _pull(call), _told(call.options))

    print(drive(call, work))
    return 0


ADD = Command(
    "manifest add",
    "LIST IMAGE",
    "Add an image to a list; one that is not here is pulled (for --arch, if that is given)",
    (*ENTRY, AUTHFILE, TLS),
    (2, 2),
    ("tiffin manifest add --arch arm64 --variant v8 app:1 registry.example/app:1-arm64",),
    _add,
)


def _annotate(call: Call) -> int:
    from .session import drive

    async def work(engine: Engine) -> str:
        from ..engine import manifest_lists

        name, image = call.arguments
        return await manifest_lists.annotate(engine, name, image, _told(call.options))

    print(drive(call, work))
    return 0


ANNOTATE = Command(
    "manifest annotate",
    "LIST IMAGE|DIGEST",
    "Say more, or something else, of an image in a list",
    ENTRY,
    (2, 2),
    ("tiffin manifest annotate --annotation meal=lunch app:1 app:1-arm64",),
    _annotate,
)


def _inspect(call: Call) -> int:
    from ..engine.manifest_lists import document

    given = call.arguments[0]
    row = _find(call, given)
    if row is not None:
        data = document(row["manifests"])
    else:
        data = _remote(call, given.removeprefix("docker://"))
    sys.stdout.write(table.json_text(json.loads(data)))
    return 0


def _remote(call: Call, given: str) -> bytes:
    """The manifest or index that a registry has under this name. Errors: NotFound, ..."""
    use_authfile(call)
    from ..images import reference
    from ..registry import registries
    from ..registry.client import Registry
    from .session import drive

    target = reference.parse(given)
    place = registries.endpoints(target, registries.load())[-1]
    verify = bool(call.options["tls_verify"]) and not place.insecure

    async def work(_: Engine) -> bytes:
        async with Registry(place.registry, place.repository, tls_verify=verify) as registry:
            return (await registry.manifest(target.version))[0]

    return drive(call, work)


INSPECT = Command(
    "manifest inspect",
    "LIST",
    "Show a list; one that is not here, or an image's manifest, as its registry has it",
    (AUTHFILE, TLS),
    (1, 1),
    ("tiffin manifest inspect app:1",),
    _inspect,
)


def _exists(call: Call) -> int:
    return 0 if _find(call, call.arguments[0]) is not None else 1


EXISTS = Command(
    "manifest exists",
    "LIST",
    "Exit with 0 when there is such a list here, with 1 when not",
    (),
    (1, 1),
    ("tiffin manifest exists app:1",),
    _exists,
)


def _remove(call: Call) -> int:
    from .session import drive

    async def work(engine: Engine) -> str:
        from ..engine import manifest_lists

        return await manifest_lists.take_out(engine, *call.arguments)

    print(drive(call, work))
    return 0


REMOVE = Command(
    "manifest remove",
    "LIST IMAGE|DIGEST",
    "Take an image out of a list",
    (),
    (2, 2),
    ("tiffin manifest remove app:1 app:1-arm64",),
    _remove,
)


def _rm(call: Call) -> int:
    from .session import each, removal_codes

    ignore = bool(call.options["ignore"])

    async def work(engine: Engine, name: str) -> str | None:
        from ..engine import manifest_lists

        try:
            return f"Untagged: {await manifest_lists.remove(engine, name)}"
        except NotFound:
            if ignore:
                return None
            raise

    return each(call, list(call.arguments), work, removal_codes)


RM = Command(
    "manifest rm",
    "LIST [LIST...]",
    "Remove lists; the images in them stay",
    (Flag("ignore", "i", help="One that is not there is no error"),),
    (1, None),
    ("tiffin manifest rm app:1",),
    _rm,
)


def _push(call: Call) -> int:
    use_authfile(call)
    from .session import drive

    options = call.options

    async def work(engine: Engine) -> str:
        from ..engine import manifest_lists

        name, destination = (*call.arguments, "")[:2]
        digest = await manifest_lists.push(
            engine,
            name,
            destination,
            tls_verify=bool(options["tls_verify"]),
            format=options["format"],
            everything=bool(options["all"]),
            credentials=credentials(options["creds"]),
        )
        if options["rm"]:
            await manifest_lists.remove(engine, name)
        return digest

    digest = drive(call, work)
    if options["digestfile"]:
        with open(options["digestfile"], "w", encoding="ascii") as file:
            file.write(digest)
    if not options["quiet"]:
        print(digest)
    return 0


PUSH = Command(
    "manifest push",
    "LIST [DESTINATION]",
    "Send a list, and the images in it, to a registry",
    (
        Flag("all", help="Also the images", default=True),
        AUTHFILE,
        Flag("creds", "", "str", "USER:PASSWORD", "Who we are"),
        Flag("digestfile", "", "str", "FILE", "Write the list's digest to a file"),
        Flag("format", "f", "str", "FORMAT", "oci, or v2s2: docker's", "oci"),
        Flag("quiet", "q", help="Do not print the digest"),
        Flag("rm", help="Remove the list when it is there"),
        TLS,
    ),
    (1, 2),
    ("tiffin manifest push app:1 registry.example/app:1",),
    _push,
)


def _ls(call: Call) -> int:
    options = call.options
    wanted = table.filters(options["filter"], ("name",)).get("name", [""])
    rows = reads.rows(reads.store(call.layout), LISTS)
    rows = [row for row in rows if any(text in row["name"] for text in wanted)]
    if options["quiet"]:
        if options["format"]:
            raise UserError("--quiet and --format cannot be used together")
        sys.stdout.write("".join(f"{row['name']}\n" for row in rows))
        return 0
    shown = []
    for row in rows:
        platforms = [entry["platform"] for entry in row["manifests"]]
        told = [
            "/".join(filter(None, (p["os"], p["architecture"], p.get("variant"))))
            for p in platforms
        ]
        shown.append({"Name": row["name"], "Platforms": told, "Manifests": row["manifests"]})
    if options["format"] == "json":
        sys.stdout.write(table.json_text(shown))
        return 0
    from .gotemplate import Record

    template = options["format"] or "table {{.Name}}\t{{.Platforms}}"
    records = [Record(**(one | {"Platforms": ", ".join(one["Platforms"])})) for one in shown]
    heading = not options["noheading"]
    sys.stdout.write(table.formatted(template, records, {}, heading=heading))
    return 0


LS = Command(
    "manifest ls",
    "",
    "List the manifest lists that are here",
    (
        Flag("filter", "f", "list", "KEY=VALUE", "Show only what matches: name"),
        Flag("format", "", "str", "TEMPLATE", "`json`, a Go template, or `table TEMPLATE`"),
        Flag("noheading", "n", help="Leave out the line of headings"),
        Flag("quiet", "q", help="Print names only"),
    ),
    (0, 0),
    ("tiffin manifest ls",),
    _ls,
)
