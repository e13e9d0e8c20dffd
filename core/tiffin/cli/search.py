"""`search`: what registries have."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from ..errors import TiffinError, UserError
from . import printable, table
from .flags import Call, Command, Flag
from .share import AUTHFILE, TLS, use_authfile

if TYPE_CHECKING:
    from ..engine.base import Engine

LIMIT = 25
WIDTH = 44
HEADINGS = {"Official": "OFFICIAL", "Automated": "AUTOMATED"}
FILTERS = ("stars", "is-official", "is-automated")


def _where(term: str) -> list[tuple[str, str]]:
    """[(registry, what to look for)]. Error: UserError."""
    from ..images import reference
    from ..registry import registries

    first, slash, rest = term.partition("/")
    if slash and (first == "localhost" or any(c in first for c in ".:")):
        if not reference.REGISTRY.match(first):
            raise UserError(f"{first!r} is not a registry")
        return [(first, rest)]
    if not term:
        raise UserError("search: an empty term")
    return [(one, term) for one in registries.load().search or ("docker.io",)]


def _passes(one: dict[str, Any], given: dict[str, list[str]]) -> bool:
    for text in given.get("stars", ()):
        if not text.isdecimal():
            raise UserError(f"--filter stars={text}: not a number")
        if one["Stars"] < int(text):
            return False
    for key, field in (("is-official", "Official"), ("is-automated", "Automated")):
        for text in given.get(key, ()):
            if text not in ("true", "false"):
                raise UserError(f"--filter {key}={text}: neither true nor false")
            if bool(one[field]) != (text == "true"):
                return False
    return True


def _run(call: Call) -> int:
    use_authfile(call)
    options = call.options
    given = table.filters(options["filter"], FILTERS)
    limit = LIMIT if options["limit"] is None else options["limit"]
    if limit < 1:
        raise UserError(f"--limit {limit} is too small", hint="at least 1")
    places = _where(call.arguments[0])
    from .session import drive

    found: list[dict[str, Any]] = []
    failed: list[TiffinError] = []

    async def work(_: Engine) -> None:
        from ..images.reference import Reference
        from ..registry import registries
        from ..registry.searcher import Searcher

        config = registries.load()
        for registry, term in places:
            tags = bool(options["list_tags"])
            repository = (term or "x") if tags else "x"
            if tags and registry == "docker.io" and "/" not in repository:
                repository = f"library/{repository}"
            place = registries.endpoints(Reference(registry, repository, "", ""), config)[-1]
            verify = bool(options["tls_verify"]) and not place.insecure
            try:
                async with Searcher(place.registry, place.repository, tls_verify=verify) as asked:
                    if tags:
                        name = f"{registry}/{repository}"
                        found.extend({"Name": name, "Tag": tag} for tag in await asked.tags(limit))
                        continue
                    for one in await asked.search(term, limit):
                        found.append(
                            {
                                "Index": registry,
                                "Name": f"{registry}/{one['name']}",
                                "Description": one["description"],
                                "Stars": one["stars"],
                                "Official": "[OK]" if one.get("official") else "",
                                "Automated": "[OK]" if one.get("automated") else "",
                            }
                        )
            except TiffinError as error:
                failed.append(error)

    drive(call, work)
    if failed and not found:
        raise failed[0]
    for error in failed:
        sys.stderr.write(f"Error: {printable.line(str(error))}\n")
    shown = [one for one in found if options["list_tags"] or _passes(one, given)]
    template = options["format"]
    if template == "json":
        sys.stdout.write(table.json_text(shown))
        return 0
    if not options["no_trunc"]:
        for one in shown:
            text = one.get("Description", "")
            one.update({"Description": f"{text[:WIDTH]}..."} if len(text) > WIDTH else {})
    names = ["Name", "Tag"] if options["list_tags"] else ["Name", "Description"]
    if options["compatible"] and not options["list_tags"]:
        names += ["Stars", "Official", "Automated"]
    from .gotemplate import Record

    template = template or "table " + "\t".join(f"{{{{.{name}}}}}" for name in names)
    heading = not options["noheading"] and bool(shown)
    records = [Record(**one) for one in shown]
    sys.stdout.write(table.formatted(template, records, HEADINGS, heading=heading))
    return 0


SEARCH = Command(
    "search",
    "[REGISTRY/]TERM",
    "Look for images in a registry, or in the search registries of registries.conf",
    (
        AUTHFILE,
        Flag("compatible", help="Also stars, and what is official or automated"),
        Flag("filter", "f", "list", "KEY=VALUE", f"Show only what matches: {', '.join(FILTERS)}"),
        Flag("format", "", "str", "TEMPLATE", "`json`, a Go template, or `table TEMPLATE`"),
        Flag("limit", "", "int", "NUMBER", f"At most so many of each registry ({LIMIT})"),
        Flag("list-tags", help="TERM is an image: list its tags"),
        Flag("no-trunc", help="Do not shorten descriptions"),
        Flag("noheading", help="Leave out the line of headings"),
        TLS,
    ),
    (1, 1),
    ("tiffin search localhost:5000/app", "tiffin search --list-tags localhost:5000/team/app"),
    _run,
)
