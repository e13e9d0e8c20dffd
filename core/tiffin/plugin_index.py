"""Which plugins there are, which of them are used, and why the others are not.

Entry points of the group `tiffin.plugins` are named `KIND.NAME`. Reading all installed metadata
takes tens of milliseconds, so an index is kept beside the store, and made anew when a folder of
sys.path has changed or somebody enabled or disabled a plugin. The decisions themselves are events.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys

from .layout import Layout

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from typing import Any

GROUP = "tiffin.plugins"

DRIVER_HOOKS = {
    "storage": "storage_driver",
    "runtime": "oci_runtime",
    "network": "network_driver",
    "label": "label_provider",
}
"""The hook that makes a driver of each kind."""
KINDS = (*DRIVER_HOOKS, "spec", "consumer")
DISABLED = "it is disabled"


class Entry:
    """An entry point as its package's metadata has it."""

    __slots__ = ("module", "name", "package", "version")

    def __init__(self, name: str, module: str, package: str, version: str) -> None:
        self.name = name
        """KIND.NAME"""
        self.module = module
        self.package = package
        self.version = version


class Decision:
    """What was decided of a plugin by `plugin enable` and `plugin disable`."""

    __slots__ = ("enabled", "package")

    def __init__(self, enabled: bool, package: str) -> None:
        self.enabled = enabled
        self.package = package
        """Whose, when several packages have a plugin of that name; empty: nobody chose."""


class Index:
    """Plugins by KIND.NAME: those that are used, with their modules, and why others are not."""

    __slots__ = ("plugins", "refused")

    def __init__(self, plugins: dict[str, str], refused: dict[str, str]) -> None:
        self.plugins = plugins
        self.refused = refused


def entries() -> list[Entry]:
    """All that is installed, the slow way, in order of name and package."""
    from importlib.metadata import entry_points  # 30 ms

    found = []
    for point in entry_points(group=GROUP):
        package = point.dist.name if point.dist else ""
        version = point.dist.version if point.dist else ""
        found.append(Entry(point.name, point.value, package, version))
    return sorted(found, key=lambda entry: (entry.name, entry.package))


def decisions(layout: Layout) -> dict[str, Decision]:
    """By KIND.NAME, from the store; {} before there is one."""
    from .store import sync

    with contextlib.suppress(sync.sqlite3.Error):  # type: ignore[attr-defined, unused-ignore]
        connection = sync.open_read_only(layout.database)
        if connection is not None:
            with contextlib.closing(connection):
                rows = connection.execute("SELECT name, enabled, package FROM plugins").fetchall()
            return {name: Decision(bool(enabled), package) for name, enabled, package in rows}
    return {}


def judge(found: Iterable[Entry], decided: Mapping[str, Decision]) -> Index:
    """What is used of what was found, and why the rest is not."""
    by_name: dict[str, list[Entry]] = {}
    for entry in found:
        by_name.setdefault(entry.name, []).append(entry)
    index = Index({}, {})
    for name, all_of_it in by_name.items():
        decision = decided.get(name) or Decision(True, "")
        kind, _, plain = name.partition(".")
        if kind not in KINDS or not plain:
            index.refused[name] = f"{kind!r} is no kind of plugin ({', '.join(KINDS)})"
        elif not decision.enabled:
            index.refused[name] = f"{DISABLED}; tiffin plugin enable {name}"
        elif len(all_of_it) == 1:
            index.plugins[name] = all_of_it[0].module
        else:
            chosen = [entry for entry in all_of_it if entry.package == decision.package]
            if chosen:
                index.plugins[name] = chosen[0].module
            else:
                packages = ", ".join(f"{entry.package} {entry.version}" for entry in all_of_it)
                index.refused[name] = (
                    f"several packages have it: {packages}; uninstall all but one, or "
                    f"tiffin plugin enable --package {all_of_it[0].package} {name}"
                )
    return index


def scan() -> dict[str, str]:
    """{KIND.NAME: module} of everything installed that nobody has decided about."""
    return judge(entries(), {}).plugins


def _changed(layout: Layout) -> str:
    return f"{layout.root}/plugins.changed"


def touch(layout: Layout) -> None:
    """A decision was made: whatever index there is, or is being made, holds no longer."""
    with open(_changed(layout), "w", encoding="ascii") as file:
        file.write(os.urandom(8).hex())


def fingerprint(layout: Layout) -> list[list[Any]]:
    """What must be unchanged for an index to hold: the interpreter, the last decision, and the
    time of each folder that packages are installed in. Not the rest of sys.path: that differs from
    one way of starting us to another, and holds no metadata."""
    stamps: list[list[Any]] = [[sys.prefix, sys.version]]
    with contextlib.suppress(OSError):
        stamps.append(["", os.stat(_changed(layout)).st_mtime_ns])
    given = os.environ.get("PYTHONPATH", "")
    extra = [os.path.abspath(path) for path in given.split(os.pathsep)] if given else []
    for path in sys.path:
        if path and (
            os.path.abspath(path) in extra or path.endswith(("site-packages", "dist-packages"))
        ):
            with contextlib.suppress(OSError):
                stamps.append([path, os.stat(path).st_mtime_ns])
    return stamps


def load(layout: Layout) -> Index:
    """The index if it is still true, else a new one."""
    stamp = fingerprint(layout)
    try:
        with open(layout.plugin_index, encoding="utf-8") as file:
            kept = json.load(file)
        if kept["stamp"] == stamp:
            return Index(dict(kept["plugins"]), dict(kept["refused"]))
    except (OSError, ValueError, KeyError, TypeError):
        pass  # no index yet, or an unreadable one: it is made again below
    index = judge(entries(), decisions(layout))
    temporary = f"{layout.plugin_index}.{os.getpid()}"
    with contextlib.suppress(OSError):  # a read-only or full disk only costs the time next time
        with open(temporary, "w", encoding="utf-8") as file:
            json.dump({"stamp": stamp, "plugins": index.plugins, "refused": index.refused}, file)
        os.replace(temporary, layout.plugin_index)
    return index
