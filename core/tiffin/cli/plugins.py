"""`plugin ls` and `plugin inspect`: what is installed, and whether it can be used."""

from __future__ import annotations

import sys

from .. import plugin_index
from ..errors import DriverError, NotFound, TiffinError
from . import printable, table
from .flags import Call, Command, Flag

TYPE_CHECKING = False  # without importing typing
if TYPE_CHECKING:
    from collections.abc import Iterable
    from types import ModuleType
    from typing import Any

    from ..layout import Layout

FILTERS = ("kind", "name", "state")
HEADINGS = {"HookVersion": "HOOKS"}


def records(layout: Layout) -> list[dict[str, Any]]:
    """All plugins in order of name; each was loaded, so that its state is the truth."""
    found = plugin_index.entries()
    decided = plugin_index.decisions(layout)
    index = plugin_index.judge(found, decided)
    names = sorted({entry.name for entry in found} | set(decided))
    return [_record(name, [e for e in found if e.name == name], index) for name in names]


def _record(
    name: str, found: list[plugin_index.Entry], index: plugin_index.Index
) -> dict[str, Any]:
    kind, _, plain = name.partition(".")
    used = [entry for entry in found if index.plugins.get(name) == entry.module] or found
    entry = used[0] if len(used) == 1 else None
    problem = index.refused.get(name, "")
    state = "enabled"
    module = None
    if not found:
        state, problem = "missing", "no installed package has it"
    elif problem.startswith(plugin_index.DISABLED):
        state, problem = "disabled", ""
    elif problem:
        state = "conflict" if len(found) > 1 else "broken"
    else:
        try:
            module = _loaded(name, index.plugins[name])
        except DriverError as error:
            state, problem = "broken", str(error)
    return {
        "FullName": name,
        "Kind": kind,
        "Name": plain,
        "State": state,
        "Problem": problem,
        "Package": entry.package if entry else ", ".join(e.package for e in found),
        "Version": entry.version if entry else ", ".join(e.version for e in found),
        "Module": entry.module if entry else ", ".join(e.module for e in found),
        **_inside(module),
    }


def _loaded(name: str, module: str) -> ModuleType:
    from ..plugins import load_module

    return load_module(name, module)


def _inside(module: ModuleType | None) -> dict[str, Any]:
    """What only the loaded module says."""
    if module is None:
        return {"HookVersion": 0, "Hooks": [], "File": "", "Summary": ""}
    from ..hooks import OLDEST_HOOK_VERSION
    from ..plugins import implemented

    return {
        "HookVersion": getattr(module, "TIFFIN_HOOK_VERSION", OLDEST_HOOK_VERSION),
        "Hooks": implemented(module),
        "File": str(module.__file__ or ""),
        "Summary": (module.__doc__ or "").strip().partition("\n")[0],
    }


def _passes(record: dict[str, Any], wanted: dict[str, list[str]]) -> bool:
    names = (record["Name"], record["FullName"])
    return (
        record["Kind"] in wanted.get("kind", (record["Kind"],))
        and record["State"] in wanted.get("state", (record["State"],))
        and any(name in wanted.get("name", names) for name in names)
    )


def _ls(call: Call) -> int:
    wanted = table.filters(call.options["filter"], FILTERS)
    found = [record for record in records(call.layout) if _passes(record, wanted)]
    if call.options["quiet"]:
        sys.stdout.write("".join(f"{printable.line(record['FullName'])}\n" for record in found))
        return 0
    heading = not call.options["noheading"]
    if call.options["format"]:
        sys.stdout.write(table.formatted(call.options["format"], found, HEADINGS, heading=heading))
        return 0
    columns = ("Kind", "Name", "State", "Version", "Package", "Module")
    cells = [[record[column] for column in columns] for record in found]
    sys.stdout.write(table.table([c.upper() for c in columns] if heading else (), cells))
    for record in found:
        if record["Problem"]:
            line = f"{record['FullName']}: {record['Problem']}"
            sys.stderr.write(f"{printable.line(line)}\n")
    return 0


LS = Command(
    "plugin ls",
    "",
    "List the installed plugins, whether they can be used, and on stderr why one cannot",
    (
        Flag("filter", "f", "list", "KEY=VALUE", f"Show only what matches: {', '.join(FILTERS)}"),
        Flag("format", "", "str", "TEMPLATE", "`json`, a Go template, or `table TEMPLATE`"),
        Flag("noheading", "n", help="Leave out the line of headings"),
        Flag("quiet", "q", help="Print names only"),
    ),
    (0, 0),
    ("tiffin plugin ls", "tiffin plugin ls --filter kind=storage --format '{{.Name}}'"),
    _ls,
)


def find(found: Iterable[dict[str, Any]], given: str) -> dict[str, Any]:
    """By KIND.NAME, or by NAME when one kind has it. Errors: NotFound, UserError."""
    by_name = {record["FullName"]: record for record in found}
    if given in by_name:
        return by_name[given]
    named = [name for name in by_name if name.partition(".")[2] == given]
    if len(named) == 1:
        return by_name[named[0]]
    if named:
        from ..errors import UserError

        raise UserError(f"{given!r} is the name of several plugins", hint=", ".join(named))
    raise NotFound(f"no such plugin: {given}", hint="tiffin plugin ls lists those there are")


def _inspect(call: Call) -> int:
    everything = records(call.layout)
    shown, code = [], 0
    for name in call.arguments:
        try:
            shown.append(find(everything, name))
        except TiffinError as error:
            sys.stderr.write(f"Error: {printable.line(str(error))}\n")
            code = error.exit_code
    wanted = call.options["format"]
    if wanted and wanted != "json":
        sys.stdout.write(table.formatted(wanted, shown, HEADINGS))
    else:
        sys.stdout.write(table.json_text(shown))
    return code


INSPECT = Command(
    "plugin inspect",
    "PLUGIN [PLUGIN...]",
    "Show all that is known of plugins: package, state, hooks, and what is wrong with one",
    (Flag("format", "f", "str", "TEMPLATE", "`json` or a Go template"),),
    (1, None),
    ("tiffin plugin inspect storage.vfs", "tiffin plugin inspect -f '{{.State}}' crun"),
    _inspect,
)
